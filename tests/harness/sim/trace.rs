//! What a run did: counted, and as one number that is the same whenever the run is.

use std::collections::BTreeMap;
use std::io::Write;

use scrap_decide::apply::Applied;
use scrap_decide::cluster::Outcome;
use scrap_schema::command::{AssignCause, Command};

/// Written along with a run.
#[derive(Debug, Default)]
pub struct Trace {
    hasher: blake3::Hasher,
    /// Every action and entry in words, if somebody wants to read that.
    pub lines: Option<Vec<String>>,
    /// What was counted so far.
    pub tally: Tally,
}

/// How much happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Simulated time in milliseconds.
    pub ms: u64,
    /// Committed entries.
    pub entries: u64,
    /// Grains that were given to a copy because their owner was gone.
    pub failovers: u64,
    /// Planned moves that were assigned.
    pub moves: u64,
    /// Diverged heads that were set aside and told.
    pub orphans: u64,
    /// Nodes that were fenced by their countdown.
    pub fences: u64,
    /// Orders of the script, by their first word.
    pub faults: BTreeMap<String, u64>,
}

impl Tally {
    /// Adds what another run did.
    pub fn add(&mut self, other: &Self) {
        self.ms += other.ms;
        self.entries += other.entries;
        self.failovers += other.failovers;
        self.moves += other.moves;
        self.orphans += other.orphans;
        self.fences += other.fences;
        for (fault, count) in &other.faults {
            *self.faults.entry(fault.clone()).or_default() += count;
        }
    }
}

impl Trace {
    /// Something happened at a moment.
    pub fn note(&mut self, now: u64, what: std::fmt::Arguments<'_>) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{now} {what}"));
        }
        // Hashing does not fail.
        let _ = writeln!(self.hasher, "{now} {what}");
    }

    /// An entry was committed.
    pub(super) fn entry(&mut self, now: u64, command: &Command, applied: &Applied) {
        let _ = write!(self.hasher, "{now} ");
        let _ = serde_json::to_writer(&mut self.hasher, command);
        self.note(now, format_args!("committed: {command}: {:?}", applied.outcome));
        self.tally.entries += 1;
        if applied.outcome.is_err() || applied.outcome == Ok(Outcome::Unchanged) {
            return;
        }
        let tally = &mut self.tally;
        #[expect(clippy::wildcard_enum_match_arm, reason = "the others are not counted")]
        match command {
            Command::AssignGrain { cause: AssignCause::Failover { .. }, .. } => {
                tally.failovers += 1;
            }
            Command::AssignGrain { cause: AssignCause::Migrate { .. }, .. } => tally.moves += 1,
            Command::OrphanKept { .. } => tally.orphans += 1,
            Command::FenceNode { .. } => tally.fences += 1,
            _ => (),
        }
    }

    /// The number, as text.
    #[must_use]
    pub fn hash(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }
}
