//! The leader's loop: gather, `lead`, propose. Runs on every node and works only while this node leads.
//!
//! Reads the clock once per round. Decides nothing itself: what to commit comes from `scrap_decide::lead`, who votes from
//! `scrap_decide::voters`.

mod power;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use scrap_decide::lead::{Waiting, lead};
use scrap_decide::observed::Observed;
use scrap_decide::power::Cut;
use scrap_decide::{lease, voters};
use scrap_host::clock;
use scrap_host::fence::Places;
use scrap_schema::command::{Command, Proposal};
use scrap_schema::id::NodeId;
use scrap_schema::node::{Renewal, RenewalAnswer};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::raft::{Consensus, NotLeader, ProposeError};
use power::Cutter;

/// How many commands of one round are on their way to the log at the same time.
const PROPOSALS_AT_ONCE: usize = 64;
/// Longest pause between two rounds.
const ROUND: Duration = Duration::from_millis(500);
/// Shortest pause between two rounds, so that a burst of changes makes one round.
const SETTLE: Duration = Duration::from_millis(5);
/// Pause between two looks at the membership of the consensus.
const MEMBERS_EVERY: Duration = Duration::from_secs(1);

/// What the leader has heard and what waits. Empty on a node that does not lead.
#[derive(Clone, Default)]
pub struct Memory {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    heard: Mutex<Heard>,
    news: Notify,
}

#[derive(Default)]
struct Heard {
    observed: Observed,
    waiting: Vec<Waiting>,
}

impl Memory {
    /// Looks at what was heard and at what waits. Keep `f` short: renewals wait meanwhile.
    pub fn with<R>(&self, f: impl FnOnce(&Observed, &[Waiting]) -> R) -> R {
        let heard = self.inner.heard.lock().unwrap_or_else(PoisonError::into_inner);
        f(&heard.observed, &heard.waiting)
    }

