//! The places of a board: one for each grain that runs here. Its keeper enters it before anything of the grain begins, and leaves it
//! when nothing is left.

use std::io;
use std::sync::atomic::Ordering;

use scrap_schema::time::BootTime;

use super::{Board, HEAD_WORDS, SLOT_WORDS, SLOTS, narrow};
use crate::processes::Process;
use crate::runtime::IdRange;

/// Longest tag and longest group of a slot.
pub(in crate::guard) const TAG_MAX: usize = 128;
pub(in crate::guard) const GROUP_MAX: usize = 256;

/// Words of a place.
mod word {
    /// 0: free; else the keeper's pid, shifted, and whether all else is filled in.
    pub(super) const STATE: usize = 0;
    pub(super) const STARTED: usize = 1;
    pub(super) const DEADLINE: usize = 2;
    pub(super) const LENGTHS: usize = 3;
    pub(super) const IDS: usize = 4;
    /// The guard has begun to end it.
    pub(super) const ENDING: usize = 5;
    pub(super) const TAG: usize = 8;
    pub(super) const GROUP: usize = 24;
}

const FREE: u64 = 0;
const READY: u64 = 1;

/// What a keeper says of what it keeps.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) keeper: Process,
    pub(crate) tag: &'a str,
    pub(crate) group: Option<&'a str>,
    pub(crate) ids: Option<IdRange>,
    pub(crate) deadline: Option<BootTime>,
}

/// One place for one grain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot<'a> {
    board: &'a Board,
    at: usize,
}

/// Who is in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::guard) enum Holder {
    Nobody,
    /// A keeper that is still writing: of this pid.
    Entering(i32),
    Keeper(Process),
}

impl Slot<'_> {
    pub(in crate::guard) fn holder(&self) -> Holder {
        let state = self.board.get(self.at + word::STATE);
        if state == FREE {
            return Holder::Nobody;
        }
        let pid = i32::try_from(state >> 8).unwrap_or(0);
        if state & READY == 0 {
            return Holder::Entering(pid);
        }
        Holder::Keeper(Process { pid, started: self.board.get(self.at + word::STARTED) })
    }

    /// When what is kept must be dead. `None`: never by itself.
    pub(in crate::guard) fn deadline(&self) -> Option<BootTime> {
        Some(BootTime(self.board.get(self.at + word::DEADLINE))).filter(|deadline| deadline.0 != 0)
    }

    /// The keeper has another deadline.
    pub(crate) fn live_until(&self, deadline: Option<BootTime>) {
        // Zero would be none: a deadline at the start of the machine is one.
        self.board.set(self.at + word::DEADLINE, deadline.map_or(0, |deadline| deadline.0.max(1)));
    }

    pub(in crate::guard) fn tag<'b>(&self, into: &'b mut [u8; TAG_MAX]) -> &'b [u8] {
        let length = narrow(self.board.get(self.at + word::LENGTHS) & 0xffff);
        self.board.take(self.at + word::TAG, length.min(TAG_MAX), into)
    }

    pub(in crate::guard) fn group<'b>(&self, into: &'b mut [u8; GROUP_MAX]) -> &'b [u8] {
        let length = narrow((self.board.get(self.at + word::LENGTHS) >> 16) & 0xffff);
        self.board.take(self.at + word::GROUP, length.min(GROUP_MAX), into)
    }

    pub(in crate::guard) fn ids(&self) -> Option<IdRange> {
        let word = self.board.get(self.at + word::IDS);
        let (base, count) = (u32::try_from(word & 0xffff_ffff), u32::try_from(word >> 32));
        Some(IdRange { base: base.ok()?, count: count.ok()? }).filter(|ids| ids.count != 0)
    }

    /// The guard begins to end it. Whether that is the first time.
    pub(in crate::guard) fn is_to_end(&self) -> bool {
        let first = self.board.get(self.at + word::ENDING) == 0;
        self.board.set(self.at + word::ENDING, 1);
        first
    }

    /// Nothing is left of what was kept.
    pub(crate) fn leave(&self) {
        self.board.set(self.at + word::STATE, FREE);
    }
}

impl Board {
    /// All slots, in order.
    pub(in crate::guard) fn slots(&self) -> impl Iterator<Item = Slot<'_>> {
        (0..SLOTS).map(|index| Slot { board: self, at: HEAD_WORDS + index * SLOT_WORDS })
    }

    /// A keeper enters what it keeps, before anything of it begins.
    ///
    /// # Errors
    /// There is no slot left, or a name is too long.
    pub(crate) fn enter(&self, entry: &Entry<'_>) -> io::Result<Slot<'_>> {
        let group = entry.group.unwrap_or_default().as_bytes();
        let tag = entry.tag.as_bytes();
        if tag.len() > TAG_MAX || group.len() > GROUP_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mine = u64::from(entry.keeper.pid.unsigned_abs()) << 8;
        let slot = self.slots().find(|slot| {
            self.word(slot.at).is_some_and(|state| {
                let taken = state.compare_exchange(FREE, mine, Ordering::SeqCst, Ordering::SeqCst);
                taken.is_ok()
            })
        });
        let slot = slot.ok_or(io::ErrorKind::StorageFull)?;
        self.set(slot.at + word::STARTED, entry.keeper.started);
        slot.live_until(entry.deadline);
        let ids = entry.ids.map_or(0, |ids| u64::from(ids.base) | (u64::from(ids.count) << 32));
        self.set(slot.at + word::IDS, ids);
        self.set(slot.at + word::ENDING, 0);
        self.set(slot.at + word::LENGTHS, tag.len() as u64 | ((group.len() as u64) << 16));
        self.put(slot.at + word::TAG, tag);
        self.put(slot.at + word::GROUP, group);
        self.set(slot.at + word::STATE, mine | READY);
        Ok(slot)
    }
}
