//! What a grain gets for itself alone, for as long as it exists: its template, its addresses, its user ids.
//!
//! Always the lowest that is free, so that every node comes to the same. What a grain has stays its own until it is purged: a
//! node that is cut off may still run it, and nobody else may have the same address meanwhile.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use scrap_schema::id::{GrainId, Name, TemplateId};
use scrap_schema::spec::{GrainNetwork, GrainSpec, NetworkSpec};

use crate::cluster::{Cluster, Grain, IDS_FIRST, IDS_PER_GRAIN};
use crate::reach::around;
use crate::refusal::Refusal;

/// Ids above this one are left to others.
const IDS_LAST: u32 = 4_000_000_000;

/// A grain's share.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Lot {
    pub(super) template: Option<TemplateId>,
    pub(super) address: Option<Ipv4Addr>,
    pub(super) address6: Option<Ipv6Addr>,
    pub(super) mac: Option<[u8; 6]>,
    pub(super) ids: Option<u32>,
}

impl Lot {
    /// What a grain gets for a spec. `held` is the grain as it is, if it exists: what it has it keeps where that is possible.
    pub(super) fn of(
        cluster: &Cluster,
        id: GrainId,
        held: Option<&Grain>,
        spec: &GrainSpec,
    ) -> Result<Self, Refusal> {
        let mut lot = held.map(Self::held).unwrap_or_default();
        lot.template = template(cluster, held, spec)?;
        if lot.template.is_some() && lot.ids.is_none() {
            lot.ids = Some(ids(cluster, id)?);
        }
        if let Some(wish) = &spec.network {
            lot.addresses(cluster, id, wish)?;
            lot.mac = lot.mac.or_else(|| Some(mac(cluster, id)));
        }
        if let Some(grain) = held {
            keeps_while_running(grain, &lot)?;
        }
        Ok(lot)
    }

    fn held(grain: &Grain) -> Self {
        Self {
            template: grain.template,
            address: grain.address,
            address6: grain.address6,
            mac: grain.mac,
            ids: grain.ids,
        }
    }

    /// Hands it over.
    pub(super) fn give(self, grain: &mut Grain) {
        let Self { template, address, address6, mac, ids } = self;
        grain.template = template;
        grain.address = address;
        grain.address6 = address6;
        grain.mac = mac;
        grain.ids = ids;
    }

    fn addresses(
        &mut self,
        cluster: &Cluster,
        id: GrainId,
        wish: &GrainNetwork,
    ) -> Result<(), Refusal> {
        let missing =
            || Refusal::NotFound { what: "network".to_owned(), name: wish.name.to_string() };
        let network = &cluster.networks.get(&wish.name).ok_or_else(missing)?.network;
        let pools = Pools { cluster, id, name: &wish.name, network };
        let v4 = pools.choose(true, wish.address.map(IpAddr::V4), self.address.map(IpAddr::V4))?;
        let v6 =
            pools.choose(false, wish.address6.map(IpAddr::V6), self.address6.map(IpAddr::V6))?;
        self.address = v4.and_then(|address| match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        });
        self.address6 = v6.and_then(|address| match address {
            IpAddr::V6(address) => Some(address),
            IpAddr::V4(_) => None,
        });
        Ok(())
    }
}

/// An address that a grain gives up could be given to another one, while this one still answers on it somewhere.
fn keeps_while_running(grain: &Grain, lot: &Lot) -> Result<(), Refusal> {
    let before = Lot::held(grain);
    let gives_up = before.address.is_some() && before.address != lot.address
        || before.address6.is_some() && before.address6 != lot.address6;
    let at_rest = grain.started.is_none() && (!grain.wants_to_run() || grain.owner.is_none());
    match gives_up && !at_rest {
        true => Err(Refusal::WrongState {
            name: grain.name.clone(),
            is: "running: an address is given up only by a stopped grain".to_owned(),
        }),
        false => Ok(()),
    }
}

fn template(
    cluster: &Cluster,
    held: Option<&Grain>,
    spec: &GrainSpec,
) -> Result<Option<TemplateId>, Refusal> {
    if let Some(grain) = held {
        if grain.spec.template == spec.template {
            return Ok(grain.template);
        }
        if grain.born || grain.owner.is_some() {
            let why = format!(
                "grain {} has begun from `{}`, which cannot be changed: make another grain and move the data inside it",
                grain.name, grain.spec.template
            );
            return Err(Refusal::Invalid { why });
        }
    }
    let Some(name) = spec.template.name() else { return Ok(None) };
    match cluster.template_named(name) {
        Some(template) => Ok(Some(template.id)),
        None => Err(Refusal::NotFound { what: "template".to_owned(), name: name.to_string() }),
    }
}

