//! The databases: every SQL statement is in this room; rows in, values out.
//!
//! `raft.db` is the log (every commit is on disk before it counts), `state.db` is the replicated state (its last commits may be
//! lost with the power; the log brings them back). One task owns the writing connection of each. Knows nothing of elections
//! or HTTP. **Invariant:** after a failed write the task stops; nothing is ever written after it or tried again.

pub(crate) mod crash;
mod error;
mod hash;
mod log;
mod open;
mod rows;
pub(crate) mod snapshot;
mod state;

pub use error::StoreError;
pub(crate) use hash::{RowHash, StateHash, row_hash};
pub(crate) use log::{Done, LogDb, LogOp, LogRow, Mark, Owner};
pub(crate) use rows::{body_of, name_of};
pub(crate) use state::{RowChange, StateDb, StateMeta, StoredState};
