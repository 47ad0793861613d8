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
    /// Where groups of grains are made in it.
    pub(crate) base: PathBuf,
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
        let mount = PathBuf::from(mount);
        found.push(Hierarchy { base: mount.clone(), mount, unified, controllers });
    }
    found
}

/// The group of a process in a hierarchy, from its lines in `/proc/<pid>/cgroup`.
fn group_in<'a>(hierarchy: &Hierarchy, lines: &'a str) -> Option<&'a str> {
    lines.lines().find_map(|line| {
        let mut words = line.splitn(3, ':').skip(1);
        let (controllers, path) = (words.next()?, words.next()?);
        let mut names = controllers.split(',');
        let same = if hierarchy.unified {
            controllers.is_empty()
        } else {
            names.any(|name| !name.is_empty() && hierarchy.controllers.contains(name))
        };
        same.then_some(path)
    })
}

/// Every tree of groups of this machine.
pub(crate) fn hierarchies() -> io::Result<Vec<Hierarchy>> {
    let mut found = parse(&fs::read_to_string("/proc/self/mounts")?);
    let first = fs::read_to_string("/proc/1/cgroup")?;
    for hierarchy in &mut found {
        if hierarchy.unified {
            let text = fs::read_to_string(hierarchy.mount.join("cgroup.controllers"))?;
            hierarchy.controllers = text.split_ascii_whitespace().map(str::to_owned).collect();
        }
        // Groups are made beside that of the machine's first process, which may be in one of its own.
        let group = group_in(hierarchy, &first).unwrap_or_default();
        let group = group.trim_end_matches("/init.scope").trim_start_matches('/');
        if !group.split('/').any(|name| name == "..") {
            hierarchy.base = hierarchy.mount.join(group);
        }
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
            tree(&hierarchy.base.join(self.path), &mut below)?;
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
            if hierarchy.base.join(self.path) != folder {
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
        let there = |hierarchy: &&Hierarchy| hierarchy.base.join(&path).is_dir();
        if let Some(unified) = all.iter().filter(there).find(|hierarchy| hierarchy.unified) {
            return fs::write(unified.base.join(&path).join("cgroup.freeze"), "1");
        }
        let first = all.iter().filter(there).find(|one| one.controllers.contains("freezer"));
        let first = first.ok_or(io::ErrorKind::Unsupported)?;
        fs::write(first.base.join(&path).join("freezer.state"), "FROZEN")
    }

    /// Whether its system is frozen, and nothing of it runs any more.
    pub(crate) fn is_frozen(&self) -> io::Result<bool> {
        for hierarchy in hierarchies()? {
            let folder = hierarchy.base.join(self.path).join(SYSTEM);
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
            let folder = hierarchy.base.join(self.path).join(SYSTEM);
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
        groups_of_grains(lines).any(|group| group == self.path)
    }
}

/// Whether one of the lines of `/proc/<pid>/cgroup` is of a grain, of whichever run directory.
pub(crate) fn is_of_a_grain(lines: &str) -> bool {
    groups_of_grains(lines).next().is_some()
}

/// The groups of grains in lines of `/proc/<pid>/cgroup`. The outermost of each counts: below its own, a grain may name groups
/// as it likes.
fn groups_of_grains(lines: &str) -> impl Iterator<Item = &str> {
    let paths = lines.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.filter_map(|path| path.split('/').find(|name| is_name_of_a_group(name)))
}

/// Letters and digits of a run directory, and of a grain.
const NAME: (usize, usize) = (16, 26);

fn is_name_of_a_group(name: &str) -> bool {
    let parts = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-'));
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    parts.is_some_and(|(run, grain)| (run.len(), grain.len()) == NAME && plain(run) && plain(grain))
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
        const ONE: &str = "scrap-0123456789abcdef-00000000000000000000000001";
        const TWO: &str = "scrap-0123456789abcdef-00000000000000000000000002";
        let group = Group { path: ONE };
        for (lines, held) in [
            (format!("0::/{ONE}"), true),
            (format!("4:memory:/\n0::/{ONE}/system/init.scope"), true),
            (format!("7:pids:/{ONE}/system\n0::/"), true),
            (format!("0::/init/{ONE}/monitor"), true),
            (format!("0::/{TWO}"), false),
            (format!("0::/{TWO}/system/{ONE}"), false),
            (format!("0::/{ONE}x"), false),
            (String::new(), false),
        ] {
            assert_eq!(group.holds(&lines), held, "{lines}");
        }
        assert!(is_of_a_grain(&format!("0::/a/{TWO}/system")));
        assert!(!is_of_a_grain("0::/scrap-lab/scrap-0123456789abcdef-2"));
    }

    #[test]
    fn the_group_of_a_process_is_known_in_every_hierarchy() {
        let mounts =
            "c /a cgroup rw,cpu 0 0\nc /b cgroup rw,name=systemd 0 0\nc /c cgroup2 rw 0 0\n";
        let lines = "3:cpu,cpuacct:/one\n2:name=systemd:/two:x\n0::/three\n";
        let found = parse(mounts);
        let groups: Vec<_> = found.iter().map(|one| group_in(one, lines)).collect();
        assert_eq!(groups, [Some("/one"), Some("/two:x"), Some("/three")]);
    }

    #[test]
    fn numbers_are_read_by_their_names() {
        let text = "inactive_file 7\ntotal_inactive_file 12\nusage_usec 3000\n";
        assert_eq!((field(text, "total_inactive_file"), field(text, "inactive_file")), (12, 7));
        assert_eq!(field(text, "missing"), 0);
    }
}
