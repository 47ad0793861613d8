//! What a machine has for systems: tools, controllers of groups of processes, AppArmor, and users that may be given to grains.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::cgroups;
use crate::runtime::{IdRange, RuntimeCause};

/// The profile of AppArmor that LXC brings for systems with groups of processes of their own.
const PROFILE: &str = "lxc-container-default-cgns";
/// The profiles that the kernel keeps to now.
const PROFILES: &str = "/sys/kernel/security/apparmor/profiles";

/// Where a controller of groups of processes is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Controller {
    /// In a hierarchy of the first kind.
    First,
    /// In the one of the second kind.
    Second,
    Missing,
}

/// Why AppArmor confines no grain here. Everything else that keeps grains from the machine stays.
#[derive(Debug, Error)]
enum Unconfined {
    #[error(
        "the list of its profiles, {PROFILES}, cannot be read: {0}; start the machine with AppArmor (`apparmor=1 \
         security=apparmor` on the kernel's command line), and mount securityfs if it is not there"
    )]
    NoList(io::Error),
    #[error(
        "the profile `{PROFILE}` is not loaded; install the profiles that come with LXC and load them: \
         `apparmor_parser -r /etc/apparmor.d/lxc-containers`"
    )]
    NoProfile,
}

/// Whether the profile is in the kernel's list.
fn confined(list: io::Result<String>) -> Result<(), Unconfined> {
    let list = list.map_err(Unconfined::NoList)?;
    let mut names = list.lines().map(|line| line.split(' ').next());
    if names.any(|name| name == Some(PROFILE)) { Ok(()) } else { Err(Unconfined::NoProfile) }
}

/// What was found when the runtime was opened.
#[derive(Debug, Clone, Default)]
pub(super) struct Machine {
    controllers: BTreeMap<String, bool>,
    profiled: bool,
    swap: bool,
}

impl Machine {
    /// Looks at this machine. What it lacks that grains can do without is said here, once.
    pub(super) fn look() -> io::Result<Self> {
        let mut controllers = BTreeMap::new();
        let hierarchies = cgroups::hierarchies()?;
        for hierarchy in &hierarchies {
            let names = hierarchy.controllers.iter();
            controllers.extend(names.map(|name| (name.clone(), hierarchy.unified)));
        }
        let confined = confined(fs::read_to_string(PROFILES));
        if let Err(why) = &confined {
            tracing::warn!(
                profile = PROFILE,
                %why,
                "AppArmor confines no grain until that is mended and the daemon started again"
            );
        }
        let profiled = confined.is_ok();
        let swap = fs::read_to_string("/proc/swaps").unwrap_or_default().lines().count() > 1;
        let memory = hierarchies.iter().find(|one| one.controllers.contains("memory"));
        let counts = memory.is_some_and(|memory| {
            memory.unified || memory.mount.join("memory.memsw.limit_in_bytes").exists()
        });
        Ok(Self { controllers, profiled, swap: swap && counts })
    }

    pub(super) fn controller(&self, name: &str) -> Controller {
        match self.controllers.get(name) {
            Some(true) => Controller::Second,
            Some(false) => Controller::First,
            None => Controller::Missing,
        }
    }

    /// Whether there is swap, and a limit of it.
    pub(super) fn limits_swap(&self) -> bool {
        self.swap
    }

    pub(super) fn apparmor(&self) -> &'static str {
        if self.profiled { PROFILE } else { "unconfined" }
    }

    #[cfg(test)]
    pub(super) fn with(unified: bool) -> Self {
        let names = ["memory", "pids", "cpu", "devices"];
        let controllers = names.map(|name| (name.to_owned(), unified)).into();
        Self { controllers, profiled: !unified, swap: true }
    }
}

/// Where a program is on a path of folders.
pub(super) fn find(program: &str, path: &std::ffi::OsStr) -> Option<PathBuf> {
    std::env::split_paths(path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Whether lines of `/etc/subuid` give these ids to root.
fn gives(text: &str, ids: IdRange) -> bool {
    text.lines().any(|line| {
        let mut words = line.trim().split(':');
        let (owner, first, count) = (words.next(), words.next(), words.next());
        let number = |word: Option<&str>| word.and_then(|word| word.parse::<u64>().ok());
        let (Some(first), Some(count)) = (number(first), number(count)) else { return false };
        let end = u64::from(ids.base).saturating_add(u64::from(ids.count));
        matches!(owner, Some("root" | "0"))
            && first <= u64::from(ids.base)
            && end <= first.saturating_add(count)
    })
}

/// Whether these users may be given to a grain: where the machine keeps a book of them, it must say so, so that nobody
/// else is given the same ones.
pub(super) fn check(ids: IdRange) -> Result<(), RuntimeCause> {
    for (book, kind) in [("/etc/subuid", "users"), ("/etc/subgid", "groups")] {
        let text = fs::read_to_string(Path::new(book)).unwrap_or_default();
        if !gives(&text, ids) {
            let (base, count) = (ids.base, ids.count);
            return Err(RuntimeCause::NotReady {
                what: format!("{book} gives root no {count} {kind} from {base} on"),
                hint: format!("add the line `root:{base}:{count}` to it, or one for all grains"),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_that_does_not_confine_is_named_with_the_way_out() {
        let list = |text: &str| confined(Ok(text.to_owned()));
        assert!(list("unconfined\n(x)\nlxc-container-default-cgns (enforce)\n").is_ok());
        for other in ["", "lxc-container-default (enforce)\n", "a//lxc-container-default-cgns\n"] {
            let why = list(other).unwrap_err().to_string();
            assert!(why.contains(PROFILE) && why.contains("apparmor_parser -r"), "{why}");
        }
        let missing = confined(Err(io::ErrorKind::NotFound.into())).unwrap_err().to_string();
        assert!(missing.contains(PROFILES) && missing.contains("apparmor=1"), "{missing}");
    }

    #[test]
    fn ids_are_given_by_one_whole_line_of_root() {
        let ids = IdRange { base: 1_000_000, count: 65_536 };
        for (text, given) in [
            ("root:1000000:65536\n", true),
            ("a:1:2\n0:900000:1000000\n", true),
            ("root:1000000:65535\n", false),
            ("root:1000001:65536\n", false),
            ("somebody:1000000:65536\n", false),
            ("root:x:y\nroot\n\n", false),
            ("root:1000000:18446744073709551615\n", true),
        ] {
            assert_eq!(gives(text, ids), given, "{text}");
        }
    }
}
