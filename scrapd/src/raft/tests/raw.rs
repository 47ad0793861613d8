//! The log without the algorithm: entries of a term, as it would write them.

use openraft::alias::CommittedLeaderIdOf;
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use openraft::vote::RaftLeaderId;
use openraft::{EntryPayload, alias::LeaderIdOf};

use crate::raft::log::Log;
use crate::raft::types::{Entry, LogId, Types};

fn log_id(term: u64, index: u64) -> LogId {
    let leader: CommittedLeaderIdOf<Types> = LeaderIdOf::<Types>::new(term, 1).to_committed();
    LogId { leader_id: leader, index }
}

/// Appends empty entries and waits until they are on disk.
pub(super) async fn append(log: &Log, term: u64, indexes: std::ops::Range<u64>) {
    let entries =
        indexes.map(|index| Entry { log_id: log_id(term, index), payload: EntryPayload::Blank });
    let (told, answer) = Types::oneshot();
    log.clone().append(entries, IOFlushed::signal(told)).await.unwrap();
    answer.await.unwrap().unwrap();
}

/// Removes everything after an entry.
pub(super) async fn truncate(log: &Log, term: u64, last: u64) {
    log.clone().truncate_after(Some(log_id(term, last))).await.unwrap();
}

/// The term of each entry in order of the indexes, from 0.
pub(super) async fn terms(log: &Log) -> Vec<u64> {
    let entries = log.clone().try_get_log_entries(0..u64::MAX).await.unwrap();
    for (at, entry) in entries.iter().enumerate() {
        assert_eq!(entry.log_id.index, at as u64);
    }
    entries.iter().map(|entry| entry.log_id.leader_id.term).collect()
}

/// So many of a term, one after the other.
pub(super) fn expected(parts: &[(u64, usize)]) -> Vec<u64> {
    parts.iter().flat_map(|(term, count)| std::iter::repeat_n(*term, *count)).collect()
}
