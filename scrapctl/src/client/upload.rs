//! Bodies that come from files, folders and people: made anew for each node that is tried, read as they are sent.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::stream::unfold;
use tokio::io::AsyncReadExt as _;
use tokio::sync::{Mutex, mpsc};

/// How much is sent at once.
const PIECE: usize = 256 << 10;
/// Pieces that may wait.
const QUEUE: usize = 4;

/// Makes a body.
#[derive(Clone)]
pub(crate) struct Source(Arc<dyn Fn() -> reqwest::Body + Send + Sync>);

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Source")
    }
}

impl Source {
    fn new(make: impl Fn() -> reqwest::Body + Send + Sync + 'static) -> Self {
        Self(Arc::new(make))
    }

    pub(super) fn body(&self) -> reqwest::Body {
        (self.0)()
    }
}

/// These bytes, and then a file as it is.
pub(crate) fn file(first: Vec<u8>, path: PathBuf, sent: Arc<AtomicU64>) -> Source {
    Source::new(move || {
        sent.store(0, Ordering::Relaxed);
        let state = (Some(first.clone()), None::<tokio::fs::File>, path.clone(), sent.clone());
        let pieces = unfold(state, |(first, file, path, sent)| async move {
            if let Some(first) = first.filter(|first| !first.is_empty()) {
                return Some((Ok(first), (None, file, path, sent)));
            }
            let opened = match file {
                Some(file) => Ok(file),
                None => tokio::fs::File::open(&path).await,
            };
            let mut file = match opened {
                Ok(file) => file,
                Err(error) => return Some((Err(error), (None, None, path, sent))),
            };
            let mut piece = vec![0; PIECE];
            match file.read(&mut piece).await {
                Ok(0) => None,
                Ok(length) => {
                    piece.truncate(length);
                    sent.fetch_add(length as u64, Ordering::Relaxed);
                    Some((Ok(piece), (None, Some(file), path, sent)))
                }
                Err(error) => Some((Err(error), (None, Some(file), path, sent))),
            }
        });
        reqwest::Body::wrap_stream(pieces)
    })
}

/// A folder as a tar archive, packed while it is sent, with owners and modes.
pub(crate) fn folder(path: PathBuf, sent: Arc<AtomicU64>) -> Source {
    Source::new(move || {
        sent.store(0, Ordering::Relaxed);
        let (pieces, queue) = mpsc::channel(QUEUE);
        let (path, sent) = (path.clone(), sent.clone());
        std::thread::spawn(move || {
            let pipe = Pipe { pieces: pieces.clone(), sent };
            if let Err(error) = pack(&path, pipe) {
                // Nobody who listens any more needs to know.
                drop(pieces.blocking_send(Err(error)));
            }
        });
        stream(Arc::new(Mutex::new(queue)))
    })
}

/// These bytes, and then what comes from a queue. Several attempts share the queue: only one of them is taken.
pub(crate) fn queue(first: Vec<u8>, queue: mpsc::Receiver<std::io::Result<Vec<u8>>>) -> Source {
    let queue = Arc::new(Mutex::new(queue));
    Source::new(move || {
        let state = (Some(first.clone()), queue.clone());
        let pieces = unfold(state, |(first, queue)| async move {
            if let Some(first) = first {
                return Some((Ok(first), (None, queue)));
            }
            let piece = queue.lock().await.recv().await?;
            Some((piece, (None, queue)))
        });
        reqwest::Body::wrap_stream(pieces)
    })
}

fn stream(queue: Arc<Mutex<mpsc::Receiver<std::io::Result<Vec<u8>>>>>) -> reqwest::Body {
    let pieces = unfold(queue, |queue| async move {
        let piece = queue.lock().await.recv().await?;
        Some((piece, queue))
    });
    reqwest::Body::wrap_stream(pieces)
}

/// Writes into a queue.
struct Pipe {
    pieces: mpsc::Sender<std::io::Result<Vec<u8>>>,
    sent: Arc<AtomicU64>,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let piece = bytes.get(..bytes.len().min(PIECE)).unwrap_or_default().to_vec();
        let length = piece.len();
        let gone = |_| std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        self.pieces.blocking_send(Ok(piece)).map_err(gone)?;
        self.sent.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn pack(folder: &Path, pipe: Pipe) -> std::io::Result<()> {
    let mut archive = tar::Builder::new(std::io::BufWriter::with_capacity(PIECE, pipe));
    archive.follow_symlinks(false);
    archive.mode(tar::HeaderMode::Complete);
    add(&mut archive, folder, Path::new("."))?;
    archive.into_inner()?.flush()
}

/// Adds what is in a folder, by name, so that the same folder makes the same archive. Sockets are nothing without their owner.
fn add<W: Write>(
    archive: &mut tar::Builder<W>,
    folder: &Path,
    inside: &Path,
) -> std::io::Result<()> {
    use std::os::unix::fs::FileTypeExt as _;
    archive.append_dir(inside, folder)?;
    let mut names: Vec<_> = std::fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<Result<_, _>>()?;
    names.sort();
    for name in names {
        let (path, inside) = (folder.join(&name), inside.join(&name));
        let kind = std::fs::symlink_metadata(&path)?.file_type();
        let named = |error: std::io::Error| {
            std::io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        };
        if kind.is_dir() {
            add(archive, &path, &inside).map_err(named)?;
        } else if !kind.is_socket() {
            archive.append_path_with_name(&path, &inside).map_err(named)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_packed_whole_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/hostname"), "web\n").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("etc/link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
        let (pieces, mut queue) = mpsc::channel(64);
        pack(dir.path(), Pipe { pieces, sent: Arc::default() }).unwrap();
        let mut bytes = Vec::new();
        while let Some(piece) = queue.blocking_recv() {
            bytes.extend(piece.unwrap());
        }
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let link = entry.link_name().unwrap().map(|link| link.display().to_string());
            (entry.path().unwrap().display().to_string(), link)
        });
        let entries: Vec<_> = entries.collect();
        let names: Vec<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, [".", "etc", "etc/hostname", "etc/link"]);
        assert_eq!(entries[3].1.as_deref(), Some("/etc/passwd"));
    }
}
