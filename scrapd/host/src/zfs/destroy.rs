//! Taking datasets away. What others need is given to them first; what somebody else made is never taken away with it.

use super::found::Found;
use super::{Inner, Result, random};
use crate::datasets::{Cause, DatasetId};

/// More dependents than this are no work of ours.
const DEPENDENTS_MAX: usize = 10_000;

impl Inner {
    /// See `Datasets::destroy`.
    pub(super) async fn destroy(&self, id: DatasetId) -> Result<()> {
        self.end_receives(id).await?;
        self.discard_incoming(id).await?;
        let Some(found) = self.find(id).await? else {
            self.empty_trash(id).await?;
            return self.conceal(id).await;
        };
        self.discard_unfinished(&found).await?;
        self.conceal_found(&found).await?;
        if matches!(id, DatasetId::Template(_))
            && let Some((clone, _)) = self.dependents(&found.name).await?.first()
        {
            return Err(Cause::Held(format!("{} shares its data", self.names.short(clone))));
        }
        self.nothing_foreign(&found).await?;
        self.remove(id).await
    }

    /// Takes away what an earlier call could not, because somebody still read it.
    async fn empty_trash(&self, id: DatasetId) -> Result<()> {
        let mine = self.names.trash_of(id);
        let list = ["list", "-H", "-r", "-d", "1", "-o", "name", &self.names.parent("trash")];
        let out = self.tools.zfs(&list).await?;
        for name in out.lines().filter(|name| name.starts_with(&mine)) {
            self.remove_named(name).await?;
        }
        Ok(())
    }

    /// That everything below a dataset was made by us.
    pub(super) async fn nothing_foreign(&self, found: &Found) -> Result<()> {
        if let Some((snapshot, _)) = found.snaps.foreign.first() {
            return Err(Cause::Foreign { what: format!("snapshot {snapshot}") });
        }
        let list = ["list", "-H", "-r", "-d", "1", "-o", "name", &found.name];
        let below = self.tools.zfs(&list).await?;
        match below.lines().find(|name| *name != found.name) {
            Some(child) => Err(Cause::Foreign { what: format!("dataset {child}") }),
            None => Ok(()),
        }
    }

    /// Takes a dataset out of sight at one stroke, then away.
    pub(super) async fn remove(&self, id: DatasetId) -> Result<()> {
        let (name, trash) = (self.names.of(id), self.names.trash(id, random()?));
        self.unmount(&name).await?;
        self.rename(&name, &trash).await?;
        super::remove_mountpoint(self.names.mountpoint(id)).await?;
        self.remove_named(&trash).await
    }

    /// Gives a dataset another name. ZFS unmounts what depends on it meanwhile, and says that it failed when one of those cannot be
    /// mounted again, although the name is changed by then: what is tried once more is missing, and is there under the new name.
    pub(super) async fn rename(&self, from: &str, to: &str) -> Result<()> {
        match self.tools.zfs(&["rename", from, to]).await {
            Err(Cause::Missing) => {
                self.tools.zfs(&["list", "-H", "-o", "name", to]).await.map(drop)
            }
            done => done.map(drop),
        }
    }

    /// Takes a dataset away with its snapshots, by its name; a missing one is fine. What is a clone of it gets what it
    /// needs.
    pub(super) async fn remove_named(&self, name: &str) -> Result<()> {
        let snaps = match self.snapshots_of(name).await {
            Ok(snaps) => snaps,
            Err(Cause::Missing) => return Ok(()),
            Err(cause) => return Err(cause),
        };
        self.let_go_for_good(&snaps.own.iter().collect::<Vec<_>>()).await?;
        for _ in 0..DEPENDENTS_MAX {
            let dependents = self.dependents(name).await?;
            let Some((clone, _)) = dependents.first() else { break };
            self.tools.zfs(&["promote", clone]).await?;
        }
        self.unmount(name).await?;
        let snaps = self.snapshots_of(name).await?;
        let own = snaps.own.iter().map(|snap| snap.full.clone());
        let doomed: Vec<String> = own.chain(snaps.temporary).collect();
        self.destroy_snapshots(name, &doomed).await?;
        match self.tools.zfs(&["destroy", name]).await {
            Ok(_) | Err(Cause::Missing) => Ok(()),
            Err(cause) => Err(cause),
        }
    }
}
