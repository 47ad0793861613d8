//! What everything is called: datasets, mountpoints and properties. Only text, no program is asked here.

use std::path::{Path, PathBuf};

use scrap_schema::id::Epoch;

use crate::datasets::{Cause, DatasetId};

/// The parents below the root, each with what lies in it.
pub(super) const PARENTS: [&str; 6] =
    ["grains", "orphans", "templates", "incoming", "views", "trash"];
/// Begins the name of every snapshot that is not of the line and goes away by itself.
pub(super) const TEMPORARY: &str = "scrap-tmp-";
/// `owner`, `standby`, `orphan`, `template`.
pub(super) const ROLE: &str = "scrap:role";
/// A number.
pub(super) const EPOCH: &str = "scrap:epoch";
/// Of an orphan: the guid since which it is on its own, or `none`.
pub(super) const BASE: &str = "scrap:base";
/// Of an orphan: what was reserved for it before, which its clone gets.
pub(super) const RESERVED: &str = "scrap:reserved";
/// Of a clone: the guid that its line begins with.
pub(super) const ORIGIN: &str = "scrap:origin";
/// Of a snapshot: milliseconds since 1970.
pub(super) const CREATED: &str = "scrap:created";
/// Of a view: the dataset that it is of.
pub(super) const VIEW_OF: &str = "scrap:view-of";
/// The pool's own hold on whatever a tag of ours holds: a protection against people.
pub(super) const POOL_TAG: &str = "scrap:held";
const HOLD: &str = "scrap:hold:";
const TEXT: &str = "scrap:text:";
/// Longer values are split: old tools end themselves over one of a kilobyte.
const PIECE_MAX: usize = 800;

/// Longest name of a root: names below it have 255 bytes at most, and a snapshot's name is part of them.
const ROOT_MAX: usize = 100;

/// Why a dataset of this name cannot be the root; `None`: it can.
#[must_use]
pub fn bad_root(name: &str) -> Option<&'static str> {
    let part_is_bad = |part: &str| !part.starts_with(|c: char| c.is_ascii_alphanumeric());
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte);
    if name.len() > ROOT_MAX {
        Some("it is longer than 100 bytes")
    } else if !name.bytes().all(allowed) {
        Some("only letters, digits and `-_.:/` can be in its name")
    } else if name.split('/').any(part_is_bad) {
        Some("a part of its name is empty, or does not begin with a letter or digit")
    } else if !name.contains('/') {
        Some("it must be `pool/dataset`: a pool's own dataset is left to its owner")
    } else {
        None
    }
}

/// The root dataset and where it is mounted.
#[derive(Debug, Clone)]
pub(super) struct Names {
    root: String,
    mounts: PathBuf,
}

impl Names {
    /// Checks the name of the root: `pool/dataset` of plain characters.
    pub(super) fn new(root: &str, mounts: &Path) -> Result<Self, Cause> {
        let bad = |why: &str| {
            let what = format!("`{root}` on {} cannot hold datasets: {why}", mounts.display());
            Cause::Io { what, source: std::io::ErrorKind::InvalidInput.into() }
        };
        if let Some(why) = bad_root(root) {
            return Err(bad(why));
        }
        if !mounts.is_absolute() || mounts.to_str().is_none() {
            return Err(bad("the folder must be an absolute path"));
        }
        Ok(Self { root: root.to_owned(), mounts: mounts.to_owned() })
    }

    pub(super) fn root(&self) -> &str {
        &self.root
    }

    pub(super) fn pool(&self) -> &str {
        self.root.split('/').next().unwrap_or(&self.root)
    }

    pub(super) fn mounts(&self) -> &Path {
        &self.mounts
    }

    pub(super) fn parent(&self, name: &str) -> String {
        format!("{}/{name}", self.root)
    }

    pub(super) fn of(&self, id: DatasetId) -> String {
        format!("{}/{id}", self.root)
    }

