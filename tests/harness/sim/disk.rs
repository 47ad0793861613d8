//! Datasets of a simulated host: which writes a state holds, so that every loss is known exactly. Decides nothing.

use std::collections::BTreeMap;

use scrap_decide::obey::{DataFacts, DataRole, Dirty};
use scrap_schema::id::{Epoch, OperationId};
use scrap_schema::snapshot::{Guid, Purpose, Snapshot, SnapshotName};
use scrap_schema::time::Timestamp;
use scrap_schema::unit::Bytes;

/// The writes that a state holds, as half-open ranges of their numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    ranges: Vec<(u32, u32)>,
}

impl Content {
    /// Adds the newest write.
    pub fn write(&mut self, number: u32) {
        match self.ranges.last_mut() {
            Some((_, end)) if *end == number => *end += 1,
            Some(_) | None => self.ranges.push((number, number + 1)),
        }
    }

    /// Number of writes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.ranges.iter().map(|(begin, end)| u64::from(end - begin)).sum()
    }

    /// Whether nothing was ever written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Writes that this has and the other one has not.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        for (begin, end) in &self.ranges {
            let mut at = *begin;
            for (from, to) in &other.ranges {
                if *to <= at || *from >= *end {
                    continue;
                }
                if *from > at {
                    left.push((at, *from));
                }
                at = at.max(*to);
            }
            if at < *end {
                left.push((at, *end));
            }
        }
        Self { ranges: left }
    }

    /// The last so many writes.
    #[must_use]
    pub fn last(&self, count: usize) -> Self {
        let mut left = u32::try_from(count).unwrap_or(u32::MAX);
        let mut ranges = Vec::new();
        for (begin, end) in self.ranges.iter().rev() {
            let from = end.saturating_sub(left).max(*begin);
            if from < *end {
                ranges.push((from, *end));
            }
            left -= end - from;
        }
        ranges.reverse();
        Self { ranges }
    }

    /// Everything that one of the two has.
    pub fn join(&mut self, other: &Self) {
        let mut all = self.ranges.clone();
        all.extend(other.ranges.iter().copied());
        all.sort_unstable();
        let mut joined: Vec<(u32, u32)> = Vec::new();
        for (begin, end) in all {
            match joined.last_mut() {
                Some((_, last)) if begin <= *last => *last = (*last).max(end),
                Some(_) | None => joined.push((begin, end)),
            }
        }
        self.ranges = joined;
    }

    /// The first and the last write.
    #[must_use]
    pub fn bounds(&self) -> Option<(u32, u32)> {
        Some((self.ranges.first()?.0, self.ranges.last()?.1.saturating_sub(1)))
    }

    /// The first so many writes of a grain.
    #[must_use]
    pub fn all(count: u32) -> Self {
        Self { ranges: if count == 0 { Vec::new() } else { vec![(0, count)] } }
    }
}

/// A frozen state.
#[derive(Debug, Clone)]
pub struct Frozen {
    /// What it is called and when it was frozen.
    pub snapshot: Snapshot,
    /// What it holds.
    pub content: Content,
}

/// A dataset.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Writable, or a copy.
    pub role: DataRole,
    /// The epoch in which it got this role.
    pub epoch: Epoch,
    /// Oldest first.
    pub snapshots: Vec<Frozen>,
    /// Where the grain writes.
    pub head: Content,
    /// Whether the head was changed otherwise than by writes since the newest snapshot: by a restore.
    pub reshaped: bool,
    /// Tags and the snapshots that they hold.
    pub held: BTreeMap<String, Guid>,
    /// The restore that was last completed.
    pub restored: Option<OperationId>,
    /// The generation of the spec that is written beside the data.
    pub described: u64,
}

impl Dataset {
    /// An empty one.
    #[must_use]
    pub fn new(role: DataRole, epoch: Epoch) -> Self {
        Self {
            role,
            epoch,
            snapshots: Vec::new(),
            head: Content::default(),
            reshaped: false,
            held: BTreeMap::new(),
            restored: None,
            described: 0,
        }
    }

    /// A clone of a template: its line begins with the template's snapshot.
    #[must_use]
    pub fn of_template(epoch: Epoch, guid: Guid, created: Timestamp) -> Self {
        let name = SnapshotName { epoch: Epoch(0), seq: 1, purpose: Purpose::Template };
        let origin =
            Frozen { snapshot: Snapshot { name, guid, created }, content: Content::default() };
        let held = BTreeMap::from([("origin".to_owned(), guid)]);
        Self { snapshots: vec![origin], held, ..Self::new(DataRole::Owner, epoch) }
    }

    /// Writes since the newest snapshot; one at least if the head was changed otherwise.
    #[must_use]
    pub fn unfrozen(&self) -> u64 {
        let newest = self.snapshots.last().map(|newest| newest.content.clone()).unwrap_or_default();
        self.head.without(&newest).len().max(u64::from(self.reshaped))
    }

    /// A snapshot by guid.
    #[must_use]
    pub fn frozen(&self, guid: Guid) -> Option<&Frozen> {
        self.snapshots.iter().find(|frozen| frozen.snapshot.guid == guid)
    }

    /// Everything that this dataset still holds anywhere.
    #[must_use]
    pub fn everything(&self) -> Content {
        let mut all = self.head.clone();
        for frozen in &self.snapshots {
            all.join(&frozen.content);
        }
        all
    }

    /// As the agent would report it to the mind.
    #[must_use]
    pub fn facts(&self, dirty: Option<Dirty>, size: u64, write: u64) -> DataFacts {
        DataFacts {
            role: self.role,
            epoch: self.epoch,
            snapshots: self.snapshots.iter().map(|frozen| frozen.snapshot.clone()).collect(),
            bookmarks: Vec::new(),
            held: self.held.clone(),
            used: Bytes(size + self.head.len() * write),
            dirty,
            restored: self.restored,
            described: self.described,
        }
    }
}

/// A diverged head that was set aside.
#[derive(Debug, Clone)]
pub struct Aside {
    /// Its last state.
    pub head: Frozen,
    /// Everything in it.
    pub content: Content,
    /// All its snapshots, the last one too.
    pub line: Vec<Frozen>,
    /// The newest snapshot in common with the grain's line.
    pub base: Option<Guid>,
    /// Writes that only it has.
    pub newer: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(numbers: &[u32]) -> Content {
        let mut content = Content::default();
        numbers.iter().for_each(|number| content.write(*number));
        content
    }

    #[test]
    fn what_one_has_and_the_other_lacks() {
        let left = content(&[0, 1, 2, 3, 7, 8]).without(&content(&[1, 2, 8]));
        assert_eq!(left, content(&[0, 3, 7]));
        assert!(content(&[1]).without(&content(&[0, 1])).is_empty());
    }

    #[test]
    fn joining_fills_the_gaps() {
        let mut all = content(&[0, 1, 5]);
        all.join(&content(&[2, 3, 4]));
        assert_eq!(all, Content::all(6));
    }
}
