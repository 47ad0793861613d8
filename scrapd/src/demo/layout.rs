//! Where a demo keeps what: folders, ports and configurations of its three nodes. Starts nothing.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use scrap_host::fence::Places;
use scrap_schema::api::API_PORT;
use scrap_schema::id::Name;
use scrap_schema::node::{Addresses, NodeRole};
use scrap_schema::spec::Labels;
use scrap_schema::timing::Timing;
use serde::{Deserialize, Serialize};

use crate::args::Demo;
use crate::config::{
    Config, DatasetsKind, HostConfig, LOG_FILTER, Listen, Log, LogFormat, NetworkConfig,
    OnShutdown, RUN_DIR_MAX, RaftPace, Reserve, RuntimeKind, Trust,
};
use crate::setup::refused;

/// The nodes, the first one first.
const NAMES: [&str; 3] = ["ada", "ben", "cleo"];
/// From the first port of a node to the first port of the next.
const STRIDE: u16 = 10;
/// From the first port of the first node to the port of the guestbook.
const GUESTBOOK: u16 = 28;
/// What the file that marks a demo's folder is called.
const MARK: &str = "demo.json";

/// What a demo remembers.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    port_base: u16,
}

/// A demo's place.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// Its folder.
    pub(super) dir: PathBuf,
    /// First port of its first node.
    pub(super) port_base: u16,
    /// Its nodes.
    pub(super) nodes: Vec<DemoNode>,
}

/// A node's place in a demo.
#[derive(Debug, Clone)]
pub(super) struct DemoNode {
    /// Its name.
    pub(super) name: Name,
    /// Everything of it is below this folder.
    pub(super) dir: PathBuf,
    /// Its pid files and sockets are below this one; it may be elsewhere because it must be short.
    pub(super) run_dir: PathBuf,
    /// Its API.
    pub(super) api: SocketAddr,
    /// Its door for other nodes.
    pub(super) peer: SocketAddr,
}

impl Layout {
    /// The demo that the command line means: the ports of one that was started once stay.
    pub(super) fn of(args: &Demo) -> anyhow::Result<Self> {
        let dir = std::path::absolute(&args.dir)
            .with_context(|| format!("`{}` is not a folder", args.dir.display()))?;
        let remembered = Mark::read(&dir)?.map(|mark| mark.port_base);
        let port_base = match (args.port_base, remembered) {
            (Some(wanted), Some(is)) if wanted != is => {
                let what = format!("the demo in `{}` has port base {is}", dir.display());
                let hint = "remove it with `scrapd demo stop --purge`, or use another `--dir`";
                return Err(refused(what, hint));
            }
            (Some(port), _) | (None, Some(port)) => port,
            (None, None) => API_PORT,
        };
        if port_base < 1024 || port_base.checked_add(GUESTBOOK).is_none() {
            let what = format!("port base {port_base} leaves no room for the demo's ports");
            return Err(refused(what, "use one from 1024 to 65000"));
        }
        let names = NAMES.iter().zip([0, STRIDE, 2 * STRIDE]);
        let node = |(name, offset): (&&str, u16)| -> anyhow::Result<DemoNode> {
            let port = |more| SocketAddr::from((Ipv4Addr::LOCALHOST, port_base + offset + more));
            let folder = dir.join(name);
            Ok(DemoNode {
                name: name.parse()?,
                run_dir: run_dir(&folder, name),
                dir: folder,
                api: port(0),
                peer: port(1),
            })
        };
        let nodes = names.map(node).collect::<anyhow::Result<_>>()?;
        Ok(Self { dir, port_base, nodes })
    }

    /// Whether a demo was made here.
    pub(super) fn exists(&self) -> bool {
        self.dir.join(MARK).exists()
    }

    /// A node by its name.
    pub(super) fn node(&self, name: &Name) -> anyhow::Result<&DemoNode> {
        self.nodes.iter().find(|node| node.name == *name).ok_or_else(|| {
            let hint = format!("the nodes are {}", NAMES.join(", "));
            refused(format!("the demo has no node `{name}`"), hint)
        })
    }

    /// The port of the guestbook.
    pub(super) fn guestbook_port(&self) -> u16 {
        self.port_base.saturating_add(GUESTBOOK)
    }

    /// Path of the supervisor's log when it runs in the background.
    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("demo.log")
    }

    /// Makes the folders and writes the configurations.
    pub(super) fn write(&self) -> anyhow::Result<()> {
        let what = || format!("cannot set up the demo in `{}`", self.dir.display());
        let mark = serde_json::to_string(&Mark { port_base: self.port_base })?;
        std::fs::create_dir_all(&self.dir).with_context(what)?;
        std::fs::write(self.dir.join(MARK), mark).with_context(what)?;
        for node in &self.nodes {
            std::fs::create_dir_all(&node.dir).with_context(what)?;
            std::fs::write(node.config_path(), node.config().to_string()).with_context(what)?;
        }
        Ok(())
    }

    /// Removes what a demo has written, and its folder if nothing else is in it.
    pub(super) fn purge(&self) -> anyhow::Result<()> {
        for node in &self.nodes {
            remove_dir(&node.dir)?;
            scrap_host::guard::remove_board(&node.run_dir)
                .with_context(|| format!("cannot remove `{}/guard`", node.run_dir.display()))?;
            remove_dir(&node.run_dir)?;
        }
        for file in ["demo.log", "demo.pid", "lock", MARK] {
            let path = self.dir.join(file);
            absent_is_fine(std::fs::remove_file(&path))
                .with_context(|| format!("cannot remove `{}`", path.display()))?;
        }
        match std::fs::remove_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            other => absent_is_fine(other)
                .with_context(|| format!("cannot remove `{}`", self.dir.display())),
        }
    }
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn remove_dir(path: &Path) -> anyhow::Result<()> {
    absent_is_fine(std::fs::remove_dir_all(path))
        .with_context(|| format!("cannot remove `{}`", path.display()))
}

