//! Groups of processes as the system keeps them: finding, measuring, freezing, killing and removing what is in the group
//! of a grain, in every hierarchy that is mounted, of the first kind and of the second. Starts nothing, and never touches a
//! group outside the one that it was made for.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use scrap_schema::unit::Bytes;

/// How the name of the group of every grain begins.
pub(crate) const PREFIX: &str = "scrap-";
/// The group of the grain's system, in the grain's.
pub(crate) const SYSTEM: &str = "system";

/// A mounted tree of groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    pub(crate) mount: PathBuf,
    /// Of the second kind: one tree for all controllers.
    pub(crate) unified: bool,
    pub(crate) controllers: BTreeSet<String>,
}

/// Reads the text of `/proc/self/mounts`.
fn parse(mounts: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mounts.lines() {
        let mut words = line.split(' ').skip(1);
        let (Some(mount), Some(kind), Some(options)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let unified = kind == "cgroup2";
        if !unified && kind != "cgroup" {
            continue;
        }
        let controllers =
            if unified { BTreeSet::new() } else { options.split(',').map(str::to_owned).collect() };
        found.push(Hierarchy { mount: PathBuf::from(mount), unified, controllers });
    }
    found
}

/// Every tree of groups of this machine.
pub(crate) fn hierarchies() -> io::Result<Vec<Hierarchy>> {
    let mut found = parse(&fs::read_to_string("/proc/self/mounts")?);
    for hierarchy in found.iter_mut().filter(|hierarchy| hierarchy.unified) {
        let text = fs::read_to_string(hierarchy.mount.join("cgroup.controllers"))?;
        hierarchy.controllers = text.split_ascii_whitespace().map(str::to_owned).collect();
    }
    Ok(found)
}

/// The group of a grain: its path from the root of every hierarchy, without a slash at either end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group<'a> {
    pub(crate) path: &'a str,
}

/// A missing file is none, any other trouble is one.
fn optional<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// A folder and all below it, the lowest first.
fn tree(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    let Some(entries) = optional(fs::read_dir(folder))? else { return Ok(()) };
    for entry in entries {
        let Some(entry) = optional(entry)? else { continue };
        if optional(entry.file_type())?.is_some_and(|kind| kind.is_dir()) {
            tree(&entry.path(), found)?;
        }
    }
    found.push(folder.to_owned());
    Ok(())
}

