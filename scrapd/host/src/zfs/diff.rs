//! What a head has that a snapshot has not: what `zfs diff` says of a mounted head, or a walk through both trees.

use std::path::Path;

use scrap_schema::snapshot::Guid;

use super::found::{Found, Snap};
use super::walk::{self, Horizon, Tree};
use super::{Inner, Result, blocking};
use crate::datasets::{Change, ChangeKind, DatasetId, Diff};

impl Inner {
    /// See `Datasets::diff`.
    pub(super) async fn diff(&self, id: DatasetId, from: Guid, limit: usize) -> Result<Diff> {
        let found = self.must(id).await?;
        let snap = found.snap(from)?.clone();
        if self.can.diff && found.mounted() && found.snaps.own.contains(&snap) {
            self.flush(&found).await?;
            let out = self.tools.zfs(&["diff", "-H", "-F", &snap.full, &found.name]).await?;
            return Ok(read(&out, &self.names.mountpoint(id), limit));
        }
        self.compare(&found, &snap, limit).await
    }

    /// Walks through both trees. Views that nobody asked for end with it.
    async fn compare(&self, found: &Found, from: &Snap, limit: usize) -> Result<Diff> {
        let list = ["list", "-H", "-r", "-d", "1", "-o", "name", &self.names.parent("views")];
        let before = self.tools.zfs(&list).await?;
        let old = self.view(found.id, Some(from.snapshot.guid)).await?;
        let (mounted, horizon) = (found.mounted(), Horizon::of(from.taken));
        let new = if mounted {
            Ok(self.names.mountpoint(found.id))
        } else {
            self.view(found.id, None).await
        };
        let compared = match new {
            Ok(new) => blocking(move || changes(&old, &new, horizon, limit)).await,
            Err(cause) => Err(cause),
        };
        let (mine, _) = self.names.view(found.id, "");
        for name in self.tools.zfs(&list).await?.lines().filter(|name| name.starts_with(&mine)) {
            if !before.lines().any(|was| was == name) {
                self.end_view(name).await?;
            }
        }
        compared
    }
}

/// Sorts and cuts.
fn told(mut changes: Vec<Change>, limit: usize) -> Diff {
    changes.sort();
    let more = changes.len() > limit;
    changes.truncate(limit);
    Diff { changes, more }
}

fn changes(old: &Path, new: &Path, horizon: Horizon, limit: usize) -> Result<Diff> {
    let (mut before, mut after) = (Tree::open(old)?, Tree::open(new)?);
    let (was, is) = (before.walk()?, after.walk()?);
    let mut all = Vec::new();
    for (path, stat) in is.iter().filter(|(path, _)| !path.is_empty()) {
        let kind = match was.get(path) {
            None => ChangeKind::Added,
            Some(old) if walk::same(path, (&mut before, old), (&mut after, stat), horizon)? => {
                continue;
            }
            Some(_) => ChangeKind::Modified,
        };
        all.push(Change { path: path.clone(), kind });
    }
    let removed = was.keys().filter(|path| !is.contains_key(*path));
    all.extend(removed.map(|path| Change { path: path.clone(), kind: ChangeKind::Removed }));
    Ok(told(all, limit))
}

/// Reads `zfs diff -H -F`: kind, type, path, and for a renamed one its new path.
fn read(out: &str, mountpoint: &Path, limit: usize) -> Diff {
    let root = mountpoint.to_string_lossy().into_owned();
    let relative = |shown: &str| {
        let path = unescape(shown);
        let below = path.strip_prefix(root.as_bytes())?;
        let below = below.strip_prefix(b"/").unwrap_or(below);
        let below = below.strip_suffix(b"/").unwrap_or(below);
        (!below.is_empty()).then(|| below.to_vec())
    };
    let rows = out.lines().filter_map(|line| {
        let mut parts = line.split('\t');
        let (kind, _type, path) = (parts.next()?, parts.next()?, parts.next()?);
        let path = relative(path)?;
        Some(match kind {
            "+" => Change { path, kind: ChangeKind::Added },
            "-" => Change { path, kind: ChangeKind::Removed },
            "R" => {
                Change { path: relative(parts.next()?)?, kind: ChangeKind::Renamed { from: path } }
            }
            _ => Change { path, kind: ChangeKind::Modified },
        })
    });
    told(rows.collect(), limit)
}

/// `\0040` is a space: a backslash, a zero and three octal digits for every byte that is not plain.
fn unescape(shown: &str) -> Vec<u8> {
    let bytes = shown.as_bytes();
    let (mut plain, mut at) = (Vec::new(), 0);
    while let Some(byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 5).filter(|_| *byte == b'\\');
        let value = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match value {
            Some(value) => {
                plain.push(value);
                at += 5;
            }
            None => {
                plain.push(*byte);
                at += 1;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_zfs_diff_says_is_read() {
        let out = "+\tF\t/m/a/f2\nM\t/\t/m/a/\n-\tF\t/m/a/gone\nR\tF\t/m/a/old\t/m/a/dir/new\\0040name\nM\tF\t/m/a/\\0303\\0274\n";
        let diff = read(out, Path::new("/m/a"), 9);
        let change = |path: &str, kind| Change { path: path.as_bytes().to_vec(), kind };
        assert_eq!(
            diff.changes,
            [
                change("dir/new name", ChangeKind::Renamed { from: b"old".to_vec() }),
                change("f2", ChangeKind::Added),
                change("gone", ChangeKind::Removed),
                change("ü", ChangeKind::Modified),
            ]
        );
        assert!(!diff.more && read(out, Path::new("/m/a"), 3).more);
    }
}
