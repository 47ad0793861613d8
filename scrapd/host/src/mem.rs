//! In-memory twins of the hands: the same contract as the real backends, with helpers that let a test write, look and
//! break things. They keep everything in memory, start no program but those of `exec`, and never touch a disk.

mod datasets;
mod runtime;

pub use datasets::MemDatasets;
pub use runtime::MemRuntime;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A twin's state is plain data that is valid after every statement, so a panic elsewhere cannot have spoilt it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
