//! Sending and receiving: streams between this pool and another one. A receive works aside and appears with one rename
//! or one replaced `meta.json`; it holds the dataset's lock only for that last step, so that a hanging sender never
//! stands in the way of a promotion.

use std::path::PathBuf;

use scrap_schema::id::Epoch;
use scrap_schema::snapshot::{Guid, Snapshot};
use scrap_schema::unit::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;

use super::files::{self, Result, Staging};
use super::folder::{Folder, Meta, Row, StoredRole};
use super::manifest::{Hash, Manifest};
use super::pack::{PackWriter, Packs};
use super::stream::{self, Assembly, Header, MAGIC, Needed, Plan, Tag, bad};
use super::{Inner, head};
use crate::datasets::{Cause, DatasetId, Role, Shape, template_name};

/// Left free by a receive, so that a node with a full disk can still work and clean up.
const RESERVE: u64 = 64 << 20;

/// What a stream of this dataset would be. Needs the lock.
pub(super) fn plan(folder: &Folder, from: Option<Guid>, to: Guid) -> Result<Plan> {
    let meta = folder.must()?;
    let row = meta.row(to)?;
    if let Some(guid) = from {
        meta.row(guid)?;
        let at = |guid| meta.line.iter().position(|row| row.snapshot.guid == guid);
        if at(guid) >= at(to) {
            return Err(Cause::Diverged { newest: Some(to), from });
        }
    }
    let old = from.map(|from| folder.manifest(meta.row(from)?)).transpose()?;
    Plan::new(old.as_ref(), &folder.manifest(row)?, row.manifest)
}

/// Writes a planned stream, piece by piece. `emit` says whether anybody still listens. Needs no lock: packs are never
/// changed, and when one was written anew meanwhile its chunks are looked up again.
pub(super) fn produce(
    folder: &Folder,
    plan: Plan,
    mut emit: impl FnMut(Vec<u8>) -> bool,
) -> Result<()> {
    let mut hasher = blake3::Hasher::new();
    let mut packs = folder.packs()?;
    let mut send = |bytes: Vec<u8>| {
        hasher.update(&bytes);
        emit(bytes).then_some(()).ok_or_else(|| bad("nobody takes it any more"))
    };
    send(MAGIC.to_vec())?;
    for frame in plan.frames {
        send(frame)?;
    }
    for (hash, _) in plan.chunks {
        let chunk = match packs.read(&hash) {
            Ok(chunk) => chunk,
            Err(_) => {
                packs = folder.packs()?;
                packs.read(&hash)?
            }
        };
        send(stream::frame(Tag::Chunk, &chunk)?)?;
    }
    let hash = *hasher.finalize().as_bytes();
    let end = stream::frame(Tag::End, &hash)?;
    emit(end).then_some(()).ok_or_else(|| bad("nobody takes it any more"))
}

/// What the reader gives to the worker.
pub(super) type Frame = (Tag, Vec<u8>);

/// Reads a stream's frames until its end. Stops when the worker wants no more.
pub(super) async fn read_frames(
    input: &mut (dyn AsyncRead + Send + Unpin),
    frames: mpsc::Sender<Frame>,
) -> Result<()> {
    let broken = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => bad("it ends too early"),
        _ => bad(error.to_string()),
    };
    let mut magic = [0; MAGIC.len()];
    input.read_exact(&mut magic).await.map_err(broken)?;
    if magic != *MAGIC {
        return Err(bad("it does not begin as a stream of directories of this version"));
    }
    loop {
        let tag = input.read_u8().await.map_err(broken)?;
        let tag =
            Tag::from_byte(tag).ok_or_else(|| bad(format!("it has an unknown part {tag}")))?;
        let length = input.read_u32().await.map_err(broken)?;
        if length > tag.limit() {
            return Err(bad(format!("a part of {length} bytes is too long")));
        }
        let mut payload = Vec::new();
        let mut limited = (&mut *input).take(u64::from(length));
        limited.read_to_end(&mut payload).await.map_err(broken)?;
        if payload.len() as u64 != u64::from(length) {
            return Err(bad("it ends too early"));
        }
        if frames.send((tag, payload)).await.is_err() || tag == Tag::End {
            return Ok(());
        }
    }
}

/// One receive, into a grain's dataset or a new template.
pub(super) struct Receive {
    pub(super) id: DatasetId,
    pub(super) epoch: Epoch,
    pub(super) from: Option<Guid>,
}

/// Where an increment begins: the snapshot that is known, in the folder that has its packs.
struct Base {
    folder: Folder,
    row: Row,
}

/// What must be here once all lines have come.
struct Filling {
    manifest: Manifest,
    needed: Needed,
    pack: PackWriter,
}

