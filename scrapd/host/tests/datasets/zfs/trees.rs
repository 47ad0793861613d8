//! Trees as grains leave them behind: restored byte for byte, never followed out of the head, shown read-only.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use scrap_host::datasets::{Datasets, Shape};

use super::{ZfsBench, available};
use crate::bench::{Bench, noise};
use crate::contract::{E1, ID, WEB, snap};

/// Everything below a folder as comparable text: path, type, mode, owner, time, contents, and which names are one file.
fn picture(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            "dir".to_owned()
        } else if meta.is_symlink() {
            format!("link {:?}", fs::read_link(&path).unwrap())
        } else if meta.file_type().is_fifo() {
            "fifo".to_owned()
        } else {
            let contents = blake3::hash(&fs::read(&path).unwrap());
            format!("file {} links {} {contents}", meta.len(), meta.nlink())
        };
        let name = path.strip_prefix(root).unwrap();
        let owner = (meta.uid(), meta.gid());
        lines.push(format!("{name:?} {kind} {:o} {owner:?} {}", meta.mode(), meta.mtime()));
    }
    lines.sort();
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_comes_back_as_it_was() {
    if !available() {
        return;
    }
    let bench = ZfsBench::new(1);
    let d = &bench.datasets;
    d.create(WEB, E1, Shape::default()).await.unwrap();
    let head = bench.head(WEB);
    fs::create_dir_all(head.join("etc/deep/deeper")).unwrap();
    fs::write(head.join("etc/large"), noise(3_000_000, 1)).unwrap();
    fs::write(head.join("etc/su"), b"#!").unwrap();
    fs::set_permissions(head.join("etc/su"), fs::Permissions::from_mode(0o4755)).unwrap();
    std::os::unix::fs::chown(head.join("etc/deep"), Some(100_000), Some(100_001)).unwrap();
    fs::hard_link(head.join("etc/large"), head.join("etc/deep/also-large")).unwrap();
    symlink("/etc/passwd", head.join("etc/link")).unwrap();
    fs::write(head.join("untouched"), b"same").unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        head.join("etc/fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    fs::File::create(head.join("sparse")).unwrap().set_len(50 << 20).unwrap();
    let before = picture(&head);
    let one = snap(d, 1).await.guid;

    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("deeper"), b"not yours").unwrap();
    fs::create_dir(outside.path().join("kept")).unwrap();
    fs::remove_dir_all(head.join("etc/deep")).unwrap();
    symlink(outside.path(), head.join("etc/deep")).unwrap();
    fs::remove_file(head.join("etc/fifo")).unwrap();
    fs::write(head.join("etc/su"), b"evil").unwrap();
    fs::remove_file(head.join("etc/link")).unwrap();
    fs::create_dir(head.join("etc/link")).unwrap();
    fs::write(head.join("etc/link/x"), b"x").unwrap();
    symlink(outside.path(), head.join("new")).unwrap();
    snap(d, 2).await;
    d.restore(WEB, one).await.unwrap();
    assert_eq!(picture(&head), before);
    let large = fs::metadata(head.join("etc/large")).unwrap();
    assert_eq!(large.ino(), fs::metadata(head.join("etc/deep/also-large")).unwrap().ino());
    assert!(fs::metadata(head.join("sparse")).unwrap().blocks() < 100);
    assert_eq!(fs::read(outside.path().join("deeper")).unwrap(), b"not yours");
    assert!(outside.path().join("kept").exists());
    assert!(d.written(ID).await.unwrap().bytes.0 > 0);
    assert_eq!(d.get(ID).await.unwrap().unwrap().snapshots.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_cannot_be_written() {
    if !available() {
        return;
    }
    let bench = ZfsBench::new(1);
    let d = &bench.datasets;
    d.create(WEB, E1, Shape::default()).await.unwrap();
    bench.write(WEB, "a", b"one");
    let one = snap(d, 1).await.guid;
    for guid in [Some(one), None] {
        let view = d.view(ID, guid).await.unwrap();
        assert_eq!(fs::read(view.join("a")).unwrap(), b"one");
        let refused = fs::write(view.join("a"), b"x").unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(rustix::io::Errno::ROFS.raw_os_error()));
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let line = mounts.lines().find(|line| line.contains(view.to_str().unwrap())).unwrap();
        if line.contains(" fuse.zfs ") {
            println!("SKIPPED: the mounts of these tools show no options");
            continue;
        }
        let options: Vec<&str> = line.split(' ').nth(3).unwrap().split(',').collect();
        for option in ["ro", "nosuid", "nodev", "noexec"] {
            assert!(options.contains(&option), "{option} in {line}");
        }
    }
    let holds = d.holds(WEB).await.unwrap();
    assert!(holds.iter().any(|(tag, guid)| tag.starts_with("clone:views/") && *guid == one));
    bench.write(WEB, "a", b"two");
    assert!(d.written(ID).await.unwrap().bytes.0 > 0, "the snapshot of a view hides no write");
    snap(d, 2).await;
    assert!(d.prune(WEB, &[one]).await.is_err(), "what is looked at stays");
    d.conceal(ID).await.unwrap();
    d.prune(WEB, &[one]).await.unwrap();
}
