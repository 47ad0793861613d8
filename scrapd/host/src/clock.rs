//! The one place that reads the machine's clocks. Nothing here decides by what it reads.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use scrap_schema::time::{BootTime, Now, Timestamp};

/// FreeBSD's monotonic clock counts through suspend, as Linux' boot clock does.
#[cfg(target_os = "linux")]
const BOOT_CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const BOOT_CLOCK: ClockId = ClockId::Monotonic;

/// The clock of leases: milliseconds since this machine started, counted through suspend, never set by anybody.
#[must_use]
pub fn boot_time() -> BootTime {
    let time = clock_gettime(BOOT_CLOCK);
    let secs = u64::try_from(time.tv_sec).unwrap_or(0);
    let millis = u64::try_from(time.tv_nsec / 1_000_000).unwrap_or(0);
    BootTime(secs.saturating_mul(1000).saturating_add(millis))
}

/// The clock of people: may jump at any time, in both directions.
#[must_use]
pub fn wall() -> Timestamp {
    let ms = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => {
            i64::try_from(before.duration().as_millis()).map_or(i64::MIN, i64::saturating_neg)
        }
    };
    Timestamp(ms)
}

/// Both clocks at once.
#[must_use]
pub fn now() -> Now {
    Now { boot: boot_time(), wall: wall() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_time_moves_forward_only() {
        let first = boot_time();
        assert!(first.0 > 0);
        assert!((0..1000).map(|_| boot_time()).is_sorted());
        assert!(boot_time() >= first);
    }

    #[test]
    fn wall_time_is_of_this_century() {
        assert!(wall() > Timestamp(1_700_000_000_000));
        assert!(wall() < Timestamp(4_100_000_000_000));
    }
}
