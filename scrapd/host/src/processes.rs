//! Processes of this machine as `/proc` shows them: who descends from whom, who carries a tag, and killing exactly those.
//! Starts nothing. A process is its pid together with its start time, so that a pid that was given away again is never
//! meant. Without `/proc` (FreeBSD) nothing is found here and callers fall back to process groups.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

use crate::cgroups::{self, Group};
use crate::runtime::IdRange;

/// The environment variable that every process of an instance inherits.
pub(crate) const TAG: &str = "SCRAP_INSTANCE";

/// One process, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// In the system's ticks since it started.
    pub(crate) started: u64,
}

/// What `/proc/<pid>/stat` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) process: Process,
    pub(crate) parent: i32,
    pub(crate) session: i32,
    /// It has ended and waits to be reaped.
    pub(crate) ended: bool,
    /// Ticks of processor time of its own, and of the children that it has waited for.
    pub(crate) own_ticks: u64,
    pub(crate) waited_ticks: u64,
    pub(crate) resident_pages: u64,
}

/// Reads one line of `/proc/<pid>/stat`. The name in it may contain anything, also `)` and newlines. Asks for no memory.
pub(crate) fn parse(text: &str) -> Option<Stat> {
    let pid = text.split(' ').next()?.parse().ok()?;
    let rest = text.rsplit_once(')')?.1;
    let field = |at: usize| rest.split_ascii_whitespace().nth(at);
    let number = |at: usize| field(at)?.parse::<u64>().ok();
    let sum = |a: u64, b: u64| a.saturating_add(b);
    Some(Stat {
        process: Process { pid, started: number(19)? },
        parent: field(1)?.parse().ok()?,
        session: field(3)?.parse().ok()?,
        ended: matches!(field(0)?, "Z" | "X" | "x"),
        own_ticks: sum(number(11)?, number(12)?),
        waited_ticks: sum(number(13)?, number(14)?),
        resident_pages: number(21)?,
    })
}

/// A file of `/proc`. `None`: the process is gone, or it is somebody else's. Any other trouble is one: what could not be
/// looked at may be there.
fn read(path: &str) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Ok(None),
            _ if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => Ok(None),
            _ => Err(error),
        },
    }
}

/// What is known of a pid now. `None`: there is no such process.
pub(crate) fn stat(pid: i32) -> io::Result<Option<Stat>> {
    let text = read(&format!("/proc/{pid}/stat"))?;
    Ok(text.and_then(|text| parse(&String::from_utf8_lossy(&text))))
}

/// All processes of this machine.
pub(crate) fn all() -> io::Result<Vec<Stat>> {
    if !cfg!(target_os = "linux") {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        if let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
            found.extend(stat(pid)?);
        }
    }
    Ok(found)
}

impl Process {
    /// This process.
    pub(crate) fn me() -> Self {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        Self { pid, started: stat(pid).ok().flatten().map_or(0, |stat| stat.process.started) }
    }

    /// Whether it runs: neither gone nor ended. One that cannot be looked at may run.
    pub(crate) fn is_alive(self) -> bool {
        if cfg!(target_os = "linux") {
            stat(self.pid)
                .map_or(true, |stat| stat.is_some_and(|stat| stat.process == self && !stat.ended))
        } else {
            Pid::from_raw(self.pid)
                .is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
        }
    }

