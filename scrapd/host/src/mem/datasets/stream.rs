//! The stream of the in-memory twin: magic, length and text of a header, the contents one after the other, and a
//! checksum over everything. It never leaves a test.

use scrap_schema::snapshot::{Guid, Snapshot};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::Tree;
use crate::datasets::Cause;

const MAGIC: &[u8; 10] = b"SCRAPMEM1\n";
const HEADER_MAX: u64 = 64 << 20;
/// What a header, a magic and a checksum take at most beside their paths.
const OVERHEAD: u64 = 512;

/// What a stream says about itself.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) from: Option<Guid>,
    pub(super) snapshot: Snapshot,
    pub(super) removed: Vec<String>,
    files: Vec<(String, u64)>,
    checksum: String,
}

impl Header {
    /// Bytes of all contents that follow.
    pub(super) fn length(&self) -> u64 {
        self.files.iter().fold(0, |sum, (_, length)| sum.saturating_add(*length))
    }
}

fn changed<'a>(
    old: &'a Tree,
    new: &'a Tree,
) -> impl Iterator<Item = (&'a String, &'a std::sync::Arc<Vec<u8>>)> {
    new.iter().filter(|(path, contents)| old.get(*path) != Some(contents))
}

/// Upper bound of the bytes of a stream between two trees; zero exactly if they are equal.
pub(super) fn difference(old: &Tree, new: &Tree) -> u64 {
    let entry = |path: &String| path.len() as u64 * 6 + 64;
    let added: u64 =
        changed(old, new).map(|(path, contents)| contents.len() as u64 + entry(path)).sum();
    let removed: u64 = old.keys().filter(|path| !new.contains_key(*path)).map(entry).sum();
    if added + removed == 0 { 0 } else { added + removed + OVERHEAD }
}

/// The whole stream.
pub(super) fn encode(
    from: Option<Guid>,
    snapshot: &Snapshot,
    old: &Tree,
    new: &Tree,
) -> Result<Vec<u8>, Cause> {
    let removed = old.keys().filter(|path| !new.contains_key(*path)).cloned().collect();
    let files = changed(old, new).map(|(path, bytes)| (path.clone(), bytes.len() as u64)).collect();
    let body: Vec<u8> = changed(old, new).flat_map(|(_, bytes)| bytes.iter().copied()).collect();
    let checksum = blake3::hash(&body).to_string();
    let header = Header { from, snapshot: snapshot.clone(), removed, files, checksum };
    let text = serde_json::to_vec(&header).map_err(|error| Cause::BadStream(error.to_string()))?;
    let mut out = MAGIC.to_vec();
    out.extend((text.len() as u64).to_be_bytes());
    out.extend(blake3::hash(&text).as_bytes());
    out.extend(text);
    out.extend(body);
    Ok(out)
}

fn broken(error: &std::io::Error) -> Cause {
    Cause::BadStream(error.to_string())
}

/// Reads and checks the beginning of a stream.
pub(super) async fn read_header(
    input: &mut (dyn AsyncRead + Send + Unpin),
) -> Result<Header, Cause> {
    let mut magic = [0; MAGIC.len()];
    input.read_exact(&mut magic).await.map_err(|error| broken(&error))?;
    if magic != *MAGIC {
        return Err(Cause::BadStream("it is not a stream of the in-memory twin".to_owned()));
    }
    let length = input.read_u64().await.map_err(|error| broken(&error))?;
    if length > HEADER_MAX {
        return Err(Cause::BadStream("its header is too long".to_owned()));
    }
    let mut hash = [0; 32];
    input.read_exact(&mut hash).await.map_err(|error| broken(&error))?;
    let mut text = Vec::new();
    let mut limited = input.take(length);
    limited.read_to_end(&mut text).await.map_err(|error| broken(&error))?;
    if blake3::hash(&text) != hash {
        return Err(Cause::BadStream("its header does not match its checksum".to_owned()));
    }
    serde_json::from_slice(&text).map_err(|error| Cause::BadStream(error.to_string()))
}

/// Reads and checks the contents that the header announced.
pub(super) async fn read_body(
    header: &Header,
    input: &mut (dyn AsyncRead + Send + Unpin),
) -> Result<Tree, Cause> {
    let mut tree = Tree::new();
    let mut hasher = blake3::Hasher::new();
    for (path, length) in &header.files {
        let mut contents = Vec::new();
        let mut limited = (&mut *input).take(*length);
        limited.read_to_end(&mut contents).await.map_err(|error| broken(&error))?;
        if contents.len() as u64 != *length {
            return Err(Cause::BadStream(format!("it ends within `{path}`")));
        }
        hasher.update(&contents);
        tree.insert(path.clone(), contents.into());
    }
    if hasher.finalize().to_string() != header.checksum {
        return Err(Cause::BadStream("it does not match its checksum".to_owned()));
    }
    Ok(tree)
}
