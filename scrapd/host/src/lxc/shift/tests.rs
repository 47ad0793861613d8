//! Trees that are shifted, broken off, and full of traps.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};

use proptest::prelude::*;

use super::*;

const IDS: IdRange = IdRange { base: 1_000_000, count: 65_536 };

#[test]
fn an_id_is_fresh_or_shifted_or_somebody_elses() {
    for (id, new) in [
        (0, Some(1_000_000)),
        (65_535, Some(1_065_535)),
        (65_536, None),
        (999_999, None),
        (1_000_000, Some(1_000_000)),
        (1_065_535, Some(1_065_535)),
        (1_065_536, None),
        (u32::MAX, None),
    ] {
        assert_eq!(shifted(id, IDS), new, "{id}");
    }
}

proptest! {
    #[test]
    fn shifting_twice_is_shifting_once(id in any::<u32>()) {
        if let Some(new) = shifted(id, IDS) {
            prop_assert!(IDS.contains(new));
            prop_assert_eq!(shifted(new, IDS), Some(new));
        }
    }
}

/// `cap_net_raw=ep` as a file has it.
const CAPABILITY_OF_PING: [u8; 20] = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn capabilities_are_those_of_the_grains_root() {
    let new = rooted(&CAPABILITY_OF_PING, IDS).unwrap();
    assert_eq!(new[..4], [1, 0, 0, 3], "with a root of its own, effective as before");
    assert_eq!(new[4..20], CAPABILITY_OF_PING[4..20]);
    assert_eq!(new[20..], 1_000_000_u32.to_le_bytes());
    assert_eq!(rooted(&new, IDS).unwrap(), new);
    assert_eq!(rooted(&CAPABILITY_OF_PING[..19], IDS), None);
    assert_eq!(rooted(&[], IDS), None);
}

/// Only root gives files away.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: only root gives files away");
    }
    root
}

fn tree() -> tempfile::TempDir {
    let data = tempfile::tempdir().unwrap();
    let root = data.path().join("rootfs");
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::create_dir_all(root.join("home/somebody")).unwrap();
    for (name, mode) in
        [("bin/su", 0o4755), ("bin/wall", 0o2755), ("bin/ping", 0o755), ("file", 0o640)]
    {
        fs::write(root.join(name), name).unwrap();
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let ping = File::open(root.join("bin/ping")).unwrap();
    fsetxattr(&ping, CAPABILITY, &CAPABILITY_OF_PING, rustix::fs::XattrFlags::empty()).unwrap();
    lchown(root.join("home/somebody"), Some(1000), Some(100)).unwrap();
    fs::hard_link(root.join("bin/su"), root.join("bin/doas")).unwrap();
    data
}

/// Owners and bits of everything in a tree.
fn picture(data: &Path) -> BTreeMap<PathBuf, (u32, u32, u32)> {
    let mut found = BTreeMap::new();
    let mut todo = vec![data.join("rootfs")];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let name = path.strip_prefix(data).unwrap().to_owned();
        found.insert(name, (meta.uid(), meta.gid(), meta.mode() & 0o7777));
    }
    found
}

fn capability_of(path: &Path) -> Vec<u8> {
    let mut buffer = [0_u8; 64];
    let length = fgetxattr(File::open(path).unwrap(), CAPABILITY, &mut buffer).unwrap();
    buffer[..length].to_vec()
}

#[test]
fn a_tree_is_shifted_with_everything_that_lends_rights() {
    if !is_root() {
        return;
    }
    let data = tree();
    let folder = || {
        let meta = data.path().metadata().unwrap();
        (meta.uid(), meta.gid(), meta.mode() & 0o7777)
    };
    let before = picture(data.path());
    shift(data.path(), IDS).unwrap();
    let passable = (0, IDS.base, 0o710);
    assert_eq!(folder(), passable, "its root may come through, and no user of this machine");
    let after = picture(data.path());
    assert_eq!(before.len(), after.len());
    for (path, (user, group, mode)) in &before {
        assert_eq!(after[path], (user + IDS.base, group + IDS.base, *mode), "{path:?}");
    }
    let ping = capability_of(&data.path().join("rootfs/bin/ping"));
    assert_eq!(ping, rooted(&CAPABILITY_OF_PING, IDS).unwrap());
    // As it was shifted by an earlier version, or comes back from a snapshot of that time.
    fs::set_permissions(data.path(), fs::Permissions::from_mode(0o711)).unwrap();
    check(data.path(), IDS).unwrap();
    assert_eq!(folder(), passable, "before every start");
    shift(data.path(), IDS).unwrap();
    assert_eq!(picture(data.path()), after);
    let other = IdRange { base: 2_000_000, ..IDS };
    assert!(matches!(shift(data.path(), other), Err(RuntimeCause::NotReady { .. })));
    assert!(matches!(check(data.path(), other), Err(RuntimeCause::NotReady { .. })));
    assert_eq!(picture(data.path()), after);
}