    /// Where a dataset is made before it appears.
    pub(super) fn incoming(&self, id: DatasetId) -> String {
        format!("{}/incoming/{}", self.root, flat(id))
    }

    pub(super) fn trash(&self, id: DatasetId, number: u64) -> String {
        format!("{}{number:016x}", self.trash_of(id))
    }

    /// What the names begin with of all that is thrown away of a dataset.
    pub(super) fn trash_of(&self, id: DatasetId) -> String {
        format!("{}/trash/{}.", self.root, flat(id))
    }

    /// A view and its mountpoint.
    pub(super) fn view(&self, id: DatasetId, which: &str) -> (String, PathBuf) {
        let name = format!("{}.{which}", flat(id));
        (format!("{}/views/{name}", self.root), self.mounts.join("views").join(name))
    }

    pub(super) fn mountpoint(&self, id: DatasetId) -> PathBuf {
        self.mounts.join(id.to_string())
    }

    /// The dataset with this full name, if it is one of those that the trait knows.
    pub(super) fn parse(&self, name: &str) -> Option<DatasetId> {
        let (parent, rest) = name.strip_prefix(&self.root)?.strip_prefix('/')?.split_once('/')?;
        match parent {
            "grains" => Some(DatasetId::Grain(rest.parse().ok()?)),
            "templates" => Some(DatasetId::Template(rest.parse().ok()?)),
            "orphans" => {
                let (grain, epoch) = rest.split_once('.')?;
                Some(DatasetId::Orphan(grain.parse().ok()?, Epoch(epoch.parse().ok()?)))
            }
            _ => None,
        }
    }

    /// A full name without the root, for people.
    pub(super) fn short<'a>(&self, name: &'a str) -> &'a str {
        let short = name.strip_prefix(&self.root).and_then(|rest| rest.strip_prefix('/'));
        short.unwrap_or(name)
    }
}

/// An id as one part of a name.
fn flat(id: DatasetId) -> String {
    match id {
        DatasetId::Grain(grain) => grain.to_string(),
        DatasetId::Orphan(grain, epoch) => format!("orphan-{grain}.{epoch}"),
        DatasetId::Template(template) => format!("template-{template}"),
    }
}

/// The property that says what a tag holds.
pub(super) fn hold(tag: &str) -> String {
    format!("{HOLD}{}", encode(tag))
}

/// The tag that such a property is for.
pub(super) fn held(property: &str) -> Option<String> {
    decode(property.strip_prefix(HOLD)?)
}

/// Names of properties and tags have only small letters, digits and `:-.`; all else is `_` and two hex digits. The dot
/// stays free for the number of a piece.
fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b':' | b'-') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("_{byte:02x}"));
        }
    }
    encoded
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'_' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// A text as properties: short pieces without control characters, the first with their number and a checksum, so that
/// half an update is no text at all.
pub(super) fn text(key: &str, value: &str) -> Vec<(String, String)> {
    let mut escaped = vec![String::new()];
    for c in value.chars() {
        let mut buffer = [0; 4];
        let shown = match c {
            '%' => "%25".to_owned(),
            c if c.is_control() => {
                c.encode_utf8(&mut buffer).bytes().map(|byte| format!("%{byte:02x}")).collect()
            }
            c => c.to_string(),
        };
        if escaped.last().is_some_and(|piece| piece.len() + shown.len() > PIECE_MAX) {
            escaped.push(String::new());
        }
        if let Some(piece) = escaped.last_mut() {
            piece.push_str(&shown);
        }
    }
    let name = format!("{TEXT}{}", encode(key));
    let count = escaped.len();
    let pieces = escaped.into_iter().enumerate().map(|(number, piece)| match number {
        0 => (name.clone(), format!("{count} {} {piece}.", checksum(value))),
        number => (format!("{name}.{number}"), format!("{piece}.")),
    });
    // The first piece last: it makes the others count.
    let mut pieces: Vec<_> = pieces.collect();
    pieces.rotate_left(1);
    pieces
}

