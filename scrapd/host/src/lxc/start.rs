//! Starting a system: its description, the keeper's order, and waiting until its init runs.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use scrap_schema::id::GrainId;
use scrap_schema::unit::Span;
use tokio::time::{Instant, sleep};

use super::config::Description;
use super::inside;
use super::{LxcRuntime, machine, seccomp, shift};
use crate::keeper::protocol::{Record, Request, State, Status, SystemOrder};
use crate::keepers::{call, io_cause};
use crate::processes::{Cage, Process};
use crate::runtime::{RuntimeCause, Start, System};

/// An init runs within this, or something holds it up.
const BEGIN: Duration = Duration::from_secs(30);
/// What is started when nothing else was ordered.
const INIT: &str = "/sbin/init";

type Found<T> = Result<T, RuntimeCause>;

/// A file that only the daemon's user reads.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path)?.write_all(text.as_bytes())
}

fn word(path: &Path) -> Found<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| RuntimeCause::NotReady {
        what: format!("the path {} is no text", path.display()),
        hint: "choose another directory".to_owned(),
    })
}

/// Whether a grain's root, who is nobody out here, may pass through all folders on a path.
fn passable(path: &Path) -> Found<()> {
    for folder in path.ancestors() {
        let what = || format!("cannot look at {}", folder.display());
        let mode = fs::metadata(folder).map_err(|error| io_cause(what(), error))?.mode();
        if mode & 0o001 == 0 {
            let folder = folder.display();
            return Err(RuntimeCause::NotReady {
                what: format!("the root of a grain cannot pass through {folder}"),
                hint: format!("run `chmod o+x {folder}`: names in it stay hidden"),
            });
        }
    }
    Ok(())
}

impl LxcRuntime {
    /// The folder in which LXC looks for grains.
    pub(super) fn lxc_folder(&self) -> PathBuf {
        self.keepers.run.join("lxc")
    }

    /// A command line of one of LXC's programs.
    pub(super) fn tool(&self, tool: &Path, grain: GrainId, more: &[&str]) -> Found<Vec<String>> {
        let folder = word(&self.lxc_folder())?;
        let mut command = vec![word(tool)?, "-n".to_owned(), grain.to_string()];
        command.extend(["-P".to_owned(), folder]);
        command.extend(more.iter().map(|word| (*word).to_owned()));
        Ok(command)
    }

    fn group(&self, grain: GrainId) -> Found<String> {
        self.keepers.group(grain).ok_or_else(|| {
            io_cause("grains have no groups of processes here", std::io::ErrorKind::Other.into())
        })
    }

    /// Writes what LXC reads.
    fn describe(&self, start: &Start, system: &System) -> Found<()> {
        let own = self.lxc_folder().join(start.grain.to_string());
        let made = fs::DirBuilder::new().recursive(true).mode(0o711).create(&own);
        made.map_err(|error| io_cause(format!("cannot create {}", own.display()), error))?;
        let profile = own.join("seccomp");
        let description = Description {
            rootfs: &start.data.join("rootfs"),
            seccomp: &profile,
            group: &self.group(start.grain)?,
            env: &start.env,
            memory: start.memory,
            cpu: start.cpu,
            system,
            machine: &self.machine,
        };
        let text = description.text().map_err(|bad| RuntimeCause::NotReady {
            what: bad.to_string(),
            hint: "the grain is not started".to_owned(),
        })?;
        let config = own.join("config");
        for (path, text) in [(&config, text.as_str()), (&profile, seccomp::PROFILE)] {
            let what = || format!("cannot write {}", path.display());
            write(path, text).map_err(|error| io_cause(what(), error))?;
        }
        Ok(())
    }

    /// Refuses what cannot run, before anything is changed.
    fn check(&self, start: &Start, system: &System) -> Found<()> {
        machine::check(system.ids)?;
        // Its own folder is opened to it below, and to it alone.
        start.data.parent().map_or(Ok(()), passable)?;
        passable(&self.keepers.run)?;
        if !start.data.join("rootfs").is_dir() {
            return Err(RuntimeCause::NotReady {
                what: format!("there is no system in {}", start.data.join("rootfs").display()),
                hint: "create the grain from a template".to_owned(),
            });
        }
        shift::check(&start.data, system.ids)
    }

