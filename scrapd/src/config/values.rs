//! What each key means, its default, and what makes a set of values unfit. One function per section.
//! Reads no file and looks nothing up.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use scrap_schema::api::{API_PORT, PEER_PORT};
use scrap_schema::node::{Addresses, NodeRole};
use scrap_schema::spec::{Labels, validate_labels};
use scrap_schema::timing::{Preset, Timing};
use scrap_schema::unit::Span;
use toml::de::DeTable;

use super::fault::Fault;
use super::hands;
use super::network::{Network, allowed, socket};
use super::reader::{At, Findings, Section};
use super::{
    Config, DatasetsKind, Listen, Log, LogFormat, OnShutdown, RaftPace, Reserve, RuntimeKind, Trust,
};

/// Longest path of `run_dir`: sockets live in it, and the name of a socket has about 100 bytes.
pub(crate) const RUN_DIR_MAX: usize = 70;

/// What is logged when nobody says: the consensus library speaks to its own developers below an error.
pub(crate) const LOG_FILTER: &str = "info,openraft=error";

/// Reads and checks a text. The second part is every key that exists.
pub(super) fn read(text: &str) -> (Result<Config, Vec<Fault>>, Vec<String>) {
    let findings = Findings::new(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        findings.syntax(error);
    }
    let mut root = Section::root(table.get_ref(), &findings);
    let config = config(&mut root);
    // After a syntax error the parser's table is a guess: other faults would be noise.
    root.end();
    let (mut faults, known) = findings.end();
    if !errors.is_empty() {
        faults.retain(|fault| fault.key.is_empty());
    }
    match config {
        Some(config) if faults.is_empty() => (Ok(config), known),
        Some(_) | None => (Err(faults), known),
    }
}

fn config(root: &mut Section<'_, '_>) -> Option<Config> {
    let data_dir = absolute(root, "data_dir");
    let data_dir = root.required("data_dir", data_dir, "such as \"/var/lib/scrap\"");
    let run_dir = run_dir(root, data_dir.as_ref());
    let name = root.parse("name").map(|at| at.value);
    let name = root.required("name", name, "the node's name in the cluster, such as \"ada\"");
    let role = root.word("role", &ROLES).unwrap_or_default();
    let on_shutdown = root.word("on_shutdown", &ON_SHUTDOWN).unwrap_or_default();
    let labels = labels(root);
    let trust = trust(root);
    let listen = listen(root, &trust);
    let advertise = advertise(root, &trust, &listen);
    let host = hands::host(root, data_dir.as_ref());
    let network = hands::network(root);
    let fence = hands::fence(root);
    let fitting = host.as_ref().is_none_or(|host| hands::fitting(root, host, &network));
    let host = host.filter(|_| fitting);
    let (reserve, log) = (reserve(root), log(root));
    let (timing, raft) = (timing(root), raft(root));
    Some(Config {
        data_dir: data_dir?,
        run_dir: run_dir?,
        name: name?,
        role,
        labels,
        listen,
        advertise,
        trust,
        host: host?,
        network,
        fence,
        reserve,
        on_shutdown,
        log,
        timing,
        raft,
    })
}

pub(super) const ROLES: [(&str, NodeRole); 3] =
    [("data", NodeRole::Data), ("storage", NodeRole::Storage), ("witness", NodeRole::Witness)];
pub(super) const ON_SHUTDOWN: [(&str, OnShutdown); 2] =
    [("keep", OnShutdown::Keep), ("stop", OnShutdown::Stop)];
pub(super) const DATASETS: [(&str, DatasetsKind); 3] =
    [("dir", DatasetsKind::Dir), ("zfs", DatasetsKind::Zfs), ("mem", DatasetsKind::Mem)];
pub(super) const RUNTIMES: [(&str, RuntimeKind); 3] =
    [("process", RuntimeKind::Process), ("lxc", RuntimeKind::Lxc), ("mem", RuntimeKind::Mem)];
pub(super) const FORMATS: [(&str, LogFormat); 2] =
    [("text", LogFormat::Text), ("json", LogFormat::Json)];

pub(super) fn absolute(section: &mut Section<'_, '_>, key: &'static str) -> Option<PathBuf> {
    let At { line, value } = section.text(key)?;
    let path = PathBuf::from(&value);
    if !path.is_absolute() {
        let what = format!("`{value}` is not an absolute path");
        section.fault(line, key, what, "begin it with `/`: a daemon has no place of its own");
        return None;
    }
    Some(path)
}

fn run_dir(root: &mut Section<'_, '_>, data_dir: Option<&PathBuf>) -> Option<PathBuf> {
    let written = root.text("run_dir");
    let line = written.as_ref().map_or(1, |at| at.line);
    let path = match written {
        Some(At { value, .. }) => PathBuf::from(value),
        None => data_dir?.join("run"),
    };
    if !path.is_absolute() || path.as_os_str().len() > RUN_DIR_MAX {
        let what =
            format!("`{}` must be an absolute path of at most {RUN_DIR_MAX} bytes", path.display());
        root.fault(line, "run_dir", what, "name a shorter one: names of sockets in it have to fit");
        return None;
    }
    Some(path)
}

fn labels(root: &mut Section<'_, '_>) -> Labels {
    let mut section = root.section("labels");
    let mut labels = Labels::new();
    for (key, At { line, value }) in section.all_texts() {
        let one = Labels::from([(key.clone(), value.clone())]);
        for fault in validate_labels(&one) {
            section.fault(line, &key, fault.detail, fault.hint.as_deref().unwrap_or_default());
        }
        labels.insert(key, value);
    }
    labels
}