impl Group<'_> {
    /// Its folder in each hierarchy where it is, with all below it, the lowest first.
    fn folders(&self) -> io::Result<Vec<(Hierarchy, PathBuf)>> {
        let mut found = Vec::new();
        for hierarchy in hierarchies()? {
            let mut below = Vec::new();
            tree(&hierarchy.mount.join(self.path), &mut below)?;
            found.extend(below.into_iter().map(|folder| (hierarchy.clone(), folder)));
        }
        Ok(found)
    }

    /// Every process in it.
    pub(crate) fn pids(&self) -> io::Result<BTreeSet<i32>> {
        let mut pids = BTreeSet::new();
        for (_, folder) in self.folders()? {
            let text = optional(fs::read_to_string(folder.join("cgroup.procs")))?;
            pids.extend(
                text.iter().flat_map(|text| text.lines()).filter_map(|pid| pid.parse::<i32>().ok()),
            );
        }
        // Of another namespace of processes than ours: it has no number here.
        pids.remove(&0);
        Ok(pids)
    }

    /// Kills everything in it that the system can kill at once, also what is being forked now. What it cannot is left to
    /// signals; nothing new begins there from now on.
    pub(crate) fn kill(&self) {
        self.thaw();
        for (hierarchy, folder) in self.folders().unwrap_or_default() {
            if hierarchy.mount.join(self.path) != folder {
                let _ = fs::write(folder.join("pids.max"), "0");
            }
            if hierarchy.unified {
                let _ = fs::write(folder.join("cgroup.kill"), "1");
            }
        }
    }

    /// Lets nothing in its system run.
    pub(crate) fn freeze(&self) -> io::Result<()> {
        let path = format!("{}/{SYSTEM}", self.path);
        let all = hierarchies()?;
        let there = |hierarchy: &&Hierarchy| hierarchy.mount.join(&path).is_dir();
        if let Some(unified) = all.iter().filter(there).find(|hierarchy| hierarchy.unified) {
            return fs::write(unified.mount.join(&path).join("cgroup.freeze"), "1");
        }
        let first = all.iter().filter(there).find(|one| one.controllers.contains("freezer"));
        let first = first.ok_or(io::ErrorKind::Unsupported)?;
        fs::write(first.mount.join(&path).join("freezer.state"), "FROZEN")
    }

    /// Whether its system is frozen, and nothing of it runs any more.
    pub(crate) fn is_frozen(&self) -> io::Result<bool> {
        for hierarchy in hierarchies()? {
            let folder = hierarchy.mount.join(self.path).join(SYSTEM);
            let events = optional(fs::read_to_string(folder.join("cgroup.events")))?;
            let state = optional(fs::read_to_string(folder.join("freezer.state")))?;
            if events.is_some_and(|text| text.lines().any(|line| line == "frozen 1"))
                || state.is_some_and(|text| text.trim() == "FROZEN")
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Lets everything in it run, the highest first: what is below a frozen group stays frozen.
    pub(crate) fn thaw(&self) {
        for (hierarchy, folder) in self.folders().unwrap_or_default().iter().rev() {
            let (file, word) = if hierarchy.unified {
                ("cgroup.freeze", "0")
            } else {
                ("freezer.state", "THAWED")
            };
            let file = folder.join(file);
            if file.exists() {
                let _ = fs::write(file, word);
            }
        }
    }

    /// Removes it from every hierarchy. Something that still lives in it: refused by the system.
    pub(crate) fn remove(&self) -> io::Result<()> {
        for (_, folder) in self.folders()? {
            optional(fs::remove_dir(folder))?;
        }
        Ok(())
    }

    /// Processor time in milliseconds, memory without what can be dropped at once, and processes of its system.
    pub(crate) fn usage(&self) -> io::Result<(u64, Bytes, u32)> {
        let (mut cpu_ms, mut memory) = (0, 0);
        for hierarchy in hierarchies()? {
            let folder = hierarchy.mount.join(self.path).join(SYSTEM);
            let read = |name: &str| optional(fs::read_to_string(folder.join(name)));
            let number = |text: String| text.trim().parse::<u64>().ok();
            let controls = |name: &str| hierarchy.controllers.contains(name);
            if hierarchy.unified {
                let stat = read("cpu.stat")?.unwrap_or_default();
                cpu_ms = cpu_ms.max(field(&stat, "usage_usec") / 1000);
            } else if controls("cpuacct") {
                cpu_ms =
                    cpu_ms.max(read("cpuacct.usage")?.and_then(number).unwrap_or(0) / 1_000_000);
            }
            let names = if hierarchy.unified {
                ("memory.current", "inactive_file")
            } else {
                ("memory.usage_in_bytes", "total_inactive_file")
            };
            if controls("memory") {
                let used = read(names.0)?.and_then(number).unwrap_or(0);
                let stat = read("memory.stat")?.unwrap_or_default();
                memory = used.saturating_sub(field(&stat, names.1));
            }
        }
        let system = format!("{}/{SYSTEM}", self.path);
        let processes = Group { path: &system }.pids()?.len();
        Ok((cpu_ms, Bytes(memory), u32::try_from(processes).unwrap_or(u32::MAX)))
    }

    /// Whether one of the lines of `/proc/<pid>/cgroup` is of this group.
    pub(crate) fn holds(&self, lines: &str) -> bool {
        paths(lines).any(|path| {
            let rest = path.trim_start_matches('/').strip_prefix(self.path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}

/// Whether one of the lines of `/proc/<pid>/cgroup` is of a grain, of whichever run directory.
pub(crate) fn is_of_a_grain(lines: &str) -> bool {
    paths(lines).any(|path| path.trim_start_matches('/').starts_with(PREFIX))
}

fn paths(lines: &str) -> impl Iterator<Item = &str> {
    lines.lines().filter_map(|line| line.splitn(3, ':').nth(2))
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_hierarchies_are_found_among_the_mounts() {
        let text = "proc /proc proc rw 0 0\n\
            cgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu,cpuacct 0 0\n\
            cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\nodd\n";
        let found = parse(text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].mount, Path::new("/sys/fs/cgroup/cpu"));
        assert!(!found[0].unified && found[0].controllers.contains("cpuacct"));
        assert!(found[1].unified && found[1].controllers.is_empty());
    }

    #[test]
    fn a_group_holds_what_is_below_it_and_nothing_beside_it() {
        let group = Group { path: "scrap-1-g" };
        for (lines, held) in [
            ("0::/scrap-1-g", true),
            ("4:memory:/\n0::/scrap-1-g/system/init.scope", true),
            ("7:pids:/scrap-1-g/system\n0::/", true),
            ("0::/scrap-1-g2", false),
            ("0::/scrap-1", false),
            ("0::/other/scrap-1-g", false),
            ("", false),
        ] {
            assert_eq!(group.holds(lines), held, "{lines}");
        }
        assert!(is_of_a_grain("0::/scrap-2/x/system"));
        assert!(!is_of_a_grain("0::/user.slice/scrap-2"));
    }

    #[test]
    fn numbers_are_read_by_their_names() {
        let text = "inactive_file 7\ntotal_inactive_file 12\nusage_usec 3000\n";
        assert_eq!((field(text, "total_inactive_file"), field(text, "inactive_file")), (12, 7));
        assert_eq!(field(text, "missing"), 0);
    }
}