impl Receive {
    /// Checks a stream against what is here, before anything is changed.
    fn admit(&self, inner: &Inner, meta: Option<&Meta>, header: &Header) -> Result<()> {
        if meta.is_some_and(|meta| meta.row(header.snapshot.guid).is_ok()) {
            return Err(Cause::Exists);
        }
        if header.from != self.from {
            let said = header.from.map_or("nothing".to_owned(), |guid| guid.to_string());
            return Err(bad(format!("it begins at {said}, which was not asked for")));
        }
        if matches!(self.id, DatasetId::Template(_)) {
            return admit_template(meta, header);
        }
        let Some(meta) = meta else {
            let Some(from) = self.from else { return Ok(()) };
            return inner.template(from)?.map(|_| ()).ok_or(Cause::Missing);
        };
        let is = meta.role_of(self.id);
        if is != Role::Standby {
            return Err(Cause::WrongRole { is });
        }
        match (self.from, meta.newest()) {
            (None, None) => Err(Cause::Exists),
            (from, newest) if from != newest => Err(Cause::Diverged { newest, from }),
            (_, _) => Ok(()),
        }
    }

    /// Where the stream begins. The dataset's own newest snapshot, or the template that it is a clone of.
    fn base(&self, inner: &Inner, meta: Option<&Meta>) -> Result<Option<Base>> {
        let Some(from) = self.from else { return Ok(None) };
        let Some(meta) = meta else {
            let found = inner.template(from)?;
            return Ok(found.map(|(folder, row)| Base { folder, row }));
        };
        Ok(Some(Base { folder: inner.folder(self.id), row: meta.row(from)?.clone() }))
    }

    /// Takes the frames in, on a thread that may block.
    pub(super) fn run(&self, inner: &Inner, frames: mpsc::Receiver<Frame>) -> Result<Snapshot> {
        let folder = inner.folder(self.id);
        let generation = inner.generation(self.id);
        let mut frames = Frames::new(frames);
        let (tag, payload) = frames.next()?;
        if tag != Tag::Header {
            return Err(bad("it does not begin with its header"));
        }
        let header: Header =
            serde_json::from_slice(&payload).map_err(|error| bad(error.to_string()))?;
        let meta = folder.meta()?;
        self.admit(inner, meta.as_ref(), &header)?;
        if header.bytes > inner.free()?.saturating_sub(RESERVE) {
            return Err(Cause::NoSpace);
        }
        let base = self.base(inner, meta.as_ref())?;
        let staging = Staging::new(&inner.tmp(), "receive")?;
        let new = Folder { path: staging.path().join("dataset") };
        new.lay_out()?;
        let manifest = Self::fill(&mut frames, &new, &header, base.as_ref())?;
        let checksum = new.keep_manifest(&manifest)?;
        let row = Row { snapshot: header.snapshot.clone(), manifest: checksum };
        let _guard = inner.slot(self.id).blocking_lock_owned();
        if inner.generation(self.id) != generation {
            return Err(bad("the dataset changed its role meanwhile"));
        }
        self.commit(inner, &new, row, &manifest, &header)?;
        Ok(header.snapshot)
    }

    /// Takes in everything after the header: first all lines, then all chunks, then the end.
    fn fill(
        frames: &mut Frames,
        new: &Folder,
        header: &Header,
        base: Option<&Base>,
    ) -> Result<Manifest> {
        let known = base.map(|base| base.folder.manifest(&base.row)).transpose()?;
        let mut assembly = Assembly::new(header.clone(), known);
        let mut frame = frames.next()?;
        loop {
            match frame.0 {
                Tag::Header => return Err(bad("it has two headers")),
                Tag::Removed => assembly.remove(&frame.1)?,
                Tag::Entries => assembly.add(&frame.1)?,
                Tag::Chunk | Tag::End => break,
            }
            frame = frames.next()?;
        }
        let mut filling = begin(base, new, assembly, header)?;
        loop {
            match frame.0 {
                Tag::Chunk => filling.take(&frame.1)?,
                Tag::End => break,
                Tag::Header | Tag::Removed | Tag::Entries => {
                    return Err(bad("its parts are out of order"));
                }
            }
            frame = frames.next()?;
        }
        if frame.1 != frames.before_last {
            return Err(bad("it does not match its checksum"));
        }
        filling.needed.finish()?;
        filling.pack.finish()?;
        Ok(filling.manifest)
    }

    /// Makes the new snapshot appear. Asks everything again: the world may have changed while the stream came in.
    fn commit(
        &self,
        inner: &Inner,
        new: &Folder,
        row: Row,
        manifest: &Manifest,
        header: &Header,
    ) -> Result<()> {
        let folder = inner.folder(self.id);
        let meta = folder.meta()?;
        self.admit(inner, meta.as_ref(), header)?;
        let is_template = matches!(self.id, DatasetId::Template(_));
        let Some(mut meta) = meta.filter(|_| !is_template) else {
            self.appear(inner, new, row, manifest)?;
            // A template that was begun and never sealed.
            inner.discard(&folder.path)?;
            return files::rename(&new.path, &folder.path);
        };
        let moved = move_packs(new, &folder)?;
        let packs = folder.packs()?;
        if let Some(why) = incomplete(manifest, &packs) {
            // A prune took a chunk away that this stream counted on. The next try sends it.
            moved.iter().try_for_each(|path| files::remove_file(path))?;
            return Err(why);
        }
        let guid = row.snapshot.guid;
        files::rename(&new.manifest_path(guid), &folder.manifest_path(guid))?;
        meta.line.push(row);
        meta.epoch = meta.epoch.max(self.epoch);
        meta.packed = Bytes(packs.size());
        folder.save(&meta)
    }