/// The lowest free range of ids.
fn ids(cluster: &Cluster, id: GrainId) -> Result<u32, Refusal> {
    let others = cluster.grains.values().filter(|grain| grain.id != id);
    let taken: BTreeSet<u32> = others.filter_map(|grain| grain.ids).collect();
    let mut base = IDS_FIRST;
    while taken.contains(&base) {
        base = base.saturating_add(IDS_PER_GRAIN);
    }
    match base <= IDS_LAST {
        true => Ok(base),
        false => {
            Err(Refusal::Exhausted { what: "range of user ids".to_owned(), of: String::new() })
        }
    }
}

/// The pools of a network, for one grain.
struct Pools<'a> {
    cluster: &'a Cluster,
    id: GrainId,
    name: &'a Name,
    network: &'a NetworkSpec,
}

impl Pools<'_> {
    /// The wanted address, the one that it has, or the lowest free one.
    fn choose(
        &self,
        v4: bool,
        wish: Option<IpAddr>,
        held: Option<IpAddr>,
    ) -> Result<Option<IpAddr>, Refusal> {
        if let Some(wish) = wish {
            return self.wished(wish).map(Some);
        }
        let Some(pool) = (if v4 { self.network.v4 } else { self.network.v6 }) else {
            return Ok(None);
        };
        let fits = |held: &IpAddr| pool.contains(*held) && self.network.barred(*held).is_none();
        if let Some(held) = held.filter(fits) {
            return Ok(Some(held));
        }
        let taken = self.taken();
        let free = pool.lowest(|address| {
            let barred = self.network.barred(address);
            barred.or_else(|| taken.contains(&address).then_some(address))
        });
        let what = if v4 { "IPv4 address" } else { "IPv6 address" }.to_owned();
        let of = format!(" in {pool} of network `{}`", self.name);
        free.map(Some).ok_or(Refusal::Exhausted { what, of })
    }

    fn taken(&self) -> BTreeSet<IpAddr> {
        let others = self.cluster.grains.values().filter(|grain| grain.id != self.id);
        others.flat_map(Grain::addresses).chain(around(self.cluster).nodes).collect()
    }

    fn wished(&self, address: IpAddr) -> Result<IpAddr, Refusal> {
        let unfit = |why: String| {
            let (network, address) = (self.name.clone(), address.to_string());
            Err(Refusal::AddressUnfit { network, address, why })
        };
        let pool = if address.is_ipv4() { self.network.v4 } else { self.network.v6 };
        let Some(pool) = pool else {
            return unfit("it has no addresses of that family".to_owned());
        };
        if !pool.contains(address) {
            return unfit(format!("it has {pool}"));
        }
        if self.network.barred(address).is_some() {
            return unfit("it is excluded, or the edge of the block".to_owned());
        }
        if around(self.cluster).nodes.contains(&address) {
            return unfit("a node has it".to_owned());
        }
        let mut others = self.cluster.grains.values().filter(|grain| grain.id != self.id);
        match others.find(|grain| grain.addresses().any(|taken| taken == address)) {
            Some(other) => {
                let by = other.called();
                Err(Refusal::AddressTaken { address: address.to_string(), by })
            }
            None => Ok(address),
        }
    }
}

/// `02:` and a hash of cluster and grain: the same for ever, and not that of any hardware. FNV-1a; a number is added in the
/// unlikely case that another grain has it.
fn mac(cluster: &Cluster, id: GrainId) -> [u8; 6] {
    let home = cluster.identity.as_ref().map_or(0, |identity| identity.id.0);
    let bytes = home.to_be_bytes().into_iter().chain(id.0.to_be_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    // The upper bits of this hash are the better ones.
    let mut hash = hash >> 16;
    loop {
        let [_, _, _, a, b, c, d, e] = hash.to_be_bytes();
        let mac = [0x02, a, b, c, d, e];
        let mut others = cluster.grains.values().filter(|grain| grain.id != id);
        if !others.any(|grain| grain.mac == Some(mac)) {
            return mac;
        }
        hash = hash.wrapping_add(1);
    }
}
