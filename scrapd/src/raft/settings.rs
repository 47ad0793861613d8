//! Settings of the consensus: where its files are, who this node is, and the numbers of its timers.
//!
//! Every number of this room stands here. Nothing here opens a file or reads a clock.

use std::path::PathBuf;
use std::time::Duration;

use scrap_schema::id::{ClusterId, NodeId};

/// How a node takes part in the consensus.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder of `raft.db`, `state.db` and the snapshots.
    pub dir: PathBuf,
    /// This node.
    pub node: NodeId,
    /// The cluster that it belongs to; peers of other clusters are refused.
    pub cluster: ClusterId,
    /// The generation of the cluster that it belongs to; peers of others are refused, too.
    pub generation: u64,
    /// The timers.
    pub timers: Timers,
    /// When snapshots are made and how much of the log stays.
    pub compaction: Compaction,
}

/// The timers of the consensus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// Time between two heartbeats of the leader.
    pub heartbeat: Duration,
    /// Shortest time that a voter waits, after nobody is bound to a silent leader any more, before it wants an election.
    pub election_min: Duration,
    /// The longest such time, and for how long a voter is bound to a leader that it has heard.
    pub election_max: Duration,
    /// Limit for one call to a peer, except snapshots.
    pub rpc: Duration,
    /// Longest pause in a stream of a snapshot. The whole stream has no limit.
    pub snapshot_idle: Duration,
    /// Limit for a peer to verify and install a snapshot that it has received.
    pub snapshot_install: Duration,
    /// Limit for a proposal: waiting for a leader, forwarding, and its commit.
    pub propose: Duration,
    /// Limit for a confirmation of leadership.
    pub confirm: Duration,
    /// Limit for a change of members, including the new ones' catching up.
    pub members: Duration,
    /// Limit for handing leadership over.
    pub hand_over: Duration,
}

impl Timers {
    /// Silence of a leader after which the voters have begun to elect another one.
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.election_max * 2
    }
}

impl Default for Timers {
    fn default() -> Self {
        let (election_min, election_max) = election_window(Duration::from_secs(2));
        Self {
            heartbeat: Duration::from_millis(250),
            election_min,
            election_max,
            rpc: Duration::from_secs(1),
            snapshot_idle: Duration::from_secs(30),
            snapshot_install: Duration::from_secs(300),
            propose: Duration::from_secs(5),
            confirm: Duration::from_millis(2_500),
            members: Duration::from_secs(60),
            hand_over: Duration::from_secs(5),
        }
    }
}

/// The two election timers such that an election begins after this much silence of a leader, or up to a third more.
/// openraft waits for their sum: docs/decisions/0010.
#[must_use]
pub fn election_window(silence: Duration) -> (Duration, Duration) {
    (silence / 3, silence * 2 / 3)
}

/// When the log is replaced by a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compaction {
    /// Entries after the last snapshot that cause the next one.
    pub snapshot_every: u64,
    /// Entries in the snapshot that stay in the log, for followers that are a little behind.
    pub keep: u64,
}

impl Default for Compaction {
    fn default() -> Self {
        Self { snapshot_every: 5_000, keep: 1_000 }
    }
}

impl Settings {
    /// Settings with the usual numbers.
    #[must_use]
    pub fn new(dir: PathBuf, node: NodeId, cluster: ClusterId) -> Self {
        let (timers, compaction) = (Timers::default(), Compaction::default());
        Self { dir, node, cluster, generation: 0, timers, compaction }
    }

    /// The same in this generation.
    #[must_use]
    pub fn of_generation(self, generation: u64) -> Self {
        Self { generation, ..self }
    }
}
