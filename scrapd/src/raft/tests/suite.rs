//! openraft's own suite for log and state machine.

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use scrap_schema::id::{ClusterId, NodeId};

use crate::raft::log::Log;
use crate::raft::machine::Machine;
use crate::raft::types::Types;
use crate::store::Owner;

struct Stores;

impl StoreBuilder<Types, Log, Machine, tempfile::TempDir> for Stores {
    async fn build(&self) -> Result<(tempfile::TempDir, Log, Machine), StorageError<Types>> {
        let dir = tempfile::tempdir().unwrap();
        let owner = Owner { cluster: ClusterId(7), node: NodeId(0) };
        let (log, facts) = Log::open(&dir.path().join("raft.db"), &owner).await.unwrap();
        let machine = Machine::open(dir.path(), facts.purged).await.unwrap();
        Ok((dir, log, machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stores_keep_what_the_algorithm_relies_on() {
    Suite::test_all(Stores).await.unwrap();
}