fn checksum(value: &str) -> String {
    blake3::hash(value.as_bytes()).to_hex().chars().take(16).collect()
}

/// The text that a first piece begins; `piece` looks further properties up.
pub(super) fn read_text<'a>(
    property: &str,
    first: &str,
    piece: impl Fn(&str) -> Option<&'a str>,
) -> Option<(String, String)> {
    let key = property.strip_prefix(TEXT).filter(|key| !key.contains('.'))?;
    let (count, rest) = first.split_once(' ')?;
    let (sum, begin) = rest.split_once(' ')?;
    let mut escaped = begin.strip_suffix('.')?.to_owned();
    for number in 1..count.parse::<usize>().ok()? {
        escaped.push_str(piece(&format!("{property}.{number}"))?.strip_suffix('.')?);
    }
    let mut bytes = Vec::new();
    let mut rest = escaped.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    let value = String::from_utf8(bytes).ok()?;
    (checksum(&value) == sum).then_some((decode(key)?, value))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use scrap_schema::id::{GrainId, TemplateId};

    use super::*;

    #[test]
    fn names_read_back() {
        let names = Names::new("tank/scrap", Path::new("/srv/scrap")).unwrap();
        let grain = GrainId(u128::MAX);
        for id in [
            DatasetId::Grain(grain),
            DatasetId::Orphan(grain, Epoch(u64::MAX)),
            DatasetId::Template(TemplateId(3)),
        ] {
            assert_eq!(names.parse(&names.of(id)), Some(id));
            // With the longest name of a snapshot, below the limit of a name.
            assert!(names.incoming(id).len() + 109 < 200);
        }
        for foreign in
            ["tank/scrap", "tank/scrap/grains", "tank/scrap/grains/x", "tank/scrap/views/a"]
        {
            assert_eq!(names.parse(foreign), None, "{foreign}");
        }
        assert_eq!((names.pool(), names.short("tank/scrap/grains/x")), ("tank", "grains/x"));
    }

    #[test]
    fn a_root_is_a_plain_name() {
        let new = |root: &str, mounts: &str| Names::new(root, Path::new(mounts)).is_ok();
        assert!(new("tank/scrap", "/srv"));
        for bad in [
            "",
            "tank",
            "/tank/a",
            "tank/",
            "tank//a",
            "tank/-r",
            "-r/a",
            "tank/a@b",
            "tank/a b",
            "tank/%recv",
        ] {
            assert!(!new(bad, "/srv"), "{bad}");
        }
        assert!(!new("tank/scrap", "srv"));
    }

    #[test]
    fn texts_and_tags_read_back() {
        let long = "ä%\n".repeat(2000);
        for value in ["", "-", "web", "a: ü\nb: \"x\"\t%25", "=", " ", &long] {
            let pieces: BTreeMap<_, _> = text("scrap:manifest.V1", value).into_iter().collect();
            let good = |name: &str| {
                name.bytes()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b":-._".contains(&c))
            };
            assert!(pieces.iter().all(|(name, value)| good(name) && value.len() < 1000), "{value}");
            let piece = |name: &str| pieces.get(name).map(String::as_str);
            let read: Vec<_> =
                pieces.iter().filter_map(|(name, value)| read_text(name, value, piece)).collect();
            assert_eq!(read, [("scrap:manifest.V1".to_owned(), value.to_owned())]);
        }
        let mut torn: BTreeMap<_, _> = text("k", &long).into_iter().collect();
        torn.extend(text("k", &long.replace('ä', "ö")).into_iter().take(1));
        let piece = |name: &str| torn.get(name).map(String::as_str);
        assert_eq!(read_text("scrap:text:k", &torn["scrap:text:k"], piece), None);
        for tag in ["last:3", "A b_c", "ü", ""] {
            assert_eq!(held(&hold(tag)).as_deref(), Some(tag));
        }
    }
}
