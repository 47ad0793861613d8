//! Receiving. A new dataset comes in aside and appears by a rename, an increment goes into its dataset; either way the last
//! bytes are given to the pool only under the dataset's lock, after everything was checked again. Until then the lock is
//! free, so that a hanging sender never stands in the way of a promotion, which ends the receive.

use scrap_schema::id::Epoch;
use scrap_schema::snapshot::Guid;
use tokio::io::AsyncRead;
use tokio::sync::watch;

use super::flow::Stream;
use super::found::{Found, TOKEN};
use super::library::Place;
use super::names::{self, CREATED, EPOCH, ORIGIN};
use super::role::{SHUT, pairs, state};
use super::stream::{Header, Reader, bad};
use super::{Inner, Order, Result, words};
use crate::datasets::{Cause, DatasetId, Incoming, Role, template_name};

/// A dataset in `incoming` with this property has everything that it needs and only waits for its place.
pub(super) const READY: &str = "scrap:ready";

/// Where a stream goes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    /// Into the dataset that is there.
    There,
    /// Aside. Of a clone, with the full name of what it begins at.
    Aside { origin: Option<String> },
}

impl Inner {
    /// See `Datasets::receive` and `Datasets::receive_template`.
    pub(super) async fn receive(
        &self,
        id: DatasetId,
        incoming: Incoming,
        input: &mut (dyn AsyncRead + Send + Unpin),
    ) -> Result<Found> {
        let Incoming { epoch, from, resumed, hurried } = incoming;
        let (mut reader, header) = Reader::begin(input).await?;
        let (target, mut orders, carried) = {
            let mut held = self.lock(id).await;
            if !hurried {
                // What people did by hand is named, also where the pool would not mind.
                held.forget();
            }
            let found = held.find(self).await?;
            let target = self.admit(id, found.as_ref(), from, &header).await?;
            if header.rest != resumed {
                return Err(bad("it is the rest of another, or should be and is not"));
            }
            let orders = self.begin_receive(id)?;
            let target = self.make_room(id, found.as_ref(), target, resumed).await?;
            let carried = found.filter(|found| !found.is_unfinished());
            (target, orders, carried.map(|found| held.carry(found)))
        };
        // What is left of a stream that breaks off is seen by a new look only.
        let whole = self.tools.unless_ended();
        // What is made aside is a dataset more from here on.
        let _moving = matches!(target, Target::Aside { .. }).then(|| self.tools.moving());
        let mut stream = match self.library.receive(&self.place(id, &target, &header)).await {
            Some(stream) => stream?,
            None => self.tools.inward(&self.arguments(id, &target, &header))?,
        };
        stream.keep(orders.clone());
        let (stream, held) = match pump(&mut reader, &mut stream, &mut orders).await {
            Ok(held) => (stream, held),
            Err(trouble) => return Err(self.broken(stream, trouble).await),
        };
        let mut lock = tokio::select! {
            lock = self.lock(id) => lock,
            () = stopped(&mut orders) => {
                stream.kill().await;
                return Err(bad("the dataset changed its role meanwhile"));
            }
        };
        match carried.filter(|_| hurried) {
            Some(carried) => lock.bring(carried),
            None => lock.forget(),
        }
        let found = lock.find(self).await?;
        if let Err(cause) = self.admit(id, found.as_ref(), from, &header).await {
            stream.kill().await;
            return Err(cause);
        }
        self.finish(stream, &held).await.map_err(|cause| named(cause, found.as_ref(), from))?;
        let found = self.appear(id, found, &target, &header, epoch).await?;
        lock.keep(found.clone());
        whole.ended();
        Ok(found)
    }

    /// Checks a stream against what is here.
    async fn admit(
        &self,
        id: DatasetId,
        found: Option<&Found>,
        from: Option<Guid>,
        header: &Header,
    ) -> Result<Target> {
        if found.is_some_and(|found| found.snap(header.snapshot.guid).is_ok()) {
            return Err(Cause::Exists);
        }
        if header.from != from && !(header.rest && header.from.is_none()) {
            let said = header.from.map_or("nothing".to_owned(), |guid| guid.to_string());
            return Err(bad(format!("it begins at {said}, which was not asked for")));
        }
        if matches!(id, DatasetId::Template(_)) {
            return admit_template(found, header);
        }
        let Some(found) = found else {
            let origin = match from {
                Some(from) => Some(self.template_snapshot(from).await?.ok_or(Cause::Missing)?),
                None => None,
            };
            return Ok(Target::Aside { origin });
        };
        match found.role()? {
            Role::Standby => (),
            is @ (Role::Owner | Role::Orphan | Role::Template) => {
                return Err(Cause::WrongRole { is });
            }
        }
        match (from, found.newest()) {
            (None, None) => return Err(Cause::Exists),
            (from, newest) if from != newest.map(|snap| snap.snapshot.guid) => {
                return Err(Cause::Diverged { newest: found.newest_guid(), from });
            }
            (_, _) => (),
        }
        if let Some(what) = found.in_the_way() {
            return Err(Cause::Foreign { what: format!("snapshot {what}") });
        }
        match found.newest().filter(|_| header.clone) {
            // A stream of a clone can only become a dataset of its own, which then takes the place of this one.
            Some(newest) => Ok(Target::Aside { origin: Some(newest.full.clone()) }),
            None => Ok(Target::There),
        }
    }

