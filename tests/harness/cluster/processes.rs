//! Which processes belong to a cluster under test, and killing exactly those. A process belongs to a folder if it works in it,
//! carries it in its environment, or is a keeper whose record lies in it. Never looks at names of programs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

/// One process, for ever: a pid that was given away again is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// When it was started, in ticks since the boot.
    pub started: u64,
}

impl Process {
    /// The process that has this number now, unless it has ended already.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        let stat = String::from_utf8_lossy(&stat);
        // The name stands in brackets and may contain anything.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let ended = matches!(*fields.first()?, "Z" | "X");
        let started = fields.get(19)?.parse().ok()?;
        (!ended).then_some(Self { pid, started })
    }

    /// Whether it has not ended.
    #[must_use]
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Sends it a signal. One that has ended is fine.
    pub fn signal(self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.pid)
            && self.is_alive()
        {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// A variable of the environment that it was started with.
    #[must_use]
    pub fn variable(self, name: &str) -> Option<String> {
        let environment = fs::read(format!("/proc/{}/environ", self.pid)).ok()?;
        environment.split(|byte| *byte == 0).find_map(|variable| {
            let variable = String::from_utf8_lossy(variable);
            variable.strip_prefix(name)?.strip_prefix('=').map(str::to_owned)
        })
    }

    /// The file name of its program.
    #[must_use]
    pub fn program(self) -> Option<String> {
        let program = fs::read_link(format!("/proc/{}/exe", self.pid)).ok()?;
        Some(program.file_name()?.to_string_lossy().into_owned())
    }

    /// Bytes that it has caused to be written to disk.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn written(self) -> anyhow::Result<u64> {
        let path = format!("/proc/{}/io", self.pid);
        let text = fs::read_to_string(&path)?;
        let bytes = text.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok());
        bytes.ok_or_else(|| anyhow::anyhow!("`{path}` has no `write_bytes`"))
    }

    fn belongs_to(self, folder: &Path) -> bool {
        let proc = PathBuf::from(format!("/proc/{}", self.pid));
        let inside = fs::read_link(proc.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
        inside
            || fs::read(proc.join("environ")).is_ok_and(|bytes| mentions(&bytes, folder))
            || guards(self, folder)
    }
}

/// Whether a variable's value is a path in this folder.
fn mentions(environment: &[u8], folder: &Path) -> bool {
    environment.split(|byte| *byte == 0).any(|variable| {
        let value = variable.iter().position(|byte| *byte == b'=').map(|at| at + 1);
        let value = value.and_then(|at| variable.get(at..)).unwrap_or_default();
        Path::new(String::from_utf8_lossy(value).as_ref()).starts_with(folder)
    })
}

fn everybody() -> Vec<Process> {
    let names = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(Process::of).collect()
}

/// Every living process that belongs to a folder, without the calling one.
#[must_use]
pub fn of_folder(folder: &Path) -> Vec<Process> {
    let me = i32::try_from(std::process::id()).unwrap_or_default();
    let mut found: Vec<Process> = everybody()
        .into_iter()
        .filter(|process| process.pid != me && process.belongs_to(folder))
        .collect();
    found.extend(keepers(folder));
    found.sort_unstable();
    found.dedup();
    found
}

/// Keepers by their records: `keeper.json` at most four folders down.
fn keepers(folder: &Path) -> Vec<Process> {
    let mut records = Vec::new();
    find(folder, 4, &mut records);
    let read = |path: &PathBuf| -> Option<Process> {
        let record: serde_json::Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        let keeper = record.get("keeper")?;
        let pid = i32::try_from(keeper.get("pid")?.as_i64()?).ok()?;
        Some(Process { pid, started: keeper.get("started")?.as_u64()? })
    };
    records.iter().filter_map(read).filter(|keeper| keeper.is_alive()).collect()
}

fn find(folder: &Path, depth: u32, records: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_name() == "keeper.json" {
            records.push(path);
        } else if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            find(&path, depth - 1, records);
        }
    }
}

/// Whether a process is the guard of a folder in this one, which its first argument says.
fn guards(process: Process, folder: &Path) -> bool {
    let line = fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
    let board = line.split(|byte| *byte == 0).nth(1).unwrap_or_default();
    process.program().as_deref() == Some("scrap-guard")
        && Path::new(String::from_utf8_lossy(board).as_ref()).starts_with(folder)
}

/// Kills everything that belongs to a folder and waits until it is gone.
///
/// # Errors
/// If something is still there after ten seconds.
pub fn kill_all(folder: &Path) -> io::Result<()> {
    let limit = Instant::now() + Duration::from_secs(10);
    loop {
        let left = of_folder(folder);
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > limit {
            return Err(io::Error::other(format!("{left:?} cannot be killed")));
        }
        for process in left {
            process.signal(Signal::KILL);
        }
        sleep(Duration::from_millis(5));
    }
}
