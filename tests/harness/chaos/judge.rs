//! The judgement about a run: what was promised and not kept, and whether the run was one at all.

use std::collections::{BTreeMap, BTreeSet};

use scrap_schema::api::FailoverView;
use scrap_schema::time::Timestamp;
use scrap_schema::unit::Span;

use super::ledgers::Ack;

/// What became of a run.
#[derive(Debug, Clone, Default)]
pub struct Judgement {
    /// Promises that were broken, in words.
    pub broken: Vec<String>,
    /// Why the run says nothing, in words.
    pub invalid: Vec<String>,
}

impl Judgement {
    /// The word for it. What was broken was broken, whatever else is missing.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match (self.broken.is_empty(), self.invalid.is_empty()) {
            (false, _) => "FAIL",
            (true, false) => "INVALID",
            (true, true) => "PASS",
        }
    }

    /// Everything against it, line by line.
    #[must_use]
    pub fn reasons(&self) -> String {
        let broken = self.broken.iter().map(|line| format!("BROKEN: {line}\n"));
        broken.chain(self.invalid.iter().map(|line| format!("INVALID: {line}\n"))).collect()
    }
}

/// What a failover lost, as it was told and as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// The epoch that began with it.
    pub epoch: u64,
    /// Length of the told window, in milliseconds.
    pub told_ms: u64,
    /// What was told of it if the owner had ended when it fell silent.
    pub if_dead_ms: u64,
    /// From the first lost entry until the last moment in which one can have been written; 0: nothing was lost.
    pub real_ms: u64,
    /// How many acknowledged entries.
    pub entries: usize,
}

/// What is known of one ledger at the end of a run.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// What its visitor was told.
    pub acks: Vec<Ack>,
    /// What is in its data.
    pub kept: BTreeSet<u64>,
    /// What was set aside.
    pub aside: BTreeSet<u64>,
    /// Told failovers by epoch.
    pub failovers: BTreeMap<u64, FailoverView>,
    /// Epochs in which it ran.
    pub epochs: BTreeSet<u64>,
    /// By how much the clocks of nodes differ from that of the visitor at most.
    pub clocks_ms: u64,
}

impl Account {
    fn lost(&self) -> Vec<&Ack> {
        self.acks.iter().filter(|ack| !self.kept.contains(&ack.serial)).collect()
    }

    /// The failover that answers for an entry: the first one after the epoch that took it.
    fn answers_for(&self, ack: &Ack) -> Option<&FailoverView> {
        self.failovers.range(ack.epoch + 1..).next().map(|(_, failover)| failover)
    }

    /// Whether a told window holds an entry: it was written between its question and its answer, and the clocks are the same but for
    /// what was measured.
    fn is_told(&self, ack: &Ack) -> bool {
        let slack = Span::from_ms(self.clocks_ms);
        let (asked, acked) = (ack.asked.1 - slack, ack.acked.1 + slack);
        let inside = |failover: &FailoverView| {
            failover.loss.as_ref().is_some_and(|loss| loss.from <= acked && asked <= loss.until)
        };
        let later = self.failovers.range(ack.epoch + 1..);
        later.map(|(_, failover)| failover).any(inside)
    }

    /// Adds what is broken of its promises.
    pub fn judge(&self, into: &mut Judgement) {
        for ack in self.lost() {
            let what = format!(
                "{}: entry {} of epoch {} on {}",
                self.name, ack.serial, ack.epoch, ack.node
            );
            if !self.aside.contains(&ack.serial) {
                into.broken.push(format!("{what} was acknowledged and is nowhere"));
            }
            if self.is_told(ack) {
                continue;
            }
            match self.answers_for(ack) {
                Some(failover) => into.broken.push(format!(
                    "{what}, asked {} and acknowledged {}, was lost outside of what was told: {:?}",
                    ack.asked.1, ack.acked.1, failover.loss
                )),
                None => into.invalid.push(format!("{what} was lost; the failover was not seen")),
            }
        }
    }

