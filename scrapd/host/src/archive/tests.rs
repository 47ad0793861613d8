//! Archives that are good, damaged, too large, and made to leave the tree.

use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use scrap_schema::unit::Bytes;
use tar::{Builder, EntryType, Header};

use super::{ArchiveError, Limits, Unpacked, plain, unpack};

/// An archive of entries: kind, name, target or content. Names are written as they are, also bad ones.
fn archive(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (kind, name, text) in entries {
        let mut header = Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(if kind.is_dir() { 0o750 } else { 0o4711 });
        let me = rustix::process::getuid().as_raw();
        header.set_uid(me.into());
        header.set_gid(rustix::process::getgid().as_raw().into());
        header.set_mtime(1_000_000);
        let content = if kind.is_file() { text.as_bytes() } else { &[] };
        if kind.is_symlink() || kind.is_hard_link() {
            header.as_gnu_mut().unwrap().linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

const DIR: EntryType = EntryType::Directory;
const FILE: EntryType = EntryType::Regular;
const SYMLINK: EntryType = EntryType::Symlink;
const LINK: EntryType = EntryType::Link;

fn into(tree: &Path, entries: &[(EntryType, &str, &str)]) -> Result<Unpacked, ArchiveError> {
    unpack(archive(entries).as_slice(), tree, Limits::default())
}

#[test]
fn a_tree_comes_out_as_it_went_in() {
    let tree = tempfile::tempdir().unwrap();
    let entries = [
        (DIR, "./", ""),
        (DIR, "./etc", ""),
        (FILE, "./etc/motd", "hello"),
        (SYMLINK, "./bin", "usr/bin"),
        (LINK, "./etc/again", "./etc/motd"),
        (FILE, "/usr/bin/tool", "#!"),
        (EntryType::Char, "./dev/null", ""),
    ];
    let unpacked = into(tree.path(), &entries).unwrap();
    assert_eq!(unpacked, Unpacked { bytes: Bytes(7), entries: 7, devices: 1 });
    let at = |name: &str| tree.path().join(name);
    assert_eq!(std::fs::read_to_string(at("etc/again")).unwrap(), "hello");
    let motd = std::fs::metadata(at("etc/motd")).unwrap();
    assert_eq!((motd.permissions().mode() & 0o7777, motd.mtime()), (0o4711, 1_000_000));
    assert_eq!(motd.nlink(), 2);
    assert_eq!(std::fs::read_link(at("bin")).unwrap(), Path::new("usr/bin"));
    let etc = std::fs::metadata(at("etc")).unwrap();
    assert_eq!((etc.permissions().mode() & 0o7777, etc.mtime()), (0o750, 1_000_000));
    assert!(!at("dev/null").exists());
}

#[test]
fn nothing_leaves_the_tree() {
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    std::fs::write(&victim, "safe").unwrap();
    let (folder, file) = (outside.path().display().to_string(), victim.display().to_string());
    for (entries, why) in [
        (vec![(FILE, "../victim", "x")], "leaves the archive"),
        (vec![(FILE, "a/../../victim", "x")], "leaves the archive"),
        (vec![(SYMLINK, "out", folder.as_str()), (FILE, "out/victim", "x")], "goes through a link"),
        (vec![(SYMLINK, "a", "."), (FILE, "a/b/c", "x")], "goes through a link"),
        (vec![(SYMLINK, "out", folder.as_str()), (DIR, "out/new", "")], "goes through a link"),
        (vec![(SYMLINK, "out", folder.as_str()), (LINK, "in", "out/victim")], "goes through"),
        (vec![(LINK, "in", "../victim")], "leaves the archive"),
        (vec![(LINK, "in", file.as_str())], "is not in the archive"),
        (vec![(FILE, "plain", "x"), (FILE, "plain/victim", "x")], "goes through a link or a file"),
    ] {
        let tree = tempfile::tempdir_in(outside.path()).unwrap();
        let error = into(tree.path(), &entries).unwrap_err();
        assert!(error.is_of_the_archive(), "{error}");
        assert!(error.to_string().contains(why), "{error} does not say {why:?}");
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "safe");
        assert!(!outside.path().join("new").exists());
    }
}

#[test]
fn a_link_is_replaced_and_never_written_through() {
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    std::fs::write(&victim, "safe").unwrap();
    let file = victim.display().to_string();
    let tree = tempfile::tempdir().unwrap();
    into(tree.path(), &[(SYMLINK, "etc", file.as_str()), (FILE, "etc", "mine")]).unwrap();
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "safe");
    assert_eq!(std::fs::read_to_string(tree.path().join("etc")).unwrap(), "mine");
    // The folder takes the link's place.
    into(tree.path(), &[(SYMLINK, "d", file.as_str()), (DIR, "d", ""), (FILE, "d/f", "x")])
        .unwrap();
    assert!(tree.path().join("d/f").exists());
    assert_eq!(std::fs::metadata(&victim).unwrap().permissions().mode() & 0o7000, 0);
}

#[test]
fn what_is_damaged_empty_or_too_much_is_said() {
    let whole = archive(&[(FILE, "a", "0123456789"), (FILE, "b", "0123456789")]);
    let check = |bytes: &[u8], limits: Limits| {
        let tree = tempfile::tempdir().unwrap();
        unpack(bytes, tree.path(), limits).map_err(|error| error.to_string())
    };
    let small = Limits { bytes: Bytes(15), ..Limits::default() };
    assert_eq!(check(&whole, small), Err("the archive holds more than 15B".to_owned()));
    let few = Limits { entries: 1, ..Limits::default() };
    assert_eq!(check(&whole, few), Err("the archive holds more than 1 files".to_owned()));
    let damaged = Err("the archive cannot be read".to_owned());
    assert_eq!(check(&whole[..700], Limits::default()), damaged);
    assert_eq!(check(&[b'x'; 2048], Limits::default()), damaged);
    assert_eq!(check(&[], Limits::default()), Err("the archive is empty".to_owned()));
}

#[test]
fn compression_is_told_by_the_bytes() {
    let whole = archive(&[(FILE, "a", "0123456789")]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &whole).unwrap();
    let mut xz = Vec::new();
    liblzma::read::XzEncoder::new(whole.as_slice(), 1).read_to_end(&mut xz).unwrap();
    let zstd = zstd::encode_all(whole.as_slice(), 1).unwrap();
    for packed in [whole.clone(), gzip.finish().unwrap(), xz, zstd] {
        let mut bytes = Vec::new();
        plain(std::io::Cursor::new(packed)).unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, whole);
    }
}

