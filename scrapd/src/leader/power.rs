//! The leader's power cuts: starts the programs that `scrap_decide::power` names, and says what became of them. Ends with its leadership, and
//! whoever leads next begins anew: to cut off twice is to cut off once.

use std::sync::Arc;

use scrap_decide::power::Cut;
use scrap_host::clock;
use scrap_host::fence::{self, FenceError, Places};
use scrap_schema::command::{Command, Proposal};
use scrap_schema::fence::OffBy;
use scrap_schema::id::NodeId;
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::Memory;
use crate::logging::chain;
use crate::raft::Consensus;

/// What a leader cuts off. Dropped, it kills the programs.
pub(super) struct Cutter {
    consensus: Consensus,
    memory: Memory,
    me: NodeId,
    places: Arc<Places>,
    running: JoinSet<()>,
}

impl Cutter {
    pub(super) fn new(consensus: Consensus, memory: Memory, me: NodeId, places: Places) -> Self {
        let (places, running) = (Arc::new(places), JoinSet::new());
        Self { consensus, memory, me, places, running }
    }

    /// Begins what was decided.
    pub(super) fn begin(&mut self, cuts: Vec<Cut>) {
        while self.running.try_join_next().is_some() {}
        for cut in cuts {
            info!(node = %cut.name, program = %cut.how.program, "cutting its power");
            self.memory.change(|heard| heard.observed.cut_begins(cut.node, cut.boot));
            let (consensus, memory) = (self.consensus.clone(), self.memory.clone());
            let (me, places) = (self.me, Arc::clone(&self.places));
            self.running.spawn(async move { one(&consensus, &memory, me, &places, cut).await });
        }
    }
}

async fn one(consensus: &Consensus, memory: &Memory, me: NodeId, places: &Places, cut: Cut) {
    let why = match fence::cut(places, &cut.name, &cut.how).await {
        Ok(()) => match confirm(consensus, memory, me, &cut).await {
            Ok(()) => return,
            Err(why) => why,
        },
        Err(error) => said(&error),
    };
    warn!(node = %cut.name, program = %cut.how.program, why, "its power is not confirmed to be off");
    let now = clock::boot_time();
    let first =
        memory.change(|heard| heard.observed.cut_failed(cut.node, cut.boot, why.clone(), now));
    if first {
        tell(consensus, me, &cut, &why).await;
    }
}

/// With what is behind it and what to do.
fn said(error: &FenceError) -> String {
    format!("{} ({})", chain(error), error.hint())
}

/// Writes down that it is off.
async fn confirm(
    consensus: &Consensus,
    memory: &Memory,
    me: NodeId,
    cut: &Cut,
) -> Result<(), String> {
    let now = clock::now();
    let until = memory.with(|observed, _| observed.wall_of(cut.node, now));
    let from = consensus.read(|cluster| cluster.nodes.get(&me).map(|node| node.name.clone()));
    let from = from.ok_or("this node is no member any more")?;
    let by = OffBy::Agent { program: cut.how.program.clone(), from };
    let command = Command::ConfirmNodeOff { node: cut.node, boot: cut.boot, until, by };
    let proposal = Proposal { at: now.wall, key: None, command };
    let committed = consensus.decide(proposal).await.map_err(|error| error.to_string())?;
    committed.outcome.map(|_| ()).map_err(|refusal| refusal.to_string())
}

/// An event, once for each silence: the operator paid for the device.
async fn tell(consensus: &Consensus, me: NodeId, cut: &Cut, why: &str) {
    let boot = consensus.read(|cluster| cluster.nodes.get(&me).and_then(|node| node.boot));
    let Some(boot) = boot else { return };
    let what = format!("the power of node {} could not be cut: {why}", cut.name);
    let command = Command::AlarmNode { node: me, boot, what, well: false };
    let proposal = Proposal { at: clock::wall(), key: None, command };
    if let Err(error) = consensus.decide(proposal).await {
        warn!(%error, "could not write down that a power cut has failed");
    }
}
