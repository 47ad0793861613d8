//! The clock of this room: milliseconds of boot time, which counts through suspend. For ages, never for elections.

use rustix::time::{ClockId, clock_gettime};
use scrap_schema::time::BootTime;

#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::Boottime;
/// Elsewhere the monotonic clock counts through suspend, or there is nothing better.
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::Monotonic;

/// Now.
pub(crate) fn now() -> BootTime {
    let now = clock_gettime(CLOCK);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let milliseconds = u64::try_from(now.tv_nsec).unwrap_or_default() / 1_000_000;
    BootTime(seconds.saturating_mul(1000).saturating_add(milliseconds))
}
