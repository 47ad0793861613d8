//! A small program that outlives a test process and clears away what it left. Reads a folder from its standard input and
//! waits for the end of it, which comes with every kind of death of the test; then kills what belongs to that folder.
#![forbid(unsafe_code)]

use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use scrap_tests::cluster::{disk, processes};

fn main() -> std::io::Result<()> {
    let mut input = std::io::stdin().lock();
    let mut folder = String::new();
    input.read_line(&mut folder)?;
    let folder = PathBuf::from(folder.trim_end());
    if !folder.is_absolute() || folder.components().count() < 3 {
        return Err(std::io::Error::other("the folder of a cluster under test is wanted"));
    }
    input.read_to_end(&mut Vec::new())?;
    processes::kill_all(&folder)?;
    clear_boards(&folder)?;
    disk::unmount_below(&folder).map_err(std::io::Error::other)
}

/// The boards of guards that were killed lie in memory, outside of the folder.
fn clear_boards(folder: &Path) -> std::io::Result<()> {
    for node in std::fs::read_dir(folder)? {
        if let Ok(board) = std::fs::read_link(node?.path().join("run/guard")) {
            let _ = std::fs::remove_file(board);
        }
    }
    Ok(())
}
