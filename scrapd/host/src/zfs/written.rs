//! What was written into a head since its newest snapshot. Never says that nothing was, unless the pool itself says so
//! after everything has reached it.

use std::time::Instant;

use scrap_schema::unit::Bytes;

use super::found::Found;
use super::names::TEMPORARY;
use super::{Held, Inner, Result, at, blocking, random, words};
use crate::datasets::{Cause, Role, Written};

/// An increment of nothing: a record for its begin and one for its end.
const NOTHING: u64 = 2 * 312;
/// So little may be the pool's own: a mount that finds an empty intent log writes a block that is in no stream.
const DOUBT: u64 = 64 << 10;
/// What a stream needs beside the blocks that it carries: at most as much again, and this.
const OVERHEAD: u64 = 64 << 10;

impl Inner {
    /// See `Datasets::written`.
    pub(super) async fn written(&self, held: &mut Held) -> Result<Written> {
        let found = held.must(self).await?;
        let bytes = match found.role()? {
            Role::Owner => self.changed(&found).await?,
            Role::Standby | Role::Orphan | Role::Template => 0,
        };
        let size =
            self.tools.zfs(&["get", "-Hp", "-o", "value", "referenced", &found.name]).await?;
        held.keep(found);
        Ok(Written { bytes: Bytes(bytes), head: Bytes(words::number(size.trim()).unwrap_or(0)) })
    }

    /// An upper bound of an increment from the newest snapshot; zero exactly if nothing changed.
    ///
    /// The property `written@` counts what has reached the pool, so a zero is believed only after a sync of the pool, which
    /// idle grains share. Where it counts very little, or is not known at all, a temporary snapshot is taken, and its
    /// increment is made and counted: that costs reading what changed, and a snapshot.
    pub(super) async fn changed(&self, found: &Found) -> Result<u64> {
        self.flush(found).await?;
        let Some(newest) = found.newest() else {
            return self.contents(found).await;
        };
        if !self.can.written {
            return self.trial(found, &newest.full).await;
        }
        let property = format!("written@{}", newest.full);
        let get = ["get", "-Hp", "-o", "value", &property, &found.name];
        let mut bytes = self.written_property(&get).await?;
        if bytes == 0 {
            self.sync_pool().await?;
            bytes = self.written_property(&get).await?;
        }
        if bytes == 0 {
            return Ok(0);
        }
        if bytes <= DOUBT {
            return self.trial(found, &newest.full).await;
        }
        Ok(bytes.saturating_mul(2).saturating_add(OVERHEAD))
    }

    async fn written_property(&self, get: &[&str]) -> Result<u64> {
        let out = self.tools.zfs(get).await?;
        let text = out.trim();
        words::number(text).ok_or_else(|| Cause::Program {
            program: "zfs get written@".to_owned(),
            said: format!("`{text}` is no number of bytes"),
        })
    }

    /// Everything is written since there is no snapshot; an empty head is nothing.
    async fn contents(&self, found: &Found) -> Result<u64> {
        let path = self.names.mountpoint(found.id);
        let empty = blocking(move || {
            let mut entries = std::fs::read_dir(&path).map_err(at("list", &path))?;
            Ok(entries.next().is_none())
        });
        let bound = found.referenced().0.saturating_mul(2).saturating_add(OVERHEAD);
        Ok(if found.mounted() && empty.await? { 0 } else { bound })
    }

    async fn trial(&self, found: &Found, newest: &str) -> Result<u64> {
        let trial = format!("{}@{TEMPORARY}{:016x}", found.name, random()?);
        self.tools.zfs(&["snapshot", &trial]).await?;
        let counted = self.count(&["send", "-i", newest, &trial]).await;
        let destroyed = self.tools.zfs(&["destroy", &trial]).await;
        // A stream that hangs may hold it: then that is the reason, and the next start takes it away.
        let bytes = counted?;
        destroyed?;
        Ok(if bytes <= NOTHING { 0 } else { bytes.saturating_add(OVERHEAD) })
    }

    /// Makes a stream and counts it.
    pub(super) async fn count(&self, arguments: &[&str]) -> Result<u64> {
        let arguments: Vec<String> = arguments.iter().map(|&text| text.to_owned()).collect();
        let mut stream = self.tools.outward(&arguments)?;
        let (mut buffer, mut bytes) = (vec![0; 128 << 10], 0_u64);
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) => break,
                Ok(read) => bytes = bytes.saturating_add(read as u64),
                Err(cause) => {
                    // What it reads is needed again.
                    stream.kill().await;
                    return Err(cause);
                }
            }
        }
        stream.end().await?;
        Ok(bytes)
    }

    /// Brings everything that was written before to the pool. Whoever asks while another sync runs takes the next one,
    /// together with all others who do.
    async fn sync_pool(&self) -> Result<()> {
        let asked = Instant::now();
        let mut last = self.synced.lock().await;
        if last.is_some_and(|began| began > asked) {
            return Ok(());
        }
        let began = Instant::now();
        self.tools.zpool(&["sync", self.names.pool()]).await?;
        *last = Some(began);
        Ok(())
    }
}
