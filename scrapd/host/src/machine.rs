//! What this machine is and how busy it is. Only reads, and only when asked.

use std::fs;
use std::io;

use scrap_schema::unit::{Bytes, MilliCpu};

/// What a machine is. Does not change while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Processors that may be used.
    pub cores: u32,
    /// All memory.
    pub memory: Bytes,
    /// As Rust names it: `x86_64`, `aarch64`.
    pub architecture: &'static str,
    /// As Rust names it: `linux`, `freebsd`.
    pub os: &'static str,
}

/// How busy a machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Processor time in use, on average since the last measuring; of the first one, since the machine started.
    pub cpu: MilliCpu,
    /// Memory that a new program could have without anything being swapped out.
    pub memory_available: Bytes,
}

/// What this machine is.
///
/// # Errors
/// The system does not tell, or is none that this is written for.
pub fn facts() -> io::Result<Machine> {
    let cores = std::thread::available_parallelism()?;
    Ok(Machine {
        cores: u32::try_from(cores.get()).unwrap_or(u32::MAX),
        memory: memory("MemTotal:")?,
        architecture: std::env::consts::ARCH,
        os: std::env::consts::OS,
    })
}

/// Measures the load between one call and the next.
#[derive(Debug, Default)]
pub struct Meter {
    last: Ticks,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Ticks {
    busy: u64,
    all: u64,
}

impl Meter {
    /// The load since the last call.
    ///
    /// # Errors
    /// The system does not tell, or is none that this is written for.
    pub fn measure(&mut self) -> io::Result<Load> {
        let now = ticks(&read("/proc/stat")?).ok_or_else(|| unreadable("/proc/stat"))?;
        let cores = std::thread::available_parallelism()?.get() as u64;
        let cpu = MilliCpu(share(self.last, now, cores));
        self.last = now;
        Ok(Load { cpu, memory_available: memory("MemAvailable:")? })
    }
}

/// Thousandths of cores that were busy between two readings.
fn share(before: Ticks, now: Ticks, cores: u64) -> u64 {
    let busy = now.busy.saturating_sub(before.busy);
    let all = now.all.saturating_sub(before.all).max(1);
    let thousandths = u128::from(busy) * 1000 * u128::from(cores) / u128::from(all);
    u64::try_from(thousandths).unwrap_or(u64::MAX).min(cores.saturating_mul(1000))
}

/// The sum over all processors: `cpu user nice system idle iowait irq softirq steal …`. Guests are in user already.
fn ticks(stat: &str) -> Option<Ticks> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields = line.split_ascii_whitespace().take(8).map(|field| field.parse::<u64>().ok());
    let fields = fields.collect::<Option<Vec<u64>>>()?;
    let all = fields.iter().fold(0, |sum: u64, field| sum.saturating_add(*field));
    let idle = fields.get(3)?.saturating_add(*fields.get(4)?);
    Some(Ticks { busy: all.saturating_sub(idle), all })
}

fn memory(name: &str) -> io::Result<Bytes> {
    let path = "/proc/meminfo";
    field(&read(path)?, name).ok_or_else(|| unreadable(path))
}

fn field(meminfo: &str, name: &str) -> Option<Bytes> {
    let rest = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Bytes(kib.saturating_mul(1024)))
}

fn read(path: &str) -> io::Result<String> {
    if cfg!(not(target_os = "linux")) {
        let os = std::env::consts::OS;
        let why = format!("measuring the machine is not supported on {os}");
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    fs::read_to_string(path)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot read {path}: {error}")))
}

fn unreadable(path: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{path} is not as expected"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_what_was_not_idle() {
        let stat = |line: &str| ticks(&format!("{line}\ncpu0 1 2 3\nintr 5\n")).unwrap();
        let before = stat("cpu  100 0 100 700 100 0 0 0 50 0");
        let now = stat("cpu  150 10 120 800 110 5 5 0 90 0");
        assert_eq!(before, Ticks { busy: 200, all: 1000 });
        assert_eq!(share(before, now, 4), 90 * 4000 / 200);
        assert_eq!(share(now, now, 4), 0);
        assert_eq!(share(now, before, 4), 0, "counters that went back are no load");
        assert_eq!(ticks("cpu  1 2\n"), None);
    }

    #[test]
    fn memory_is_read_by_its_name() {
        let text = "MemTotal:       16 kB\nMemFree: 3 kB\nMemAvailable:   8 kB\n";
        assert_eq!(field(text, "MemTotal:"), Some(Bytes(16 << 10)));
        assert_eq!(field(text, "MemAvailable:"), Some(Bytes(8 << 10)));
        assert_eq!(field(text, "Swap:"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_is_measured() {
        let machine = facts().unwrap();
        assert!(machine.cores >= 1 && machine.memory.0 > 1 << 20, "{machine:?}");
        let mut meter = Meter::default();
        for _ in 0..2 {
            let load = meter.measure().unwrap();
            assert!(load.cpu.0 <= u64::from(machine.cores) * 1000, "{load:?}");
            assert!(load.memory_available.0 > 0 && load.memory_available < machine.memory);
        }
    }
}
