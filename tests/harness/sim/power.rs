//! Simulated plugs: what can cut the power of a machine from outside, in whatever the network is.

use scrap_decide::power::Cut;
use scrap_schema::command::Command;
use scrap_schema::fence::{FenceProtocol, FenceSpec, OffBy};
use scrap_schema::unit::Span;
use serde::Deserialize;

use super::{NoLeader, Sim};

/// How long a plug takes.
const CUT_MS: u64 = 1_000;
/// When a program that does not end is killed.
const TIMEOUT: Span = Span::from_secs(20);

/// What a plug does when it is asked to cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Plug {
    /// It cuts.
    Works,
    /// It says that it cannot.
    Fails,
    /// It says nothing.
    Hangs,
}

/// A program under way.
#[derive(Debug, Clone)]
pub struct Cutting {
    due: u64,
    leader: usize,
    cut: Cut,
    plug: Plug,
}

impl Plug {
    /// What people say of a node with one.
    #[must_use]
    pub fn spec() -> Option<FenceSpec> {
        let program = "fence_plug".parse().ok()?;
        Some(FenceSpec { program, protocol: FenceProtocol::Agent, timeout: TIMEOUT })
    }
}

impl Sim {
    /// The leader starts the programs that its decision names.
    pub(super) fn begin_cuts(&mut self, leader: usize, cuts: Vec<Cut>) {
        for cut in cuts {
            let Some(at) = self.machine_of(cut.node) else { continue };
            let plug = self.machines[at].plug.unwrap_or(Plug::Fails);
            let takes = if plug == Plug::Hangs { TIMEOUT.ms() } else { CUT_MS };
            let name = self.machines[leader].name.clone();
            self.say(
                &format!("{name}/power"),
                &format!("{} cuts off {}", cut.how.program, cut.name),
            );
            if let Some(leading) = self.machines[leader].leading.as_mut() {
                leading.observed.cut_begins(cut.node, cut.boot);
            }
            self.cuttings.push(Cutting { due: self.now + takes, leader, cut, plug });
        }
    }

    /// What programs have done by now. One whose leader is gone is killed with it, or nobody hears of it.
    pub(super) fn end_cuts(&mut self) {
        let now = self.now;
        let (due, later): (Vec<Cutting>, Vec<Cutting>) =
            std::mem::take(&mut self.cuttings).into_iter().partition(|cutting| cutting.due <= now);
        self.cuttings = later;
        for cutting in due {
            self.end_cut(cutting);
        }
    }

    fn end_cut(&mut self, Cutting { leader, cut, plug, .. }: Cutting) {
        if self.machines[leader].leading.is_none() || !self.machines[leader].is_running() {
            return;
        }
        let clocks = self.machines[leader].now(self.now);
        let who = format!("{}/power", self.machines[leader].name);
        let failed = |why: &str| Some(why.to_owned());
        let why = match plug {
            Plug::Works => None,
            Plug::Fails => failed("`fence_plug off` ended with status 1"),
            Plug::Hangs => failed("`fence_plug off` did not end within 20 s"),
        };
        let Some(leading) = self.machines[leader].leading.as_mut() else { return };
        if let Some(why) = why {
            leading.observed.cut_failed(cut.node, cut.boot, why.clone(), clocks.boot);
            return self.say(&who, &why);
        }
        let until = leading.observed.wall_of(cut.node, clocks);
        if let Some(at) = self.machine_of(cut.node) {
            self.kill(at);
        }
        let by =
            OffBy::Agent { program: cut.how.program, from: self.machines[leader].name.clone() };
        let command = Command::ConfirmNodeOff { node: cut.node, boot: cut.boot, until, by };
        match self.propose(Some(leader), command) {
            Err(NoLeader) => (),
            Ok(applied) => self.tell(&who, &applied.events),
        }
    }
}