    /// Throws away what is unfinished, or finds where it goes on.
    async fn make_room(
        &self,
        id: DatasetId,
        found: Option<&Found>,
        target: Target,
        resumed: bool,
    ) -> Result<Target> {
        if !resumed {
            if let Some(found) = found {
                self.discard_unfinished(found).await?;
            }
            self.discard_incoming(id).await?;
            return Ok(target);
        }
        // Where it goes and what it begins at was settled when it began.
        if self.token(&self.names.of(id)).await?.is_some() {
            return Ok(Target::There);
        }
        match self.token(&self.names.incoming(id)).await? {
            Some(_) => Ok(Target::Aside { origin: None }),
            None => Err(bad("nothing is kept here of a stream that was cut off")),
        }
    }

    fn arguments(&self, id: DatasetId, target: &Target, header: &Header) -> Vec<String> {
        let mut arguments = vec!["receive".to_owned(), "-u".to_owned()];
        if self.can.resume {
            arguments.push("-s".to_owned());
        }
        let name = match target {
            Target::There => self.names.of(id),
            Target::Aside { origin } => {
                if self.can.receive_properties && !header.rest {
                    let origin = origin.iter().map(|origin| ("origin", origin.as_str()));
                    for (property, value) in SHUT.into_iter().chain(origin) {
                        arguments.extend(["-o".to_owned(), format!("{property}={value}")]);
                    }
                }
                self.names.incoming(id)
            }
        };
        arguments.push(format!("{name}@{}", header.snapshot.name));
        arguments
    }

    /// The same for the library.
    fn place(&self, id: DatasetId, target: &Target, header: &Header) -> Place {
        let name = &header.snapshot.name;
        match target {
            Target::There => {
                let to = format!("{}@{name}", self.names.of(id));
                Place { to, origin: None, properties: Vec::new() }
            }
            Target::Aside { origin } => {
                let to = format!("{}@{name}", self.names.incoming(id));
                let properties = if header.rest { Vec::new() } else { pairs(&SHUT) };
                Place { to, origin: origin.clone(), properties }
            }
        }
    }

    /// Gives the last bytes and waits for the pool.
    async fn finish(&self, mut stream: Stream, held: &[u8]) -> Result<()> {
        match stream.write(held).await {
            Ok(given) => {
                stream.end().await?;
                given.then_some(()).ok_or_else(|| bad("the pool did not take all of it"))
            }
            Err(cause) => {
                stream.kill().await;
                Err(cause)
            }
        }
    }

    /// Ends a receive that came to nothing. What the pool says is the reason only if it gave up first.
    async fn broken(&self, stream: Stream, trouble: Trouble) -> Cause {
        match trouble {
            Trouble::Stream(cause) => {
                // Without its end the pool takes nothing in, and keeps what can go on.
                if let Err(cause @ Cause::Hanging { .. }) = stream.end().await {
                    tracing::warn!(%cause, "a receive that was cut off does not end");
                }
                cause
            }
            Trouble::Stopped => {
                stream.kill().await;
                bad("the dataset changed its role meanwhile")
            }
            Trouble::Hangs(cause) => {
                stream.kill().await;
                cause
            }
            Trouble::Pool => match stream.end().await {
                Ok(()) => bad("it goes on after its own end"),
                Err(cause) => cause,
            },
        }
    }

