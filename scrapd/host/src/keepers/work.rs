//! What every runtime with keepers does in the same way: looking, starting, stopping, and all that asks a keeper.

use std::sync::Arc;
use std::time::Duration;

use scrap_schema::id::GrainId;
use scrap_schema::time::BootTime;
use scrap_schema::unit::Span;
use tokio::time::{sleep, timeout};

use super::{Keepers, Known, call, error, io_cause, start};
use crate::keeper::log;
use crate::keeper::protocol::{Order, Record, Request, State, Status, SystemOrder};
use crate::runtime::{
    self, Instance, InstanceState, Listing, LogChunk, Result, RuntimeCause, RuntimeError, Start,
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
async fn ask_status(inner: &Keepers, record: &Record) -> Status {
    match call::ask(&inner.folder(record.grain), &Request::Status).await {
        Ok(status) => status,
        Err(error) => {
            tracing::debug!(grain = %record.grain, %error, "the keeper does not answer");
            record.status.clone()
        }
    }
}

impl Keepers {
    /// See [`crate::runtime::Runtime::list`].
    pub(crate) async fn list(&self) -> Result<Listing> {
        let grains = self.grains().await.map_err(error("list", NO_GRAIN))?;
        let mut listing = Listing::default();
        for grain in grains {
            match self.look(grain).await {
                Ok(found) => listing.instances.extend(found),
                Err(cause) => listing.unclear.push(error("look at", grain)(cause)),
            }
        }
        Ok(listing)
    }

    /// See [`crate::runtime::Runtime::extend`].
    pub(crate) async fn extend(self: &Arc<Self>, deadline: BootTime) -> Result<Vec<RuntimeError>> {
        let grains = self.grains().await.map_err(error("list", NO_GRAIN))?;
        let mut asked = tokio::task::JoinSet::new();
        for grain in grains {
            let keepers = Arc::clone(self);
            asked.spawn(async move {
                keepers.extend_one(grain, deadline).await.map_err(error("extend", grain))
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

    /// Makes way for a start; says whether anything is left to do. The slot of the grain must be held.
    pub(crate) async fn admit(&self, order: &Start) -> Found<bool> {
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
                    State::Running | State::BackingOff if same => return Ok(false),
                    State::Running | State::BackingOff | State::Stopping | State::Stopped => {
                        call::end(&self.folder(order.grain), record, order.grace).await?;
                    }
                }
            }
        }
        Ok(true)
    }

    /// Starts the grain's keeper, for which way was made. The slot of the grain must be held.
    pub(crate) async fn begin(&self, order: Start, system: Option<SystemOrder>) -> Found<()> {
        start::start(self, order, system).await
    }

    /// Stops the grain, in a task of its own and in its turn: a stop that nobody waits for any more is still finished.
    pub(crate) async fn stop_whole(self: &Arc<Self>, grain: GrainId, grace: Span) -> Found<()> {
        let keepers = Arc::clone(self);
        let guard = keepers.slot(grain).lock_owned().await;
        let work = tokio::spawn(async move {
            let _guard = guard;
            keepers.stop(grain, grace).await
        });
        finished(work.await)
    }

    /// The order that a running grain was started with.
    pub(crate) async fn order(&self, grain: GrainId) -> Found<Order> {
        let asked = call::ask(&self.folder(grain), &Request::Order).await;
        asked.map_err(|error| io_cause("its keeper does not answer", error))
    }

    /// Stops the grain. Its slot must be held.
    pub(crate) async fn stop(&self, grain: GrainId, grace: Span) -> Found<()> {
        match self.known(grain).await? {
            Known::Nothing => Ok(()),
            // Looked at again, because a stop must be true.
            Known::Ended(record) if record.boot == self.boot => call::hunt(&record).await,
            Known::Ended(_) => Ok(()),
            Known::Deserted(record) => self.bury(record).await.map(|_| ()),
            Known::Live(record) => call::end(&self.folder(grain), record, grace).await,
        }
    }

    async fn extend_one(&self, grain: GrainId, deadline: BootTime) -> Found<()> {
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

    /// See [`crate::runtime::Runtime::arm`].
    pub(crate) async fn arm(&self, grain: GrainId, deadline: BootTime) -> Found<()> {
        self.live(grain).await?;
        let asked: std::io::Result<Status> =
            call::ask(&self.folder(grain), &Request::Arm { deadline }).await;
        let status = asked.map_err(|error| io_cause("its keeper does not answer", error))?;
        // The guard has said meanwhile that nothing here has a deadline.
        status.deadline.map(|_| ()).ok_or_else(runtime::deadline_passed)
    }

    /// See [`crate::runtime::Runtime::disarm`].
    pub(crate) async fn disarm(&self, grain: GrainId) -> Found<()> {
        self.live(grain).await?;
        let asked: std::io::Result<Status> = call::ask(&self.folder(grain), &Request::Disarm).await;
        let status = asked.map_err(|error| io_cause("its keeper does not answer", error))?;
        // It had passed already.
        if status.deadline.is_some() { Err(RuntimeCause::NotRunning) } else { Ok(()) }
    }

    /// The record of a grain that runs.
    pub(crate) async fn live(&self, grain: GrainId) -> Found<Record> {
        match self.known(grain).await? {
            Known::Live(record) => Ok(record),
            Known::Nothing | Known::Deserted(_) | Known::Ended(_) => Err(RuntimeCause::NotRunning),
        }
    }

    /// See [`crate::runtime::Runtime::logs`].
    pub(crate) async fn logs(
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

    /// See [`crate::runtime::Runtime::forget`]. Its slot must be held.
    pub(crate) async fn forget(&self, grain: GrainId) -> Found<()> {
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
pub(crate) const NO_GRAIN: GrainId = GrainId(0);

/// What became of work that was done in a task of its own.
pub(crate) fn finished(
    joined: std::result::Result<Found<()>, tokio::task::JoinError>,
) -> Found<()> {
    joined.unwrap_or_else(|error| {
        Err(io_cause("the work was broken off", std::io::Error::other(error)))
    })
}
