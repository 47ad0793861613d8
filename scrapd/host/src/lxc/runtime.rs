//! The trait on containers.

use std::path::Path;
use std::time::Duration;

use scrap_schema::id::GrainId;
use scrap_schema::time::BootTime;
use scrap_schema::unit::Span;
use tokio::time::{Instant, sleep};

use super::{LxcRuntime, shift};
use crate::keepers::{error, finished, io_cause};
use crate::processes::Cage;
use crate::runtime::{
    Exec, ExecChild, IdRange, Listing, LogChunk, Result, Runtime, RuntimeCause, RuntimeError,
    ServiceState, Start, Usage, Window,
};

/// A system is frozen within this, or something in it cannot be.
const FREEZE: Duration = Duration::from_secs(10);

type Found<T> = std::result::Result<T, RuntimeCause>;

/// Work on groups of processes and files, on a thread that may block.
async fn blocking<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Found<T> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    done.map_err(|error| io_cause(what, error))
}

/// The same for work on a tree that has causes of its own.
async fn on_tree(work: impl FnOnce() -> Found<()> + Send + 'static) -> Found<()> {
    blocking("the work was broken off", move || Ok(work())).await?
}

impl LxcRuntime {
    async fn cage(&self, grain: GrainId) -> Found<Cage> {
        let record = self.keepers.live(grain).await?;
        record.cage.ok_or(RuntimeCause::NotRunning)
    }

    async fn measure(&self, grain: GrainId) -> Found<Usage> {
        let cage = self.cage(grain).await?;
        let measured =
            blocking("cannot measure its group of processes", move || cage.group().usage());
        let (cpu_ms, memory, processes) = measured.await?;
        Ok(Usage { cpu_ms, memory, processes })
    }

    async fn freeze_whole(&self, grain: GrainId) -> Found<()> {
        self.running(grain).await?;
        let cage = self.cage(grain).await?;
        let what = "cannot freeze its group of processes";
        let freeze = cage.clone();
        blocking(what, move || freeze.group().freeze()).await?;
        let limit = Instant::now() + FREEZE;
        loop {
            let look = cage.clone();
            if blocking(what, move || look.group().is_frozen()).await? {
                return Ok(());
            }
            if Instant::now() >= limit {
                self.thaw_whole(grain).await?;
                return Err(io_cause(what, std::io::ErrorKind::TimedOut.into()));
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn thaw_whole(&self, grain: GrainId) -> Found<()> {
        let cage = self.cage(grain).await?;
        let thaw = move || {
            cage.group().thaw();
            Ok(())
        };
        blocking("cannot thaw its group of processes", thaw).await
    }

    /// A group that could not be removed when the grain ended is removed now.
    async fn forget_whole(&self, grain: GrainId) -> Found<()> {
        self.keepers.forget(grain).await?;
        let folder = self.lxc_folder().join(grain.to_string());
        let what = format!("cannot remove {}", folder.display());
        let remove = move || match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        };
        blocking(&what, remove).await?;
        let Some(group) = self.keepers.group(grain) else { return Ok(()) };
        let cage = Cage { group, ids: None };
        blocking("cannot remove its group of processes", move || cage.group().remove()).await
    }
}

impl Runtime for LxcRuntime {
    async fn list(&self) -> Result<Listing> {
        self.keepers.list().await
    }

    async fn start(&self, order: Start) -> Result<()> {
        let grain = order.grain;
        let runtime = self.clone();
        let guard = self.keepers.slot(grain).lock_owned().await;
        // A task of its own: a start that nobody waits for any more is still finished, under the lock.
        let work = tokio::spawn(async move {
            let _guard = guard;
            runtime.begin(order).await
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

    async fn prepare(&self, data: &Path, ids: IdRange) -> Result<()> {
        let folder = data.to_owned();
        let shifted = on_tree(move || shift::shift(&folder, ids)).await;
        // A grain's data lie in a folder of its name.
        let grain = data.file_name().and_then(|name| name.to_str()?.parse().ok());
        shifted.map_err(error("prepare", grain.unwrap_or(GrainId(0))))
    }

    async fn note(&self, template: &Path, users: u32) -> std::result::Result<(), RuntimeCause> {
        let folder = template.to_owned();
        on_tree(move || shift::note(&folder, users)).await
    }

    async fn exec(&self, exec: Exec) -> Result<ExecChild> {
        let _guard = self.keepers.slot(exec.grain).lock_owned().await;
        self.run_beside(&exec).await.map_err(error("exec in", exec.grain))
    }

    async fn console(&self, grain: GrainId, window: Window) -> Result<ExecChild> {
        let _guard = self.keepers.slot(grain).lock_owned().await;
        self.open_console(grain, window).await.map_err(error("open the console of", grain))
    }

    async fn freeze(&self, grain: GrainId) -> Result<()> {
        let _guard = self.keepers.slot(grain).lock_owned().await;
        self.freeze_whole(grain).await.map_err(error("freeze", grain))
    }

    async fn thaw(&self, grain: GrainId) -> Result<()> {
        let _guard = self.keepers.slot(grain).lock_owned().await;
        self.thaw_whole(grain).await.map_err(error("thaw", grain))
    }

    async fn services(&self, grain: GrainId) -> Result<Vec<ServiceState>> {
        self.list_services(grain).await.map_err(error("look into", grain))
    }

    async fn forget(&self, grain: GrainId) -> Result<()> {
        let _guard = self.keepers.slot(grain).lock_owned().await;
        self.forget_whole(grain).await.map_err(error("forget", grain))
    }
}
