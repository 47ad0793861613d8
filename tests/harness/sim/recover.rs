//! A cluster that begins anew from one machine because the others are gone, and what becomes of the others when they are not.

use anyhow::{Result, ensure};
use scrap_decide::mutant::{self, Mutant};
use scrap_schema::command::Command;

use super::Sim;

impl Sim {
    /// A person begins anew from one machine. She is wrong if others run: then it is not done.
    pub(super) fn recover(&mut self, at: usize) -> Result<()> {
        let others = self.machines.iter().enumerate().filter(|(other, it)| *other != at && it.up);
        ensure!(others.count() == 0, "others are up");
        ensure!(self.machines[at].id.0 != 0, "it is no member");
        ensure!(self.truth.members().count() > 1, "it is alone");
        self.kill(at);
        // What the others had and this one had not is lost, and that is what she was told.
        let logged = self.machines[at].logged;
        self.truth = self.replayed(logged);
        self.entries.truncate(usize::try_from(logged)?);
        self.checked = 0;
        let node = self.machines[at].id;
        let generation = self.truth.generation() + 1;
        self.voters = [node].into();
        self.pending.clear();
        self.mail.clear();
        self.start(at);
        self.crown(at);
        self.judge.began_anew(&self.truth);
        self.ask(Command::RecoverCluster { generation, node });
        // Everybody else hears of the new generation before taking part in anything, and is a node of no cluster until a person
        // lets it join again.
        for other in (0..self.machines.len()).filter(|other| *other != at) {
            if self.machines[other].id.0 != 0 && !mutant::is(Mutant::IgnoresGeneration) {
                self.left_out(other);
            }
        }
        Ok(())
    }
}
