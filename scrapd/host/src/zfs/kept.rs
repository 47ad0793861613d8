//! What datasets share with one another, kept between two looks: which of them are clones, and the snapshots of sealed templates.
//! Only SCRAP's own commands change it, and each of those makes it forgotten; what people do by hand is found by the next look
//! at the whole root. Nothing is destroyed by what is kept: the pool is asked again before that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::found::Snap;
use super::{Inner, Result};
use crate::datasets::Cause;

/// Each dataset below the root, with the full name of the snapshot that it is a clone of, or `-`.
pub(super) type Origins = BTreeMap<String, String>;

#[derive(Debug, Default)]
struct Known {
    /// Moves of the tools when this was read: what was read before the newest one is nothing.
    moves: u64,
    origins: Option<Arc<Origins>>,
    /// By the full name of the snapshot of a template: the line up to it.
    sealed: BTreeMap<String, Vec<Snap>>,
    /// Datasets that were not there.
    absent: BTreeSet<String>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<Known>);

impl Kept {
    /// What was read while the tools had made so many moves.
    fn with<R>(&self, moves: u64, work: impl FnOnce(&mut Known) -> R) -> Option<R> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.moves < moves {
            *known = Known { moves, ..Known::default() };
        }
        (known.moves == moves).then(|| work(&mut known))
    }

    /// Forgets everything.
    pub(super) fn forget(&self) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Known { moves: known.moves, ..Known::default() };
    }
}

impl Inner {
    /// Which datasets are clones of what.
    pub(super) async fn origins(&self) -> Result<Arc<Origins>> {
        let moves = self.tools.moves();
        if let Some(origins) = self.kept.with(moves, |known| known.origins.clone()).flatten() {
            return Ok(origins);
        }
        self.origins_now().await
    }

    /// The same, as it is in the pool now.
    pub(super) async fn origins_now(&self) -> Result<Arc<Origins>> {
        let moves = self.tools.moves();
        let root = self.names.root();
        let list = ["list", "-H", "-t", "filesystem", "-r", "-o", "name,origin", root];
        let out = self.tools.zfs(&list).await?;
        let rows = out.lines().filter_map(|line| line.split_once('\t'));
        let origins: Origins =
            rows.map(|(name, origin)| (name.to_owned(), origin.to_owned())).collect();
        let origins = Arc::new(origins);
        self.kept.with(moves, |known| known.origins = Some(Arc::clone(&origins)));
        Ok(origins)
    }

    /// The line of a template up to the snapshot with this full name; `None` if it is not here.
    pub(super) async fn sealed(&self, full: &str) -> Result<Option<Vec<Snap>>> {
        let moves = self.tools.moves();
        let kept = self.kept.with(moves, |known| known.sealed.get(full).cloned()).flatten();
        if kept.is_some() {
            return Ok(kept);
        }
        let part = self.part(full).await?;
        if let Some(part) = &part
            && self.is_of_a_template(full)
        {
            self.kept.with(moves, |known| known.sealed.insert(full.to_owned(), part.clone()));
        }
        Ok(part)
    }

    /// Whether there is a dataset of this name, which only our own commands make.
    pub(super) async fn is_there(&self, name: &str) -> Result<bool> {
        let moves = self.tools.moves();
        if self.kept.with(moves, |known| known.absent.contains(name)).unwrap_or(false) {
            return Ok(false);
        }
        match self.tools.zfs(&["list", "-H", "-o", "name", name]).await {
            Ok(_) => Ok(true),
            Err(Cause::Missing) => {
                self.kept.with(moves, |known| known.absent.insert(name.to_owned()));
                Ok(false)
            }
            Err(cause) => Err(cause),
        }
    }

    /// The snapshots of one dataset up to the one with this full name.
    async fn part(&self, full: &str) -> Result<Option<Vec<Snap>>> {
        let Some((dataset, _)) = full.split_once('@') else { return Ok(None) };
        let mut part = self.snapshots_of(dataset).await?.own;
        let at = part.iter().position(|snap| snap.full == full);
        Ok(at.map(|at| {
            part.truncate(at + 1);
            part
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_before_a_move_is_not_kept_after_it() {
        let kept = Kept::default();
        let origins =
            |text: &str| Some(Arc::new(Origins::from([("r/g".to_owned(), text.to_owned())])));
        let known = |moves| kept.with(moves, |known| known.origins.clone()).flatten();
        assert_eq!(known(0), None);
        kept.with(0, |known| known.origins = origins("-"));
        assert_eq!(known(0), origins("-"));
        assert_eq!(known(1), None, "something moved");
        // Read before the move, and only now ready to be kept.
        kept.with(0, |known| known.origins = origins("old"));
        assert_eq!(known(1), None);
        kept.with(1, |known| known.origins = origins("new"));
        assert_eq!(known(1), origins("new"));
        kept.forget();
        assert_eq!(known(1), None);
    }
}