    /// Makes what has come in part of the line. Returns the dataset with it.
    async fn appear(
        &self,
        id: DatasetId,
        found: Option<Found>,
        target: &Target,
        header: &Header,
        epoch: Epoch,
    ) -> Result<Found> {
        let name = match target {
            Target::There => self.names.of(id),
            Target::Aside { .. } => self.names.incoming(id),
        };
        let full = format!("{name}@{}", header.snapshot.name);
        let created = [(CREATED.to_owned(), header.snapshot.created.0.to_string())];
        let (guid, set) = tokio::join!(self.guid_of(&full), self.set(&full, &created));
        let guid = guid?;
        if guid != header.snapshot.guid {
            return Err(bad(format!("it made snapshot {guid}, not {}", header.snapshot.guid)));
        }
        set?;
        match (target, found) {
            (Target::There, Some(mut found)) => {
                if epoch > found.epoch() {
                    let newer = [(EPOCH.to_owned(), epoch.to_string())];
                    self.set(&name, &newer).await?;
                    found.note(&newer);
                }
                found.note_whole(header.snapshot.clone());
                return Ok(found);
            }
            // Nothing goes into a dataset that is not there.
            (Target::There, None) => return Err(Cause::Missing),
            (Target::Aside { .. }, Some(found)) if !matches!(id, DatasetId::Template(_)) => {
                self.take_place(&found, header, epoch).await?;
            }
            (Target::Aside { .. }, found) => {
                if let Some(begun) = found {
                    // A template that was begun and never sealed.
                    self.remove(begun.id).await?;
                }
                self.settle_aside(id, header, epoch).await?;
                self.rename(&name, &self.names.of(id)).await?;
            }
        }
        self.must(id).await
    }

    /// Everything that a new dataset needs before it appears.
    async fn settle_aside(&self, id: DatasetId, header: &Header, epoch: Epoch) -> Result<()> {
        let name = self.names.incoming(id);
        let aside = self.find_named(id, name).await?.ok_or(Cause::Missing)?;
        self.enforce(&aside, &pairs(&SHUT)).await?;
        let role = match id {
            DatasetId::Template(_) => Role::Template,
            DatasetId::Grain(_) | DatasetId::Orphan(..) => Role::Standby,
        };
        let mut properties = state(role, epoch);
        if let Some(from) = header.from.filter(|_| aside.clone_of().is_some()) {
            properties.push((ORIGIN.to_owned(), from.to_string()));
        }
        self.set(&aside.name, &properties).await
    }

    /// Puts a clone that has come in where the dataset is of which it begins: that has nothing more than its beginning.
    async fn take_place(&self, found: &Found, header: &Header, epoch: Epoch) -> Result<()> {
        let name = self.names.incoming(found.id);
        self.settle_aside(found.id, header, found.epoch().max(epoch)).await?;
        let inherited = self.keepsakes(found, |_| true);
        self.set(&name, &inherited).await?;
        if !found.snaps.own.is_empty() {
            self.tools.zfs(&["promote", &name]).await?;
        }
        // From here on the next start does the rest.
        self.set(&name, &[(READY.to_owned(), "yes".to_owned())]).await?;
        self.exchange(found.id).await
    }

    /// Limits, texts, the origin, and holds on what `keeps`.
    pub(super) fn keepsakes(
        &self,
        found: &Found,
        keeps: impl Fn(Guid) -> bool,
    ) -> Vec<(String, String)> {
        let mut kept = Vec::new();
        for limit in ["quota", "reservation", "recordsize"] {
            if let Some(value) = found.value(limit).filter(|value| *value != "0") {
                kept.push((limit.to_owned(), value.to_owned()));
            }
        }
        for (key, value) in found.texts() {
            kept.extend(names::text(&key, &value));
        }
        let holds = found.holds();
        for (tag, guid) in holds.into_iter().filter(|(_, guid)| keeps(*guid)) {
            let name = if tag == crate::datasets::ORIGIN_TAG {
                ORIGIN.to_owned()
            } else {
                names::hold(&tag)
            };
            kept.push((name, guid.to_string()));
        }
        kept
    }

    /// Gives a ready dataset its place; what was there goes.
    pub(super) async fn exchange(&self, id: DatasetId) -> Result<()> {
        let (aside, place) = (self.names.incoming(id), self.names.of(id));
        let trash = self.names.trash(id, super::random()?);
        if self.find(id).await?.is_some() {
            self.rename(&place, &trash).await?;
        }
        self.rename(&aside, &place).await?;
        self.unset(&place, READY).await?;
        self.remove_named(&trash).await
    }

    /// The full name of the snapshot of the sealed template with this guid.
    pub(super) async fn template_snapshot(&self, guid: Guid) -> Result<Option<String>> {
        let parent = self.names.parent("templates");
        let get = ["get", "-Hp", "-r", "-o", "name,property,value,source", "guid", &parent];
        let table = words::properties(&self.tools.zfs(&get).await?);
        let wanted = guid.0.to_string();
        let name = template_name().to_string();
        let mut found = table.into_iter().filter(|(full, values)| {
            full.ends_with(&format!("@{name}"))
                && values.get("guid").is_some_and(|value| value.value == wanted)
        });
        Ok(found.next().map(|(full, _)| full))
    }

