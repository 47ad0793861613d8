//! What the leader has heard and waits with. Lives in memory and dies with the leadership.

use std::sync::{Arc, Mutex, PoisonError};

use scrap_decide::lead::Waiting;
use scrap_decide::observed::Observed;

/// The leader's memory. A cheap handle; empty on a node that does not lead.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    inner: Arc<Mutex<(Observed, Vec<Waiting>)>>,
}

impl Memory {
    /// Looks at what was heard and what waits.
    pub fn with<R>(&self, f: impl FnOnce(&Observed, &[Waiting]) -> R) -> R {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        f(&inner.0, &inner.1)
    }
}
