//! What a visitor was promised, and what became of it: acknowledged entries, gaps between them, losses. Pure: times
//! come in as numbers.

use std::collections::{BTreeMap, BTreeSet};

use scrap_schema::operation::Loss;
use scrap_schema::time::{BootTime, Timestamp};
use serde::Deserialize;

/// An entry as the guestbook answers and lists it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Entry {
    pub(super) number: u64,
    pub(super) text: String,
    pub(super) node: String,
    pub(super) epoch: String,
}

/// An entry that was answered with 201.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Acknowledged {
    pub(super) entry: Entry,
    /// When it was sent, by this machine's wall clock, which is the nodes' clock too.
    pub(super) sent: Timestamp,
    /// When the answer came.
    pub(super) answered: Timestamp,
    /// The same by the clock that is never set.
    pub(super) at: BootTime,
    /// Its size in the guestbook's file.
    pub(super) bytes: u64,
}

/// Everything that a visitor was promised, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger {
    pub(super) acknowledged: Vec<Acknowledged>,
    /// Attempts without an answer.
    pub(super) failures: u64,
}

/// Acknowledged entries that are not there any more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) entries: u64,
    pub(super) bytes: u64,
    /// When the first one was sent and the last one answered.
    pub(super) window: Option<(Timestamp, Timestamp)>,
    /// When the first one was certainly written, and when the last one certainly was not yet.
    pub(super) certain: Option<(Timestamp, Timestamp)>,
}

impl Lost {
    /// Length of the window.
    pub(super) fn seconds(&self) -> f64 {
        let ms = self.window.map_or(0, |(from, until)| until.since(from).ms());
        f64::from(u32::try_from(ms).unwrap_or(u32::MAX)) / 1000.0
    }
}

fn epoch(entry: &Entry) -> u64 {
    entry.epoch.parse().unwrap_or(0)
}

impl Ledger {
    /// The highest epoch that has answered.
    pub(super) fn epoch(&self) -> u64 {
        self.acknowledged.iter().map(|ack| epoch(&ack.entry)).max().unwrap_or(0)
    }

    /// The longest time without an answer that touches a span, in milliseconds.
    pub(super) fn longest_gap(&self, from: BootTime, until: BootTime) -> u64 {
        let pairs = self.acknowledged.windows(2).filter_map(|pair| match pair {
            [before, after] if after.at >= from && before.at <= until => {
                Some(after.at.0.saturating_sub(before.at.0))
            }
            _ => None,
        });
        pairs.max().unwrap_or(0)
    }

    /// Acknowledged entries that a listing does not have.
    pub(super) fn lost(&self, listed: &[Entry]) -> Lost {
        let there: BTreeSet<&str> = listed.iter().map(|entry| entry.text.as_str()).collect();
        let mut lost = Lost::default();
        for ack in &self.acknowledged {
            if there.contains(ack.entry.text.as_str()) {
                continue;
            }
            lost.entries += 1;
            lost.bytes += ack.bytes;
            let from = lost.window.map_or(ack.sent, |(from, _)| from);
            lost.window = Some((from, ack.answered));
            // An entry is written at some moment between its sending and its answer.
            let first = lost.certain.map_or(ack.answered, |(first, _)| first);
            lost.certain = Some((first, ack.sent));
        }
        lost
    }

    /// What speaks for two nodes having answered at once: an epoch of two nodes, or an older epoch after a newer one.
    pub(super) fn double_run(&self) -> Option<String> {
        let mut owners: BTreeMap<u64, &str> = BTreeMap::new();
        let mut newest = 0;
        for ack in &self.acknowledged {
            let (epoch, node) = (epoch(&ack.entry), ack.entry.node.as_str());
            let owner = owners.entry(epoch).or_insert(node);
            if *owner != node {
                return Some(format!("nodes {owner} and {node} both answered in epoch {epoch}"));
            }
            if epoch < newest {
                return Some(format!(
                    "{node} answered in epoch {epoch} after epoch {newest} had begun"
                ));
            }
            newest = epoch;
        }
        None
    }
}