    /// Starts the system, if that is not done already. The slot of the grain must be held.
    pub(super) async fn begin(&self, mut start: Start) -> Found<()> {
        let grain = start.grain;
        let Some(system) = start.system.take() else {
            return Err(RuntimeCause::NotPossible {
                what: "a program of this machine cannot run as a container",
                hint: "create the grain from a template of a whole system",
            });
        };
        if !self.keepers.admit(&start).await? {
            return Ok(());
        }
        self.check(&start, &system)?;
        self.describe(&start, &system)?;
        let program = start.command.first().cloned().unwrap_or_else(|| INIT.to_owned());
        let mut command = self.tool(&self.tools.start, grain, &["-F", "-C", "-q", "-l", "INFO"])?;
        command.extend(["-o", "/proc/self/fd/2", "--"].map(str::to_owned));
        command.append(&mut start.command);
        if command.last().is_some_and(|last| last == "--") {
            command.push(INIT.to_owned());
        }
        let order = SystemOrder {
            cage: Cage { group: self.group(grain)?, ids: Some(system.ids) },
            halt: self.tool(&self.tools.stop, grain, &["--nowait", "--nokill"])?,
            inside: self.tool(&self.tools.attach, grain, &["--clear-env", "--"])?,
        };
        start.command = command;
        // They are the system's: the program that makes it must not be told how to behave by what a grain is given. Where it
        // finds the programs that map users it has a shell run them; root needs none, and `check` has asked the same book.
        start.env = [("PATH".to_owned(), word(&self.lxc_folder())?)].into();
        self.keepers.begin(start, Some(order)).await?;
        self.await_init(grain, &program).await
    }

    /// Waits until the init runs. A system that cannot be made is not tried again.
    async fn await_init(&self, grain: GrainId, program: &str) -> Found<()> {
        let limit = Instant::now() + BEGIN;
        let mut pause = Duration::from_millis(2);
        let folder = self.keepers.folder(grain);
        let record = self.keepers.live(grain).await?;
        let why = loop {
            if self.init(&record).await?.is_some() {
                return Ok(());
            }
            let asked: std::io::Result<Status> = call::ask(&folder, &Request::Status).await;
            match asked {
                Ok(status) if status.state != State::Running => {
                    let end = status.last_exit.unwrap_or_default();
                    match end.strip_prefix("cannot be started: ") {
                        // It ran, and has ended already.
                        None => return Ok(()),
                        Some(complaint) => break complaint.to_owned(),
                    }
                }
                Ok(_) => (),
                // It may have ended with its grain, whose deadline was near.
                Err(_) => match self.keepers.live(grain).await {
                    Err(RuntimeCause::NotRunning) => return Ok(()),
                    Err(cause) => return Err(cause),
                    Ok(_) => (),
                },
            }
            if Instant::now() >= limit {
                break format!("it did not begin within {} s", BEGIN.as_secs());
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(20));
        };
        call::end(&folder, record, Span::ZERO).await?;
        let absent = why.contains("No such file") && why.contains("exec");
        let kind = if absent { Errno::NOENT.into() } else { std::io::Error::other(why) };
        Err(RuntimeCause::Program { program: program.to_owned(), source: kind })
    }

    /// The init of a grain, once it runs: until then its place is held by the program that makes the system.
    pub(super) async fn init(&self, record: &Record) -> Found<Option<Process>> {
        let (family, maker) = (record.family(), self.tools.start.clone());
        let found = tokio::task::spawn_blocking(move || {
            let init = family.init()?;
            Ok(init.filter(|init| inside::has_begun(*init, &maker)))
        });
        let found = found.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        found.map_err(|error| io_cause("cannot look at the grain's processes", error))
    }
}
