//! A configuration as the TOML that means it, every key said. Reading it again gives the same configuration.

use std::fmt;

use scrap_schema::timing::Timing;

use super::values::{DATASETS, FORMATS, ON_SHUTDOWN, ROLES, RUNTIMES};
use super::{Config, HostConfig};

/// The word of a value.
fn word<T: PartialEq + Copy>(words: &[(&'static str, T)], value: T) -> &'static str {
    words.iter().find(|(_, meaning)| *meaning == value).map_or("", |(word, _)| word)
}

/// A text in TOML's quotes.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// The programs and devices of a node's hands.
fn paths(f: &mut fmt::Formatter<'_>, host: &HostConfig) -> fmt::Result {
    let paths = [("keeper", &host.keeper), ("guard", &host.guard), ("watchdog", &host.watchdog)];
    for (key, path) in paths {
        if let Some(path) = path {
            writeln!(f, "{key} = {}", quoted(&path.display().to_string()))?;
        }
    }
    Ok(())
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "data_dir = {}", quoted(&self.data_dir.display().to_string()))?;
        writeln!(f, "run_dir = {}", quoted(&self.run_dir.display().to_string()))?;
        writeln!(f, "name = {}", quoted(self.name.as_str()))?;
        writeln!(f, "role = {}", quoted(word(&ROLES, self.role)))?;
        writeln!(f, "on_shutdown = {}", quoted(word(&ON_SHUTDOWN, self.on_shutdown)))?;
        writeln!(f, "\n[labels]")?;
        for (key, value) in &self.labels {
            writeln!(f, "{} = {}", quoted(key), quoted(value))?;
        }
        writeln!(f, "\n[listen]")?;
        writeln!(f, "api = {}", quoted(&self.listen.api.to_string()))?;
        writeln!(f, "peer = {}", quoted(&self.listen.peer.to_string()))?;
        writeln!(f, "\n[advertise]")?;
        writeln!(f, "api = {}", quoted(&self.advertise.api))?;
        writeln!(f, "peer = {}", quoted(&self.advertise.peer))?;
        let networks: Vec<String> =
            self.trust.test_networks.iter().map(|network| quoted(&network.to_string())).collect();
        writeln!(f, "\n[trust]\ntest_networks = [{}]", networks.join(", "))?;
        writeln!(f, "\n[host]")?;
        writeln!(f, "datasets = {}", quoted(word(&DATASETS, self.host.datasets)))?;
        writeln!(f, "runtime = {}", quoted(word(&RUNTIMES, self.host.runtime)))?;
        paths(f, &self.host)?;
        if let Some(zfs) = &self.host.zfs {
            writeln!(f, "dataset = {}", quoted(&zfs.dataset))?;
            writeln!(f, "mount = {}", quoted(&zfs.mount.display().to_string()))?;
            writeln!(f, "scrub_every = {}", quoted(&zfs.scrub_every.to_string()))?;
        }
        writeln!(f, "\n[network]")?;
        if let Some(uplink) = &self.network.uplink {
            writeln!(f, "uplink = {}", quoted(uplink))?;
        }
        writeln!(f, "\n[fence]")?;
        let fence = &self.fence;
        let folders =
            [("settings", &fence.settings), ("agents", &fence.agents), ("hooks", &fence.hooks)];
        for (key, folder) in folders {
            writeln!(f, "{key} = {}", quoted(&folder.display().to_string()))?;
        }
        writeln!(f, "\n[reserve]")?;
        if let Some(cpu) = self.reserve.cpu {
            writeln!(f, "cpu = {}", quoted(&cpu.to_string()))?;
        }
        if let Some(memory) = self.reserve.memory {
            writeln!(f, "memory = {}", quoted(&memory.to_string()))?;
        }
        if let Some(disk) = self.reserve.disk {
            writeln!(f, "disk = {}", quoted(&disk.to_string()))?;
        }
        writeln!(f, "\n[log]")?;
        writeln!(f, "format = {}", quoted(word(&FORMATS, self.log.format)))?;
        writeln!(f, "filter = {}", quoted(&self.log.filter))?;
        timing(f, &self.timing)?;
        writeln!(f, "\n[raft]")?;
        writeln!(f, "heartbeat = {}", quoted(&self.raft.heartbeat.to_string()))?;
        writeln!(f, "election = {}", quoted(&self.raft.election.to_string()))
    }
}

fn timing(f: &mut fmt::Formatter<'_>, timing: &Timing) -> fmt::Result {
    writeln!(f, "\n[timing]")?;
    if let Some(preset) = timing.preset() {
        writeln!(f, "preset = {}", quoted(preset.word()))?;
    }
    let spans = [
        ("renew", timing.renew),
        ("suspect", timing.suspect),
        ("stop", timing.stop),
        ("lease", timing.lease),
        ("kill", timing.kill),
        ("tick", timing.tick),
    ];
    for (key, span) in spans {
        writeln!(f, "{key} = {}", quoted(&span.to_string()))?;
    }
    writeln!(f, "ticks = {}", timing.ticks)
}
