//! Roles: what a dataset may be used for, as properties and as a mount. Every step looks at what is there first, so that
//! any of them may be the first one after a crash.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use scrap_schema::id::Epoch;
use scrap_schema::unit::Bytes;

use super::found::Found;
use super::names::{EPOCH, ROLE};
use super::{Held, Inner, Result, at, blocking};
use crate::datasets::{Cause, Dataset, DatasetId, Role, Shape};

/// Largest record: what is larger needs a feature that both ends of a stream would have to have.
pub(super) const RECORD_MAX: u64 = 128 << 10;

/// Given to no other machine, whatever the pool's owner says of the rest of it. Everything of ours has it from its parent, so
/// that it is there at once also where a stream cannot bring it.
pub(super) const UNSHARED: [(&str, &str); 2] = [("sharenfs", "off"), ("sharesmb", "off")];

/// Of what cannot be written or run, and is nowhere in the file system.
pub(super) const SHUT: [(&str, &str); 8] = [
    ("readonly", "on"),
    ("canmount", "noauto"),
    ("mountpoint", "none"),
    ("exec", "off"),
    ("setuid", "off"),
    ("devices", "off"),
    UNSHARED[0],
    UNSHARED[1],
];

/// Pairs as the tools want them.
pub(super) fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(property, value)| ((*property).to_owned(), (*value).to_owned())).collect()
}

pub(super) fn role_text(role: Role) -> &'static str {
    match role {
        Role::Owner => "owner",
        Role::Standby => "standby",
        Role::Orphan => "orphan",
        Role::Template => "template",
    }
}

/// Role and epoch as properties.
pub(super) fn state(role: Role, epoch: Epoch) -> Vec<(String, String)> {
    vec![(EPOCH.to_owned(), epoch.to_string()), (ROLE.to_owned(), role_text(role).to_owned())]
}

/// Limits and layout as properties. Zero: none, or the tools' own choice.
pub(super) fn shape(shape: Shape) -> Result<Vec<(String, String)>> {
    let limit = |bytes: Bytes| if bytes.0 == 0 { "none".to_owned() } else { bytes.0.to_string() };
    let record = if shape.record_size.0 == 0 { RECORD_MAX } else { shape.record_size.0 };
    if !record.is_power_of_two() || !(512..=RECORD_MAX).contains(&record) {
        let what =
            format!("a record size of {record} bytes is no power of two from 512 B to 128 KiB");
        return Err(Cause::Io { what, source: std::io::ErrorKind::InvalidInput.into() });
    }
    Ok(vec![
        ("quota".to_owned(), limit(shape.quota)),
        ("reservation".to_owned(), limit(shape.reservation)),
        ("recordsize".to_owned(), record.to_string()),
    ])
}

/// Whether a file system of its own is mounted at a place. Asks no program.
pub(super) async fn is_mountpoint(path: &Path) -> bool {
    let device =
        async |path: &Path| tokio::fs::symlink_metadata(path).await.ok().map(|seen| seen.dev());
    let Some(parent) = path.parent() else { return false };
    let (own, around) = (device(path).await, device(parent).await);
    own.is_some() && own != around
}

impl Inner {
    /// Of what a grain runs on, or what is being unpacked.
    pub(super) fn open_properties(&self, id: DatasetId) -> Vec<(String, String)> {
        let mountpoint = self.names.mountpoint(id).display().to_string();
        pairs(&[
            ("readonly", "off"),
            ("canmount", "noauto"),
            ("mountpoint", &mountpoint),
            ("exec", "on"),
            ("setuid", "on"),
            ("devices", "off"),
            UNSHARED[0],
            UNSHARED[1],
        ])
    }

    /// Sets those properties that are not so yet.
    pub(super) async fn enforce(&self, found: &Found, wanted: &[(String, String)]) -> Result<()> {
        let differ = wanted.iter().filter(|(property, value)| !found.is(property, value));
        self.set_all(&found.name, &differ.cloned().collect::<Vec<_>>()).await
    }

    /// Makes a head reachable at its place.
    pub(super) async fn open_head(&self, found: &Found) -> Result<()> {
        self.enforce(found, &self.open_properties(found.id)).await?;
        self.mount(&found.name).await
    }

    /// The same for one that was an owner's all along.
    pub(super) async fn open_again(&self, id: DatasetId) -> Result<()> {
        let found = self.must(id).await?;
        match found.role()? {
            Role::Owner => self.open_head(&found).await,
            is @ (Role::Standby | Role::Orphan | Role::Template) => Err(Cause::WrongRole { is }),
        }
    }

    /// Takes a dataset out of the file system and closes it to writes.
    pub(super) async fn shut(&self, found: &Found) -> Result<()> {
        self.unmount(&found.name).await?;
        self.enforce(found, &pairs(&SHUT)).await
    }

    pub(super) async fn mount(&self, name: &str) -> Result<()> {
        match self.tools.zfs(&["mount", name]).await {
            Err(Cause::Program { said, .. }) if said.contains("already mounted") => Ok(()),
            Err(Cause::Program { said, .. }) if said.contains("not empty") => {
                Err(Cause::Foreign { what: format!("what lies at the mountpoint of {name}") })
            }
            result => result.map(|_| ()),
        }
    }

