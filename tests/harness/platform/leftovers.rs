//! What is left of a lab on the machine outside. Looks at everything itself and asks no part of the lab.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::cluster::processes::Process;

/// A lab as it is recognised afterwards: by its name, by the namespaces of its machines, by what the machine outside had of its
/// own before.
#[derive(Debug, Clone)]
pub struct Trace {
    name: String,
    folder: PathBuf,
    /// Networks of its machines, as the kernel names them: `net:[4026532281]`.
    networks: Arc<Mutex<BTreeMap<String, Network>>>,
    outside: BTreeSet<String>,
}

/// The network of a machine.
#[derive(Debug, Clone)]
struct Network {
    machine: String,
    /// When its machine was ended, in ticks since the boot: the kernel gives the name to the next network, which may be that of
    /// another lab, and whoever was begun after that is of the next one.
    until: Option<u64>,
}

impl Trace {
    /// Looks at the machine outside before the lab begins. The caller's thread is in its network.
    #[must_use]
    pub fn begin(name: &str) -> Self {
        let folder = PathBuf::from("/var/lib/scrap-lab").join(name);
        let outside = links_and_tables();
        Self { name: name.to_owned(), folder, networks: Arc::default(), outside }
    }

    /// Looks at the machines that are up, again each time that some are begun.
    pub fn look(&self) {
        let mut networks = self.networks();
        for record in entries(&self.folder.join("machines")) {
            if record.extension().is_none_or(|extension| extension != "inner") {
                continue;
            }
            let text = fs::read_to_string(&record).unwrap_or_default();
            let pid = text.split(' ').next().unwrap_or_default();
            if let Ok(network) = fs::read_link(format!("/proc/{pid}/ns/net")) {
                let machine = record.file_stem().unwrap_or_default().to_string_lossy();
                let network = network.display().to_string();
                let machine = machine.into_owned();
                networks.insert(network, Network { machine, until: None });
            }
        }
    }

    /// A machine, or every one, is about to be ended.
    pub fn ends(&self, machine: Option<&str>) {
        let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
        // `12.34 …`, in hundredths as everything that the kernel counts for programs.
        let ticks = uptime.split(' ').next().map(|seconds| seconds.replace('.', ""));
        let now = ticks.and_then(|ticks| ticks.parse().ok());
        for network in self.networks().values_mut() {
            if machine.is_none_or(|machine| network.machine == machine) {
                network.until = network.until.or(now);
            }
        }
    }

    fn networks(&self) -> MutexGuard<'_, BTreeMap<String, Network>> {
        self.networks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many machines have a network that is known.
    #[must_use]
    pub fn machines(&self) -> usize {
        self.networks().len()
    }

    /// Everything that still is of the lab: its folder, processes, mounts, control groups, loop devices, pools, networks, and
    /// links and tables that the machine outside had not before. The caller's thread is in the network of that machine.
    #[must_use]
    pub fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        if self.folder.exists() {
            left.push(format!("folder {}", self.folder.display()));
        }
        left.extend(self.processes());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let place = self.folder.display().to_string();
        let ours = |line: &&str| line.contains(&place) || self.network_in(line, 0).is_some();
        left.extend(mounts.lines().filter(ours).map(|line| format!("mount {line}")));
        groups(Path::new("/sys/fs/cgroup"), &format!("scrap-lab.{}", self.name), 2, &mut left);
        left.extend(loop_devices(&place));
        left.extend(self.pools());
        let now = links_and_tables();
        left.extend(now.difference(&self.outside).map(|what| format!("outside, {what}")));
        left
    }

    /// Processes that speak of the folder in their command line, work in it, have a file in it open (as every zfs-fuse has its
    /// pool), are in a control group of the lab, or are in the network of a machine or hold it open.
    fn processes(&self) -> Vec<String> {
        let mut found = Vec::new();
        for process in entries(Path::new("/proc")) {
            let number = process.file_name().and_then(|name| name.to_str()?.parse().ok());
            // One that has ended is nothing any more, whenever its parent takes notice.
            let Some(started) = number.and_then(Process::of).map(|process| process.started) else {
                continue;
            };
            let line = fs::read(process.join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let why = self.belongs(&process, started, &line);
            if !why.is_empty() {
                found.push(format!("process {} ({}): {line}", process.display(), why.join(", ")));
            }
        }
        found
    }

    /// Every way in which a process is of the lab.
    fn belongs(&self, process: &Path, started: u64, line: &str) -> Vec<String> {
        let mut why = Vec::new();
        if line.contains(&self.folder.display().to_string()) {
            why.push("its command line".to_owned());
        }
        if fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(&self.folder)) {
            why.push("works in the folder".to_owned());
        }
        let groups = fs::read_to_string(process.join("cgroup")).unwrap_or_default();
        let group = format!("/scrap-lab.{}", self.name);
        let inside = |line: &str| line.ends_with(&group) || line.contains(&format!("{group}/"));
        if groups.lines().any(inside) {
            why.push("its control group".to_owned());
        }
        let mut seen = BTreeSet::new();
        let threads = entries(&process.join("task"));
        let spaces = threads.iter().map(|thread| thread.join("ns/net"));
        for link in spaces.chain(entries(&process.join("fd"))) {
            let Ok(target) = fs::read_link(&link) else { continue };
            if target.starts_with(&self.folder) {
                seen.insert(format!("has {} open", target.display()));
            }
            if let Some(machine) = self.network_in(&target.to_string_lossy(), started) {
                seen.insert(format!("the network of {machine}"));
            }
        }
        why.extend(seen);
        why
    }

    /// Whose network a text of the kernel names, for something that was begun then.
    fn network_in(&self, text: &str, started: u64) -> Option<String> {
        let networks = self.networks();
        let found = networks.iter().find(|(name, network)| {
            text.contains(name.as_str()) && network.until.is_none_or(|until| started <= until)
        });
        found.map(|(_, network)| network.machine.clone())
    }

    /// Pools of the kernel; those of zfs-fuse end with its process.
    fn pools(&self) -> Vec<String> {
        if !Path::new("/dev/zfs").exists() {
            return Vec::new();
        }
        let ours = format!("{}-", self.name);
        let pools = said("zpool", &["list", "-H", "-o", "name"]);
        pools
            .lines()
            .filter(|pool| pool.starts_with(&ours))
            .map(|it| format!("pool {it}"))
            .collect()
    }
}

/// Links and tables of the network that the calling thread is in.
fn links_and_tables() -> BTreeSet<String> {
    let links = said("ip", &["-o", "link"]);
    // `7: eth0@if6: <BROADCAST,…`
    let names = links.lines().filter_map(|line| line.split([':', '@']).nth(1));
    let names = names.map(|name| format!("link {}", name.trim()));
    let tables = said("nft", &["list", "tables"]);
    names.chain(tables.lines().map(ToOwned::to_owned)).collect()
}

/// What a program says, or that it could not.
fn said(program: &str, arguments: &[&str]) -> String {
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).into_owned()
        }
        Ok(output) => format!("{program}: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => format!("{program}: {error}"),
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn groups(folder: &Path, name: &str, depth: u32, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_name() == name {
            found.push(format!("control group {}", path.display()));
        } else if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            groups(&path, name, depth - 1, found);
        }
    }
}

fn loop_devices(place: &str) -> Vec<String> {
    let devices = entries(Path::new("/sys/block"));
    let file = |device: PathBuf| fs::read_to_string(device.join("loop/backing_file")).ok();
    let files = devices.into_iter().filter_map(file);
    files
        .filter(|file| file.starts_with(place))
        .map(|file| format!("loop device of {file}"))
        .collect()
}
