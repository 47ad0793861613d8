//! Consensus: the replicated log and the state that it makes. Only this room says `openraft`.
//!
//! Elsewhere there is [`Consensus`]: propose, read, confirm leadership, change members. No SQL here (that is `store`), no
//! decision about grains or nodes (that is `decide`), no HTTP status of the API.
//! **Invariant:** an answer to a proposal is given only after its entry is on disk on a majority and applied here.

mod error;
mod generation;
mod log;
mod machine;
mod members;
mod network;
mod propose;
mod recover;
mod server;
mod settings;
mod types;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::errors::{Fatal, InitializeError, RaftError};
use openraft::{BasicNode, Config, Instant, SnapshotPolicy};
use scrap_decide::cluster::{Cluster, Outcome};
use scrap_decide::refusal::Refusal;
use scrap_host::clock;
use scrap_schema::command::Proposal;
use scrap_schema::event::Event;
use scrap_schema::id::NodeId;
use scrap_schema::time::BootTime;
use scrap_schema::unit::Span;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use self::log::Log;
use self::machine::{Machine, Published};
use self::network::Peers;
use self::types::{Metrics, Raft};
use crate::store::{Owner, StateDb};

pub use error::{FormError, MembersError, NotLeader, OpenError, ProposeError};
pub use recover::{Known, Survivor, alone, look};
pub(crate) use server::only_ours;
pub use settings::{Compaction, Settings, Timers, election_window};

/// An applied proposal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Committed {
    /// Log index of its entry. A read that must see it waits until [`Consensus::changes`] has reached this.
    pub index: u64,
    /// What it brought, or why it has no effect.
    pub outcome: Result<Outcome, Refusal>,
    /// Whether this is the answer of an earlier entry with the same idempotency key.
    pub repeated: bool,
}

/// Who leads, as far as this node knows. Not confirmed: see [`Consensus::confirm_leadership`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The leader.
    pub leader: Option<NodeId>,
    /// In which term. Never a fencing token.
    pub term: u64,
    /// Whether it is this node.
    pub me: bool,
}

/// Who takes part in the consensus.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    /// They elect and commit. While `joint`, those of both sets.
    pub voters: BTreeSet<NodeId>,
    /// They have the state and do not vote.
    pub learners: BTreeSet<NodeId>,
    /// A change is half done.
    pub joint: bool,
}

/// This node's part in the consensus. A cheap handle; all clones are the same.
#[derive(Clone)]
pub struct Consensus {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    raft: Raft,
    log: Log,
    state: StateDb,
    published: Arc<Published>,
    peers: Peers,
    leadership: watch::Sender<Leadership>,
    confirmations: mpsc::Sender<propose::Ask>,
    changes_of_members: mpsc::Sender<members::Ask>,
    /// Boot time of the last message of a leader after which everything was applied that it had committed; 0: never.
    heard: AtomicU64,
    /// Boot time of the last message of a leader; 0: never.
    spoken: AtomicU64,
    /// A cluster was formed here before this start.
    formed: bool,
    closing: AtomicBool,
}

/// A node that would rather not lead lets so many times pass in which others elect a leader.
const RELUCTANCE: u32 = 3;
/// Callers that may wait for a confirmation; more wait to be heard.
const CONFIRMATIONS_WAITING: usize = 1_024;
/// Changes of members that may wait.
const MEMBERS_WAITING: usize = 8;

