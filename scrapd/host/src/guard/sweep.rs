//! Finding and killing what is left of a grain, without asking for memory, writing to a disk, or starting anything: all
//! room is there before the guard begins to watch. The same rules as [`crate::processes::Family`], which takes its time.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{Mode, OFlags, RawDir, openat};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::board::{GROUP_MAX, Holder, Slot, TAG_MAX};
use crate::cgroups::{self, Group, Hierarchy, SYSTEM};
use crate::processes::{self, Process, Stat, TAG};
use crate::runtime::IdRange;

/// Room for one file of `/proc`.
const TEXT: usize = 64 << 10;
/// Room for names of a folder.
const NAMES: usize = 32 << 10;
/// Longest path of a group's file.
const PATH: usize = 1024;
/// A process that was missed because it changed its parent while one looked is found by looking again.
const LOOKS_MAX: u32 = 64;

/// Whether a file of a process names one of these users.
type Check = fn(&str, IdRange) -> bool;

/// What is looked for.
#[derive(Debug)]
pub(super) struct Target<'a> {
    keeper: Process,
    tag: &'a [u8],
    group: &'a str,
    ids: Option<IdRange>,
}

/// Room for the names of a target.
pub(super) struct Names {
    tag: [u8; TAG_MAX],
    group: [u8; GROUP_MAX],
}

impl Names {
    pub(super) const fn new() -> Self {
        Self { tag: [0; TAG_MAX], group: [0; GROUP_MAX] }
    }

    /// What a slot says. `None`: it is not filled in.
    pub(super) fn target(&mut self, slot: &Slot<'_>) -> Option<Target<'_>> {
        let keeper = match slot.holder() {
            Holder::Keeper(keeper) => keeper,
            Holder::Nobody | Holder::Entering(_) => return None,
        };
        let tag = slot.tag(&mut self.tag);
        let group = std::str::from_utf8(slot.group(&mut self.group)).unwrap_or_default();
        Some(Target { keeper, tag, group, ids: slot.ids() })
    }
}

/// Whether what is found is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    Look,
    Kill,
}

/// The tools.
pub(super) struct Sweep {
    proc: OwnedFd,
    me: i32,
    /// One bit for each pid that can be.
    seen: Vec<u64>,
    names: Vec<MaybeUninit<u8>>,
    text: Vec<u8>,
    hierarchies: Vec<Hierarchy>,
}

fn bit(pid: i32) -> Option<(usize, u64)> {
    let pid = usize::try_from(pid).ok()?;
    Some((pid / 64, 1 << (pid % 64)))
}

