//! The trait on processes.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use scrap_schema::id::GrainId;
use scrap_schema::time::BootTime;
use scrap_schema::unit::{Bytes, Span};
use tokio::time::{sleep, timeout};

use super::{Inner, Known, ProcessRuntime, call, error, io_cause, start};
use crate::keeper::log;
use crate::keeper::protocol::{Order, Record, Request, State, Status};
use crate::processes::TAG;
use crate::run;
use crate::runtime::{
    Exec, ExecChild, Instance, InstanceState, Listing, LogChunk, Result, Runtime, RuntimeCause,
    RuntimeError, Start, Usage,
};

/// How long an extension is tried. Far shorter than a lease: the others wait for the next one until then.
const EXTEND: Duration = Duration::from_secs(1);

type Found<T> = std::result::Result<T, RuntimeCause>;

fn instance(record: &Record, status: Status) -> Instance {
    let state = match status.state {
        State::Running => InstanceState::Running,
        State::BackingOff => InstanceState::BackingOff,
        State::Stopping => InstanceState::Stopping,
        State::Stopped => InstanceState::Stopped,
    };
    Instance {
        grain: record.grain,
        epoch: record.epoch,
        state,
        restarts: status.restarts,
        last_exit: status.last_exit,
        deadline: status.deadline,
    }
}

/// A keeper that lives says how it is; one that does not answer is described by its record.
async fn ask_status(inner: &Inner, record: &Record) -> Status {
    match call::ask(&inner.folder(record.grain), &Request::Status).await {
        Ok(status) => status,
        Err(error) => {
            tracing::debug!(grain = %record.grain, %error, "the keeper does not answer");
            record.status.clone()
        }
    }
}

impl Inner {
    /// How a grain is, after cleaning up behind a keeper that was killed.
    async fn look(&self, grain: GrainId) -> Found<Option<Instance>> {
        let record = match self.known(grain).await? {
            Known::Nothing => return Ok(None),
            Known::Live(record) => {
                let status = ask_status(self, &record).await;
                return Ok(Some(instance(&record, status)));
            }
            Known::Ended(record) => record,
            Known::Deserted(mut record) => match self.slot(grain).try_lock_owned() {
                Ok(_guard) => match self.known(grain).await? {
                    Known::Deserted(record) => self.bury(record).await?,
                    // Somebody was faster.
                    Known::Live(record) | Known::Ended(record) => record,
                    Known::Nothing => return Ok(None),
                },
                // Whoever has the lock is about to clean up.
                Err(_) => {
                    record.status.state = State::Stopping;
                    record
                }
            },
        };
        let status = record.status.clone();
        Ok(Some(instance(&record, status)))
    }

    async fn bury(&self, record: Record) -> Found<Record> {
        tracing::warn!(grain = %record.grain, why = record.why_deserted(), "ending what is left");
        call::bury(&self.folder(record.grain), record).await
    }

    async fn start(&self, order: Start) -> Found<()> {
        match self.known(order.grain).await? {
            Known::Nothing | Known::Ended(_) => (),
            Known::Deserted(record) => {
                self.bury(record).await?;
            }
            Known::Live(record) => {
                if order.epoch < record.epoch {
                    return Err(RuntimeCause::Stale { offered: order.epoch, held: record.epoch });
                }
                let state = ask_status(self, &record).await.state;
                let same = order.epoch == record.epoch;
                match state {
                    State::Running | State::BackingOff if same => return Ok(()),
                    State::Running | State::BackingOff | State::Stopping | State::Stopped => {
                        call::end(&self.folder(order.grain), record, order.grace).await?;
                    }
                }
            }
        }
        start::start(self, order).await
    }

    async fn stop(&self, grain: GrainId, grace: Span) -> Found<()> {
        match self.known(grain).await? {
            Known::Nothing => Ok(()),
            // Looked at again, because a stop must be true.
            Known::Ended(record) if record.boot == self.boot => call::hunt(&record).await,
            Known::Ended(_) => Ok(()),
            Known::Deserted(record) => self.bury(record).await.map(|_| ()),
            Known::Live(record) => call::end(&self.folder(grain), record, grace).await,
        }
    }