    /// Makes a whole dataset of what has come in, still aside.
    fn appear(&self, inner: &Inner, new: &Folder, row: Row, manifest: &Manifest) -> Result<()> {
        let role = match self.id {
            DatasetId::Grain(_) | DatasetId::Orphan(..) => StoredRole::Standby,
            DatasetId::Template(_) => StoredRole::Template,
        };
        let mut meta = Meta::new(role, self.epoch, Shape::default());
        if let Some(base) = self.base(inner, None)? {
            new.share(&base.folder, std::slice::from_ref(&base.row))?;
            meta.begin_as(base.row);
            if let Some(why) = incomplete(manifest, &new.packs()?) {
                return Err(why);
            }
        }
        meta.line.push(row);
        // Lets go of the packs that only the template needs.
        new.collect(&mut meta)?;
        new.save(&meta)
    }
}

fn admit_template(meta: Option<&Meta>, header: &Header) -> Result<()> {
    if meta.is_some_and(|meta| meta.newest().is_some()) {
        return Err(Cause::Exists);
    }
    let whole = header.from.is_none() && header.snapshot.name == template_name();
    whole.then_some(()).ok_or_else(|| bad("it is not the whole of a template"))
}

/// What the chunks to come are checked against.
fn begin(
    base: Option<&Base>,
    new: &Folder,
    assembly: Assembly,
    header: &Header,
) -> Result<Filling> {
    let manifest = assembly.finish()?;
    let here = base.map_or_else(|| new.packs(), |base| base.folder.packs())?;
    let needed = Needed::new(&manifest, header, |hash| here.length(hash))?;
    Ok(Filling { manifest, needed, pack: PackWriter::new(&new.packs_dir())? })
}

impl Filling {
    fn take(&mut self, chunk: &[u8]) -> Result<()> {
        match self.needed.take(chunk)? {
            Some(hash) => self.pack.add(hash, chunk),
            None => Ok(()),
        }
    }
}

/// The frames of a stream as they come, with the hash of all before the last one.
struct Frames {
    channel: mpsc::Receiver<Frame>,
    hasher: blake3::Hasher,
    before_last: [u8; 32],
}

impl Frames {
    fn new(channel: mpsc::Receiver<Frame>) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(MAGIC);
        Self { channel, hasher, before_last: [0; 32] }
    }

    fn next(&mut self) -> Result<Frame> {
        let (tag, payload) =
            self.channel.blocking_recv().ok_or_else(|| bad("it ends too early"))?;
        if tag == Tag::End {
            self.before_last = *self.hasher.finalize().as_bytes();
        }
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        self.hasher.update(&[tag.byte()]).update(&length.to_be_bytes()).update(&payload);
        Ok((tag, payload))
    }
}

fn move_packs(new: &Folder, folder: &Folder) -> Result<Vec<PathBuf>> {
    let mut moved = Vec::new();
    for name in files::names(&new.packs_dir())? {
        let to = folder.packs_dir().join(&name);
        files::rename(&new.packs_dir().join(&name), &to)?;
        moved.push(to);
    }
    Ok(moved)
}

fn incomplete(manifest: &Manifest, packs: &Packs) -> Option<Cause> {
    let missing = |hash: &Hash| packs.length(hash).is_none();
    let missing = manifest.chunks().keys().filter(|hash| missing(hash)).count();
    (missing > 0).then(|| bad(format!("{missing} chunks that it counts on were pruned meanwhile")))
}

/// Makes the newest snapshot the head of what becomes an Owner.
pub(super) fn promote(inner: &Inner, folder: &Folder, meta: &mut Meta) -> Result<()> {
    let staging = Staging::new(&inner.tmp(), "promote")?;
    let head_path = staging.path().join("head");
    match meta.line.last() {
        Some(row) => {
            let index = head::make(folder, row, &head_path)?;
            index.save(&folder.index_path(), row.snapshot.guid)?;
            meta.head = Bytes(folder.manifest(row)?.size());
        }
        None => files::make_dir(&head_path, 0o755)?,
    }
    // What an unfinished demotion left: it is in the newest snapshot.
    inner.discard(&folder.head())?;
    files::rename(&head_path, &folder.head())?;
    meta.role = StoredRole::Owner;
    folder.save(meta)
}
