//! A real container: what LXC makes of the keys, and that it has its network again after a start that nobody saw.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use scrap_host::net::{Opening, Peers, Protocol, interface, lxc_keys};

use crate::lab::{Lab, attachment, lan4, lan6};
use crate::may_run;

/// First user of the container, as the machine's `/etc/subuid` lets root have it.
const BASE: u32 = 1_000_000;
const TOOLS: [&str; 4] = ["sh", "ping", "sleep", "ip"];

/// A container that sleeps, in the namespace of a node.
struct Container<'a> {
    lab: &'a Lab,
    folder: tempfile::TempDir,
}

fn busybox() -> Option<PathBuf> {
    ["/bin/busybox", "/usr/bin/busybox"].iter().map(PathBuf::from).find(|path| path.exists())
}

impl<'a> Container<'a> {
    fn new(lab: &'a Lab, keys: Vec<(&'static str, String)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The container's root is a stranger here.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let root = folder.path().join("rootfs");
        for name in ["bin", "dev", "proc", "sys", "tmp"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::copy(busybox().unwrap(), root.join("bin/busybox")).unwrap();
        for name in TOOLS {
            symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        give_away(&root);
        let mut config = format!(
            "lxc.rootfs.path = dir:{}\nlxc.uts.name = one\nlxc.init.cmd = /bin/sleep 3600\n\
             lxc.idmap = u 0 {BASE} 65536\nlxc.idmap = g 0 {BASE} 65536\n\
             lxc.include = /usr/share/lxc/config/common.conf\n\
             lxc.include = /usr/share/lxc/config/userns.conf\nlxc.log.level = DEBUG\nlxc.log.file = {}\n",
            root.display(),
            folder.path().join("log").display(),
        );
        for (key, value) in keys {
            config += &format!("lxc.net.0.{key} = {value}\n");
        }
        fs::create_dir(folder.path().join("one")).unwrap();
        fs::write(folder.path().join("one/config"), config).unwrap();
        Self { lab, folder }
    }

    fn lxc(&self, program: &str, arguments: &[&str]) -> Result<String, String> {
        let path = self.folder.path().to_str().unwrap();
        let common = ["-n", "one", "-P", path];
        self.lab.enter("a", || crate::lab::attempt(program, &[&common[..], arguments].concat()))
    }

    fn start(&self) {
        let said = self.lxc("lxc-start", &["-d"]);
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        assert!(said.is_ok(), "{said:?}\n{log}");
    }

    fn stop(&self) {
        self.lxc("lxc-stop", &["-k"]).unwrap();
    }

    /// Whether the container reaches somebody, within a limit if it should.
    fn pings(&self, address: &str, expected: bool) -> bool {
        let command = ["--", "/bin/ping", "-c", "1", "-W", "1", address];
        holds(expected, || self.lxc("lxc-attach", &command).is_ok())
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let _ = self.lxc("lxc-stop", &["-k"]);
    }
}

fn give_away(path: &Path) {
    lchown(path, Some(BASE), Some(BASE)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).unwrap() {
            give_away(&entry.unwrap().path());
        }
    }
}

/// Whether something becomes true within a limit; whether it is false at once.
fn holds(expected: bool, is_it: impl Fn() -> bool) -> bool {
    let limit = Instant::now() + Duration::from_secs(10);
    while expected && Instant::now() < limit {
        if is_it() {
            return true;
        }
    }
    is_it()
}

/// Whether the client reaches the grain by an address.
fn reached(lab: &Lab, address: IpAddr, expected: bool) -> bool {
    let address = address.to_string();
    let arguments = ["-c", "1", "-W", "1", address.as_str()];
    holds(expected, || lab.enter("client", || crate::lab::attempt("ping", &arguments)).is_ok())
}

/// Whether the client reaches the grain and the grain the Internet, by both families.
fn check(container: &Container<'_>, expected: bool, when: &str) {
    for address in [IpAddr::V4(lan4(41)), IpAddr::V6(lan6(41))] {
        let is = reached(container.lab, address, expected);
        assert_eq!(is, expected, "the client to {address} {when}");
    }
    for address in ["8.8.8.8", "2a02:8::8"] {
        assert_eq!(container.pings(address, expected), expected, "the grain to {address} {when}");
    }
}

#[test]
fn a_container_has_its_network_after_every_start() {
    if !may_run() {
        return;
    }
    if busybox().is_none() || crate::lab::attempt("lxc-start", &["--version"]).is_err() {
        println!("skipped: needs LXC and a static busybox");
        return;
    }
    let lab = Lab::new();
    let mut node = lab.node("a");
    let echo = Opening { protocol: Protocol::Icmp, ports: None, peers: Peers::Anywhere };
    let web = Opening { protocol: Protocol::Icmp, ports: None, peers: Peers::Internet };
    let one = attachment(41, vec![echo], vec![web]);
    let host = interface(&one).host;
    node.wanted.insert(one.grain, one.clone());
    node.arrange();
    let container = Container::new(&lab, lxc_keys(&interface(&one)));
    container.start();
    // Nobody has arranged anything since: so it is when a keeper starts it again.
    check(&container, true, "after the first start");
    for closed in ["192.168.60.11", "fd00:60::11", "192.168.60.99", "fd00:60::99", "169.254.0.1"] {
        assert!(!container.pings(closed, false), "{closed}");
    }
    node.arrange();
    assert_eq!(node.look().len(), 0, "{:?}", node.look());

    lab.nft("a", "flush ruleset");
    check(&container, false, "after the flush");
    node.arrange();
    check(&container, true, "after it was healed");

    container.stop();
    assert!(!lab.ip("a", "-br link").contains(&host), "the interface is gone");
    assert!(
        lab.ip("a", "route show").contains("blackhole 192.168.60.41"),
        "and no way leads astray"
    );
    container.start();
    check(&container, true, "after the second start");
    container.stop();
    node.wanted.clear();
    node.block(|net| net.clear()).unwrap();
}