    async fn extend(&self, grain: GrainId, deadline: BootTime) -> Found<()> {
        let mut last = std::io::Error::from(std::io::ErrorKind::TimedOut);
        let tries = async {
            loop {
                let Known::Live(_) = self.known(grain).await? else { return Ok(()) };
                let asked: std::io::Result<Status> =
                    call::ask(&self.folder(grain), &Request::Extend { deadline }).await;
                match asked {
                    Ok(_) => return Ok(()),
                    // It may be ending at this moment, or beginning.
                    Err(error) => last = error,
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        let tried = timeout(EXTEND, tries).await;
        tried.unwrap_or_else(|_| Err(io_cause("its keeper does not answer", last)))
    }

    async fn arm(&self, grain: GrainId, deadline: BootTime) -> Found<()> {
        self.live(grain).await?;
        let asked: std::io::Result<Status> =
            call::ask(&self.folder(grain), &Request::Arm { deadline }).await;
        asked.map(|_| ()).map_err(|error| io_cause("its keeper does not answer", error))
    }

    async fn live(&self, grain: GrainId) -> Found<Record> {
        match self.known(grain).await? {
            Known::Live(record) => Ok(record),
            Known::Nothing | Known::Deserted(_) | Known::Ended(_) => Err(RuntimeCause::NotRunning),
        }
    }

    async fn usage(&self, grain: GrainId) -> Found<Usage> {
        let family = self.live(grain).await?.family();
        let measured = tokio::task::spawn_blocking(move || family.usage()).await;
        let measured = measured.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        let (ticks, pages, processes) =
            measured.map_err(|error| io_cause("cannot look at its processes", error))?;
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        Ok(Usage {
            cpu_ms: ticks.saturating_mul(1000) / per_second,
            memory: Bytes(pages.saturating_mul(rustix::param::page_size() as u64)),
            processes,
        })
    }

    async fn logs(
        &self,
        grain: GrainId,
        from: u64,
        tail: Option<u32>,
        limit: usize,
    ) -> Found<LogChunk> {
        if matches!(self.known(grain).await?, Known::Nothing) {
            return Err(RuntimeCause::NotRunning);
        }
        let folder = self.folder(grain);
        let what = format!("cannot read the log in {}", folder.display());
        let read = tokio::task::spawn_blocking(move || log::read(&folder, from, tail, limit)).await;
        read.unwrap_or_else(|error| Err(std::io::Error::other(error)))
            .map_err(|error| io_cause(what, error))
    }

    async fn exec(&self, exec: &Exec) -> Found<ExecChild> {
        self.live(exec.grain).await?;
        let order: Order = call::ask(&self.folder(exec.grain), &Request::Order)
            .await
            .map_err(|error| io_cause("its keeper does not answer", error))?;
        let failed = |source| {
            let program = exec.command.first().cloned().unwrap_or_default();
            RuntimeCause::Program { program, source }
        };
        let (program, arguments) = run::split(&exec.command).map_err(failed)?;
        let mut command = run::command(program, arguments);
        // The tag comes last: by it the keeper finds what was started beside it.
        command.envs(&order.env).envs(&exec.env).env(TAG, &order.tag);
        command.current_dir(&order.data).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(failed)?;
        // Its keeper may have looked for the last time before the child was there. Dropping the child kills it.
        self.live(exec.grain).await?;
        Ok(ExecChild { child })
    }

    async fn forget(&self, grain: GrainId) -> Found<()> {
        match self.known(grain).await? {
            Known::Nothing | Known::Ended(_) => (),
            Known::Live(record) | Known::Deserted(record) => {
                let left = call::members(&record).await?.len().max(1);
                return Err(RuntimeCause::StillAlive { left });
            }
        }
        let folder = self.folder(grain);
        match tokio::fs::remove_dir_all(&folder).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(io_cause(format!("cannot remove {}", folder.display()), error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Work that is on no single grain still has to name one: the first.
const NO_GRAIN: GrainId = GrainId(0);

impl Runtime for ProcessRuntime {
    async fn list(&self) -> Result<Listing> {
        let grains = self.inner.grains().await.map_err(error("list", NO_GRAIN))?;
        let mut listing = Listing::default();
        for grain in grains {
            match self.inner.look(grain).await {
                Ok(found) => listing.instances.extend(found),
                Err(cause) => listing.unclear.push(error("look at", grain)(cause)),
            }
        }
        Ok(listing)
    }

    async fn start(&self, order: Start) -> Result<()> {
        let grain = order.grain;
        let inner = Arc::clone(&self.inner);
        let guard = inner.slot(grain).lock_owned().await;
        // A task of its own: a start that nobody waits for any more is still finished, under the lock.
        let work = tokio::spawn(async move {
            let _guard = guard;
            inner.start(order).await
        });
        finished(work.await).map_err(error("start", grain))
    }

    async fn stop(&self, grain: GrainId, grace: Span) -> Result<()> {
        let inner = Arc::clone(&self.inner);
        let guard = inner.slot(grain).lock_owned().await;
        let work = tokio::spawn(async move {
            let _guard = guard;
            inner.stop(grain, grace).await
        });
        finished(work.await).map_err(error("stop", grain))
    }

    async fn extend(&self, deadline: BootTime) -> Result<Vec<RuntimeError>> {
        let grains = self.inner.grains().await.map_err(error("list", NO_GRAIN))?;
        let mut asked = tokio::task::JoinSet::new();
        for grain in grains {
            let inner = Arc::clone(&self.inner);
            asked.spawn(async move {
                inner.extend(grain, deadline).await.map_err(error("extend", grain))
            });
        }
        let mut silent = Vec::new();
        while let Some(one) = asked.join_next().await {
            let one = one.unwrap_or_else(|ended| {
                let cause = io_cause("the work was broken off", std::io::Error::other(ended));
                Err(error("extend", NO_GRAIN)(cause))
            });
            silent.extend(one.err());
        }
        Ok(silent)
    }

    async fn arm(&self, grain: GrainId, deadline: BootTime) -> Result<()> {
        self.inner.arm(grain, deadline).await.map_err(error("arm", grain))
    }

    async fn usage(&self, grain: GrainId) -> Result<Usage> {
        self.inner.usage(grain).await.map_err(error("measure", grain))
    }

    async fn logs(
        &self,
        grain: GrainId,
        from: u64,
        tail: Option<u32>,
        limit: usize,
    ) -> Result<LogChunk> {
        let read = self.inner.logs(grain, from, tail, limit).await;
        read.map_err(error("read the log of", grain))
    }

    async fn exec(&self, exec: Exec) -> Result<ExecChild> {
        let _guard = self.inner.slot(exec.grain).lock_owned().await;
        self.inner.exec(&exec).await.map_err(error("exec in", exec.grain))
    }

    async fn forget(&self, grain: GrainId) -> Result<()> {
        let _guard = self.inner.slot(grain).lock_owned().await;
        self.inner.forget(grain).await.map_err(error("forget", grain))
    }
}

fn finished(joined: std::result::Result<Found<()>, tokio::task::JoinError>) -> Found<()> {
    joined.unwrap_or_else(|error| {
        Err(io_cause("the work was broken off", std::io::Error::other(error)))
    })
}
