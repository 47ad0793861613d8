//! What this machine is made of, measured once at the start. No policy: what the configuration reserves counts instead.

use std::path::Path;
use std::thread::available_parallelism;

use anyhow::{Context as _, bail};
use scrap_schema::node::{NodeFacts, NodeRole};
use scrap_schema::spec::Template;
use scrap_schema::unit::{Bytes, MilliCpu};

use crate::config::Config;

/// Measures the machine; the data folder must exist.
///
/// # Errors
/// If something can neither be measured nor is said in the configuration.
pub fn measure(config: &Config) -> anyhow::Result<NodeFacts> {
    let reserve = &config.reserve;
    let cpu = match reserve.cpu {
        Some(cpu) => cpu,
        None => {
            let cores = available_parallelism().context("the number of cores cannot be read")?;
            MilliCpu(u64::try_from(cores.get()).unwrap_or(u64::MAX).saturating_mul(1000))
        }
    };
    let memory = match reserve.memory {
        Some(memory) => memory,
        None => memory()?,
    };
    let disk = match reserve.disk {
        Some(disk) => disk,
        None => disk(&config.data_dir)?,
    };
    let templates = match config.role {
        NodeRole::Data => [Template::Process].into(),
        NodeRole::Storage | NodeRole::Witness => [].into(),
    };
    let arch = rustix::system::uname().machine().to_string_lossy().into_owned();
    let os = std::env::consts::OS.to_owned();
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Ok(NodeFacts { cpu, memory, disk, arch, os, templates, version })
}

/// Main memory of the machine, as Linux (and FreeBSD with linprocfs) says it.
fn memory() -> anyhow::Result<Bytes> {
    let path = "/proc/meminfo";
    let hint = "hint: say it with `memory = \"4GiB\"` under `[reserve]`";
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("main memory cannot be measured: `{path}`\n{hint}"))?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    match kib {
        Some(kib) => Ok(Bytes(kib.saturating_mul(1024))),
        None => bail!("main memory cannot be measured: `{path}` has no `MemTotal`\n{hint}"),
    }
}

fn disk(path: &Path) -> anyhow::Result<Bytes> {
    let what = || format!("the size of the disk under `{}` cannot be read", path.display());
    let stat = rustix::fs::statvfs(path).with_context(what)?;
    Ok(Bytes(stat.f_blocks.saturating_mul(stat.f_frsize)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_measured_and_what_is_reserved_counts_instead() {
        let dir = tempfile::tempdir().unwrap();
        let text = |rest: &str| {
            format!(
                "data_dir = \"{}\"\nrun_dir = \"/run/s\"\nname = \"ada\"\n{rest}",
                dir.path().display()
            )
        };
        let plain = measure(&Config::parse(&text("")).unwrap()).unwrap();
        assert!(plain.cpu.0 >= 1000 && plain.memory.0 > 0 && plain.disk.0 > 0);
        assert!(plain.templates.contains(&Template::Process));
        let reserved =
            "role = \"storage\"\n[reserve]\ncpu = 0.5\nmemory = \"1GiB\"\ndisk = \"2GiB\"";
        let reserved = measure(&Config::parse(&text(reserved)).unwrap()).unwrap();
        assert_eq!(
            (reserved.cpu, reserved.memory, reserved.disk),
            (MilliCpu(500), Bytes(1 << 30), Bytes(2 << 30))
        );
        assert!(reserved.templates.is_empty());
    }
}
