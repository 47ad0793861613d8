//! The beginning: the parents, and everything back to its last good state after a crash. One dataset that cannot be settled
//! is told and does not stand in the way of the others.

use std::os::unix::fs::DirBuilderExt;

use super::found::Found;
use super::names::{PARENTS, TEMPORARY};
use super::role::{RECORD_MAX, SHUT, UNSHARED, pairs};
use super::{Inner, Result, at, blocking, words};
use crate::datasets::{Cause, DatasetId, Role};

impl Inner {
    /// Makes the root, the parents and the folders for mounts, where they are missing.
    pub(super) async fn prepare(&self) -> Result<()> {
        match self.root_is_there().await {
            Err(Cause::PoolMissing { .. }) => self.make_root().await?,
            result => result?,
        }
        let list = ["list", "-H", "-r", "-d", "1", "-o", "name", self.names.root()];
        let there = self.tools.zfs(&list).await?;
        let is_there = |name: &String| there.lines().any(|line| line == name);
        let parents = PARENTS.map(|parent| self.names.parent(parent));
        self.unshare(parents.into_iter().filter(is_there).collect()).await?;
        for parent in PARENTS {
            let name = self.names.parent(parent);
            if is_there(&name) {
                continue;
            }
            let record = RECORD_MAX.to_string();
            let mut properties = pairs(&[
                ("canmount", "off"),
                ("mountpoint", "none"),
                ("atime", "off"),
                ("recordsize", &record),
                UNSHARED[0],
                UNSHARED[1],
            ]);
            if self.can.modern_properties {
                properties.extend(pairs(&[("xattr", "sa"), ("acltype", "posixacl")]));
            }
            if parent == "incoming" {
                // What comes in inherits it: not every version can say so with the stream.
                let inherited = ["readonly", "exec", "setuid", "devices"];
                let shut = SHUT.iter().filter(|(property, _)| inherited.contains(property));
                properties.extend(pairs(&shut.copied().collect::<Vec<_>>()));
            }
            self.make(&["create"], &properties, &name).await?;
        }
        self.make_folders().await
    }

    /// Gives parents that are there to no other machine: what is below has that from them.
    async fn unshare(&self, parents: Vec<String>) -> Result<()> {
        if parents.is_empty() {
            return Ok(());
        }
        let get = ["get", "-Hp", "-o", "name,property,value,source", "sharenfs,sharesmb"];
        let get = get.map(str::to_owned).into_iter().chain(parents).collect::<Vec<_>>();
        let table = words::properties(&self.tools.zfs_list(&get).await?);
        for (name, shared) in table {
            let is = |property: &str| shared.get(property).map(|found| found.value.as_str());
            let differ = UNSHARED.into_iter().filter(|(name, value)| is(name) != Some(*value));
            self.set(&name, &pairs(&differ.collect::<Vec<_>>())).await?;
        }
        Ok(())
    }

    async fn make_root(&self) -> Result<()> {
        self.tools.zpool(&["list", "-H", "-o", "name", self.names.pool()]).await?;
        let mut properties = pairs(&[("canmount", "off"), ("mountpoint", "none")]);
        if self.can.modern_properties {
            properties.extend(pairs(&[("compression", "lz4")]));
        }
        match self.make(&["create"], &properties, self.names.root()).await {
            Err(Cause::Missing) => Err(Cause::PoolMissing { pool: self.names.root().to_owned() }),
            result => result,
        }
    }

    /// Folders that grains' own users may pass through and not list; views are for the administrator.
    async fn make_folders(&self) -> Result<()> {
        let root = self.names.mounts().to_owned();
        blocking(move || {
            for (folder, mode) in
                [("", 0o711), ("grains", 0o711), ("templates", 0o700), ("views", 0o700)]
            {
                let path = root.join(folder);
                let mut builder = std::fs::DirBuilder::new();
                builder.recursive(true).mode(mode);
                builder.create(&path).map_err(at("create", &path))?;
            }
            Ok(())
        })
        .await
    }

    /// Brings everything back to its last good state.
    pub(super) async fn sweep(&self) -> Result<()> {
        for (parent, name) in self.leftovers().await? {
            let swept = match parent {
                "views" => self.end_view(&name).await,
                "incoming" => self.sweep_incoming(&name).await,
                _ => self.remove_named(&name).await,
            };
            told(&name, swept)?;
        }
        for found in self.everything().await? {
            let settled = self.settle(&found).await;
            told(&found.name, settled)?;
        }
        Ok(())
    }

    /// What lies where nothing stays.
    async fn leftovers(&self) -> Result<Vec<(&'static str, String)>> {
        let mut all = Vec::new();
        // Trash last: what waits in `incoming` may need its place first.
        for parent in ["views", "incoming", "trash"] {
            let name = self.names.parent(parent);
            let out = self.tools.zfs(&["list", "-H", "-r", "-d", "1", "-o", "name", &name]).await?;
            let below = out.lines().filter(|line| **line != name);
            all.extend(below.map(|line| (parent, line.to_owned())));
        }
        Ok(all)
    }

    /// What is ready gets its place; what can go on stays; all else goes.
    async fn sweep_incoming(&self, name: &str) -> Result<()> {
        let short = name.rsplit('/').next().unwrap_or_default();
        if self.is_ready(name).await?
            && let Ok(grain) = short.parse()
        {
            let id = DatasetId::Grain(grain);
            self.exchange(id).await?;
            return Ok(());
        }
        if self.token(name).await?.is_some() {
            return Ok(());
        }
        self.remove_named(name).await
    }

    /// Makes one dataset what its role says.
    async fn settle(&self, found: &Found) -> Result<()> {
        for full in &found.snaps.temporary {
            if full.contains(TEMPORARY) {
                self.destroy_snapshots(&found.name, std::slice::from_ref(full)).await?;
            }
        }
        match found.role()? {
            Role::Owner => self.open_head(found).await,
            Role::Template if found.newest().is_none() => Ok(()),
            Role::Standby => {
                self.finish_setting_aside(found.id).await?;
                self.close(found).await
            }
            Role::Orphan | Role::Template => self.close(found).await,
        }
    }

    async fn close(&self, found: &Found) -> Result<()> {
        if found.mounted() {
            self.unmount(&found.name).await?;
        }
        self.enforce(found, &pairs(&SHUT)).await
    }
}

/// What concerns one dataset is told and left; what concerns all of them ends the start.
fn told(name: &str, result: Result<()>) -> Result<()> {
    match result {
        Ok(()) => Ok(()),
        Err(
            cause @ (Cause::PoolMissing { .. }
            | Cause::Suspended(_)
            | Cause::Hanging { .. }
            | Cause::ProgramMissing { .. }),
        ) => Err(cause),
        Err(cause) => {
            tracing::warn!(dataset = name, %cause, "left as it is");
            Ok(())
        }
    }
}