/// Beside the node's data if the path is short enough for sockets, else in the folder for temporary files.
fn run_dir(folder: &Path, name: &str) -> PathBuf {
    let beside = folder.join("run");
    if beside.as_os_str().len() <= RUN_DIR_MAX {
        return beside;
    }
    let hash = blake3::hash(folder.as_os_str().as_encoded_bytes()).to_hex();
    std::env::temp_dir().join(format!("scrap-demo-{name}-{}", hash.get(..12).unwrap_or_default()))
}

impl Mark {
    fn read(dir: &Path) -> anyhow::Result<Option<Self>> {
        let path = dir.join(MARK);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .with_context(|| format!("`{}` is damaged", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read `{}`", path.display())),
        }
    }
}

impl DemoNode {
    /// Path of its configuration.
    pub(super) fn config_path(&self) -> PathBuf {
        self.dir.join("scrapd.toml")
    }

    /// Path of its log.
    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("scrapd.log")
    }

    /// Path of the record of its process.
    pub(super) fn pid_path(&self) -> PathBuf {
        self.dir.join("scrapd.pid")
    }

    /// Its configuration. Numbers of the lease are the ones that a real cluster has.
    pub(super) fn config(&self) -> Config {
        Config {
            data_dir: self.dir.join("data"),
            run_dir: self.run_dir.clone(),
            name: self.name.clone(),
            role: NodeRole::Data,
            labels: Labels::from([("zone".to_owned(), format!("zone-{}", self.name))]),
            listen: Listen { api: self.api, peer: self.peer },
            advertise: Addresses { api: self.api.to_string(), peer: self.peer.to_string() },
            trust: Trust::default(),
            host: HostConfig {
                datasets: DatasetsKind::Dir,
                runtime: RuntimeKind::Process,
                keeper: None,
                guard: None,
                watchdog: None,
                zfs: None,
            },
            network: NetworkConfig::default(),
            fence: Places::default(),
            // What the machine uses is measured for the whole machine: so are the facts.
            reserve: Reserve::default(),
            on_shutdown: OnShutdown::Stop,
            log: Log { format: LogFormat::Text, filter: LOG_FILTER.to_owned() },
            timing: Timing::default(),
            raft: RaftPace::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demo(dir: &Path, port_base: Option<u16>) -> anyhow::Result<Layout> {
        Layout::of(&Demo { dir: dir.to_owned(), port_base, verb: None })
    }

    #[test]
    fn its_configurations_are_sound_and_its_ports_are_the_documented_ones() {
        let dir = tempfile::tempdir().unwrap();
        let layout = demo(dir.path(), None).unwrap();
        let apis: Vec<u16> = layout.nodes.iter().map(|node| node.api.port()).collect();
        let peers: Vec<u16> = layout.nodes.iter().map(|node| node.peer.port()).collect();
        assert_eq!((apis, peers), (vec![7272, 7282, 7292], vec![7273, 7283, 7293]));
        assert_eq!(layout.guestbook_port(), 7300);
        layout.write().unwrap();
        for node in &layout.nodes {
            assert_eq!(Config::load(&node.config_path()).unwrap(), node.config());
        }
    }

    #[test]
    fn a_demo_keeps_its_ports_until_it_is_purged() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("demo");
        demo(&place, Some(17272)).unwrap().write().unwrap();
        assert_eq!(demo(&place, None).unwrap().port_base, 17272);
        assert!(demo(&place, Some(18000)).unwrap_err().to_string().contains("port base 17272"));
        demo(&place, None).unwrap().purge().unwrap();
        assert!(!place.exists());
    }

    #[test]
    fn purging_leaves_what_it_has_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let layout = demo(dir.path(), None).unwrap();
        layout.write().unwrap();
        std::fs::write(dir.path().join("notes.txt"), "mine").unwrap();
        layout.purge().unwrap();
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().flatten().collect();
        assert_eq!(left.len(), 1);
    }

    #[test]
    fn a_long_path_gets_a_short_folder_for_sockets() {
        let long =
            Path::new("/home/somebody/with/a/very/long/path/to/their/projects/scrap/.demo/ada");
        let run_dir = run_dir(long, "ada");
        assert!(run_dir.as_os_str().len() <= RUN_DIR_MAX, "{run_dir:?}");
    }
}