fn trust(root: &mut Section<'_, '_>) -> Trust {
    let mut section = root.section("trust");
    let mut test_networks = Vec::new();
    for At { line, value } in section.texts("test_networks") {
        match Network::from_str(&value) {
            Ok(network) if network.is_private() => test_networks.push(network),
            Ok(_) => {
                let what = format!("`{value}` is not a private network");
                let hint = "everybody in a test network may command the cluster: only private \
                            ranges such as 10.0.0.0/8, 192.168.0.0/16, fd00::/8 can be one";
                section.fault(line, "test_networks", what, hint);
            }
            Err(what) => section.fault(line, "test_networks", what, ""),
        }
    }
    section.end();
    Trust { test_networks }
}

/// An address that is allowed, or the fault noted.
fn address(
    section: &mut Section<'_, '_>,
    key: &'static str,
    trust: &Trust,
) -> Option<At<SocketAddr>> {
    let At { line, value } = section.text(key)?;
    let checked = socket(&value)
        .map_err(|what| (what, String::new()))
        .and_then(|address| allowed(address.ip(), &trust.test_networks).map(|()| address));
    match checked {
        Ok(value) => Some(At { line, value }),
        Err((what, hint)) => {
            section.fault(line, key, what, &hint);
            None
        }
    }
}

fn listen(root: &mut Section<'_, '_>, trust: &Trust) -> Listen {
    let mut section = root.section("listen");
    let local = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let api = address(&mut section, "api", trust);
    let peer = address(&mut section, "peer", trust);
    let line = peer.as_ref().or(api.as_ref()).map_or(1, |at| at.line);
    let api = api.map_or(local(API_PORT), |at| at.value);
    let peer = peer.map_or(local(PEER_PORT), |at| at.value);
    if api == peer {
        let what = format!("`{peer}` is the address of `listen.api` too");
        section.fault(line, "peer", what, "give each its own port");
    }
    section.end();
    Listen { api, peer }
}

fn advertise(root: &mut Section<'_, '_>, trust: &Trust, listen: &Listen) -> Addresses {
    let mut section = root.section("advertise");
    let api = address(&mut section, "api", trust).map_or(listen.api, |at| at.value);
    let peer = address(&mut section, "peer", trust).map_or(listen.peer, |at| at.value);
    section.end();
    Addresses { api: api.to_string(), peer: peer.to_string() }
}

fn reserve(root: &mut Section<'_, '_>) -> Reserve {
    let mut section = root.section("reserve");
    let reserve = Reserve {
        cpu: section.parse("cpu").map(|at| at.value),
        memory: section.parse("memory").map(|at| at.value),
        disk: section.parse("disk").map(|at| at.value),
    };
    section.end();
    reserve
}

fn log(root: &mut Section<'_, '_>) -> Log {
    let mut section = root.section("log");
    let format = section.word("format", &FORMATS).unwrap_or_default();
    let filter = section.text("filter");
    if let Some(At { line, value }) = &filter
        && let Err(error) = tracing_subscriber::EnvFilter::try_new(value)
    {
        let what = format!("`{value}` is not a filter: {error}");
        section.fault(*line, "filter", what, "such as `info` or `info,scrapd::leader=debug`");
    }
    section.end();
    Log { format, filter: filter.map_or_else(|| LOG_FILTER.to_owned(), |at| at.value) }
}

fn timing(root: &mut Section<'_, '_>) -> Timing {
    let mut section = root.section("timing");
    let default =
        section.word("preset", &Preset::ALL.map(|it| (it.word(), it))).unwrap_or_default().timing();
    let mut lines = Vec::new();
    let mut span = |key, default: Span| match section.parse::<Span>(key) {
        Some(At { line, value }) => {
            lines.push(line);
            value
        }
        None => default,
    };
    let (renew, suspect) = (span("renew", default.renew), span("suspect", default.suspect));
    let (stop, lease) = (span("stop", default.stop), span("lease", default.lease));
    let (kill, tick) = (span("kill", default.kill), span("tick", default.tick));
    let ticks = section.parse::<u32>("ticks");
    lines.extend(ticks.as_ref().map(|at| at.line));
    let ticks = ticks.map_or(default.ticks, |at| at.value);
    let timing = Timing { renew, suspect, stop, lease, kill, tick, ticks };
    if let Err(error) = timing.check() {
        let hint = "a grain could run twice with these numbers; every `preset` is safe as it is";
        section.fault(lines.first().copied().unwrap_or(1), "*", error.to_string(), hint);
    }
    section.end();
    timing
}

fn raft(root: &mut Section<'_, '_>) -> RaftPace {
    let mut section = root.section("raft");
    let default = RaftPace::default();
    let heartbeat = section.parse::<Span>("heartbeat").map_or(default.heartbeat, |at| at.value);
    let election = section.parse::<Span>("election");
    let line = election.as_ref().map_or(1, |at| at.line);
    let election = election.map_or(default.election, |at| at.value);
    if heartbeat.ms() == 0 || election.ms() < heartbeat.ms().saturating_mul(4) {
        let what = format!("{election} must be at least four heartbeats of {heartbeat}");
        section.fault(line, "election", what, "or one lost packet would depose a leader");
    }
    section.end();
    RaftPace { heartbeat, election }
}
