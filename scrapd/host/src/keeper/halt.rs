//! How the first process of a system is asked to halt. Every init has its own way, and the system protects a first process
//! from signals that it does not handle. Only asks: whatever is not heard is killed when the time for it has come.

use std::fs;
use std::path::Path;

use rustix::process::Signal;

use crate::processes::Process;

/// `SIGRTMIN+3` as the C library of systemd counts.
const SYSTEMD_HALTS: i32 = 37;

/// How it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// By a signal.
    Signal(Signal),
    /// By the program that sends the signal of systemd, which is none that we can send.
    Program,
    /// By a command line inside.
    Inside(&'static [&'static str]),
    /// It hears nothing: not yet, or never. It would have died of it anywhere else; there is nobody to wait for.
    Deaf,
}

/// The bits of signals in a line of `/proc/<pid>/status`.
fn mask(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0)
}

/// The way for an init, by the names of its file and of itself, and the text of its `/proc/<pid>/status`.
fn choose(file: &str, name: &str, status: &str) -> Way {
    // Blocked ones are taken out of a queue by those who wait for them.
    let handled = mask(status, "SigCgt") | mask(status, "SigBlk");
    let hears = |signal: i32| {
        let bit = u32::try_from(signal.saturating_sub(1)).ok();
        bit.and_then(|bit| handled.checked_shr(bit)).is_some_and(|bits| bits & 1 == 1)
    };
    match file {
        "systemd" => return if hears(SYSTEMD_HALTS) { Way::Program } else { Way::Deaf },
        "busybox" if ["init", "linuxrc"].contains(&name) => {
            // While it waits for USR2 by `sigtimedwait` no mask shows it. Its handler of TSTP is set when it begins to wait.
            let listens = hears(Signal::USR2.as_raw()) || hears(Signal::TSTP.as_raw());
            return if listens { Way::Signal(Signal::USR2) } else { Way::Deaf };
        }
        // What makes the container has blocked everything until it becomes the init: the signal would be lost.
        "lxc-start" => return Way::Deaf,
        // The classic one hears no signal to that end.
        "init" => return Way::Inside(&["/sbin/telinit", "0"]),
        _ => (),
    }
    let all = [Signal::TERM, Signal::POWER, Signal::INT];
    all.into_iter().find(|one| hears(one.as_raw())).map_or(Way::Deaf, Way::Signal)
}

/// The way for this init. Gone meanwhile: nobody is asked.
pub(super) fn way(init: Process) -> Way {
    let read = |name: &str| fs::read(format!("/proc/{}/{name}", init.pid)).unwrap_or_default();
    let file = fs::read_link(format!("/proc/{}/exe", init.pid)).unwrap_or_default();
    let file = file.file_name().map(|name| name.to_string_lossy().into_owned());
    let arguments = read("cmdline");
    let first = arguments.split(|byte| *byte == 0).next().unwrap_or_default();
    let first = String::from_utf8_lossy(first);
    let name = Path::new(&*first).file_name().map(|name| name.to_string_lossy().into_owned());
    let status = read("status");
    let file = file.unwrap_or_default();
    choose(
        file.trim_end_matches(" (deleted)"),
        &name.unwrap_or_default(),
        &String::from_utf8_lossy(&status),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_init_is_asked_in_its_own_way() {
        let nothing = "SigBlk:\t0000000000000000\nSigCgt:\t0000000000000000\n";
        let caught = |signal: Signal| format!("SigCgt:\t{:016x}\n", 1_u64 << (signal.as_raw() - 1));
        let blocked =
            |signal: Signal| format!("SigBlk:\t{:016x}\n", 1_u64 << (signal.as_raw() - 1));
        for (file, name, status, way) in [
            ("systemd", "init", "SigBlk:\t7be3c0fe28014a03\n".to_owned(), Way::Program),
            ("systemd", "init", nothing.to_owned(), Way::Deaf),
            ("busybox", "init", blocked(Signal::USR2), Way::Signal(Signal::USR2)),
            ("busybox", "init", caught(Signal::USR2), Way::Signal(Signal::USR2)),
            ("busybox", "init", caught(Signal::TSTP), Way::Signal(Signal::USR2)),
            ("busybox", "init", caught(Signal::TERM), Way::Deaf),
            ("busybox", "sh", nothing.to_owned(), Way::Deaf),
            ("busybox", "sh", caught(Signal::TERM), Way::Signal(Signal::TERM)),
            ("init", "init", nothing.to_owned(), Way::Inside(&["/sbin/telinit", "0"])),
            ("lxc-start", "lxc-start", blocked(Signal::TERM), Way::Deaf),
            ("tini", "tini", blocked(Signal::POWER), Way::Signal(Signal::POWER)),
            ("python3", "python3", caught(Signal::INT), Way::Signal(Signal::INT)),
            ("", "", String::new(), Way::Deaf),
        ] {
            assert_eq!(choose(file, name, &status), way, "{file} {name} {status}");
        }
    }
}