/// Whether a report of a loss covers what was really lost; if not, in which way.
pub(super) fn understated(lost: &Lost, reported: Option<&Loss>) -> Option<String> {
    let (written, unwritten) = lost.certain?;
    let Some(reported) = reported else {
        return Some(format!("{} entries are lost, and no loss was reported", lost.entries));
    };
    if written < reported.from {
        return Some(format!(
            "an entry answered at {written} is lost, the report begins at {}",
            reported.from
        ));
    }
    if unwritten > reported.until {
        return Some(format!(
            "an entry sent at {unwritten} is lost, the report ends at {}",
            reported.until
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `number@ms/node.epoch` for each entry; entry `n` has the text `n`.
    fn ledger(text: &str) -> Ledger {
        let one = |word: &str| {
            let (number, rest) = word.split_once('@').unwrap();
            let (ms, place) = rest.split_once('/').unwrap();
            let (node, epoch) = place.split_once('.').unwrap();
            let ms: i64 = ms.parse().unwrap();
            Acknowledged {
                entry: Entry {
                    number: number.parse().unwrap(),
                    text: number.to_owned(),
                    node: node.to_owned(),
                    epoch: epoch.to_owned(),
                },
                sent: Timestamp(ms - 5),
                answered: Timestamp(ms),
                at: BootTime(ms.unsigned_abs()),
                bytes: 10,
            }
        };
        Ledger { acknowledged: text.split_whitespace().map(one).collect(), failures: 0 }
    }

    fn loss(from: i64, until: i64) -> Loss {
        let (from, until) = (Timestamp(from), Timestamp(until));
        Loss { from, until, window_ms: until.since(from).ms(), heard: None, last_known_bytes: None }
    }

    #[test]
    fn a_gap_counts_when_it_touches_the_span() {
        let ledger = ledger("1@100/a.1 2@120/a.1 3@900/b.2 4@920/b.2 5@3000/b.2");
        assert_eq!(ledger.longest_gap(BootTime(110), BootTime(905)), 780);
        assert_eq!(ledger.longest_gap(BootTime(100), BootTime(110)), 20);
        assert_eq!(ledger.longest_gap(BootTime(905), BootTime(910)), 20);
        assert_eq!(ledger.longest_gap(BootTime(130), BootTime(140)), 780);
    }

    #[test]
    fn what_is_not_listed_is_lost() {
        let ledger = ledger("1@100/a.1 2@120/a.1 3@140/a.1 4@900/b.2");
        let listed: Vec<Entry> = ledger.acknowledged.iter().map(|ack| ack.entry.clone()).collect();
        assert_eq!(ledger.lost(&listed), Lost::default());
        let kept: Vec<Entry> =
            listed.into_iter().filter(|entry| !matches!(entry.number, 2 | 3)).collect();
        let lost = ledger.lost(&kept);
        assert_eq!((lost.entries, lost.bytes), (2, 20));
        assert_eq!(lost.window, Some((Timestamp(115), Timestamp(140))));
        assert_eq!(lost.certain, Some((Timestamp(120), Timestamp(135))));
    }

    #[test]
    fn a_report_must_cover_the_loss() {
        let lost = Lost {
            entries: 2,
            bytes: 20,
            window: None,
            certain: Some((Timestamp(120), Timestamp(135))),
        };
        assert_eq!(understated(&lost, Some(&loss(120, 135))), None);
        assert_eq!(understated(&lost, Some(&loss(0, 500))), None);
        assert!(understated(&lost, Some(&loss(121, 140))).unwrap().contains("begins"));
        assert!(understated(&lost, Some(&loss(100, 134))).unwrap().contains("ends"));
        assert!(understated(&lost, None).unwrap().contains("no loss was reported"));
        assert_eq!(understated(&Lost::default(), None), None);
    }

    #[test]
    fn two_nodes_at_once_are_noticed() {
        assert_eq!(ledger("1@100/a.1 2@120/a.1 3@900/b.2").double_run(), None);
        assert!(ledger("1@100/a.1 2@120/b.2 3@140/a.1").double_run().is_some());
        assert!(ledger("1@100/a.1 2@120/b.1").double_run().is_some());
    }
}
