//! Settings of the kernel below `/proc/sys`: only of single interfaces, and the switch of IPv6 that it has only once.
//! What they were is remembered in a file before they are changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{NetError, NetTrouble};

/// Where the kernel shows them.
const ROOT: &str = "/proc/sys/net";
/// IPv6 routes for nobody unless this is on; turning it on changes every interface.
const FORWARD6: &str = "ipv6/conf/all/forwarding";

/// The settings, and what they were before.
#[derive(Debug)]
pub(super) struct Kernel {
    root: PathBuf,
    memory: PathBuf,
}

/// Path below [`ROOT`], value.
pub(super) type Setting = (String, &'static str);

impl Kernel {
    /// Of the network namespace of this process. `memory`: the file that remembers.
    pub(super) fn new(memory: &Path) -> Self {
        Self { root: ROOT.into(), memory: memory.to_owned() }
    }

    /// Whether this machine has IPv6 at all.
    pub(super) fn has_v6(&self) -> bool {
        self.root.join("ipv6/conf/all").is_dir()
    }

    /// Whether the machine routes IPv4 for others, not only between its uplink and grains.
    pub(super) fn is_router4(&self) -> bool {
        self.get("ipv4/conf/all/forwarding").is_some_and(|value| value != "0")
    }

    /// Whether the machine routes IPv6 for others. The switch of all interfaces is on for grains already; whoever turns
    /// it on for others also changes the default of new interfaces, which is put back here.
    pub(super) fn is_router6(&self) -> Result<bool, NetError> {
        let on = |path| self.get(path).is_some_and(|value| value != "0");
        let ours = self.remembered()?.contains_key(FORWARD6);
        Ok(on("ipv6/conf/default/forwarding") || (on(FORWARD6) && !ours))
    }

    fn get(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok().map(|text| text.trim().to_owned())
    }

    fn set(&self, path: &str, value: &str) -> Result<(), NetError> {
        let path = self.root.join(path);
        fs::write(&path, value).map_err(|source| NetError::Kernel {
            path,
            value: value.to_owned(),
            source,
        })
    }

    /// Sets what is not as it should be. Settings of interfaces that went away meanwhile: nothing.
    pub(super) fn arrange(&self, wanted: &[Setting]) -> Result<(), NetError> {
        if wanted.iter().any(|(path, _)| path == FORWARD6)
            && self.get(FORWARD6).as_deref() == Some("0")
        {
            self.become_router6(wanted)?;
        }
        let different: Vec<&Setting> = wanted
            .iter()
            .filter(|(path, value)| self.get(path).is_some_and(|is| is != *value))
            .collect();
        self.remember(different.iter().map(|(path, _)| path.as_str()))?;
        different.into_iter().try_for_each(|(path, value)| self.set(path, value))
    }

    /// What is not as it should be.
    pub(super) fn look(&self, wanted: &[Setting]) -> Vec<NetTrouble> {
        let different = wanted.iter().filter_map(|(path, value)| {
            let is = self.get(path).filter(|is| is != value)?;
            let path = format!("net/{path}");
            Some(NetTrouble::Kernel { path, is, should: (*value).to_owned() })
        });
        different.collect()
    }

    /// Turns on the switch of all interfaces and puts back what it changes of those that are not meant. Routes that
    /// interfaces have learned from their routers would be forgotten: an interface that listens to routers is told
    /// first to listen even if it is one.
    fn become_router6(&self, wanted: &[Setting]) -> Result<(), NetError> {
        let names = self.interfaces6()?;
        let path = |name: &str, setting: &str| format!("ipv6/conf/{name}/{setting}");
        let mut restore: Vec<(String, String)> = Vec::new();
        let mut learners: Vec<String> = Vec::new();
        for name in &names {
            let forwarding = path(name, "forwarding");
            if let Some(value) = self.get(&forwarding) {
                restore.push((forwarding, value));
            }
            let learns = path(name, "accept_ra");
            if self.get(&learns).as_deref() == Some("1") {
                learners.push(learns);
            }
        }
        let all = restore.iter().map(|(path, _)| path.as_str());
        self.remember(all.chain(learners.iter().map(String::as_str)).chain([FORWARD6]))?;
        learners.iter().try_for_each(|learner| self.set(learner, "2"))?;
        self.set(FORWARD6, "1")?;
        let meant: BTreeSet<&str> = wanted.iter().map(|(path, _)| path.as_str()).collect();
        let others = restore.iter().filter(|(path, _)| !meant.contains(path.as_str()));
        others.clone().try_for_each(|(path, value)| self.set(path, value))?;
        // Those who are no routers themselves go on as before.
        let hosts: BTreeSet<String> = others
            .filter(|(_, value)| value == "0")
            .map(|(path, _)| path.replace("/forwarding", "/accept_ra"))
            .collect();
        let back = learners.iter().filter(|learner| hosts.contains(*learner));
        back.into_iter().try_for_each(|learner| self.set(learner, "1"))
    }

    /// Names below `conf`, without `all`.
    fn interfaces6(&self) -> Result<BTreeSet<String>, NetError> {
        let path = self.root.join("ipv6/conf");
        let failed =
            |source| NetError::Kernel { path: path.clone(), value: "1".to_owned(), source };
        let entries = fs::read_dir(&path).map_err(failed)?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let ours = super::INTERFACE_PREFIX;
        Ok(names.filter(|name| name != "all" && !name.starts_with(ours)).collect())
    }

    /// Puts everything back as it was.
    pub(super) fn clear(&self) -> Result<(), NetError> {
        let before = self.remembered()?;
        // The switch of all first: it changes the others.
        let first = before.get_key_value(FORWARD6);
        let rest = before.iter().filter(|(path, _)| *path != FORWARD6);
        for (path, value) in first.into_iter().chain(rest) {
            if self.get(path).is_some_and(|is| is != *value) {
                self.set(path, value)?;
            }
        }
        match fs::remove_file(&self.memory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.memory_failed(error)),
            _ => Ok(()),
        }
    }

    fn memory_failed(&self, source: io::Error) -> NetError {
        NetError::Memory { path: self.memory.clone(), source }
    }

    /// Writes down what settings are, unless it is known already what they were. Interfaces of grains go away anyway.
    fn remember<'a>(&self, paths: impl Iterator<Item = &'a str>) -> Result<(), NetError> {
        let mut before = self.remembered()?;
        let known = before.len();
        let grains = format!("/{}", super::INTERFACE_PREFIX);
        for path in paths.filter(|path| !path.contains(&grains)) {
            if !before.contains_key(path)
                && let Some(value) = self.get(path)
            {
                before.insert(path.to_owned(), value);
            }
        }
        if before.len() == known {
            return Ok(());
        }
        let text = serde_json::to_vec_pretty(&before).map_err(io::Error::from);
        let new = self.memory.with_extension("new");
        text.and_then(|text| fs::write(&new, text))
            .and_then(|()| fs::rename(&new, &self.memory))
            .map_err(|error| self.memory_failed(error))
    }

    fn remembered(&self) -> Result<BTreeMap<String, String>, NetError> {
        match fs::read(&self.memory) {
            Ok(text) => {
                serde_json::from_slice(&text).map_err(|error| self.memory_failed(error.into()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(self.memory_failed(error)),
        }
    }
}

/// What the uplink needs, so that the node answers on it for grains and passes on what comes for them.
pub(super) fn of_uplink(uplink: &str, v6: bool) -> Vec<Setting> {
    let mut all = vec![
        (format!("ipv4/conf/{uplink}/forwarding"), "1"),
        // The way back to a sender is looked up as if a packet came from the other side: a grain without its mark.
        (format!("ipv4/conf/{uplink}/src_valid_mark"), "1"),
        // An answer for somebody else waits for up to 0.8 seconds otherwise.
        (format!("ipv4/neigh/{uplink}/proxy_delay"), "0"),
    ];
    if v6 {
        all.extend([
            (FORWARD6.to_owned(), "1"),
            // Answers come for listed addresses only, but to questions sent to the address itself only with this one.
            ("ipv6/conf/all/proxy_ndp".to_owned(), "1"),
            (format!("ipv6/conf/{uplink}/proxy_ndp"), "1"),
            (format!("ipv6/conf/{uplink}/forwarding"), "1"),
            (format!("ipv6/neigh/{uplink}/proxy_delay"), "0"),
        ]);
    }
    all
}

/// What the host end of a grain's interface needs: nothing that comes from the grain changes this machine.
pub(super) fn of_grain(interface: &str, v6: bool) -> Vec<Setting> {
    let mut all = vec![
        (format!("ipv4/conf/{interface}/rp_filter"), "1"),
        (format!("ipv4/conf/{interface}/src_valid_mark"), "1"),
        (format!("ipv4/conf/{interface}/accept_redirects"), "0"),
        (format!("ipv4/conf/{interface}/secure_redirects"), "0"),
        (format!("ipv4/conf/{interface}/send_redirects"), "0"),
        (format!("ipv4/conf/{interface}/accept_source_route"), "0"),
        (format!("ipv4/conf/{interface}/forwarding"), "1"),
    ];
    if v6 {
        all.extend([
            (format!("ipv6/conf/{interface}/accept_ra"), "0"),
            (format!("ipv6/conf/{interface}/accept_redirects"), "0"),
            (format!("ipv6/conf/{interface}/accept_source_route"), "-1"),
            (format!("ipv6/conf/{interface}/forwarding"), "1"),
            (format!("ipv6/neigh/{interface}/proxy_delay"), "0"),
        ]);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pretended kernel: files, without what a switch of all changes in the others.
    struct Bench {
        _folder: tempfile::TempDir,
        kernel: Kernel,
    }

    fn bench(settings: &[(&str, &str)]) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("net");
        for (path, value) in settings {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{value}\n")).unwrap();
        }
        let memory = folder.path().join("memory");
        Bench { _folder: folder, kernel: Kernel { root, memory } }
    }

    const HOST: [(&str, &str); 7] = [
        ("ipv4/conf/eth0/forwarding", "0"),
        ("ipv4/neigh/eth0/proxy_delay", "80"),
        ("ipv6/conf/all/forwarding", "0"),
        ("ipv6/conf/default/forwarding", "0"),
        ("ipv6/conf/eth0/forwarding", "0"),
        ("ipv6/conf/eth0/accept_ra", "1"),
        ("ipv6/conf/eth1/accept_ra", "1"),
    ];

    #[test]
    fn settings_come_back_as_they_were_also_after_a_restart() {
        let bench = bench(&HOST);
        let wanted = of_uplink("eth0", true);
        bench.kernel.arrange(&wanted).unwrap();
        assert_eq!(bench.kernel.look(&wanted).len(), 0);
        assert_eq!(bench.kernel.get("ipv6/conf/eth0/accept_ra").unwrap(), "2", "still listens");
        assert!(!bench.kernel.is_router6().unwrap(), "a router for grains only");
        let again = Kernel { root: bench.kernel.root.clone(), memory: bench.kernel.memory.clone() };
        again.arrange(&wanted).unwrap();
        again.clear().unwrap();
        for (path, value) in HOST {
            assert_eq!(again.get(path).as_deref(), Some(value), "{path}");
        }
        assert!(!again.memory.exists());
        again.clear().unwrap();
    }

    #[test]
    fn a_router_stays_one() {
        let mut settings = HOST;
        (settings[2].1, settings[3].1) = ("1", "1");
        let bench = bench(&settings);
        bench.kernel.arrange(&of_uplink("eth0", true)).unwrap();
        assert!(bench.kernel.is_router6().unwrap());
        bench.kernel.clear().unwrap();
        assert_eq!(bench.kernel.get(FORWARD6).unwrap(), "1");
    }

    #[test]
    fn interfaces_of_grains_are_not_remembered() {
        let path = "ipv4/conf/scr000000000001/rp_filter";
        let bench = bench(&[(path, "0")]);
        let wanted = of_grain("scr000000000001", true);
        assert_eq!(bench.kernel.look(&wanted).len(), 1);
        bench.kernel.arrange(&wanted).unwrap();
        assert_eq!(bench.kernel.get(path).unwrap(), "1");
        assert!(!bench.kernel.memory.exists());
    }

    #[test]
    fn a_broken_memory_is_named() {
        let bench = bench(&HOST);
        fs::write(&bench.kernel.memory, "{").unwrap();
        let error = bench.kernel.arrange(&of_uplink("eth0", true)).unwrap_err();
        assert!(error.to_string().contains("remembers the kernel's settings"), "{error}");
        assert_eq!(
            bench.kernel.get("ipv4/conf/eth0/forwarding").unwrap(),
            "0",
            "nothing is changed"
        );
    }
}
