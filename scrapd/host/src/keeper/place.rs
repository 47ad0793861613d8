//! A keeper's place on the board that it shares with the guard: until when its grain may run, said to somebody who sees to
//! it when this keeper does not.

use std::io;

use scrap_schema::time::BootTime;

use super::protocol::Order;
use crate::processes::Process;

#[cfg(target_os = "linux")]
mod on_board {
    use super::{BootTime, Order, Process, io};
    use crate::guard::{Board, Entry, Slot};

    /// Its slot; `None`: nobody guards this run directory.
    #[derive(Debug, Clone, Copy)]
    pub(in crate::keeper) struct Place(Option<(&'static Board, Slot<'static>)>);

    impl Place {
        pub(in crate::keeper) fn enter(order: &Order, keeper: Process) -> io::Result<Self> {
            let run_dir = order.folder.parent().unwrap_or(&order.folder);
            let board = match Board::open(&Board::path(run_dir)) {
                Ok(board) => board,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self(None)),
                Err(error) => return Err(error),
            };
            // For the life of this process, which is that of the grain.
            let board: &'static Board = Box::leak(Box::new(board));
            let cage = order.system.as_ref().map(|system| &system.cage);
            let slot = board.enter(&Entry {
                keeper,
                tag: &order.tag,
                group: cage.map(|cage| cage.group.as_str()),
                ids: cage.and_then(|cage| cage.ids),
                deadline: order.deadline,
            })?;
            Ok(Self(Some((board, slot))))
        }

        pub(in crate::keeper) fn live_until(&self, deadline: Option<BootTime>) {
            if let Some((_, slot)) = &self.0 {
                slot.live_until(deadline);
            }
        }

        pub(in crate::keeper) fn is_over(&self) -> bool {
            self.0.as_ref().is_some_and(|(board, _)| board.is_over())
        }

        pub(in crate::keeper) fn leave(&self) {
            if let Some((_, slot)) = &self.0 {
                slot.leave();
            }
        }
    }
}

/// Where there is no guard yet: without `/proc` nobody could see what is left.
#[cfg(not(target_os = "linux"))]
mod on_board {
    use super::{BootTime, Order, Process, io};

    #[derive(Debug, Clone, Copy)]
    pub(in crate::keeper) struct Place;

    impl Place {
        pub(in crate::keeper) fn enter(_: &Order, _: Process) -> io::Result<Self> {
            Ok(Self)
        }

        pub(in crate::keeper) fn live_until(&self, _: Option<BootTime>) {}

        pub(in crate::keeper) fn is_over(&self) -> bool {
            false
        }

        pub(in crate::keeper) fn leave(&self) {}
    }
}

pub(super) use on_board::Place;
