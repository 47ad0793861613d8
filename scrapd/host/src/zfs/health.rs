//! How well the pool is, and how much space it has. Reads what the tools write for programs; where they write nothing for
//! programs, the few lines of `zpool status` that have been the same in all versions.

use scrap_schema::time::Timestamp;
use scrap_schema::unit::Bytes;

use super::{Inner, Result, words};
use crate::datasets::{Cause, PoolHealth, PoolState, Space};

impl Inner {
    /// See `Datasets::health`.
    pub(super) async fn health(&self) -> Result<PoolHealth> {
        let pool = self.names.pool();
        let word = self.tools.zpool(&["list", "-H", "-o", "health", pool]).await?;
        let mut state = state(word.trim());
        let readonly = self.can.pool
            && self.tools.zpool(&["get", "-Hp", "-o", "value", "readonly", pool]).await?.trim()
                == "on";
        if readonly && state != PoolState::Suspended && state != PoolState::Faulted {
            state = PoolState::ReadOnly;
        }
        let Status { errors, scrubbed, busy, what: said, .. } =
            read_status(&self.tools.zpool(&["status", pool]).await?);
        let what = match state {
            PoolState::Online => said.filter(|_| errors > 0),
            PoolState::ReadOnly => {
                Some(format!("{pool} can only be read: import it again without `readonly=on`"))
            }
            PoolState::Degraded | PoolState::Suspended | PoolState::Faulted => {
                let said = said.unwrap_or_else(|| word.trim().to_owned());
                Some(format!("{pool}: {said} See `zpool status {pool}`."))
            }
        };
        Ok(PoolHealth { state, errors, scrubbed, busy, what })
    }

    /// See `Datasets::scrub`.
    pub(super) async fn scrub(&self, before: Timestamp) -> Result<bool> {
        let pool = self.names.pool();
        let status = read_status(&self.tools.zpool(&["status", pool]).await?);
        if status.busy {
            return Ok(false);
        }
        let last = match status.scanned {
            Some(scanned) => scanned,
            // What was on a new pool was written since then, and is read at the earliest when it is older.
            None => self.made().await?,
        };
        if last >= before {
            return Ok(false);
        }
        self.tools.zpool(&["scrub", pool]).await.map(|_| true)
    }

    /// When the pool was made.
    async fn made(&self) -> Result<Timestamp> {
        let pool = self.names.pool();
        let out = self.tools.zfs(&["get", "-Hp", "-o", "value", "creation", pool]).await?;
        let seconds = out.trim().parse::<i64>().map_err(|_| Cause::Program {
            program: format!("zfs get creation {pool}"),
            said: format!("`{}` is no time", out.trim()),
        })?;
        Ok(Timestamp(seconds.saturating_mul(1000)))
    }

    /// See `Datasets::space`.
    pub(super) async fn space(&self) -> Result<Space> {
        let get = ["get", "-Hp", "-o", "value", "used,available", self.names.root()];
        let out = match self.tools.zfs(&get).await {
            Err(Cause::Missing) => {
                return Err(Cause::PoolMissing { pool: self.names.root().to_owned() });
            }
            result => result?,
        };
        let mut values = out.lines().map(|line| words::number(line.trim()).unwrap_or(0));
        let (used, free) = (values.next().unwrap_or(0), values.next().unwrap_or(0));
        Ok(Space { total: Bytes(used.saturating_add(free)), free: Bytes(free) })
    }
}