#[test]
fn the_machine_is_read_from_a_program_inside() {
    let tree = tempfile::tempdir().unwrap();
    assert_eq!(super::architecture(tree.path()), None);
    let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1];
    elf.resize(18, 0);
    elf.extend([183, 0]);
    let usr = tree.path().join("usr/bin");
    std::fs::create_dir_all(&usr).unwrap();
    std::fs::write(usr.join("dash"), elf).unwrap();
    std::os::unix::fs::symlink("usr/bin", tree.path().join("bin")).unwrap();
    // One that leads out is not followed there.
    std::os::unix::fs::symlink("/proc/self/exe", usr.join("busybox")).unwrap();
    assert_eq!(super::architecture(tree.path()).as_deref(), Some("aarch64"));
}

#[test]
fn a_header_is_read_as_far_as_names_and_attributes_need_and_no_further() {
    for (kind, length, good) in [
        (EntryType::XHeader, 1 << 20, true),
        (EntryType::XHeader, 9 << 20, false),
        (EntryType::GNULongName, 9 << 20, false),
        (EntryType::GNULongLink, 9 << 20, false),
    ] {
        let tree = tempfile::tempdir().unwrap();
        let mut builder = Builder::new(Vec::new());
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(length);
        header.set_cksum();
        // One attribute that nobody knows, as long as it takes.
        let record = format!("{length} SCRAP.filler=");
        let filler = std::io::repeat(b'a').take(length - record.len() as u64 - 1);
        builder.append(&header, record.as_bytes().chain(filler).chain(&b"\n"[..])).unwrap();
        let mut header = Header::new_ustar();
        header.set_path("a").unwrap();
        header.set_size(3);
        header.set_mode(0o644);
        header.set_uid(rustix::process::getuid().as_raw().into());
        header.set_gid(rustix::process::getgid().as_raw().into());
        header.set_mtime(0);
        header.set_cksum();
        builder.append(&header, &b"abc"[..]).unwrap();
        let archive = builder.into_inner().unwrap();
        let unpacked = unpack(archive.as_slice(), tree.path(), Limits::default());
        assert_eq!(unpacked.is_ok(), good, "{kind:?} {length}: {unpacked:?}");
        if good {
            assert_eq!(std::fs::read(tree.path().join("a")).unwrap(), b"abc");
        } else {
            let error = unpacked.unwrap_err();
            assert!(error.is_of_the_archive(), "{error:?}");
        }
    }
}