    /// Told and real loss of every failover that was seen.
    #[must_use]
    pub fn losses(&self) -> Vec<Loss> {
        let mut losses = Vec::new();
        for (epoch, failover) in &self.failovers {
            let lost = self.lost().into_iter().filter(|ack| {
                self.answers_for(ack).is_some_and(|answering| answering.epoch.0 == *epoch)
            });
            let times: Vec<(Timestamp, Timestamp)> =
                lost.map(|ack| (ack.asked.1, ack.acked.1)).collect();
            let first = times.iter().map(|(asked, _)| asked.0).min();
            let last = times.iter().map(|(_, acked)| acked.0).max();
            let real = first.zip(last).map_or(0, |(first, last)| last - first);
            losses.push(Loss {
                epoch: *epoch,
                told_ms: failover.loss.as_ref().map_or(0, |loss| loss.window_ms),
                if_dead_ms: failover.loss.as_ref().map_or(0, |loss| {
                    loss.heard.unwrap_or(loss.until).min(loss.until).since(loss.from).ms()
                }),
                real_ms: u64::try_from(real).unwrap_or_default(),
                entries: times.len(),
            });
        }
        losses
    }
}

#[cfg(test)]
mod tests {
    use scrap_schema::id::Epoch;
    use scrap_schema::operation;

    use super::*;

    fn ack(serial: u64, at: i64, epoch: u64) -> Ack {
        let time = |ms: i64| (u64::try_from(ms).expect("positive"), Timestamp(ms));
        Ack { serial, asked: time(at), acked: time(at + 10), node: "ada".to_owned(), epoch }
    }

    fn account(kept: &[u64], aside: &[u64], window: Option<(i64, i64)>) -> Account {
        let told = window.map(|(from, until)| operation::Loss {
            from: Timestamp(from),
            until: Timestamp(until),
            window_ms: u64::try_from(until - from).expect("forward"),
            heard: None,
            last_known_bytes: None,
        });
        let failover = FailoverView {
            at: Timestamp(1000),
            from: "ada".parse().expect("a name"),
            to: "ben".parse().expect("a name"),
            epoch: Epoch(2),
            loss: told,
        };
        Account {
            name: "book".to_owned(),
            acks: vec![ack(1, 100, 1), ack(2, 200, 1), ack(3, 300, 1), ack(4, 2000, 2)],
            kept: kept.iter().copied().collect(),
            aside: aside.iter().copied().collect(),
            failovers: BTreeMap::from([(2, failover)]),
            epochs: BTreeSet::from([1, 2]),
            clocks_ms: 0,
        }
    }

    fn word(account: &Account) -> &'static str {
        let mut judgement = Judgement::default();
        account.judge(&mut judgement);
        judgement.word()
    }

    #[test]
    fn what_is_kept_or_lost_as_told_and_set_aside_is_fine() {
        assert_eq!(word(&account(&[1, 2, 3, 4], &[], None)), "PASS");
        let told = account(&[1, 4], &[1, 2, 3], Some((150, 900)));
        assert_eq!(word(&told), "PASS");
        let loss = Loss { epoch: 2, told_ms: 750, if_dead_ms: 750, real_ms: 110, entries: 2 };
        assert_eq!(told.losses(), [loss]);
    }

    #[test]
    fn what_is_lost_and_not_told_is_broken() {
        assert_eq!(word(&account(&[1, 4], &[2, 3], Some((250, 900)))), "FAIL");
        assert_eq!(word(&account(&[1, 4], &[2, 3], Some((150, 250)))), "FAIL");
        assert_eq!(word(&account(&[1, 4], &[2, 3], None)), "FAIL");
        // Of an epoch after which no failover was told.
        assert_eq!(word(&account(&[1, 2, 3], &[4], Some((150, 9000)))), "INVALID");
    }

    #[test]
    fn clocks_that_differ_make_a_told_window_wider_and_no_wider() {
        let told = account(&[1, 4], &[2, 3], Some((230, 900)));
        assert_eq!(word(&told), "FAIL");
        assert_eq!(word(&Account { clocks_ms: 10, ..told.clone() }), "FAIL");
        assert_eq!(word(&Account { clocks_ms: 20, ..told }), "PASS");
    }

    #[test]
    fn what_is_nowhere_is_broken_even_if_told() {
        assert_eq!(word(&account(&[1, 4], &[2], Some((150, 900)))), "FAIL");
    }

    #[test]
    fn what_is_broken_is_broken_in_a_run_that_says_nothing_else() {
        let mut judgement = Judgement::default();
        judgement.invalid.push("no load".to_owned());
        assert_eq!(judgement.word(), "INVALID");
        judgement.broken.push("twice".to_owned());
        assert_eq!(judgement.word(), "FAIL");
        assert!(judgement.reasons().starts_with("BROKEN: twice\nINVALID: no load"));
    }
}