    fn change<R>(&self, f: impl FnOnce(&mut Heard) -> R) -> R {
        f(&mut self.inner.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Answers a node's renewal: only after leadership was confirmed by a majority, after the renewal was received.
///
/// # Errors
/// If this node does not lead.
pub async fn renew(
    consensus: &Consensus,
    memory: &Memory,
    renewal: Renewal,
) -> Result<RenewalAnswer, NotLeader> {
    let now = clock::now();
    let has_news = !renewal.grains.is_empty();
    let present =
        consensus.read(|cluster| cluster.nodes.get(&renewal.node).and_then(|node| node.boot));
    let full = memory.change(|heard| heard.observed.hear(&renewal, present, now));
    if has_news {
        memory.inner.news.notify_one();
    }
    let index = consensus.confirm_leadership().await?;
    let (node, boot) = (renewal.node, renewal.boot);
    let verdict = consensus.read(|cluster| {
        memory.with(|observed, _| lease::answer(cluster, observed, node, boot, Some(index)))
    });
    let verdict = verdict.ok_or(NotLeader { leader: None })?;
    Ok(RenewalAnswer { sent: renewal.sent, verdict, index, wants_full: !full })
}

/// Leads whenever this node is the leader, until `shutdown`.
pub async fn run(
    consensus: Consensus,
    me: NodeId,
    memory: Memory,
    places: Places,
    shutdown: CancellationToken,
) {
    let mut leadership = consensus.leadership();
    while !shutdown.is_cancelled() {
        if !leadership.borrow_and_update().me {
            tokio::select! {
                changed = leadership.changed() => if changed.is_err() { return },
                () = shutdown.cancelled() => return,
            }
            continue;
        }
        // Before anything that this leader commits: who registers after it was not there before it.
        let began = consensus.read(|cluster| cluster.index);
        if consensus.confirm_leadership().await.is_err() {
            tokio::select! {
                () = tokio::time::sleep(ROUND) => continue,
                () = shutdown.cancelled() => return,
            }
        }
        let term = consensus.leadership().borrow().term;
        info!(node = %me, term, "leading");
        // Silence counts from now: what was not said to this leader is not silence.
        memory.change(|heard| {
            let (me, since) = (Some(me), clock::boot_time());
            let observed = Observed { me, began: Some(began), ..Observed::from(since) };
            *heard = Heard { observed, waiting: Vec::new() };
        });
        let leading = shutdown.child_token();
        let members = tokio::spawn(keep_members(consensus.clone(), me, leading.clone()));
        let cutter = Cutter::new(consensus.clone(), memory.clone(), me, places.clone());
        rounds(&consensus, &memory, term, cutter, &shutdown).await;
        leading.cancel();
        if members.await.is_err() {
            warn!("the task that keeps the members has ended badly");
        }
        memory.change(|heard| *heard = Heard::default());
        info!(node = %me, term, "not leading any more");
    }
}

async fn rounds(
    consensus: &Consensus,
    memory: &Memory,
    term: u64,
    mut cutter: Cutter,
    shutdown: &CancellationToken,
) {
    let mut leadership = consensus.leadership();
    let mut changes = consensus.changes();
    let mut told: BTreeMap<String, String> = BTreeMap::new();
    loop {
        {
            let now = *leadership.borrow_and_update();
            if !now.me || now.term != term {
                return;
            }
        }
        changes.mark_unchanged();
        let (plan, cuts) = plan(consensus, memory);
        cutter.begin(cuts);
        tell_waiting(consensus, memory, &mut told);
        let busy = !plan.is_empty();
        propose(consensus, memory, plan).await;
        tokio::time::sleep(SETTLE).await;
        let pause = if busy { SETTLE } else { ROUND };
        tokio::select! {
            () = tokio::time::sleep(pause) => (),
            _ = changes.changed() => (),
            () = memory.inner.news.notified() => (),
            _ = leadership.changed() => (),
            () = shutdown.cancelled() => return,
        }
    }
}

fn plan(consensus: &Consensus, memory: &Memory) -> (Vec<Command>, Vec<Cut>) {
    let now = clock::now();
    consensus.read(|cluster| {
        memory.change(|heard| {
            heard.observed.refresh(cluster, now);
            let plan = lead(cluster, &heard.observed, now);
            heard.waiting = plan.waiting;
            heard.observed.decided(&plan.commands);
            (plan.commands, plan.cuts)
        })
    })
}

/// Logs each reason to wait once, when it appears.
fn tell_waiting(consensus: &Consensus, memory: &Memory, told: &mut BTreeMap<String, String>) {
    let waiting: BTreeMap<String, String> = consensus.read(|cluster| {
        memory.with(|_, waiting| {
            let describe =
                |waiting: &Waiting| (waiting.subject_in_words(cluster), waiting.reason.kind());
            waiting.iter().map(describe).map(|(subject, kind)| (subject, kind.to_owned())).collect()
        })
    });
    for (subject, reason) in &waiting {
        if told.get(subject) != Some(reason) {
            debug!(subject, reason, "waits");
        }
    }
    *told = waiting;
}

async fn propose(consensus: &Consensus, memory: &Memory, commands: Vec<Command>) {
    let proposals = stream::iter(commands).map(|command| async move {
        let words = command.to_string();
        let proposal = Proposal { at: clock::wall(), key: None, command };
        let command = proposal.command.clone();
        let result = consensus.decide(proposal).await;
        // Of the other errors nobody knows whether it is committed after all.
        if let Err(ProposeError::NoLeader { .. } | ProposeError::TooLarge { .. }) = &result {
            memory.change(|heard| heard.observed.not_proposed(&command));
        }
        (words, result)
    });
    let mut proposals = proposals.buffered(PROPOSALS_AT_ONCE);
    while let Some((command, result)) = proposals.next().await {
        match result {
            Ok(committed) => match committed.outcome {
                Ok(_) => debug!(index = committed.index, command, "committed"),
                // The world has moved on between deciding and committing; the next round decides anew.
                Err(refusal) => {
                    debug!(index = committed.index, command, %refusal, "without effect")
                }
            },
            Err(error) => warn!(command, %error, "not committed"),
        }
    }
}

/// Makes the members of the consensus follow the members of the cluster, one change at a time.
async fn keep_members(consensus: Consensus, me: NodeId, leading: CancellationToken) {
    loop {
        let (present, caught_up) = (consensus.members(), consensus.caught_up());
        let now = clock::now();
        let (voters, all) = consensus.read(|cluster| {
            let voters = voters::choose(cluster, &present.voters, me, &caught_up, now);
            let peers = cluster.present_nodes().map(|node| (node.id, node.addresses.peer.clone()));
            (voters, peers.collect::<BTreeMap<NodeId, String>>())
        });
        let learners: BTreeMap<NodeId, String> = all;
        let wanted: std::collections::BTreeSet<NodeId> = learners.keys().copied().collect();
        let has: std::collections::BTreeSet<NodeId> =
            present.voters.union(&present.learners).copied().collect();
        if !voters.is_empty() && (voters != present.voters || wanted != has || present.joint) {
            match consensus.set_members(voters.clone(), learners).await {
                Ok(()) => info!(voters = ?voters, "members of the consensus changed"),
                Err(error) => warn!(%error, "members of the consensus not changed yet"),
            }
        }
        let heir = consensus
            .read(|cluster| voters::heir(cluster, &consensus.members().voters, me, &caught_up));
        if let Some(heir) = heir {
            info!(node = %heir, "this node is being emptied: another one shall lead");
            consensus.hand_over(Some(heir)).await;
        }
        tokio::select! {
            () = tokio::time::sleep(MEMBERS_EVERY) => (),
            () = leading.cancelled() => return,
        }
    }
}
