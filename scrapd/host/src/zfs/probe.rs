//! What the installed tools can do, asked once. Everything that may be missing has another way that needs less.

use super::call::Tools;
use crate::datasets::Cause;

/// What there is. All of it since OpenZFS 0.8; none of it in zfs-fuse, nor where the tools name no version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capabilities {
    /// `receive -s`, `receive -A` and `send -t`. Else: a stream that was cut off begins again.
    pub(super) resume: bool,
    /// `receive -o`. Else: properties are set after a receive, before the dataset gets its place.
    pub(super) receive_properties: bool,
    /// The property `written@<snapshot>`. Else: a temporary snapshot, and the length of its increment.
    pub(super) written: bool,
    /// `send -L -c -e`. Else: a plain stream.
    pub(super) compressed: bool,
    /// `send -nvP`. Else: the stream is made and counted.
    pub(super) estimate: bool,
    /// Several properties by one `set`, several snapshots by one `snapshot` or `destroy`. Else: one after the other.
    pub(super) many: bool,
    /// `zfs get all` with all that is asked of snapshots. Else: a question more.
    pub(super) whole: bool,
    /// `zfs diff`. Else: both trees are walked.
    pub(super) diff: bool,
    /// `zpool get -Hp` and `zpool sync`. Else: `zpool list`, and a snapshot where a sync is needed.
    pub(super) pool: bool,
    /// Properties that only OpenZFS has (`xattr=sa`, `acltype`, `compression=lz4`). Else: what is the default.
    pub(super) modern_properties: bool,
}

impl Capabilities {
    const ALL: Self = Self::new(true);
    /// What every version can do.
    pub(super) const PLAIN: Self = Self::new(false);

    const fn new(all: bool) -> Self {
        Self {
            resume: all,
            receive_properties: all,
            written: all,
            compressed: all,
            estimate: all,
            many: all,
            whole: all,
            diff: all,
            pool: all,
            modern_properties: all,
        }
    }

    /// Asks the tools.
    pub(super) async fn probe(tools: &Tools) -> Result<Self, Cause> {
        match tools.zfs(&["version"]).await {
            Ok(out) => Ok(Self::of(&out)),
            Err(Cause::Program { .. }) => Ok(Self::PLAIN),
            Err(cause) => Err(cause),
        }
    }

    /// By what `zfs version` says.
    fn of(out: &str) -> Self {
        let version = out.lines().find_map(|line| {
            let mut parts = line.strip_prefix("zfs-")?.split(|c: char| !c.is_ascii_digit());
            Some((parts.next()?.parse::<u32>().ok()?, parts.next()?.parse::<u32>().ok()?))
        });
        if version.is_some_and(|version| version >= (0, 8)) { Self::ALL } else { Self::PLAIN }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_tell_what_there_is() {
        for all in [
            "zfs-2.3.2-2~bpo12+2\nzfs-kmod-2.3.2-2~bpo12+2\n",
            "zfs-0.8.3-1\n",
            "zfs-2.2.99-1-FreeBSD_g1\n",
        ] {
            assert_eq!(Capabilities::of(all), Capabilities::ALL, "{all}");
        }
        for plain in ["", "zfs-0.7.13-1\n", "something else\n", "zfs-fuse\n"] {
            assert_eq!(Capabilities::of(plain), Capabilities::PLAIN, "{plain}");
        }
    }
}
