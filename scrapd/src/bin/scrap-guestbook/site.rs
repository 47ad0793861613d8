//! The files of the web site: which paths are safe, and how a file is replaced whole. No listing, no dot files.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Deepest path of a file.
const DEPTH_MAX: usize = 6;
/// Longest part of a path.
const PART_MAX: usize = 100;

/// A folder of files.
pub(crate) struct Site {
    root: PathBuf,
}

impl Site {
    pub(crate) fn open(root: PathBuf) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&root)
            .with_context(|| format!("cannot make the folder `{}`", root.display()))?;
        Ok(Self { root })
    }

    /// The place of a file, if its path is safe.
    pub(crate) fn path(&self, path: &str) -> Option<PathBuf> {
        let parts: Vec<&str> = path.split('/').collect();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        let safe = |part: &&str| {
            (1..=PART_MAX).contains(&part.len())
                && !part.starts_with('.')
                && part.bytes().all(allowed)
        };
        let fit = parts.len() <= DEPTH_MAX && parts.iter().all(safe);
        fit.then(|| self.root.join(path))
    }
}

/// Replaces a file: readers see the old one or the new one, whole.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let what = || format!("cannot write `{}`", path.display());
    let folder = path.parent().with_context(what)?;
    std::fs::create_dir_all(folder).with_context(what)?;
    // No page can have this name: it begins with a dot.
    let name = path.file_name().with_context(what)?.to_string_lossy();
    let new = folder.join(format!(".{name}.new"));
    let mut file = File::create(&new).with_context(what)?;
    file.write_all(bytes).with_context(what)?;
    file.sync_all().with_context(what)?;
    std::fs::rename(&new, path).with_context(what)
}

/// The media type of a file, by the end of its name.
pub(crate) fn kind(path: &Path) -> &'static str {
    match path.extension().and_then(|end| end.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("txt" | "md") => "text/plain; charset=utf-8",
        Some(_) | None => "application/octet-stream",
    }
}
