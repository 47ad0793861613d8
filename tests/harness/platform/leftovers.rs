//! What is left of a lab on the machine outside. Looks at everything itself and asks no part of the lab.

use std::fs;
use std::path::{Path, PathBuf};

/// Everything that still carries the name of a lab: its folder, processes, mounts, control groups, loop devices.
#[must_use]
pub fn of(name: &str) -> Vec<String> {
    let folder = PathBuf::from("/var/lib/scrap-lab").join(name);
    let mut left = Vec::new();
    if folder.exists() {
        left.push(format!("folder {}", folder.display()));
    }
    left.extend(processes(&folder));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let place = folder.display().to_string();
    left.extend(
        mounts.lines().filter(|line| line.contains(&place)).map(|line| format!("mount {line}")),
    );
    groups(Path::new("/sys/fs/cgroup"), &format!("scrap-lab.{name}"), 2, &mut left);
    left.extend(loop_devices(&place));
    left
}

/// Processes that speak of the folder in their command line or work in it, and their namespaces with them.
fn processes(folder: &Path) -> Vec<String> {
    let place = folder.display().to_string();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut found = Vec::new();
    for process in entries.map(|entry| entry.path()) {
        let line = fs::read(process.join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let inside = fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
        if inside || line.contains(&place) {
            found.push(format!("process {}: {line}", process.display()));
        }
    }
    found
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
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let file = |device: PathBuf| fs::read_to_string(device.join("loop/backing_file")).ok();
    let files = devices.filter_map(|device| file(device.path()));
    files
        .filter(|file| file.starts_with(place))
        .map(|file| format!("loop device of {file}"))
        .collect()
}