    /// See `Datasets::unfinished`.
    pub(super) async fn unfinished(&self, id: DatasetId) -> Result<Option<String>> {
        match self.token(&self.names.of(id)).await? {
            Some(token) => Ok(Some(token)),
            None => self.token(&self.names.incoming(id)).await,
        }
    }

    pub(super) async fn token(&self, name: &str) -> Result<Option<String>> {
        if !self.can.resume {
            return Ok(None);
        }
        match self.tools.zfs(&["get", "-Hp", "-o", "value", TOKEN, name]).await {
            Ok(out) => Ok(Some(out.trim().to_owned()).filter(|token| token.len() > 1)),
            Err(Cause::Missing) => Ok(None),
            Err(cause) => Err(cause),
        }
    }

    /// Throws a receive into a dataset away that was cut off.
    pub(super) async fn discard_unfinished(&self, found: &Found) -> Result<()> {
        if !found.is_unfinished() {
            return Ok(());
        }
        match self.tools.zfs(&["receive", "-A", &found.name]).await {
            // It may have come to its end since it was seen.
            Err(_) if self.token(&found.name).await?.is_none() => Ok(()),
            thrown_away => thrown_away.map(|_| ()),
        }
    }

    /// Throws away what was made aside for a dataset.
    pub(super) async fn discard_incoming(&self, id: DatasetId) -> Result<()> {
        let name = self.names.incoming(id);
        if !self.is_there(&name).await? {
            return Ok(());
        }
        if self.token(&name).await?.is_some() {
            self.tools.zfs(&["receive", "-A", &name]).await?;
        }
        if self.is_ready(&name).await? && self.find(id).await?.is_none() {
            // It was about to take its place: it has what was there.
            self.exchange(id).await?;
            return Err(Cause::Busy("what an earlier call began was finished first".to_owned()));
        }
        self.remove_named(&name).await
    }

    /// Whether a dataset only waits for its place.
    pub(super) async fn is_ready(&self, name: &str) -> Result<bool> {
        match self.tools.zfs(&["get", "-Hp", "-o", "value", READY, name]).await {
            Ok(out) => Ok(out.trim() == "yes"),
            Err(Cause::Missing) => Ok(false),
            Err(cause) => Err(cause),
        }
    }
}

fn admit_template(found: Option<&Found>, header: &Header) -> Result<Target> {
    if found.is_some_and(|found| found.newest().is_some()) {
        return Err(Cause::Exists);
    }
    let whole = header.from.is_none() && header.snapshot.name == template_name();
    let target = Target::Aside { origin: None };
    whole.then_some(target).ok_or_else(|| bad("it is not the whole of a template"))
}

/// The pool says that a dataset moved on; its caller knows from where.
fn named(cause: Cause, found: Option<&Found>, from: Option<Guid>) -> Cause {
    match cause {
        Cause::Diverged { .. } => {
            Cause::Diverged { newest: found.and_then(Found::newest_guid), from }
        }
        cause => cause,
    }
}

/// Why a stream did not come to its last piece.
enum Trouble {
    /// It is damaged or ended.
    Stream(Cause),
    /// The pool wants no more.
    Pool,
    /// The pool takes nothing any more.
    Hangs(Cause),
    /// The dataset is needed for something else.
    Stopped,
}

/// Ends when the receive should.
async fn stopped(orders: &mut watch::Receiver<Order>) {
    orders.wait_for(|order| *order == Order::Stop).await.ok();
}

/// Feeds a stream to the pool, all but its last piece.
async fn pump(
    reader: &mut Reader<'_>,
    stream: &mut Stream,
    orders: &mut watch::Receiver<Order>,
) -> std::result::Result<Vec<u8>, Trouble> {
    let mut held: Vec<u8> = Vec::new();
    loop {
        let piece = tokio::select! {
            piece = reader.piece() => piece.map_err(Trouble::Stream)?,
            () = stopped(orders) => return Err(Trouble::Stopped),
        };
        let Some(piece) = piece else { return Ok(held) };
        let taken = tokio::select! {
            taken = stream.write(&held) => taken.map_err(Trouble::Hangs)?,
            () = stopped(orders) => return Err(Trouble::Stopped),
        };
        if !taken {
            return Err(Trouble::Pool);
        }
        held = piece;
    }
}
