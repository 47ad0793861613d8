//! New grains out of what is there: of a template as a clone that shares its blocks, of anything else as a copy that
//! nothing ties to its source.

use scrap_schema::id::Epoch;
use scrap_schema::snapshot::Guid;

use super::flow::relay;
use super::found::{Found, Snap};
use super::names::{CREATED, ORIGIN};
use super::receive::READY;
use super::role::{shape, state};
use super::{Inner, Result};
use crate::datasets::{Cause, DatasetId, Role, Shape};

impl Inner {
    /// See `Datasets::clone_from`.
    pub(super) async fn make_clone(
        &self,
        from: DatasetId,
        guid: Guid,
        id: DatasetId,
        epoch: Epoch,
        of: Shape,
    ) -> Result<()> {
        let begun = self.lock(from).await;
        let source = self.must(from).await?;
        let snap = source.snap(guid)?;
        let mut limits = shape(of)?;
        limits.extend(state(Role::Owner, epoch));
        // What is cloned is there at once. A copy takes long, and the pool keeps what is being sent.
        let cloned = self.is_of_a_template(&snap.full);
        let begun = cloned.then_some(begun);
        let guard = if id == from && cloned { None } else { Some(self.lock(id).await) };
        if self.find(id).await?.is_some() {
            return Err(Cause::Exists);
        }
        self.end_receives(id).await?;
        self.discard_incoming(id).await?;
        if cloned {
            limits.push((ORIGIN.to_owned(), guid.to_string()));
            limits.extend(self.open_properties(id));
            self.make(&["clone", &snap.full], &limits, &self.names.of(id)).await?;
        } else {
            self.copy_aside(&source, snap, id, limits).await?;
            self.exchange(id).await?;
        }
        self.mount(&self.names.of(id)).await?;
        drop((guard, begun));
        Ok(())
    }

    pub(super) fn is_of_a_template(&self, full: &str) -> bool {
        full.starts_with(&self.names.parent("templates/"))
    }

    /// Copies a snapshot into a new dataset that waits for its place. What the source shares with its template the copy
    /// shares too.
    async fn copy_aside(
        &self,
        source: &Found,
        snap: &Snap,
        id: DatasetId,
        mut properties: Vec<(String, String)>,
    ) -> Result<()> {
        let shared = source.before.last().filter(|origin| {
            source.snaps.own.contains(snap) && self.is_of_a_template(&origin.full)
        });
        let aside = self.names.incoming(id);
        let full = format!("{aside}@{}", snap.snapshot.name);
        let mut send = vec!["send".to_owned()];
        if self.can.compressed {
            send.extend(["-L", "-c", "-e"].map(str::to_owned));
        }
        let mut receive = vec!["receive".to_owned(), "-u".to_owned()];
        if let Some(origin) = shared {
            send.extend(["-i".to_owned(), origin.full.clone()]);
            if self.can.receive_properties {
                receive.extend(["-o".to_owned(), format!("origin={}", origin.full)]);
            }
        }
        send.push(snap.full.clone());
        receive.push(full.clone());
        let _moving = self.tools.moving();
        self.pass(&send, &receive).await?;
        let created = (CREATED.to_owned(), snap.snapshot.created.0.to_string());
        self.set(&full, &[created]).await?;
        let first = shared.unwrap_or(snap).snapshot.guid;
        properties.push((ORIGIN.to_owned(), first.to_string()));
        properties.extend(self.open_properties(id));
        let copy = self.find_named(id, aside.clone()).await?.ok_or(Cause::Missing)?;
        self.enforce(&copy, &properties).await?;
        self.set(&aside, &[(READY.to_owned(), "yes".to_owned())]).await
    }

    /// Runs a command whose stream goes into that of another.
    pub(super) async fn pass(&self, send: &[String], receive: &[String]) -> Result<()> {
        let mut sending = self.tools.outward(send)?;
        let mut receiving = self.tools.inward(receive)?;
        if let Err(cause) = relay(&mut sending, &mut receiving).await {
            tokio::join!(sending.kill(), receiving.kill());
            return Err(cause);
        }
        let (sent, received) = tokio::join!(sending.end(), receiving.end());
        received?;
        sent
    }
}
