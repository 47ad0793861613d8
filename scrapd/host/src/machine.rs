//! What this machine uses now. Reads what the system says; smooths and judges nothing.

use std::fs;
use std::io;

use scrap_schema::unit::Bytes;
use thiserror::Error;

/// What the machine uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// Processor time of all cores since the machine started, in milliseconds.
    pub busy_ms: u64,
    /// Memory that is not available for programs.
    pub memory: Bytes,
}

/// The system does not say it.
#[derive(Debug, Error)]
#[error("cannot read what this machine uses from `{path}`")]
pub struct MachineError {
    path: &'static str,
    #[source]
    source: io::Error,
}

fn read(path: &'static str) -> Result<String, MachineError> {
    fs::read_to_string(path).map_err(|source| MachineError { path, source })
}

/// Milliseconds of one tick of `/proc/stat`: `USER_HZ` is 100 on every Linux that is in use.
const TICK_MS: u64 = 10;

/// What the machine uses now.
///
/// # Errors
/// If `/proc` is missing or speaks another language.
pub fn used() -> Result<Used, MachineError> {
    let busy_ms = busy_ms(&read("/proc/stat")?).ok_or_else(|| odd("/proc/stat"))?;
    let memory = memory(&read("/proc/meminfo")?).ok_or_else(|| odd("/proc/meminfo"))?;
    Ok(Used { busy_ms, memory })
}

fn odd(path: &'static str) -> MachineError {
    MachineError { path, source: io::ErrorKind::InvalidData.into() }
}

fn busy_ms(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields = line.split_ascii_whitespace().map(str::parse::<u64>);
    let fields: Vec<u64> = fields.collect::<Result<_, _>>().ok()?;
    // user, nice, system; then idle and iowait, which are not work; then irq, softirq, steal.
    let worked = fields.iter().take(3).chain(fields.iter().skip(5).take(3));
    Some(worked.sum::<u64>().saturating_mul(TICK_MS))
}

fn memory(meminfo: &str) -> Option<Bytes> {
    let field = |name: &str| {
        let rest = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    };
    let used = field("MemTotal:")?.saturating_sub(field("MemAvailable:")?);
    Some(Bytes(used.saturating_mul(1024)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted_and_waiting_is_not() {
        let stat = "cpu  10 20 30 1000 2000 1 2 3 0 0\ncpu0 1 1 1 1\n";
        assert_eq!(busy_ms(stat), Some((10 + 20 + 30 + 1 + 2 + 3) * 10));
        assert_eq!(busy_ms("cpux"), None);
    }

    #[test]
    fn memory_is_what_is_not_available() {
        let text = "MemTotal:       1000 kB\nMemFree:  1 kB\nMemAvailable:    400 kB\n";
        assert_eq!(memory(text), Some(Bytes(600 * 1024)));
        assert_eq!(memory("MemTotal: 1000 kB"), None);
    }

    #[test]
    fn this_machine_says_it() {
        let first = used().unwrap();
        assert!(first.memory.0 > 0);
        assert!(used().unwrap().busy_ms >= first.busy_ms);
    }
}
