//! The sections about a node's hands: where datasets lie, what runs grains, which network they are reached on.

use std::path::PathBuf;

use scrap_host::fence::Places;
use scrap_host::zfs::bad_root;
use scrap_schema::unit::Span;

use super::reader::{At, Section};
use super::values::{DATASETS, RUNTIMES, absolute};
use super::{DatasetsKind, HostConfig, NetworkConfig, RuntimeKind, ZfsConfig};

/// Longer than the month after which the distributions scrub by themselves.
const SCRUB_EVERY: Span = Span::from_secs(35 * 24 * 3600);
/// Longest name of a network interface.
const INTERFACE_MAX: usize = 15;

pub(super) fn host(root: &mut Section<'_, '_>, data_dir: Option<&PathBuf>) -> Option<HostConfig> {
    let mut section = root.section("host");
    let datasets = section.word("datasets", &DATASETS).unwrap_or(DatasetsKind::Dir);
    let runtime = section.word("runtime", &RUNTIMES).unwrap_or(RuntimeKind::Process);
    let keeper = absolute(&mut section, "keeper");
    let guard = absolute(&mut section, "guard");
    let watchdog = absolute(&mut section, "watchdog");
    let zfs = zfs(&mut section, datasets, data_dir);
    section.end();
    Some(HostConfig { datasets, runtime, keeper, guard, watchdog, zfs: zfs? })
}

/// The outer `None`: a fault was noted.
fn zfs(
    section: &mut Section<'_, '_>,
    datasets: DatasetsKind,
    data_dir: Option<&PathBuf>,
) -> Option<Option<ZfsConfig>> {
    let dataset = section.text("dataset");
    let mount = absolute(section, "mount");
    let scrub_every = section.parse::<Span>("scrub_every");
    match datasets {
        DatasetsKind::Zfs => {
            let hint = "the dataset below which SCRAP keeps its own, such as \"tank/scrap\"";
            let At { line, value } = section.required("dataset", dataset, hint)?;
            if let Some(why) = bad_root(&value) {
                section.fault(line, "dataset", format!("`{value}` is no dataset: {why}"), hint);
                return None;
            }
            let mount = mount.or_else(|| data_dir.map(|folder| folder.join("pool")))?;
            let scrub_every = scrub_every.map_or(SCRUB_EVERY, |at| at.value);
            Some(Some(ZfsConfig { dataset: value, mount, scrub_every }))
        }
        DatasetsKind::Dir | DatasetsKind::Mem => {
            if let Some(At { line, .. }) = dataset {
                let what = "only the `zfs` backend has a dataset".to_owned();
                section.fault(line, "dataset", what, "say `datasets = \"zfs\"`, or leave it out");
            }
            if let Some(At { line, .. }) = scrub_every {
                let what = "only the `zfs` backend has a pool to scrub".to_owned();
                section.fault(
                    line,
                    "scrub_every",
                    what,
                    "say `datasets = \"zfs\"`, or leave it out",
                );
            }
            Some(None)
        }
    }
}

pub(super) fn network(root: &mut Section<'_, '_>) -> NetworkConfig {
    let mut section = root.section("network");
    let uplink = section.text("uplink").and_then(|At { line, value }| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let good = (1..=INTERFACE_MAX).contains(&value.len())
            && value.bytes().all(allowed)
            && !value.starts_with(['-', '.']);
        if !good {
            let what = format!("`{value}` is no name of a network interface");
            section.fault(line, "uplink", what, "`ip link` lists them: \"eth0\", \"enp3s0\"");
        }
        good.then_some(value)
    });
    section.end();
    NetworkConfig { uplink }
}

pub(super) fn fence(root: &mut Section<'_, '_>) -> Places {
    let mut section = root.section("fence");
    let default = Places::default();
    let places = Places {
        settings: absolute(&mut section, "settings").unwrap_or(default.settings),
        agents: absolute(&mut section, "agents").unwrap_or(default.agents),
        hooks: absolute(&mut section, "hooks").unwrap_or(default.hooks),
    };
    section.end();
    places
}

/// What has to fit together: a whole system needs hands of its own kind.
pub(super) fn fitting(root: &Section<'_, '_>, host: &HostConfig, network: &NetworkConfig) -> bool {
    match host.runtime {
        RuntimeKind::Process | RuntimeKind::Mem if network.uplink.is_some() => {
            let what = "grains of this runtime have no network of their own";
            let hint = "leave `uplink` out, or say `runtime = \"lxc\"` under `[host]`";
            root.fault(1, "network.uplink", what, hint);
            false
        }
        RuntimeKind::Process | RuntimeKind::Mem | RuntimeKind::Lxc => true,
    }
}
