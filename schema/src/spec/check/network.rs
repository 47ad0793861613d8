//! What is wrong with networks, and with what a grain wants of one.

use std::net::IpAddr;

use super::health::port;
use crate::problem::FieldError;
use crate::spec::{Egress, GrainSpec, Ingress, NetworkSpec, Ports, Protocol, Range};
use crate::strict::{Validate, within};

const OPENINGS_MAX: usize = 256;
const EXCLUDED_MAX: usize = 1024;
/// A pool of IPv6 is not larger than one network usually is.
const V6_PREFIX_MIN: u8 = 64;

impl GrainSpec {
    /// Faults of the network and of what may go in and out.
    pub(super) fn addresses(&self) -> Vec<FieldError> {
        let mut faults = Vec::new();
        if self.network.is_some() && !self.template.is_system() {
            let fault = FieldError::new(
                "/network",
                "a grain of the template `process` has no network of its own",
            );
            faults.push(fault.with_hint("remove it: the program uses the machine's addresses"));
        }
        let rules = !self.ingress.is_empty() || self.egress != Egress::default_rules();
        if self.network.is_none() && rules {
            let at = if self.ingress.is_empty() { "/egress" } else { "/ingress" };
            let fault = FieldError::new(at, "there is no `network` that this could be about");
            faults.push(fault.with_hint("add for example: network: {name: grains}"));
        }
        for (at, count) in [("/ingress", self.ingress.len()), ("/egress", self.egress.len())] {
            if count > OPENINGS_MAX {
                let detail = format!("{count} rules are more than {OPENINGS_MAX}");
                faults.push(FieldError::new(at, detail).with_hint("join ports to ranges"));
            }
        }
        for (index, rule) in self.ingress.iter().enumerate() {
            faults.extend(within(&format!("/ingress/{index}"), rule.validate()));
        }
        for (index, rule) in self.egress.iter().enumerate() {
            faults.extend(within(&format!("/egress/{index}"), rule.validate()));
        }
        faults
    }
}

impl Validate for Ingress {
    fn validate(&self) -> Vec<FieldError> {
        let mut faults = ports(self.port, self.ports, self.protocol);
        let needs_ports = matches!(self.protocol, Protocol::Tcp | Protocol::Udp);
        if needs_ports && self.range().is_none() {
            let fault = FieldError::new("", "it does not say which port may be reached");
            faults.push(fault.with_hint("add `port: 443`; all are `ports: 1-65535`"));
        }
        faults
    }
}

impl Validate for Egress {
    fn validate(&self) -> Vec<FieldError> {
        ports(self.port, self.ports, self.protocol)
    }
}

fn ports(one: Option<u16>, several: Option<Ports>, protocol: Protocol) -> Vec<FieldError> {
    let mut faults: Vec<FieldError> = one.and_then(|one| port("/port", one)).into_iter().collect();
    if one.is_some() && several.is_some() {
        let fault = FieldError::new("", "`port` and `ports` exclude each other");
        faults.push(fault.with_hint("keep one of them, or make a rule of each"));
    }
    if protocol == Protocol::Icmp && (one.is_some() || several.is_some()) {
        let fault = FieldError::new("/protocol", "icmp has no ports");
        faults.push(fault.with_hint("remove the port, or write tcp or udp"));
    }
    faults
}

impl Validate for NetworkSpec {
    fn validate(&self) -> Vec<FieldError> {
        let mut faults = Vec::new();
        if self.v4.is_none() && self.v6.is_none() {
            let fault = FieldError::new("", "a network needs addresses: `v4`, `v6` or both");
            faults.push(fault.with_hint("for example: {v4: 192.168.60.0/24}"));
        }
        if let Some(pool) = self.v4 {
            faults.extend(within("/v4", family(pool, true)));
        }
        if let Some(pool) = self.v6 {
            faults.extend(within("/v6", family(pool, false)));
            let wide = pool.as_block().is_none_or(|block| block.prefix < V6_PREFIX_MIN);
            if !pool.first().is_ipv4() && wide && too_wide(pool) {
                let detail = format!("{pool} is larger than a network of /{V6_PREFIX_MIN}");
                let hint = format!("choose one /{V6_PREFIX_MIN} of it");
                faults.push(FieldError::new("/v6", detail).with_hint(hint));
            }
        }
        if self.exclude.len() > EXCLUDED_MAX {
            let detail = format!("{} exclusions are more than {EXCLUDED_MAX}", self.exclude.len());
            faults.push(FieldError::new("/exclude", detail).with_hint("join them to ranges"));
        }
        faults
    }
}

fn too_wide(pool: Range) -> bool {
    let size = crate::spec::number(pool.last()) - crate::spec::number(pool.first());
    size >= 1 << (128 - u32::from(V6_PREFIX_MIN))
}

/// Whether the addresses of a pool are of its family and can be addresses of machines at all.
fn family(pool: Range, v4: bool) -> Vec<FieldError> {
    if pool.first().is_ipv4() != v4 {
        let key = if v4 { "v6" } else { "v4" };
        let detail = format!("{pool} is of the other family");
        return vec![FieldError::new("", detail).with_hint(format!("it belongs under `{key}`"))];
    }
    let special = |address: IpAddr| {
        let of_all = match address {
            IpAddr::V4(address) => address.octets()[0] == 0 || address.octets()[0] >= 224,
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
        of_all || address.is_unspecified() || address.is_loopback() || address.is_multicast()
    };
    let loopback = v4 && pool.overlaps(&loopback());
    if loopback || special(pool.first()) || special(pool.last()) {
        let detail = format!("{pool} has addresses that no machine in a network can have");
        let hint = "a part of the network that your nodes are in, such as 192.168.60.0/24";
        return vec![FieldError::new("", detail).with_hint(hint)];
    }
    Vec::new()
}

fn loopback() -> Range {
    let address = IpAddr::from([127, 0, 0, 0]);
    crate::spec::Cidr { address, prefix: 8 }.into()
}
