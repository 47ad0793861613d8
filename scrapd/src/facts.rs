//! What this machine is made of, measured once at the start. No policy: what the configuration reserves counts instead.

use std::path::Path;

use anyhow::Context as _;
use scrap_host::machine;
use scrap_schema::node::{NodeFacts, NodeRole, RuntimeKind};
use scrap_schema::unit::{Bytes, MilliCpu};

use crate::config::{self, Config};

/// Measures the machine; the data folder must exist.
///
/// # Errors
/// If something can neither be measured nor is said in the configuration.
pub fn measure(config: &Config) -> anyhow::Result<NodeFacts> {
    let reserve = &config.reserve;
    let machine = machine::facts()
        .context("this machine cannot be measured\nhint: say `cpu` and `memory` under `[reserve]`");
    let (cpu, memory) = match (reserve.cpu, reserve.memory) {
        (Some(cpu), Some(memory)) => (cpu, memory),
        (cpu, memory) => {
            let machine = machine?;
            let cores = MilliCpu(u64::from(machine.cores).saturating_mul(1000));
            (cpu.unwrap_or(cores), memory.unwrap_or(machine.memory))
        }
    };
    let disk = match reserve.disk {
        Some(disk) => disk,
        None => disk(&config.data_dir)?,
    };
    let runtimes = match config.role {
        NodeRole::Data => [runtime(config)].into(),
        NodeRole::Storage | NodeRole::Witness => [].into(),
    };
    let arch = rustix::system::uname().machine().to_string_lossy().into_owned();
    let os = std::env::consts::OS.to_owned();
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Ok(NodeFacts {
        cpu,
        memory,
        disk,
        arch,
        os,
        runtimes,
        network: config.network.uplink.clone(),
        version,
    })
}

fn runtime(config: &Config) -> RuntimeKind {
    match config.host.runtime {
        // A node that only notes that it would run takes everything that a program of the machine is.
        config::RuntimeKind::Process | config::RuntimeKind::Mem => RuntimeKind::Process,
        config::RuntimeKind::Lxc => RuntimeKind::Lxc,
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
        assert!(plain.runtimes.contains(&RuntimeKind::Process));
        let reserved =
            "role = \"storage\"\n[reserve]\ncpu = 0.5\nmemory = \"1GiB\"\ndisk = \"2GiB\"";
        let reserved = measure(&Config::parse(&text(reserved)).unwrap()).unwrap();
        assert_eq!(
            (reserved.cpu, reserved.memory, reserved.disk),
            (MilliCpu(500), Bytes(1 << 30), Bytes(2 << 30))
        );
        assert!(reserved.runtimes.is_empty());
    }
}
