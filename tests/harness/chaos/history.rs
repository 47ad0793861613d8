//! What clients did to registers of the API, in the order of real time, and the judgement about it, register by register.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use scrap_host::clock;

use super::linear::{self, Deed, Op, Verdict};

/// The value that every register is made with.
pub const FIRST: u64 = 1;
/// Steps of the search for one register.
const STEPS: u64 = 20_000_000;

/// One deed of one client.
#[derive(Debug, Clone)]
pub struct Record {
    /// Which register.
    pub key: String,
    /// Which node was asked.
    pub node: String,
    /// What was done, and when, by a count of all moments.
    pub op: Op,
    /// When it was asked for, in milliseconds of boot time.
    pub asked: u64,
    /// When it was answered.
    pub answered: Option<u64>,
}

/// A deed that was begun.
#[derive(Debug, Clone, Copy)]
pub struct Begun {
    call: u64,
    asked: u64,
}

#[derive(Debug, Default)]
struct Inner {
    count: u64,
    records: Vec<Record>,
    /// How many deeds were answered.
    answered: u64,
}

/// The history of a run.
#[derive(Debug, Default)]
pub struct History {
    inner: Mutex<Inner>,
}

/// What is wrong with a register, in words; and how many could not be judged.
#[derive(Debug, Clone, Default)]
pub struct Judged {
    /// How many registers are as they should be.
    pub good: usize,
    /// Registers that no order explains.
    pub bad: Vec<String>,
    /// Registers whose search was given up.
    pub undecided: Vec<String>,
}

impl History {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody asks for something now.
    pub fn begin(&self) -> Begun {
        let mut inner = self.lock();
        inner.count += 1;
        Begun { call: inner.count, asked: clock::boot_time().0 }
    }

    /// It was answered now, or will never be.
    pub fn end(&self, begun: Begun, key: &str, node: &str, deed: Deed, is_answered: bool) {
        let mut inner = self.lock();
        inner.count += 1;
        let end = is_answered.then_some(inner.count);
        let op = Op { call: begun.call, end, deed };
        let answered = is_answered.then(|| clock::boot_time().0);
        inner.answered += u64::from(is_answered);
        let (key, node) = (key.to_owned(), node.to_owned());
        inner.records.push(Record { key, node, op, asked: begun.asked, answered });
    }

    /// How many deeds were answered so far.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.lock().answered
    }

    /// Everything so far.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        self.lock().records.clone()
    }

    /// Names of all registers that were used.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.lock().records.iter().map(|it| it.key.clone()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Judges every register.
    #[must_use]
    pub fn judge(&self) -> Judged {
        judge(&self.records())
    }
}

/// Whether a deed is a change that was acknowledged.
#[must_use]
pub fn is_acknowledged_change(op: &Op) -> bool {
    match op.deed {
        Deed::Read(_) => false,
        Deed::Write(_) => op.end.is_some(),
        Deed::Swap { done, .. } => done == Some(true) && op.end.is_some(),
    }
}

/// Judges every register of a history.
#[must_use]
pub fn judge(records: &[Record]) -> Judged {
    let mut registers: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for record in records {
        registers.entry(&record.key).or_default().push(record);
    }
    let mut judged = Judged::default();
    for (key, records) in registers {
        let ops: Vec<Op> = records.iter().map(|record| record.op).collect();
        match linear::check(FIRST, &ops, STEPS) {
            Verdict::Linear => judged.good += 1,
            Verdict::Undecided => judged.undecided.push(key.to_owned()),
            Verdict::NotLinear { explained, stuck } => {
                judged.bad.push(explain(key, &records, explained, stuck));
            }
        }
    }
    judged
}

/// The deeds of a register around the one that cannot be explained.
fn explain(key: &str, records: &[&Record], explained: usize, stuck: usize) -> String {
    let mut text = format!(
        "{key}: of {} deeds {explained} at most have an order; the first that has none is number {stuck}\n",
        records.len()
    );
    let Some(at) = records.get(stuck).map(|record| record.op) else { return text };
    let mut near: Vec<&&Record> = records
        .iter()
        .filter(|it| {
            it.op.call <= at.end.unwrap_or(at.call)
                && it.op.end.is_none_or(|end| end + 200 > at.call)
        })
        .collect();
    near.sort_by_key(|record| record.op.call);
    for record in near {
        let mark = if record.op == at { ">" } else { " " };
        let _ = writeln!(
            text,
            "  {mark} {:?} at {}: asked {} ms, answered {:?} ms ({} to {:?})",
            record.op.deed,
            record.node,
            record.asked,
            record.answered,
            record.op.call,
            record.op.end
        );
    }
    text
}

/// A history with one lie in it, as a node would tell it that answers from an old state: what the judge must find. `None`: the
/// history is too short to plant one.
#[must_use]
pub fn planted(records: &[Record]) -> Option<Vec<Record>> {
    // The first value is written once: whoever reads after another one was acknowledged cannot find it.
    let replaced = |read: &Record| {
        records.iter().any(|it| {
            it.key == read.key
                && is_acknowledged_change(&it.op)
                && it.op.end.is_some_and(|end| end < read.op.call)
        })
    };
    let is_read = |record: &&Record| matches!(record.op.deed, Deed::Read(_));
    let last = records.iter().rev().filter(is_read).find(|record| replaced(record))?;
    let lie = |record: &Record| {
        let mut told = record.clone();
        if told.key == last.key && told.op == last.op {
            told.op.deed = Deed::Read(FIRST);
        }
        told
    };
    Some(records.iter().map(lie).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planted_lie_is_found_and_named() {
        let history = History::default();
        for (key, deed) in [
            ("a", Deed::Write(2)),
            ("b", Deed::Read(FIRST)),
            ("a", Deed::Swap { expected: 2, new: 3, done: Some(true) }),
            ("a", Deed::Read(3)),
        ] {
            let begun = history.begin();
            history.end(begun, key, "ada", deed, true);
        }
        let unknown = history.begin();
        history.end(unknown, "b", "ben", Deed::Write(9), false);
        let judged = history.judge();
        assert_eq!((judged.good, judged.bad.len(), judged.undecided.len()), (2, 0, 0));
        assert_eq!(history.answered(), 4);
        assert_eq!(history.keys(), ["a", "b"]);

        let lies = planted(&history.records()).expect("there is a read");
        let judged = judge(&lies);
        assert_eq!((judged.good, judged.bad.len()), (1, 1));
        assert!(judged.bad[0].starts_with("a: of 3 deeds 2"), "{}", judged.bad[0]);
        assert!(judged.bad[0].contains("> Read(1)"), "{}", judged.bad[0]);
    }
}
