//! The operator's log of a simulation: one line for what a person would be told.

use scrap_decide::lead::{Subject, Waiting};

use super::Sim;

/// A reason to wait is told when it has lasted so long.
const TOLD_AFTER_MS: u64 = 1_500;

impl Sim {
    /// Writes a line.
    pub fn say(&mut self, who: &str, what: &str) {
        if self.verbose {
            let seconds = (self.now - self.zero) / 1000;
            let line = format!("{seconds:>6}  {who:<10} {what}");
            self.lines.push(line.trim_end().to_owned());
        }
    }

    /// The whole log.
    #[must_use]
    pub fn log(&self) -> String {
        let mut log = self.lines.join("\n");
        log.push('\n');
        log
    }

    /// Tells what waits, once, when it has waited for a moment.
    pub(super) fn hear_reasons(&mut self, at: usize, waiting: &[Waiting]) {
        let now = self.now;
        let mut lines = Vec::new();
        let machine = &mut self.machines[at];
        let Some(leading) = machine.leading.as_mut() else { return };
        let key = |waiting: &Waiting| {
            let reason = format!("{:?}", waiting.reason);
            (waiting.subject, reason.split([' ', '{']).next().unwrap_or_default().to_owned())
        };
        let present: Vec<_> = waiting.iter().map(key).collect();
        leading.waiting.retain(|key, _| present.contains(key));
        for waiting in waiting {
            let (since, told) = leading.waiting.entry(key(waiting)).or_insert((now, false));
            if *told || now < *since + TOLD_AFTER_MS {
                continue;
            }
            *told = true;
            let cluster = &machine.cluster;
            let what = match waiting.subject {
                Subject::Cluster => "cluster".to_owned(),
                Subject::Node(node) => format!("node {}", cluster.node_name(node)),
                Subject::Grain(grain) => format!("grain {}", cluster.grain_name(grain)),
                // The grain says the same.
                Subject::Operation(id) => match cluster.operations.get(&id) {
                    Some(operation) if operation.work.grain().is_none() => {
                        format!("{} {}", operation.work.word(), operation.target)
                    }
                    Some(_) | None => continue,
                },
            };
            lines.push(format!("waiting: {what}: {}", waiting.reason));
            if let Some(hint) = waiting.hint(cluster) {
                lines.push(format!("   hint: {hint}"));
            }
        }
        let who = format!("{}/lead", self.machines[at].name);
        for line in lines {
            self.say(&who, &line);
        }
    }
}
