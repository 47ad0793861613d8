//! Whether the demo's ports are free, and who has them if not. Asks the kernel; never takes a port for longer than a look.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use super::layout::Layout;
use super::process;
use crate::setup::refused;

/// Refuses if a port is taken.
pub(super) fn check(layout: &Layout) -> anyhow::Result<()> {
    let wanted = layout.nodes.iter().flat_map(|node| [node.api, node.peer]);
    let taken: Vec<String> = wanted
        .filter(|address| TcpListener::bind(address).is_err())
        .map(|address| format!("{} by {}", address.port(), holder(address)))
        .collect();
    if taken.is_empty() {
        return Ok(());
    }
    let hint = "end it, or take other ports with `--port-base 17272`";
    Err(refused(format!("ports of the demo are taken: {}", taken.join(", ")), hint))
}

/// Refuses if the port of the tour's web site is taken.
pub(super) fn check_one(port: u16) -> anyhow::Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    if TcpListener::bind(address).is_ok() {
        return Ok(());
    }
    let what = format!("port {port} of the guestbook is taken by {}", holder(address));
    Err(refused(what, "end it, or begin a demo with other ports: `--port-base 17272`"))
}

/// Who listens on an address, as far as `/proc` tells.
fn holder(address: SocketAddr) -> String {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let inodes: Vec<u64> = tables
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .flat_map(|text| listeners(&text, address.port()))
        .collect();
    let sockets = sockets();
    let pid = inodes.iter().find_map(|inode| sockets.get(inode));
    match pid {
        Some(pid) => {
            let program = process::name(*pid).unwrap_or_default();
            format!("process {pid} (`{program}`)")
        }
        None => "a process that cannot be seen from here".to_owned(),
    }
}

/// Inodes of listening sockets of a port in a table of the kernel.
fn listeners(table: &str, port: u16) -> Vec<u64> {
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, local) = fields.get(1)?.rsplit_once(':')?;
        let listens = *fields.get(3)? == "0A" && u16::from_str_radix(local, 16) == Ok(port);
        fields.get(9).filter(|_| listens)?.parse().ok()
    };
    table.lines().skip(1).filter_map(inode).collect()
}

/// Processes by the inodes of their sockets.
fn sockets() -> BTreeMap<u64, u32> {
    let mut sockets = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let files = std::fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten();
        for file in files {
            let Ok(target) = std::fs::read_link(file.path()) else { continue };
            let target = target.to_string_lossy();
            let inode = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
            if let Some(inode) = inode.and_then(|inode| inode.parse().ok()) {
                sockets.insert(inode, pid);
            }
        }
    }
    sockets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_port_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let holder = holder(listener.local_addr().unwrap());
        assert!(holder.starts_with(&format!("process {} (", std::process::id())), "{holder}");
        let address = listener.local_addr().unwrap();
        drop(listener);
        assert_eq!(super::holder(address), "a process that cannot be seen from here");
    }
}
