//! Traces that instances of grains have left: who lived from when to when, by one clock. Two of one grain that lived at once on two
//! nodes are what must never be.

use std::fs;
use std::path::Path;

use anyhow::Context;

use super::machines::wall_ms;

/// One life of a grain's program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// The grain.
    pub grain: String,
    /// Where it ran.
    pub node: String,
    /// In which epoch.
    pub epoch: u64,
    /// Its first moment, in milliseconds of boot time.
    pub first: u64,
    /// Its last moment so far.
    pub last: u64,
    /// The name of its trace.
    pub file: String,
}

/// Reads all traces of a folder, in the order of their first moments.
///
/// # Errors
/// If the folder cannot be read, or something else lies in it.
pub fn lives(folder: &Path) -> anyhow::Result<Vec<Life>> {
    let mut lives = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("{}", folder.display()))? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        // One that was killed in its first moment has written nothing.
        if text.is_empty() {
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        lives.push(life(&name, &text).with_context(|| format!("a strange trace: {name}: {text}"))?);
    }
    lives.sort_by_key(|life| (life.first, life.last));
    Ok(lives)
}

/// The same, with the moments at which the files were made and written last: of grains on machines that have a clock each. A moment
/// counts when its write arrives, so no life looks longer than it was, and none begins earlier.
///
/// # Errors
/// If the folder cannot be read, or something else lies in it.
pub fn lives_by_files(folder: &Path) -> anyhow::Result<Vec<Life>> {
    let mut lives = lives(folder)?;
    for life in &mut lives {
        let file = fs::metadata(folder.join(&life.file))?;
        (life.first, life.last) = (wall_ms(file.created()?), wall_ms(file.modified()?));
    }
    lives.sort_by_key(|life| (life.first, life.last));
    Ok(lives)
}

fn life(name: &str, text: &str) -> Option<Life> {
    let mut parts = name.split('.');
    let (grain, node) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    let epoch = parts.next()?.parse().ok()?;
    let mut times = text.split_ascii_whitespace().map(|time| time.parse().ok());
    let file = name.to_owned();
    Some(Life { grain, node, epoch, first: times.next()??, last: times.next()??, file })
}

/// What contradicts a single run: lives of one grain that overlap, and epochs that go back, in words.
#[must_use]
pub fn contradictions(lives: &[Life]) -> Vec<String> {
    let mut found = Vec::new();
    for (at, one) in lives.iter().enumerate() {
        for two in lives.iter().skip(at + 1).filter(|two| two.grain == one.grain) {
            if two.first <= one.last {
                let both = one.last.min(two.last).saturating_sub(two.first);
                found.push(format!(
                    "grain {} ran twice for {both} ms: {one:?} and {two:?}",
                    one.grain
                ));
            }
            if two.epoch < one.epoch {
                found.push(format!(
                    "grain {}: an epoch came back: {one:?}, then {two:?}",
                    one.grain
                ));
            }
        }
    }
    found
}

/// The smallest time between the end of a life and the beginning of the next one on another node, over all grains.
#[must_use]
pub fn smallest_gap(lives: &[Life]) -> Option<u64> {
    let mut smallest: Option<u64> = None;
    for (at, one) in lives.iter().enumerate() {
        let next = lives.iter().skip(at + 1).find(|next| next.grain == one.grain);
        if let Some(next) = next.filter(|next| next.node != one.node) {
            let gap = next.first.saturating_sub(one.last);
            smallest = Some(smallest.map_or(gap, |other| other.min(gap)));
        }
    }
    smallest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lives(text: &str) -> Vec<Life> {
        let words = text.split_whitespace().map(|word| word.split_once('=').expect("two parts"));
        words.map(|(name, times)| life(name, &times.replace('-', " ")).expect("a life")).collect()
    }

    #[test]
    fn lives_that_follow_each_other_are_fine() {
        let lives = lives("a.ada.1=10-20 b.ada.1=12-90 a.ada.1=25-30 a.ben.2=35-40");
        assert_eq!(contradictions(&lives), Vec::<String>::new());
        assert_eq!(smallest_gap(&lives), Some(5));
    }

    #[test]
    fn two_lives_at_once_and_an_old_epoch_are_found() {
        assert_eq!(contradictions(&lives("a.ada.1=10-20 a.ben.2=20-30")).len(), 1);
        assert_eq!(contradictions(&lives("a.ada.1=10-90 a.ben.2=20-30 a.ben.2=40-50")).len(), 2);
        assert_eq!(contradictions(&lives("a.ada.2=10-20 a.ben.1=30-40")).len(), 1);
        assert_eq!(contradictions(&lives("a.ada.1=10-20 b.ben.2=15-30")).len(), 0);
    }

    #[test]
    fn traces_are_read_from_their_files() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("ab.ada.3.77"), format!("{:>20} {:>20}\n", 5, 9))?;
        std::fs::write(folder.path().join("ab.ben.4.78"), "")?;
        let lives = super::lives(folder.path())?;
        assert_eq!(lives.len(), 1);
        let life = lives.first().context("there is one")?;
        assert_eq!((life.node.as_str(), life.epoch, life.first, life.last), ("ada", 3, 5, 9));
        Ok(())
    }
}