    /// Sends a signal to exactly this process. One that is gone is fine.
    pub(crate) fn signal(self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid) else { return };
        #[cfg(target_os = "linux")]
        {
            use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
            // Opened first and looked at then: what the descriptor means cannot change any more.
            if let Ok(fd) = pidfd_open(pid, PidfdFlags::empty())
                && self.is_alive()
            {
                let _ = pidfd_send_signal(&fd, signal);
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// What holds all processes of a system: they are of the grain whatever else they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cage {
    /// The path of its group in every hierarchy.
    pub(crate) group: String,
    /// Its users. `None`: they are not known any more.
    pub(crate) ids: Option<IdRange>,
}

impl Cage {
    pub(crate) fn group(&self) -> Group<'_> {
        Group { path: &self.group }
    }

    /// Whether a process is in the group, or has a user of the grain, or is in a namespace of such users.
    fn holds(&self, pid: i32) -> io::Result<bool> {
        let text = |name: &str| {
            let text = read(&format!("/proc/{pid}/{name}"))?.unwrap_or_default();
            io::Result::Ok(String::from_utf8_lossy(&text).into_owned())
        };
        let groups = text("cgroup")?;
        if self.group().holds(&groups) {
            return Ok(true);
        }
        // Two nodes on one machine know the same grain by the same users. Which of them a process is of, its group tells.
        let Some(ids) = self.ids.filter(|_| !cgroups::is_of_a_grain(&groups)) else {
            return Ok(false);
        };
        Ok(has_user_of(&text("status")?, ids) || maps_to(&text("uid_map")?, ids))
    }
}

/// Whether the text of `/proc/<pid>/status` names a user of these: real, effective, saved or of files.
pub(crate) fn has_user_of(status: &str, ids: IdRange) -> bool {
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let mut users = users.unwrap_or_default().split_ascii_whitespace();
    users.any(|user| user.parse().is_ok_and(|user| ids.contains(user)))
}

/// Whether the text of `/proc/<pid>/uid_map`, read from outside, leads to these users.
pub(crate) fn maps_to(map: &str, ids: IdRange) -> bool {
    let mut outside = map.lines().filter_map(|line| line.split_ascii_whitespace().nth(1));
    outside.any(|outside| outside.parse().is_ok_and(|outside| ids.contains(outside)))
}

/// How an instance's processes are told from all others.
#[derive(Debug, Clone)]
pub(crate) struct Family {
    /// Its keeper: everything below it belongs to it, and everything in its session.
    pub(crate) keeper: Process,
    /// How the value of [`TAG`] begins. A whole tag is the beginning of no other.
    pub(crate) tag: String,
    /// What holds them besides, if they are a system.
    pub(crate) cage: Option<Cage>,
}

impl Family {
    /// Whether anything of it can be seen at a glance; if nothing is, [`Family::members`] looks everywhere.
    pub(crate) fn is_plainly_there(&self) -> bool {
        let Some(cage) = &self.cage else { return false };
        cage.group().pids().is_ok_and(|pids| !pids.is_empty())
    }

    /// The first process of its system, once it runs.
    ///
    /// # Errors
    /// If its group cannot be looked at.
    pub(crate) fn init(&self) -> io::Result<Option<Process>> {
        let Some(cage) = &self.cage else { return Ok(None) };
        let path = format!("{}/{}", cage.group, cgroups::SYSTEM);
        for pid in (Group { path: &path }).pids()? {
            let status = read(&format!("/proc/{pid}/status"))?.unwrap_or_default();
            let first = is_first(&String::from_utf8_lossy(&status));
            if let Some(stat) = stat(pid)?.filter(|stat| first && !stat.ended) {
                return Ok(Some(stat.process));
            }
        }
        Ok(None)
    }

    /// Every living process of it, without the keeper itself and without this process.
    ///
    /// # Errors
    /// If not every process could be looked at.
    pub(crate) fn members(&self) -> io::Result<Vec<Process>> {
        let all = all()?;
        let mut children: BTreeMap<i32, Vec<&Stat>> = BTreeMap::new();
        for stat in &all {
            children.entry(stat.parent).or_default().push(stat);
        }
        let keeper_is_here = all.iter().any(|stat| stat.process == self.keeper);
        let mut seen: BTreeSet<i32> = BTreeSet::new();
        let mut todo: Vec<i32> = if keeper_is_here { vec![self.keeper.pid] } else { Vec::new() };
        for stat in &all {
            if self.claims(stat)? {
                todo.push(stat.process.pid);
            }
        }
        while let Some(pid) = todo.pop() {
            if seen.insert(pid) {
                let below = children.get(&pid).into_iter().flatten();
                todo.extend(below.map(|stat| stat.process.pid));
            }
        }
        let me = rustix::process::getpid().as_raw_nonzero().get();
        let living = all.iter().filter(|stat| {
            let pid = stat.process.pid;
            seen.contains(&pid) && !stat.ended && pid != me && stat.process != self.keeper
        });
        Ok(living.map(|stat| stat.process).collect())
    }

    /// Whether a process belongs to it by itself, wherever it descends from.
    fn claims(&self, stat: &Stat) -> io::Result<bool> {
        if let Some(cage) = &self.cage
            && cage.holds(stat.process.pid)?
        {
            return Ok(true);
        }
        let younger = stat.process.started >= self.keeper.started;
        Ok(younger && (stat.session == self.keeper.pid || is_tagged(stat.process.pid, &self.tag)?))
    }