#[test]
fn it_goes_on_wherever_it_was_broken_off() {
    if !is_root() {
        return;
    }
    let whole = tree();
    shift(whole.path(), IDS).unwrap();
    let wanted = picture(whole.path());
    // Broken off after so many files changed hands, whose bits are gone by that.
    for done in 0..wanted.len() {
        let data = tree();
        let broken = Tree::open(data.path(), IDS).unwrap();
        let notes = serde_json::to_vec(&broken.take_notes(|_| true).unwrap()).unwrap();
        write(&data.path().join(NOTES), &notes).unwrap();
        for path in picture(data.path()).keys().take(done) {
            let path = data.path().join(path);
            let meta = fs::symlink_metadata(&path).unwrap();
            let (user, group) = (shifted(meta.uid(), IDS), shifted(meta.gid(), IDS));
            lchown(&path, user, group).unwrap();
        }
        assert!(check(data.path(), IDS).is_err());
        shift(data.path(), IDS).unwrap();
        assert_eq!(picture(data.path()), wanted, "after {done}");
        let ping = capability_of(&data.path().join("rootfs/bin/ping"));
        assert_eq!(ping, rooted(&CAPABILITY_OF_PING, IDS).unwrap(), "after {done}");
        assert!(!data.path().join(NOTES).exists());
    }
}

#[test]
fn what_a_template_notes_is_given_back_to_its_clones() {
    if !is_root() {
        println!("SKIPPED: only root changes owners");
        return;
    }
    let (plain, noted) = (tree(), tree());
    note(noted.path(), IDS.count).unwrap();
    let found = read(&noted.path().join(NOTES)).unwrap();
    assert!(found.is_some_and(|notes| notes.len() > 10), "something in it lends rights");
    for data in [&plain, &noted] {
        shift(data.path(), IDS).unwrap();
    }
    assert_eq!(picture(plain.path()), picture(noted.path()));
    // A user that no grain has is refused where the template is made.
    let strange = tree();
    let file = strange.path().join(TREE).join("strange");
    fs::write(&file, b"x").unwrap();
    for id in [IDS.count, IDS.base, u32::MAX - 1] {
        lchown(&file, Some(0), Some(id)).unwrap();
        let refused = note(strange.path(), IDS.count).unwrap_err().to_string();
        assert!(refused.contains("strange"), "{refused}");
    }
}

#[test]
fn links_lead_nowhere() {
    if !is_root() {
        return;
    }
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "").unwrap();
    let data = tree();
    let root = data.path().join("rootfs");
    symlink(outside.path(), root.join("folder")).unwrap();
    symlink(outside.path().join("secret"), root.join("file2")).unwrap();
    symlink("../../../../..", root.join("up")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    shift(data.path(), IDS).unwrap();
    assert_eq!(fs::metadata(outside.path()).unwrap().uid(), 0);
    assert_eq!(fs::metadata(outside.path().join("secret")).unwrap().uid(), 0);
    for link in ["folder", "file2", "up", "dangling"] {
        assert_eq!(fs::symlink_metadata(root.join(link)).unwrap().uid(), IDS.base, "{link}");
    }
    let data = tempfile::tempdir().unwrap();
    symlink(outside.path(), data.path().join("rootfs")).unwrap();
    assert!(shift(data.path(), IDS).is_err(), "the tree itself is no link");
    assert_eq!(fs::metadata(outside.path()).unwrap().uid(), 0);
}

#[test]
fn what_belongs_to_somebody_else_is_refused_before_anything_is_changed() {
    if !is_root() {
        return;
    }
    let data = tree();
    lchown(data.path().join("rootfs/home"), Some(5_000_000), Some(0)).unwrap();
    let before = picture(data.path());
    let refused = shift(data.path(), IDS).unwrap_err().to_string();
    assert!(refused.contains("rootfs/home") && refused.contains("5000000"), "{refused}");
    assert_eq!(picture(data.path()), before);
}