impl Consensus {
    /// Opens the databases of this node, loads the state and takes part in the consensus.
    ///
    /// # Errors
    /// If a database is damaged, foreign or unusable, or the timers contradict each other.
    pub async fn open(settings: Settings) -> Result<Self, OpenError> {
        let config = config(&settings)?;
        let folder = |source| OpenError::Folder { path: settings.dir.clone(), source };
        tokio::fs::create_dir_all(&settings.dir).await.map_err(folder)?;
        let owner = Owner { cluster: settings.cluster, node: settings.node };
        let (log, facts) = Log::open(&settings.dir.join("raft.db"), &owner).await?;
        let machine = Machine::open(&settings.dir, facts.purged).await?;
        let (published, state) = (machine.published(), machine.db());
        let peers = Peers::new(&settings, Arc::clone(&published)).map_err(OpenError::Client)?;
        // Before anything is promised to anybody: whoever was left behind must not even elect somebody.
        generation::ask_around(&peers).await;
        let raft = Raft::new(settings.node.0, config, peers.clone(), log.clone(), machine)
            .await
            .map_err(|error| OpenError::Start(error.to_string()))?;
        if peers.generation.newer().is_some() {
            raft.runtime_config().elect(false);
        }
        let leadership = watch::Sender::default();
        tokio::spawn(watch_leadership(raft.clone(), leadership.clone()));
        let (confirmations, asked) = mpsc::channel(CONFIRMATIONS_WAITING);
        tokio::spawn(propose::confirm_rounds(raft.clone(), settings.timers.confirm, asked));
        let (changes_of_members, asked) = mpsc::channel(MEMBERS_WAITING);
        tokio::spawn(members::change_rounds(raft.clone(), settings.timers.members, asked));
        let inner = Inner {
            settings,
            raft,
            log,
            state,
            published,
            peers,
            leadership,
            confirmations,
            changes_of_members,
            heard: AtomicU64::new(0),
            spoken: AtomicU64::new(0),
            formed: facts.formed,
            closing: AtomicBool::new(false),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Makes a cluster of this node alone, once. Propose `FormCluster` afterwards.
    ///
    /// # Errors
    /// If this node is a member of a cluster already.
    pub async fn form(&self, peer_address: String) -> Result<(), FormError> {
        let closed =
            |error: &dyn std::error::Error| FormError::Closed(crate::logging::chain(error));
        let raft = &self.inner.raft;
        if raft.is_initialized().await.map_err(|error| closed(&error))? {
            return Err(FormError::AlreadyFormed);
        }
        if self.inner.formed {
            tracing::info!("forming the cluster was interrupted before; it goes on");
        }
        self.inner.log.mark_formed().await.map_err(FormError::Mark)?;
        let members = BTreeMap::from([(self.inner.settings.node.0, BasicNode::new(peer_address))]);
        match raft.initialize(members).await {
            Ok(()) => Ok(()),
            Err(RaftError::APIError(
                InitializeError::NotAllowed(_) | InitializeError::NotInMembers(_),
            )) => Err(FormError::AlreadyFormed),
            Err(RaftError::Fatal(error)) => Err(closed(&error)),
        }
    }

    /// Brings a change into the log and waits until it is on disk on a majority and applied on the leader.
    /// On a follower it is forwarded to the leader, one hop. The state here may be behind the answer: see [`Committed::index`].
    ///
    /// # Errors
    /// If there is no leader in time, or the outcome is unknown.
    pub async fn propose(&self, proposal: Proposal) -> Result<Committed, ProposeError> {
        self.inner.propose(&proposal).await
    }

    /// The same for what this node has decided as the leader: what it knew then, the next leader may know better. So it is
    /// never forwarded.
    ///
    /// # Errors
    /// If this node does not lead any more, or the outcome is unknown.
    pub async fn decide(&self, proposal: Proposal) -> Result<Committed, ProposeError> {
        self.inner.decide(&proposal).await
    }

    /// Looks at the state as it is here, without asking anybody. Keep `f` short: changes wait meanwhile.
    pub fn read<R>(&self, f: impl FnOnce(&Cluster) -> R) -> R {
        self.inner.published.read(f)
    }

    /// The log index that is applied here; changes with every batch of entries.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.published.applied.subscribe()
    }

    /// Events as they are applied here: one message for each entry that caused some. A slow receiver misses the oldest ones
    /// (`Lagged`) and finds them in the state. After a snapshot was installed there are none for the entries in it.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Arc<Vec<Event>>> {
        self.inner.published.events.subscribe()
    }