    /// Processor ticks, resident pages and number of what descends from the keeper now.
    pub(crate) fn usage(&self) -> io::Result<(u64, u64, u32)> {
        let members: BTreeSet<Process> = self.members()?.into_iter().collect();
        let mut ticks = stat(self.keeper.pid)?.map_or(0, |stat| stat.waited_ticks);
        let (mut pages, mut count) = (0_u64, 0_u32);
        for stat in all()?.iter().filter(|stat| members.contains(&stat.process)) {
            ticks = ticks.saturating_add(stat.own_ticks).saturating_add(stat.waited_ticks);
            pages = pages.saturating_add(stat.resident_pages);
            count = count.saturating_add(1);
        }
        Ok((ticks, pages, count))
    }
}

/// Whether the text of `/proc/<pid>/status` is of the first process of a namespace one below ours.
fn is_first(status: &str) -> bool {
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let mut numbers = numbers.unwrap_or_default().split_ascii_whitespace().skip(1);
    numbers.next() == Some("1") && numbers.next().is_none()
}

fn is_tagged(pid: i32, tag: &str) -> io::Result<bool> {
    // Other users' environments cannot be read, and are not ours.
    let Some(environment) = read(&format!("/proc/{pid}/environ"))? else { return Ok(false) };
    let mut variables = environment.split(|byte| *byte == 0);
    Ok(variables.any(|variable| {
        let value = variable.strip_prefix(TAG.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
        value.is_some_and(|value| value.starts_with(tag.as_bytes()))
    }))
}

/// The child of a process that is in a namespace of processes below ours.
///
/// # Errors
/// If not every process could be looked at.
pub(crate) fn inside_of(parent: i32) -> io::Result<Option<Process>> {
    // A list that the system may be built without.
    let listed = read(&format!("/proc/{parent}/task/{parent}/children"))?;
    let children: Vec<Stat> = match listed {
        Some(text) => {
            let text = String::from_utf8_lossy(&text).into_owned();
            let pids = text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok());
            let stats: io::Result<Vec<Option<Stat>>> = pids.map(stat).collect();
            stats?.into_iter().flatten().collect()
        }
        None => all()?,
    };
    for stat in children.iter().filter(|stat| stat.parent == parent && !stat.ended) {
        let status = read(&format!("/proc/{}/status", stat.process.pid))?.unwrap_or_default();
        let status = String::from_utf8_lossy(&status);
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        if numbers.is_some_and(|numbers| numbers.split_ascii_whitespace().count() > 1) {
            return Ok(Some(stat.process));
        }
    }
    Ok(None)
}

/// Which boot of the machine this is.
pub(crate) fn boot_id() -> io::Result<String> {
    if cfg!(target_os = "linux") {
        Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
    } else {
        Ok(String::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_contain_anything() {
        let text =
            "42 (a) R 1 (b\n) S 7 42 42 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 1 0 99 1000 55 1";
        let stat = parse(text).unwrap();
        assert_eq!(stat.process, Process { pid: 42, started: 99 });
        assert_eq!((stat.parent, stat.session, stat.ended), (7, 42, false));
        assert_eq!((stat.own_ticks, stat.waited_ticks, stat.resident_pages), (30, 70, 55));
        assert_eq!(parse("42 (x) S 7"), None);
        assert!(parse(&text.replace(") S", ") Z")).unwrap().ended);
    }

    #[test]
    fn users_of_a_grain_are_known_wherever_they_show() {
        let ids = IdRange { base: 1_000_000, count: 65_536 };
        assert!(has_user_of("Name:\tx\nUid:\t0\t1000000\t0\t0\n", ids));
        assert!(has_user_of("Uid:\t0\t0\t0\t1065535\n", ids));
        assert!(!has_user_of("Uid:\t0\t999999\t1065536\t0\nGid:\t1000000\n", ids));
        assert!(!has_user_of("", ids));
        assert!(maps_to("         0    1000000      65536\n", ids));
        assert!(maps_to("0 0 1\n1 1000007 2\n", ids));
        assert!(!maps_to("         0          0 4294967295\n", ids));
    }

    #[test]
    fn the_first_process_of_a_system_is_known_and_none_of_a_system_within() {
        for (line, first) in [("77\t1", true), ("1", false), ("77\t5", false), ("77\t9\t1", false)]
        {
            assert_eq!(is_first(&format!("Name:\tx\nNSpid:\t{line}\n")), first, "{line}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn another_start_time_is_another_process() {
        let me = Process::me();
        assert!(me.is_alive());
        assert_eq!(stat(i32::MAX).unwrap(), None);
        assert!(!Process { started: me.started + 1, ..me }.is_alive());
    }
}