/// A state of a pool by its word. One that is not known is not well.
fn state(word: &str) -> PoolState {
    match word {
        "ONLINE" => PoolState::Online,
        "DEGRADED" => PoolState::Degraded,
        "SUSPENDED" => PoolState::Suspended,
        _ => PoolState::Faulted,
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Status {
    errors: u64,
    scrubbed: Option<Timestamp>,
    /// The end of the last scrub or resilver, whole or not: people or the pool see to it.
    scanned: Option<Timestamp>,
    busy: bool,
    what: Option<String>,
}

/// What `zpool status` says of one pool, at universal time.
fn read_status(text: &str) -> Status {
    let mut status = Status::default();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((key, value)) = line.trim().split_once(':') else { continue };
        match key {
            "errors" => {
                let number = value.split_whitespace().next().and_then(|word| word.parse().ok());
                let known = value.contains("No known data errors");
                // "List of errors unavailable" is at least one.
                status.errors = number.unwrap_or(u64::from(!known));
            }
            "status" => {
                let mut said = value.trim().to_owned();
                while let Some(more) =
                    lines.next_if(|line| line.starts_with(['\t', ' ']) && !line.contains(": "))
                {
                    said = format!("{said} {}", more.trim());
                }
                status.what = Some(said);
            }
            "scan" | "scrub" => {
                // One that somebody paused is theirs to go on with.
                status.busy = value.contains("in progress") || value.contains("paused");
                let ended = value.rsplit_once(" on ").and_then(|(_, date)| date_of(date.trim()));
                let whole = ["scrub repaired", "scrub completed"];
                let is_whole = whole.iter().any(|words| value.contains(words));
                (status.scrubbed, status.scanned) = (ended.filter(|_| is_whole), ended);
            }
            _ => (),
        }
    }
    status
}

/// A time such as `Sun Nov 22 10:00:00 2026`.
fn date_of(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let parts: Vec<&str> = text.split_whitespace().collect();
    let [_, month, day, time, year] = parts.as_slice() else { return None };
    let month = i64::try_from(MONTHS.iter().position(|name| name == month)?).ok()? + 1;
    let (day, year): (i64, i64) = (day.parse().ok()?, year.parse().ok()?);
    let mut clock = time.split(':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    // Days since 1970, of years that begin in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some(Timestamp((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read() {
        let good = "  pool: tank\n state: ONLINE\n  scan: scrub repaired 0B in 00:00:01 with 0 errors on Sun Nov 22 10:00:00 2026\nconfig:\n\n\tNAME  STATE\n\nerrors: No known data errors\n";
        let scrubbed = Some(Timestamp(1_795_341_600_000));
        let scanned = scrubbed;
        let status = Status { errors: 0, scrubbed, scanned, busy: false, what: None };
        assert_eq!(read_status(good), status);
        let old = " pool: tb\n state: ONLINE\n scrub: scrub completed after 0h0m with 0 errors on Sun Nov 22 10:00:00 2026\nerrors: No known data errors\n";
        assert_eq!(read_status(old).scrubbed, scrubbed);
        let bad = "  pool: tank\n state: DEGRADED\nstatus: One or more devices could not be used because the label is missing or\n\tinvalid.  Sufficient replicas exist.\naction: Replace the device using 'zpool replace'.\n  scan: none requested\nerrors: 3 data errors, use '-v' for a list\n";
        let status = read_status(bad);
        assert_eq!((status.errors, status.scrubbed), (3, None));
        assert!(status.what.unwrap().ends_with("missing or invalid.  Sufficient replicas exist."));
        let resilver =
            "  scan: resilvered 1.2G in 00:00:01 with 0 errors on Sun Nov 22 10:00:00 2026\n";
        let canceled = "  scan: scrub canceled on Sun Nov 22 10:00:00 2026\n";
        for other in [resilver, canceled] {
            let status = read_status(other);
            assert_eq!(
                (status.scrubbed, status.scanned),
                (None, scrubbed),
                "that is no whole scrub"
            );
        }
        for (scan, busy) in [
            ("  scan: scrub in progress since Sun Nov 22 10:00:00 2026\n", true),
            (" scrub: scrub in progress for 0h0m, 3.2% done, 0h1m to go\n", true),
            ("  scan: resilver in progress since Sun Nov 22 10:00:00 2026\n", true),
            ("  scan: scrub paused since Sun Nov 22 10:00:00 2026\n", true),
            (" scrub: none requested\n", false),
            (good, false),
        ] {
            assert_eq!(read_status(scan).busy, busy, "{scan}");
        }
        assert_eq!(read_status("errors: List of errors unavailable: permission denied").errors, 1);
    }

    #[test]
    fn states_have_names() {
        assert_eq!(state("ONLINE"), PoolState::Online);
        assert_eq!(state("SUSPENDED"), PoolState::Suspended);
        assert_eq!(state("UNAVAIL"), PoolState::Faulted);
    }

    #[test]
    fn dates_are_days_since_1970() {
        assert_eq!(date_of("Thu Jan  1 00:00:00 1970"), Some(Timestamp(0)));
        assert_eq!(date_of("Tue Feb 29 12:00:00 2000"), Some(Timestamp(951_825_600_000)));
        assert_eq!(date_of("nonsense"), None);
    }
}