/// A number with a zero behind it, as the name of a folder.
fn name_of(pid: i32, file: &[u8], into: &mut [u8; 64]) -> bool {
    let mut digits = [0_u8; 10];
    let (mut rest, mut length) = (pid.unsigned_abs(), 0);
    loop {
        let digit = u8::try_from(rest % 10).unwrap_or(0);
        if let Some(place) = digits.get_mut(length) {
            *place = b'0' + digit;
        }
        length += 1;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let digits = digits.get(..length).unwrap_or_default().iter().rev().copied();
    let name = digits.chain([b'/']).chain(file.iter().copied()).chain([0]);
    let mut places = into.iter_mut();
    for byte in name {
        let Some(place) = places.next() else { return false };
        *place = byte;
    }
    true
}

/// Bytes as text: what is no plain letter becomes a question mark, in place.
fn plain(bytes: &mut [u8]) -> &str {
    for byte in bytes.iter_mut() {
        if !byte.is_ascii() {
            *byte = b'?';
        }
    }
    std::str::from_utf8(bytes).unwrap_or_default()
}

fn is_gone(error: Errno) -> bool {
    [Errno::NOENT, Errno::SRCH, Errno::ACCESS, Errno::PERM].contains(&error)
}

impl Sweep {
    /// All room that will be needed.
    ///
    /// # Errors
    /// There is no `/proc`, or it cannot be read.
    pub(super) fn new() -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = rustix::fs::open("/proc", flags, Mode::empty())?;
        let most = std::fs::read_to_string("/proc/sys/kernel/pid_max")?;
        let most: usize = most.trim().parse().map_err(io::Error::other)?;
        Ok(Self {
            proc,
            me: Process::me().pid,
            seen: vec![0; most / 64 + 1],
            names: vec![MaybeUninit::uninit(); NAMES],
            text: vec![0; TEXT],
            // A machine without groups has no systems either.
            hierarchies: cgroups::hierarchies().unwrap_or_default(),
        })
    }

    /// Opens a file of a process. `None`: the process is gone, or it is somebody else's.
    fn open(proc: &OwnedFd, pid: i32, file: &[u8]) -> Result<Option<OwnedFd>, Errno> {
        let mut name = [0; 64];
        if !name_of(pid, file, &mut name) {
            return Err(Errno::NAMETOOLONG);
        }
        let name = CStr::from_bytes_until_nul(&name).map_err(|_| Errno::INVAL)?;
        match openat(proc, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => Ok(Some(file)),
            Err(error) if is_gone(error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Fills `text` as far as the file goes. `None`: the process is gone.
    fn fill(file: &OwnedFd, text: &mut [u8]) -> Result<Option<usize>, Errno> {
        let mut length = 0;
        while let Some(rest) = text.get_mut(length..).filter(|rest| !rest.is_empty()) {
            match rustix::io::read(file, rest) {
                Ok(0) => break,
                Ok(more) => length += more,
                Err(Errno::INTR) => (),
                Err(error) if is_gone(error) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(length))
    }

    fn read(
        proc: &OwnedFd,
        pid: i32,
        file: &[u8],
        text: &mut [u8],
    ) -> Result<Option<usize>, Errno> {
        match Self::open(proc, pid, file)? {
            Some(file) => Self::fill(&file, text),
            None => Ok(None),
        }
    }

    fn stat(&mut self, pid: i32) -> Result<Option<Stat>, Errno> {
        let Some(length) = Self::read(&self.proc, pid, b"stat", &mut self.text)? else {
            return Ok(None);
        };
        let text = self.text.get_mut(..length).unwrap_or_default();
        Ok(processes::parse(plain(text)))
    }

    /// Whether a process lives. One that cannot be looked at does.
    pub(super) fn is_alive(&mut self, process: Process) -> bool {
        match self.stat(process.pid) {
            Ok(stat) => stat.is_some_and(|stat| stat.process == process && !stat.ended),
            Err(_) => true,
        }
    }

    /// Whether there is a process of this pid.
    pub(super) fn is_there(&mut self, pid: i32) -> bool {
        self.stat(pid).map_or(true, |stat| stat.is_some_and(|stat| !stat.ended))
    }

    /// Sends a signal to exactly this process.
    pub(super) fn signal(&mut self, process: Process, signal: Signal) {
        let Some(pid) = Pid::from_raw(process.pid) else { return };
        // Opened first and looked at then: what the descriptor means cannot change any more.
        if let Ok(fd) = pidfd_open(pid, PidfdFlags::empty())
            && self.is_alive(process)
        {
            let _ = pidfd_send_signal(&fd, signal);
        }
    }

    /// Looks at every process of the machine until nothing more of the target is found, and only then kills what was found: whose
    /// parent is gone may not be known any more. How many of it lived, its keeper not counted; that is not killed.
    ///
    /// # Errors
    /// Something could not be looked at: nobody knows whether it lives.
    pub(super) fn pass(&mut self, target: &Target<'_>, deed: Deed) -> Result<u32, Errno> {
        self.seen.fill(0);
        if self.is_alive(target.keeper) {
            self.see(target.keeper.pid);
        }
        let (mut found, mut unclear) = (0, None);
        for _ in 0..LOOKS_MAX {
            let mut more = 0;
            self.each(&mut |sweep, stat| {
                if stat.process == target.keeper || sweep.is_seen(stat.process.pid) {
                    return;
                }
                match sweep.claims(target, stat) {
                    Ok(true) => {
                        sweep.see(stat.process.pid);
                        more += 1;
                    }
                    Ok(false) => (),
                    Err(error) => unclear = Some(error),
                }
            })?;
            found += more;
            if more == 0 {
                break;
            }
        }
        if deed == Deed::Kill && found > 0 {
            self.each(&mut |sweep, stat| {
                if stat.process != target.keeper && sweep.is_seen(stat.process.pid) {
                    sweep.signal(stat.process, Signal::KILL);
                }
            })?;
        }
        unclear.map_or(Ok(found), Err)
    }

    /// Shows every living process but this one.
    fn each(&mut self, show: &mut dyn FnMut(&mut Self, Stat)) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(&self.proc, c".", flags, Mode::empty())?;
        let mut names = std::mem::take(&mut self.names);
        let mut entries = RawDir::new(folder.as_fd(), &mut names);
        let mut ended = Ok(());
        while let Some(entry) = entries.next() {
            let pid = match &entry {
                Ok(entry) => entry.file_name().to_str().ok().and_then(|name| name.parse().ok()),
                Err(error) => {
                    ended = Err(*error);
                    break;
                }
            };
            let Some(pid) = pid.filter(|pid| *pid != self.me) else { continue };
            match self.stat(pid) {
                Ok(Some(stat)) if !stat.ended => show(self, stat),
                Ok(_) => (),
                Err(error) => ended = Err(error),
            }
        }
        self.names = names;
        ended
    }

    fn see(&mut self, pid: i32) {
        if let Some((word, bit)) = bit(pid)
            && let Some(word) = self.seen.get_mut(word)
        {
            *word |= bit;
        }
    }

    fn is_seen(&self, pid: i32) -> bool {
        bit(pid).is_some_and(|(word, bit)| self.seen.get(word).is_some_and(|word| word & bit != 0))
    }

    /// Whether a process belongs to the target: by its parent, or by itself wherever it descends from.
    fn claims(&mut self, target: &Target<'_>, stat: Stat) -> Result<bool, Errno> {
        let pid = stat.process.pid;
        if self.is_seen(stat.parent) {
            return Ok(true);
        }
        if !target.group.is_empty() && self.caged(target, pid)? {
            return Ok(true);
        }
        let younger = stat.process.started >= target.keeper.started;
        Ok(younger && (stat.session == target.keeper.pid || self.is_tagged(pid, target.tag)?))
    }

    fn caged(&mut self, target: &Target<'_>, pid: i32) -> Result<bool, Errno> {
        let Some(length) = Self::read(&self.proc, pid, b"cgroup", &mut self.text)? else {
            return Ok(false);
        };
        let lines = plain(self.text.get_mut(..length).unwrap_or_default());
        if (Group { path: target.group }).holds(lines) {
            return Ok(true);
        }
        let Some(ids) = target.ids.filter(|_| !cgroups::is_of_a_grain(lines)) else {
            return Ok(false);
        };
        let checks: [(&[u8], Check); 2] =
            [(b"status", processes::has_user_of), (b"uid_map", processes::maps_to)];
        for (file, check) in checks {
            if let Some(length) = Self::read(&self.proc, pid, file, &mut self.text)?
                && check(plain(self.text.get_mut(..length).unwrap_or_default()), ids)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the environment of a process has the tag, wherever in it.
    fn is_tagged(&mut self, pid: i32, tag: &[u8]) -> Result<bool, Errno> {
        let Some(file) = Self::open(&self.proc, pid, b"environ")? else { return Ok(false) };
        // What may be the beginning of the variable is looked at again with what follows.
        let whole = TAG.len() + 1 + tag.len();
        let (mut kept, mut first) = (0, true);
        loop {
            let Some(room) = self.text.get_mut(kept..) else { return Ok(false) };
            let room_is = room.len();
            let Some(more) = Self::fill(&file, room)? else { return Ok(false) };
            let there = self.text.get(..kept + more).unwrap_or_default();
            let begins = |at: usize| {
                let value = there.get(at..).and_then(|rest| rest.strip_prefix(TAG.as_bytes()));
                let value = value.and_then(|rest| rest.strip_prefix(b"="));
                value.is_some_and(|value| value.starts_with(tag))
            };
            let mut ends = there.iter().enumerate().filter(|(_, byte)| **byte == 0);
            if (first && begins(0)) || ends.any(|(at, _)| begins(at + 1)) {
                return Ok(!tag.is_empty());
            }
            if more < room_is {
                return Ok(false);
            }
            let from = there.len().saturating_sub(whole);
            kept = there.len() - from;
            self.text.copy_within(from.., 0);
            first = false;
        }
    }

    /// What the system can do at once to a group: end what is in it, let nothing new begin, and let what is frozen die.
    pub(super) fn kill_group(&self, target: &Target<'_>) {
        if target.group.is_empty() {
            return;
        }
        for hierarchy in &self.hierarchies {
            let base = hierarchy.base.as_os_str().as_bytes();
            for below in ["", SYSTEM] {
                let parts = [base, target.group.as_bytes(), below.as_bytes()];
                if !below.is_empty() {
                    write(&parts, "pids.max", "0");
                }
                if hierarchy.unified {
                    write(&parts, "cgroup.kill", "1");
                    write(&parts, "cgroup.freeze", "0");
                } else {
                    write(&parts, "freezer.state", "THAWED");
                }
            }
        }
    }
}

/// Writes a word into a file of a group. One that is not there is fine.
fn write(folders: &[&[u8]], file: &str, word: &str) {
    let mut path = [0_u8; PATH];
    let mut places = path.iter_mut();
    let parts = folders.iter().copied().chain([file.as_bytes()]).filter(|part| !part.is_empty());
    for part in parts {
        for byte in part.iter().chain(b"/") {
            let Some(place) = places.next() else { return };
            *place = *byte;
        }
    }
    let left = places.len();
    let Some(end) = PATH.checked_sub(left + 1) else { return };
    if let Some(last) = path.get_mut(end) {
        *last = 0;
    }
    let Ok(path) = CStr::from_bytes_until_nul(&path) else { return };
    if let Ok(file) = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
        let _ = rustix::io::write(&file, word.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use super::*;

    fn text(pid: i32, file: &[u8]) -> String {
        let mut name = [0; 64];
        assert!(name_of(pid, file, &mut name));
        CStr::from_bytes_until_nul(&name).unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn files_of_processes_are_named_without_help() {
        assert_eq!(text(1, b"stat"), "1/stat");
        assert_eq!(text(4_194_304, b"cgroup"), "4194304/cgroup");
        assert!(!name_of(7, &[b'x'; 80], &mut [0; 64]));
    }

    #[test]
    fn a_word_is_written_into_the_file_of_a_group() {
        let folder = tempfile::tempdir().unwrap();
        let group = folder.path().join("scrap-a-b/system");
        std::fs::create_dir_all(&group).unwrap();
        std::fs::write(group.join("pids.max"), "max").unwrap();
        let base = folder.path().as_os_str().as_bytes();
        write(&[base, b"scrap-a-b", b"system"], "pids.max", "0");
        write(&[base, b"scrap-a-b", b""], "pids.max", "0");
        assert_eq!(std::fs::read_to_string(group.join("pids.max")).unwrap(), "0ax");
        assert!(!folder.path().join("scrap-a-b/pids.max").exists());
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "something to find")]
    fn what_has_the_tag_is_found_with_all_below_it_and_killed() {
        let mut sweep = Sweep::new().unwrap();
        let tag = format!("sweep.{}.", std::process::id());
        // It leaves the session; what it starts has lost the tag, and only its parent tells whose it is.
        let mut child = Command::new("setsid")
            .args(["sh", "-c", "env -i sleep 1000 & echo $!; wait"])
            .env(TAG, format!("{tag}ab"))
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut below = String::new();
        let said = child.stdout.take().unwrap();
        BufReader::new(said).read_line(&mut below).unwrap();
        let below = Pid::from_raw(below.trim().parse().unwrap()).unwrap();
        let keeper = Process { pid: i32::MAX, started: 0 };
        let target = Target { keeper, tag: tag.as_bytes(), group: "", ids: None };
        while sweep.pass(&target, Deed::Look).unwrap() != 2 {
            std::thread::yield_now();
        }
        let other = Target { keeper, tag: b"sweep.0.", group: "", ids: None };
        assert_eq!(sweep.pass(&other, Deed::Kill).unwrap(), 0);
        // Its parent may be dead before it is looked at. A keeper would adopt it then, and it would be found by the next pass.
        let killed = sweep.pass(&target, Deed::Kill).unwrap();
        assert!((1..=2).contains(&killed), "{killed}");
        if killed == 1 {
            rustix::process::kill_process(below, Signal::KILL).unwrap();
        }
        child.wait().unwrap();
        while sweep.pass(&target, Deed::Look).unwrap() != 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "something to find")]
    fn a_tag_is_found_behind_any_number_of_other_variables() {
        let mut sweep = Sweep::new().unwrap();
        let tag = format!("long.{}.", std::process::id());
        let keeper = Process { pid: i32::MAX, started: 0 };
        let target = Target { keeper, tag: tag.as_bytes(), group: "", ids: None };
        // Wherever the variable lies: also across the end of what is read at once.
        for length in [TEXT - 40, TEXT - 20, TEXT - 8, TEXT - 3, TEXT, 2 * TEXT - 33, 100_000] {
            let mut child = Command::new("sleep")
                .arg("1000")
                .env_clear()
                .env("A", "x".repeat(length))
                .env(TAG, format!("{tag}ab"))
                .spawn()
                .unwrap();
            while sweep.pass(&target, Deed::Kill).unwrap() == 0 {
                std::thread::yield_now();
            }
            child.wait().unwrap();
        }
    }

    #[test]
    fn another_start_time_is_another_process() {
        let mut sweep = Sweep::new().unwrap();
        let me = Process::me();
        assert!(sweep.is_alive(me) && sweep.is_there(me.pid));
        assert!(!sweep.is_alive(Process { started: me.started + 1, ..me }));
        assert!(!sweep.is_there(i32::MAX));
    }
}