    /// Who leads, as far as this node knows.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.subscribe()
    }

    /// Asks a majority whether this node leads, after this call began, and waits until everything that was committed before is
    /// applied here. Callers at the same time share one round. The answer is the index that is surely applied.
    ///
    /// # Errors
    /// If it does not lead, or no majority answers in time.
    pub async fn confirm_leadership(&self) -> Result<u64, NotLeader> {
        let nobody = NotLeader { leader: None };
        // A leader whose majority has been silent for so long would only make the caller wait.
        let metrics = self.inner.metrics();
        let silent = metrics.current_leader == Some(metrics.id) && self.inner.is_silent(&metrics);
        if silent || self.inner.peers.generation.newer().is_some() {
            return Err(nobody);
        }
        let confirmed = async {
            let (told, answer) = oneshot::channel();
            self.inner.confirmations.send(told).await.map_err(|_| nobody)?;
            let confirmed = answer.await.map_err(|_| nobody)?;
            // A majority that was left behind may still confirm what does not count any more.
            if self.inner.peers.generation.newer().is_some() { Err(nobody) } else { confirmed }
        };
        // Without this limit a caller would also wait for the end of the round before its own.
        let limit = self.inner.settings.timers.confirm;
        tokio::time::timeout(limit, confirmed).await.unwrap_or(Err(nobody))
    }

    /// Who leads, if it has spoken to this node lately: a leader that has been silent for longer than an election takes is only
    /// a memory. This node itself, if a majority has answered it lately.
    #[must_use]
    pub fn live_leader(&self) -> Option<NodeId> {
        let metrics = self.inner.metrics();
        let leader = metrics.current_leader.filter(|_| metrics.running_state.is_ok())?;
        (!self.inner.is_silent(&metrics)).then_some(NodeId(leader))
    }

    /// Time since a leader last spoke to this node, or, if it leads, since a majority last answered it. `None`: never.
    #[must_use]
    pub fn silence(&self) -> Option<Span> {
        let silence = self.inner.silence(&self.inner.metrics())?;
        Some(Span::from_ms(u64::try_from(silence.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Ends when this leader is none any more, or has been silent for longer than an election takes.
    pub async fn lost(&self, leader: NodeId) {
        let mut metrics = self.inner.raft.metrics();
        while self.live_leader() == Some(leader) {
            let spoken = self.inner.silence(&self.inner.metrics()).unwrap_or_default();
            let left = self.inner.settings.timers.silence().saturating_sub(spoken);
            // A change of the metrics or the end of the leader's time: both mean looking again.
            let _ = tokio::time::timeout(left, metrics.changed()).await;
        }
    }

    /// Time since this node last knew that it was up to date: a leader since the last answer of a majority, others since the
    /// last message of a leader whose commits were all applied here. `None`: never since its start.
    #[must_use]
    pub fn age(&self) -> Option<Span> {
        let metrics = self.inner.metrics();
        if metrics.current_leader == Some(metrics.id) {
            let age = self.inner.quorum_age(&metrics)?;
            return Some(Span::from_ms(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)));
        }
        match self.inner.heard.load(Ordering::Relaxed) {
            0 => None,
            heard => Some(clock::boot_time().since(BootTime(heard))),
        }
    }

    /// Hash of the replicated state after a log index (`None`: the newest), in hexadecimal digits. Equal on every node.
    /// `None` if the index is not among the last ones.
    #[must_use]
    pub fn hash_at(&self, index: Option<u64>) -> Option<(u64, String)> {
        let found = self.inner.published.hash_at(index);
        found.map(|(index, hash)| (index, hash.to_string()))
    }

    /// Who takes part, as this node's log says.
    #[must_use]
    pub fn members(&self) -> Members {
        let membership = self.inner.metrics().membership_config;
        let voters: BTreeSet<NodeId> = membership.voter_ids().map(NodeId).collect();
        let nodes = membership.nodes().map(|(id, _)| NodeId(*id));
        let learners = nodes.filter(|node| !voters.contains(node)).collect();
        Members { learners, voters, joint: membership.get_joint_config().len() > 1 }
    }

    /// How many entries each member lacks of this leader's log, as far as it has heard. Empty on a node that does not lead.
    #[must_use]
    pub fn behind(&self) -> BTreeMap<NodeId, u64> {
        let metrics = self.inner.metrics();
        let last = metrics.last_log_index.unwrap_or_default();
        let heard = metrics.replication.iter().flatten();
        let lacks = |index: u64| last.saturating_sub(index);
        heard
            .filter_map(|(node, matched)| Some((NodeId(*node), lacks(matched.as_ref()?.index))))
            .collect()
    }

    /// Members whose log is, or nearly is, what this leader's is: they can vote without holding anything up.
    #[must_use]
    pub fn caught_up(&self) -> BTreeSet<NodeId> {
        let behind = self.behind().into_iter();
        behind.filter(|(_, lacks)| *lacks <= members::CAUGHT_UP).map(|(node, _)| node).collect()
    }

    /// Makes exactly these the members: learners come first and catch up, then the voters change. One change at a time; a
    /// half done one is finished first. `learners` gives the peer address of every member that is new, also of a new voter
    /// (a voter that is in `learners` too is a voter). Members that are in neither go.
    ///
    /// # Errors
    /// If this node does not lead, or a new member does not catch up in time.
    pub async fn set_members(
        &self,
        voters: BTreeSet<NodeId>,
        learners: BTreeMap<NodeId, String>,
    ) -> Result<(), MembersError> {
        let (told, answer) = oneshot::channel();
        let wanted = members::Wanted { voters, learners };
        let sent = self.inner.changes_of_members.send((wanted, told)).await;
        sent.map_err(|_| MembersError::Closed)?;
        answer.await.map_err(|_| MembersError::Closed)?
    }

    /// Gives leadership away before a clean end: to a voter, or to the most advanced one. Best effort, bounded in time.
    pub async fn hand_over(&self, to: Option<NodeId>) {
        let metrics = self.inner.metrics();
        if metrics.current_leader != Some(metrics.id) {
            return;
        }
        let Some(to) = to.map(|node| node.0).or_else(|| most_advanced(&metrics)) else { return };
        if let Err(error) = self.inner.raft.trigger().transfer_leader(to).await {
            tracing::warn!(%error, "leadership is not handed over");
            return;
        }
        let mut leadership = self.leadership();
        let taken =
            leadership.wait_for(|it| it.leader.is_some_and(|leader| leader.0 != metrics.id));
        match tokio::time::timeout(self.inner.settings.timers.hand_over, taken).await {
            Ok(Ok(now)) => {
                let leader = now.leader.map(|leader| leader.0).unwrap_or_default();
                tracing::info!(
                    node = leader,
                    named = to,
                    term = now.term,
                    "leadership is handed over"
                );
            }
            Ok(Err(_)) => (),
            Err(_) => tracing::warn!(node = to, "leadership was not taken over in time"),
        }
    }

    /// What peers call: `/raft/append`, `/raft/vote`, `/raft/pre-vote`, `/raft/snapshot`, `/raft/transfer`, `/raft/propose`.
    /// Peers of other clusters are refused.
    pub fn routes(&self) -> axum::Router {
        server::routes(self.clone())
    }

    /// Whether this node asks to be elected. It votes in any case.
    pub fn may_lead(&self, may: bool) {
        self.inner.raft.runtime_config().elect(may);
    }

    /// Keeps this node from asking to be elected, unless no leader has spoken to it for long: then the others cannot elect one of
    /// themselves, because what this node has of the log is more than they have. Never ends.
    pub async fn lead_reluctantly(&self) -> std::convert::Infallible {
        let timers = self.inner.settings.timers;
        let began = clock::boot_time();
        loop {
            let spoken = BootTime(self.inner.spoken.load(Ordering::Relaxed)).max(began);
            let silent = clock::boot_time().since(spoken);
            let long = timers.silence() * RELUCTANCE;
            let leads = self.leadership().borrow().me;
            self.may_lead(!leads && u128::from(silent.ms()) >= long.as_millis());
            tokio::time::sleep(timers.election_min / 2).await;
        }
    }

    /// Stops taking part and closes the databases cleanly.
    pub async fn close(&self) {
        self.inner.closing.store(true, Ordering::SeqCst);
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::warn!(%error, "the consensus did not stop cleanly");
        }
        self.inner.log.close().await;
        self.inner.state.close().await;
    }

    /// Ends when the consensus of this node has stopped because of a fault, with the reason. The process must end then:
    /// what is in memory may be newer than what is on disk, and only a new start finds out what is there.
    pub async fn failed(&self) -> String {
        let mut metrics = self.inner.raft.metrics();
        loop {
            let state = metrics.borrow_watched().running_state.clone();
            match state {
                Err(Fatal::Stopped) if self.inner.closing.load(Ordering::SeqCst) => (),
                Err(error) => return error.to_string(),
                Ok(()) => (),
            }
            if metrics.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

impl Inner {
    /// A copy: holding the original stops the algorithm.
    fn metrics(&self) -> Metrics {
        self.raft.metrics().borrow_watched().clone()
    }

    /// On a leader: time since a majority answered; `None` if none ever has.
    fn quorum_age(&self, metrics: &Metrics) -> Option<Duration> {
        let mut voters = metrics.membership_config.voter_ids();
        if voters.next() == Some(metrics.id) && voters.next().is_none() {
            return Some(Duration::ZERO);
        }
        metrics.last_quorum_acked.as_ref().map(|acked| acked.elapsed())
    }

    /// Time since the leader was last heard of; a leader hears of itself through its majority.
    fn silence(&self, metrics: &Metrics) -> Option<Duration> {
        if metrics.current_leader == Some(metrics.id) {
            return self.quorum_age(metrics);
        }
        match self.spoken.load(Ordering::Relaxed) {
            0 => None,
            spoken => Some(Duration::from_millis(clock::boot_time().since(BootTime(spoken)).ms())),
        }
    }

    /// Whether the leader has been silent for longer than an election takes.
    fn is_silent(&self, metrics: &Metrics) -> bool {
        match self.silence(metrics) {
            Some(silence) => silence > self.settings.timers.silence(),
            // A leader that was elected a moment ago had its majority then.
            None => metrics.current_leader != Some(metrics.id),
        }
    }

    /// A message of a leader was accepted.
    fn heard_from_leader(&self, arrived: BootTime, committed: u64) {
        self.spoken.fetch_max(arrived.0, Ordering::Relaxed);
        if *self.published.applied.borrow() >= committed {
            self.heard.fetch_max(arrived.0, Ordering::Relaxed);
        }
    }
}

fn config(settings: &Settings) -> Result<Arc<Config>, OpenError> {
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let Settings { timers, compaction, .. } = settings;
    let config = Config {
        cluster_name: settings.cluster.to_string(),
        heartbeat_interval: milliseconds(timers.heartbeat),
        election_timeout_min: milliseconds(timers.election_min),
        election_timeout_max: milliseconds(timers.election_max),
        install_snapshot_timeout: milliseconds(timers.snapshot_install),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(compaction.snapshot_every),
        max_in_snapshot_log_to_keep: compaction.keep,
        // A follower that is further behind gets the snapshot even if the log reaches back.
        replication_lag_threshold: compaction.snapshot_every.saturating_mul(2),
        enable_pre_vote: Some(true),
        // A leader that was killed may have sent entries that it had not written yet, and they may be committed by the
        // others. Leading on in the same term it would give their indexes to other entries, and the states would differ.
        // So it stands for election like everybody else, in a new term.
        enable_leader_restore: Some(false),
        ..Config::default()
    };
    config.validate().map(Arc::new).map_err(|error| OpenError::Timers(error.to_string()))
}

fn most_advanced(metrics: &Metrics) -> Option<u64> {
    let replication = metrics.replication.as_ref()?;
    metrics
        .membership_config
        .voter_ids()
        .filter(|voter| *voter != metrics.id)
        .max_by_key(|voter| replication.get(voter).cloned().flatten().map(|matched| matched.index))
}

/// Tells who leads, until the consensus has stopped.
async fn watch_leadership(raft: Raft, leadership: watch::Sender<Leadership>) {
    let mut metrics = raft.metrics();
    drop(raft);
    loop {
        let now = {
            let metrics = metrics.borrow_watched();
            let leader = metrics.running_state.is_ok().then_some(metrics.current_leader).flatten();
            Leadership {
                leader: leader.map(NodeId),
                term: metrics.current_term,
                me: leader == Some(metrics.id),
            }
        };
        leadership.send_if_modified(|known| {
            let changed = *known != now;
            *known = now;
            changed
        });
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
