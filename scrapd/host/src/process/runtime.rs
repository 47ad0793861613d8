//! The trait on processes.

use std::path::Path;
use std::sync::Arc;

use scrap_schema::id::GrainId;
use scrap_schema::time::BootTime;
use scrap_schema::unit::{Bytes, Span};

use super::ProcessRuntime;
use crate::keepers::{beside, error, finished, io_cause};
use crate::processes::TAG;
use crate::runtime::{
    self, Exec, ExecChild, IdRange, Listing, LogChunk, Result, Runtime, RuntimeCause, RuntimeError,
    ServiceState, Start, Usage, Window,
};

type Found<T> = std::result::Result<T, RuntimeCause>;

impl ProcessRuntime {
    async fn measure(&self, grain: GrainId) -> Found<Usage> {
        let family = self.keepers.live(grain).await?.family();
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

    async fn run_beside(&self, exec: &Exec) -> Found<ExecChild> {
        self.keepers.live(exec.grain).await?;
        if exec.user.is_some() {
            return Err(RuntimeCause::NotPossible {
                what: "a program of this machine has no users of its own",
                hint: "leave the user out: it runs as the daemon's",
            });
        }
        let order = self.keepers.order(exec.grain).await?;
        // The tag comes last: by it the keeper finds what was started beside it.
        let spawned = beside::spawn(&self.keepers, &exec.command, exec.tty, |command| {
            command.envs(&order.env).envs(&exec.env).env(TAG, &order.tag).current_dir(&order.data);
        });
        let child = spawned.await.map_err(|source| {
            let program = exec.command.first().cloned().unwrap_or_default();
            RuntimeCause::Program { program, source }
        })?;
        // Its keeper may have looked for the last time before the child was there. Dropping the child kills it.
        self.keepers.live(exec.grain).await?;
        Ok(child)
    }
}

impl Runtime for ProcessRuntime {
    async fn list(&self) -> Result<Listing> {
        self.keepers.list().await
    }

    async fn start(&self, order: Start) -> Result<()> {
        let grain = order.grain;
        if order.system.is_some() {
            let cause = RuntimeCause::NotPossible {
                what: "a grain that is a whole system cannot run as a program of this machine",
                hint: "give it to a node with containers",
            };
            return Err(error("start", grain)(cause));
        }
        let keepers = Arc::clone(&self.keepers);
        let guard = keepers.slot(grain).lock_owned().await;
        // A task of its own: a start that nobody waits for any more is still finished, under the lock.
        let work = tokio::spawn(async move {
            let _guard = guard;
            if keepers.admit(&order).await? { keepers.begin(order, None).await } else { Ok(()) }
        });
        finished(work.await).map_err(error("start", grain))
    }

    async fn stop(&self, grain: GrainId, grace: Span) -> Result<()> {
        self.keepers.stop_whole(grain, grace).await.map_err(error("stop", grain))
    }

    async fn extend(&self, deadline: BootTime) -> Result<Vec<RuntimeError>> {
        self.keepers.extend(deadline).await
    }

    async fn arm(&self, grain: GrainId, deadline: BootTime) -> Result<()> {
        self.keepers.arm(grain, deadline).await.map_err(error("arm", grain))
    }

    async fn disarm(&self, grain: GrainId) -> Result<()> {
        self.keepers.disarm(grain).await.map_err(error("disarm", grain))
    }

    async fn usage(&self, grain: GrainId) -> Result<Usage> {
        self.measure(grain).await.map_err(error("measure", grain))
    }

    async fn logs(
        &self,
        grain: GrainId,
        from: u64,
        tail: Option<u32>,
        limit: usize,
    ) -> Result<LogChunk> {
        let read = self.keepers.logs(grain, from, tail, limit).await;
        read.map_err(error("read the log of", grain))
    }

    async fn prepare(&self, _data: &Path, _ids: IdRange) -> Result<()> {
        Ok(())
    }

    async fn exec(&self, exec: Exec) -> Result<ExecChild> {
        let _guard = self.keepers.slot(exec.grain).lock_owned().await;
        self.run_beside(&exec).await.map_err(error("exec in", exec.grain))
    }

    async fn console(&self, grain: GrainId, _window: Window) -> Result<ExecChild> {
        let live = self.keepers.live(grain).await;
        live.and_then(|_| Err(runtime::no_console())).map_err(error("open the console of", grain))
    }

    async fn freeze(&self, grain: GrainId) -> Result<()> {
        let live = self.keepers.live(grain).await;
        live.and_then(|_| Err(no_freezing())).map_err(error("freeze", grain))
    }

    async fn thaw(&self, grain: GrainId) -> Result<()> {
        let live = self.keepers.live(grain).await;
        live.map(|_| ()).map_err(error("thaw", grain))
    }

    async fn services(&self, grain: GrainId) -> Result<Vec<ServiceState>> {
        let live = self.keepers.live(grain).await;
        live.map(|_| Vec::new()).map_err(error("look into", grain))
    }

    async fn forget(&self, grain: GrainId) -> Result<()> {
        let _guard = self.keepers.slot(grain).lock_owned().await;
        self.keepers.forget(grain).await.map_err(error("forget", grain))
    }
}

/// Stopped processes would be told from frozen ones by everything that waits for them.
fn no_freezing() -> RuntimeCause {
    RuntimeCause::NotPossible {
        what: "a program of this machine cannot be frozen",
        hint: "snapshots of it are those of a machine that lost its power; stop it first if that is not enough",
    }
}