    /// Waits until nobody uses it any more, within limits.
    pub(super) async fn unmount(&self, name: &str) -> Result<()> {
        match self.tools.zfs(&["unmount", name]).await {
            Err(Cause::Program { said, .. }) if said.contains("not currently mounted") => Ok(()),
            result => result.map(|_| ()),
        }
    }

    /// Brings what programs have written through their memory to the pool: it comes with no snapshot otherwise.
    pub(super) async fn flush(&self, found: &Found) -> Result<()> {
        let path = self.names.mountpoint(found.id);
        if !is_mountpoint(&path).await {
            return Ok(());
        }
        blocking(move || {
            let folder = std::fs::File::open(&path).map_err(at("open", &path))?;
            #[cfg(target_os = "linux")]
            rustix::fs::syncfs(&folder).map_err(at("sync", &path))?;
            #[cfg(not(target_os = "linux"))]
            folder.sync_all().map_err(at("sync", &path))?;
            Ok(())
        })
        .await
    }

    /// See `Datasets::create`. Everything that a new dataset is comes with the one command that makes it.
    pub(super) async fn create(&self, id: DatasetId, epoch: Epoch, of: Shape) -> Result<()> {
        if self.find(id).await?.is_some() {
            return Err(Cause::Exists);
        }
        let mut properties = self.open_properties(id);
        properties.extend(shape(of)?);
        properties.extend(state(Role::Owner, epoch));
        self.end_receives(id).await?;
        self.discard_incoming(id).await?;
        self.make(&["create"], &properties, &self.names.of(id)).await?;
        self.mount(&self.names.of(id)).await
    }

    /// `zfs create` or `zfs clone`, with properties.
    pub(super) async fn make(
        &self,
        command: &[&str],
        properties: &[(String, String)],
        last: &str,
    ) -> Result<()> {
        let (word, sources) = command.split_first().unwrap_or((&"create", &[]));
        let mut arguments = vec![(*word).to_owned()];
        for (property, value) in properties {
            arguments.extend(["-o".to_owned(), format!("{property}={value}")]);
        }
        arguments.extend(sources.iter().map(|text| (*text).to_owned()));
        arguments.push(last.to_owned());
        self.tools.zfs_list(&arguments).await.map(|_| ())
    }

    /// See `Datasets::set_role`.
    pub(super) async fn set_role(
        &self,
        held: &mut Held,
        id: DatasetId,
        role: Role,
        epoch: Epoch,
    ) -> Result<Dataset> {
        // Only copies receive, and what is found after this stays so.
        self.end_receives(id).await?;
        let mut found = held.must(self).await?;
        let is = found.role()?;
        match (role, is) {
            (Role::Orphan | Role::Template, _) | (_, Role::Orphan | Role::Template) => {
                return Err(Cause::WrongRole { is });
            }
            (Role::Owner, Role::Standby) => {
                self.discard_unfinished(&found).await?;
                let mut open = self.open_properties(id);
                open.push((EPOCH.to_owned(), epoch.to_string()));
                self.enforce(&found, &open).await?;
                found.note(&open);
                // A grain waits for this. An owner that was not mounted when this broke off is mounted at the next try.
                let owner = [(ROLE.to_owned(), role_text(role).to_owned())];
                let (mounted, set) =
                    tokio::join!(self.mount(&found.name), self.set(&found.name, &owner));
                mounted.and(set)?;
                found.note(&owner);
                found.note_mounted(true);
            }
            (Role::Owner, Role::Owner) => {
                self.open_head(&found).await?;
                found.note(&self.open_properties(id));
                found.note_mounted(true);
            }
            (Role::Standby, Role::Owner) => {
                self.demote(&found).await?;
                found.note(&pairs(&SHUT));
                found.note_mounted(false);
            }
            (Role::Standby, Role::Standby) => (),
        }
        // Whatever breaks off before this is what it was, and is tidied up at the next start.
        let mut state = state(role, epoch);
        state.retain(|(property, value)| found.value(property) != Some(value));
        self.set(&found.name, &state).await?;
        found.note(&state);
        let dataset = self.described(&found).await?;
        held.keep(found);
        Ok(dataset)
    }

    /// Closes a head that nothing was written into since its newest snapshot. It is asked once nobody can write any more, and
    /// the last pages have reached the pool.
    async fn demote(&self, found: &Found) -> Result<()> {
        self.conceal_found(found).await?;
        let diverged = || {
            let newest = found.newest_guid();
            Cause::Diverged { newest, from: newest }
        };
        // Without a snapshot only its files can say whether there is anything, and they are seen where it is mounted.
        if found.newest().is_none() && self.changed(found).await? > 0 {
            return Err(diverged());
        }
        self.unmount(&found.name).await?;
        let changed = match found.newest() {
            Some(_) => self.changed(found).await,
            None => Ok(0),
        };
        if !matches!(changed, Ok(0)) {
            self.mount(&found.name).await?;
        }
        if changed? > 0 {
            return Err(diverged());
        }
        self.enforce(found, &pairs(&SHUT)).await
    }

    /// See `Datasets::set_shape`.
    pub(super) async fn set_shape(&self, id: DatasetId, of: Shape) -> Result<()> {
        let found = self.must(id).await?;
        let mut wanted = shape(of)?;
        // `none` reads as zero.
        wanted.retain(|(property, value)| {
            !(found.is(property, value) || (value == "none" && found.is(property, "0")))
        });
        self.set(&found.name, &wanted).await
    }
}
