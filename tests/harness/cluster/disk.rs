//! Small file systems of their own, for tests of full disks. Only where this user may mount; elsewhere they say why not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

fn run(program: &str, arguments: &[&str], place: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(program);
    let output = command.args(arguments).arg(place).output();
    let output = output.with_context(|| format!("cannot run `{program}`"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{program}` of {}: {}", place.display(), said.trim());
    }
    Ok(())
}

/// Mounts an empty file system of so many MiB in memory at a new folder.
///
/// # Errors
/// If this user may not.
pub fn mount(place: &Path, mib: u32) -> anyhow::Result<()> {
    fs::create_dir_all(place)?;
    run("mount", &["-t", "tmpfs", "-o", &format!("size={mib}m"), "scrap-test"], place)
}

/// Why no file system can be mounted here; `None` if one can.
#[must_use]
pub fn refusal() -> Option<String> {
    let place = tempfile::tempdir_in("/tmp").ok()?;
    let mounted = mount(place.path(), 1);
    let undone = unmount_below(place.path());
    mounted.and(undone).err().map(|error| format!("{error:#}"))
}

/// Unmounts everything that was mounted below a folder.
///
/// # Errors
/// If something is in use.
pub fn unmount_below(folder: &Path) -> anyhow::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from);
    for place in places.filter(|place| place.starts_with(folder)) {
        run("umount", &[], &place)?;
    }
    Ok(())
}
