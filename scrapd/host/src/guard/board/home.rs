//! Where the words of a board lie: in memory. The system writes the changed pages of a file on a disk again and again, and whoever
//! changes one has to wait for that disk.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::guard::Token;

/// Folders in memory, the best first. All of what is in them is gone when the machine starts again, as a board should be.
const HOMES: [&str; 2] = ["/run", "/dev/shm"];

fn is_memory(folder: &Path) -> bool {
    const TMPFS: i64 = 0x0102_1994;
    const RAMFS: i64 = 0x8584_58f6;
    let kind = rustix::fs::statfs(folder).map(|system| system.f_type);
    kind.is_ok_and(|kind| [TMPFS, RAMFS].contains(&kind))
}

/// A new, empty file for a board of this path, and where it is. `put` makes it the one of that path.
pub(super) fn create(path: &Path) -> io::Result<(File, PathBuf)> {
    let create = |at: PathBuf| {
        let mut options = File::options();
        // Never one that is there: others may write into these folders.
        let file = options.create_new(true).read(true).write(true).mode(0o600).open(&at)?;
        Ok((file, at))
    };
    if !path.parent().is_some_and(is_memory) {
        let name: String =
            Token::draw()?.0.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let homes = HOMES.iter().map(Path::new).filter(|home| is_memory(home));
        let mut made = homes.map(|home| create(home.join(format!("scrap-guard.{name}"))));
        if let Some(made) = made.find(Result::is_ok) {
            return made;
        }
    }
    let fresh = path.with_extension("new");
    absent_is_fine(fs::remove_file(&fresh))?;
    create(fresh)
}

/// Makes a file that `create` has made the one of this path.
pub(super) fn put(file: &Path, path: &Path) -> io::Result<()> {
    let before = fs::read_link(path).ok();
    let fresh = path.with_extension("new");
    if file != fresh {
        absent_is_fine(fs::remove_file(&fresh))?;
        symlink(file, &fresh)?;
    }
    fs::rename(&fresh, path)?;
    match before {
        // Whoever uses it goes on with it.
        Some(before) => absent_is_fine(fs::remove_file(before)),
        None => Ok(()),
    }
}

/// Removes the file of this path, wherever it is.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    if let Ok(file) = fs::read_link(path) {
        absent_is_fine(fs::remove_file(file))?;
    }
    absent_is_fine(fs::remove_file(path))
}

/// Whether a file is ours alone: in a folder where everybody may write it could be somebody else's.
pub(super) fn is_ours(file: &File) -> io::Result<bool> {
    let about = file.metadata()?;
    Ok(about.uid() == rustix::process::geteuid().as_raw() && about.mode() & 0o077 == 0)
}

fn absent_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_in_memory_wherever_the_folder_is() {
        let memory = HOMES.iter().map(Path::new).find(|home| is_memory(home));
        for folder in [Some(Path::new("/var/tmp")), memory].into_iter().flatten() {
            let folder = tempfile::tempdir_in(folder).unwrap();
            let path = folder.path().join("guard");
            for _ in 0..2 {
                let (file, at) = create(&path).unwrap();
                put(&at, &path).unwrap();
                assert_eq!(fs::metadata(&path).unwrap().ino(), file.metadata().unwrap().ino());
                assert!(is_ours(&file).unwrap());
                let real = fs::canonicalize(&path).unwrap();
                assert!(memory.is_none() || is_memory(real.parent().unwrap()), "{real:?}");
            }
            let first = fs::canonicalize(&path).unwrap();
            let (_, at) = create(&path).unwrap();
            put(&at, &path).unwrap();
            let second = fs::canonicalize(&path).unwrap();
            assert!(first == second || !first.exists(), "what was replaced is cleared away");
            remove(&path).unwrap();
            assert!(!second.exists() && !path.exists());
            remove(&path).unwrap();
        }
    }

    #[test]
    fn what_others_may_write_is_not_ours() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let (file, at) = create(&folder.path().join("guard")).unwrap();
        file.set_permissions(fs::Permissions::from_mode(0o622)).unwrap();
        assert!(!is_ours(&file).unwrap());
        fs::remove_file(at).unwrap();
    }
}
