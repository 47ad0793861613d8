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
    /// `zfs bookmark`, and increments that begin at one. Else: what somebody destroyed is no base any more, and the stream begins at
    /// an older one, or is a full one.
    pub(super) bookmarks: bool,
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
            bookmarks: all,
            diff: all,
            pool: all,
            modern_properties: all,
        }
    }

    /// Asks the tools. Where their answer cannot be read, what they can do is not used, and that is said.
    pub(super) async fn probe(tools: &Tools) -> Result<Self, Cause> {
        let answer = match tools.zfs(&["version"]).await {
            Ok(out) => Version::of(&out),
            Err(Cause::Program { said, .. }) => Version::of_refusal(&said),
            Err(cause) => return Err(cause),
        };
        if let Version::Unreadable(said) = &answer {
            tracing::warn!(
                said,
                "the version of the ZFS tools cannot be read, so they are used as the oldest ones are: streams that \
                 were cut off begin again. `zfs version` should say such as `zfs-2.3.2-1`"
            );
        }
        Ok(answer.capabilities())
    }
}

/// What tools say they are.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Version {
    /// OpenZFS, by its first two numbers.
    OpenZfs(u32, u32),
    /// Tools from before there was such a question.
    Old,
    /// Something else; what they said.
    Unreadable(String),
}

/// What is shown of an answer that cannot be read.
const SHOWN_MAX: usize = 200;

impl Version {
    /// By what `zfs version` says: `zfs-`, numbers, and whatever whoever built it added.
    fn of(out: &str) -> Self {
        let version = out.lines().find_map(|line| {
            let mut parts = line.trim().strip_prefix("zfs-")?.split(|c: char| !c.is_ascii_digit());
            Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
        });
        match version {
            Some((major, minor)) => Self::OpenZfs(major, minor),
            None => Self::Unreadable(out.trim().chars().take(SHOWN_MAX).collect()),
        }
    }

    /// By what was said when the question was refused.
    fn of_refusal(said: &str) -> Self {
        if said.contains("unrecognized command") {
            Self::Old
        } else {
            Self::Unreadable(said.trim().chars().take(SHOWN_MAX).collect())
        }
    }

    fn capabilities(&self) -> Capabilities {
        match self {
            Self::OpenZfs(major, minor) if (*major, *minor) >= (0, 8) => Capabilities::ALL,
            Self::OpenZfs(..) | Self::Old | Self::Unreadable(_) => Capabilities::PLAIN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What tools answer, which version that is, and whether they get everything that OpenZFS has.
    const ANSWERS: [(&str, (u32, u32), bool); 16] = [
        // Linux, as distributions and the project itself build it.
        ("zfs-2.1.11-1+deb12u1\nzfs-kmod-2.1.11-1+deb12u1\n", (2, 1), true),
        ("zfs-2.1.5-1ubuntu6~22.04.4\nzfs-kmod-2.1.5-1ubuntu6~22.04.4\n", (2, 1), true),
        ("zfs-2.2.2-0ubuntu9.1\nzfs-kmod-2.2.2-0ubuntu9.1\n", (2, 2), true),
        ("zfs-2.2.7-pve2\nzfs-kmod-2.2.7-pve2\n", (2, 2), true),
        ("zfs-2.3.2-2~bpo12+2\nzfs-kmod-2.3.2-2~bpo12+2\n", (2, 3), true),
        ("zfs-2.3.99-170_g1b0e0d1\nzfs-kmod-2.3.99-170_g1b0e0d1\n", (2, 3), true),
        ("zfs-2.4.0-1\nzfs-kmod-2.4.0-1\n", (2, 4), true),
        ("zfs-2.4.0-rc2\nzfs-kmod-2.4.0-rc2\n", (2, 4), true),
        // Without the kernel's half.
        ("zfs-2.3.2-2\n", (2, 3), true),
        // FreeBSD.
        ("zfs-2.1.14-FreeBSD_gd99134be8\nzfs-kmod-2.1.14-FreeBSD_gd99134be8\n", (2, 1), true),
        ("zfs-2.2.4-FreeBSD_g256659204\nzfs-kmod-2.2.4-FreeBSD_g256659204\n", (2, 2), true),
        ("zfs-2.2.99-1-FreeBSD_g1\n", (2, 2), true),
        ("zfs-2.4.0-rc3-FreeBSD_gb4b9cf3d5\n", (2, 4), true),
        // The first that has everything, the last that has not, and one that is to come.
        ("zfs-0.8.3-1\n", (0, 8), true),
        ("zfs-0.7.13-1\n", (0, 7), false),
        ("zfs-10.0.0-1\n", (10, 0), true),
    ];

    #[test]
    fn versions_tell_what_there_is() {
        for (answer, (major, minor), all) in ANSWERS {
            let version = Version::of(answer);
            assert_eq!(version, Version::OpenZfs(major, minor), "{answer}");
            let expected = if all { Capabilities::ALL } else { Capabilities::PLAIN };
            assert_eq!(version.capabilities(), expected, "{answer}");
        }
    }

    #[test]
    fn tools_that_know_no_such_question_are_old_and_that_is_no_news() {
        // As zfs-fuse says it.
        let version = Version::of_refusal("unrecognized command 'version'");
        assert_eq!(version, Version::Old);
        assert_eq!(version.capabilities(), Capabilities::PLAIN);
    }

    #[test]
    fn an_answer_that_cannot_be_read_is_named_and_leaves_the_plain_tools() {
        let long = "x".repeat(3 * SHOWN_MAX);
        for (said, shown) in [
            ("", ""),
            ("something else\n", "something else"),
            ("zfs-fuse\n", "zfs-fuse"),
            ("zfs-next\nzfs-kmod-next\n", "zfs-next\nzfs-kmod-next"),
            (&long, &long[..SHOWN_MAX]),
        ] {
            let unreadable = Version::Unreadable(shown.to_owned());
            assert_eq!(Version::of(said), unreadable, "{said}");
            assert_eq!(unreadable.capabilities(), Capabilities::PLAIN, "{said}");
        }
        let refused = Version::of_refusal("The ZFS modules are not loaded.\n");
        assert_eq!(refused, Version::Unreadable("The ZFS modules are not loaded.".to_owned()));
    }
}
