//! The network of grains on this machine: makes the kernel's state what is wanted, and says what is not so.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use scrap_schema::id::GrainId;
use tokio::sync::Mutex;

use super::airwave::Airwave;
use super::check::{self, Here};
use super::error::{NetError, NetTrouble};
use super::interfaces::Interfaces;
use super::kernel::{self, Kernel, Setting};
use super::program::{IP, NFT};
use super::routing::{self, Entry, Need};
use super::rules::{self, Ground};
use super::witness::Witness;
use super::{Attachment, INTERFACE_PREFIX, NetSettings, Surroundings, filter, interface};

/// The network of grains on this machine.
#[derive(Debug)]
pub struct HostNet {
    settings: NetSettings,
    kernel: Kernel,
    inner: Box<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    surroundings: Surroundings,
    /// The table as it was loaded, and how the kernel tells it since.
    loaded: Option<(String, String)>,
    /// Interfaces that have their filter, by the number they had then.
    filtered: BTreeMap<String, usize>,
    /// What was arranged the last time without a failure, and how often it was only compared since.
    done: Option<(Plan, u32)>,
    witness: Option<Witness>,
}

/// The witness does not hear of proxy entries, nor of settings of the kernel: after so many times everything is looked at
/// anyway.
const COMPARED_MAX: u32 = 5;

/// Everything that should be, and what it is made for.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    interfaces: Interfaces,
    table: String,
    needs: Vec<Need>,
    /// Of the kernel, for the uplink and for the interfaces of grains.
    uplink_settings: Vec<Setting>,
    grain_settings: Vec<Setting>,
    /// Interfaces of grains that are there.
    grains: BTreeSet<String>,
}

impl Plan {
    /// The number of a grain's interface: another one when it has come again.
    fn number(&self, grain: &str) -> Option<usize> {
        self.interfaces.all.get(grain).map(|link| link.index)
    }
}

impl Inner {
    /// Those interfaces of grains that have been there since they were arranged.
    fn settled(&self, plan: &Plan) -> BTreeSet<String> {
        let since = |grain: &&String| self.filtered.get(*grain).copied() == plan.number(grain);
        plan.grains.iter().filter(since).cloned().collect()
    }

    /// Whether the same was done before and nobody has changed anything since. Our own changes are heard too, so the
    /// next time everything is looked at once more.
    fn is_done(&mut self, plan: &Plan) -> bool {
        let happened = match &self.witness {
            Some(witness) => witness.something_happened(),
            None => {
                // Without an ear everything is looked at every time.
                self.witness = Witness::new().ok();
                true
            }
        };
        match &mut self.done {
            Some((done, compared)) if !happened && done == plan && *compared < COMPARED_MAX => {
                *compared += 1;
                true
            }
            Some(_) | None => {
                self.done = None;
                false
            }
        }
    }
}

impl HostNet {
    /// Touches nothing yet.
    ///
    /// # Errors
    /// A name that programs would misread.
    pub fn open(settings: NetSettings) -> Result<Self, NetError> {
        check::settings(&settings)?;
        let kernel = Kernel::new(&settings.memory);
        Ok(Self { settings, kernel, inner: Box::default() })
    }

    /// What else belongs to the cluster; counts from the next [`Self::arrange`].
    pub async fn surround(&self, surroundings: Surroundings) {
        self.inner.lock().await.surroundings = surroundings;
    }

    /// Makes the network what these grains need, and takes away what they do not. Safe at any time, also for grains that
    /// run; nothing is changed if nothing is to be changed. To be called before the start of a grain (its interface
    /// needs not be there), right after it, after every change, and every ten seconds.
    ///
    /// # Errors
    /// The first thing that cannot be as it should. Everything else is done as far as possible, and grains are closed
    /// rather than open: one whose attachment cannot be has no network, the others have theirs. A grain that is not
    /// running must not be started then.
    pub async fn arrange(&self, wanted: &BTreeMap<GrainId, Attachment>) -> Result<(), NetError> {
        self.arrange_all(wanted).await.into_iter().next().map_or(Ok(()), Err)
    }

    /// The same for a grain that is about to start or has just been started: what is wrong with others does not hold it up.
    ///
    /// # Errors
    /// The first thing that keeps this grain from its network.
    pub async fn arrange_for(
        &self,
        grain: GrainId,
        wanted: &BTreeMap<GrainId, Attachment>,
    ) -> Result<(), NetError> {
        let mut failures = self.arrange_all(wanted).await.into_iter();
        failures.find(|failure| failure.concerns(grain)).map_or(Ok(()), Err)
    }

    async fn arrange_all(&self, wanted: &BTreeMap<GrainId, Attachment>) -> Vec<NetError> {
        let mut inner = self.inner.lock().await;
        let (plan, mut failures) = match self.plan(wanted, &inner.surroundings) {
            Ok(planned) => planned,
            Err(error) => return vec![error],
        };
        let is_set = self.kernel.look(&plan.uplink_settings).is_empty();
        if inner.is_done(&plan) && is_set {
            return failures;
        }
        let refused = failures.len();
        let routing = async |need: Option<&Need>| match need {
            Some(need) => self.arrange_routing(need).await.err(),
            None => None,
        };
        // Rules first: they close, the table opens. One for each family; what is only asked is asked meanwhile.
        let (v4, v6, is_loaded, unfiltered) = tokio::join!(
            routing(plan.needs.first()),
            routing(plan.needs.get(1)),
            self.is_loaded(&inner, &plan.table),
            filter::missing(&plan.grains)
        );
        failures.extend(v4.into_iter().chain(v6));
        if !is_loaded {
            failures.extend(self.load(&mut inner, &plan.table).await.err());
        }
        failures.extend(self.kernel.arrange(&plan.uplink_settings).err());
        failures.extend(self.kernel.arrange(&plan.grain_settings).err());
        let filtered = async { arrange_filters(&mut inner.filtered, &plan, unfiltered?).await };
        failures.extend(filtered.await.err());
        if !plan.interfaces.all.contains_key(&self.settings.uplink) {
            failures.push(NetError::NoUplink { uplink: self.settings.uplink.clone() });
        }
        if failures.len() == refused {
            inner.done = Some((plan, 0));
        }
        failures
    }

    fn plan(
        &self,
        wanted: &BTreeMap<GrainId, Attachment>,
        surroundings: &Surroundings,
    ) -> Result<(Plan, Vec<NetError>), NetError> {
        let has_v6 = self.kernel.has_v6();
        let interfaces = Interfaces::read()?;
        let here = Here { addresses: interfaces.own_addresses(), v6: has_v6 };
        let (good, refused) = check::attachments(wanted, &here);
        let uplink = self.settings.uplink.as_str();
        let grains = of_grains(&interfaces);
        let table = rules::transaction(
            &self.settings.table,
            &ground(uplink, &interfaces, surroundings),
            &good,
        );
        let uplink_there = interfaces.all.contains_key(uplink);
        let mut closed = grains.clone();
        closed.extend(wanted.values().map(|attachment| interface(attachment).host));
        let need = |v4: bool, router: bool| Need {
            interfaces: closed.clone(),
            joined: grains.clone(),
            addresses: good
                .values()
                .flat_map(Attachment::addresses)
                .filter(|a| a.is_ipv4() == v4)
                .collect(),
            uplink: uplink.to_owned(),
            uplink_there,
            router,
            v4,
        };
        let mut needs = vec![need(true, self.kernel.is_router4())];
        if has_v6 {
            needs.push(need(false, self.kernel.is_router6()?));
        }
        let uplink_settings = kernel::of_uplink(uplink, has_v6);
        let grain_settings = grains.iter().flat_map(|grain| self.settings_of(grain)).collect();
        let plan = Plan { interfaces, table, needs, uplink_settings, grain_settings, grains };
        Ok((plan, refused))
    }

    fn settings_of(&self, interface: &str) -> Vec<Setting> {
        kernel::of_grain(interface, self.kernel.has_v6())
    }

    async fn arrange_routing(&self, need: &Need) -> Result<(), NetError> {
        let present = present(need.v4).await?;
        change(need.v4, &routing::changes(&routing::wanted(need), &present)).await
    }

    /// Whether the table is the wanted one, and the kernel tells it as after it was loaded.
    async fn is_loaded(&self, inner: &Inner, text: &str) -> bool {
        match &inner.loaded {
            Some((loaded, listing)) if loaded == text => {
                self.listing().await.is_ok_and(|now| now == *listing)
            }
            Some(_) | None => false,
        }
    }

    async fn load(&self, inner: &mut Inner, text: &str) -> Result<(), NetError> {
        inner.loaded = None;
        NFT.run(&["-f", "-"], text).await?;
        inner.loaded = Some((text.to_owned(), self.listing().await?));
        Ok(())
    }

    /// The tables as the kernel has them, without counters.
    async fn listing(&self) -> Result<String, NetError> {
        // Not as one: asked for both at once it knows only the second.
        let inet = ["-s", "list", "table", "inet", &self.settings.table];
        let arp = ["-s", "list", "table", "arp", &self.settings.table];
        let (inet, arp) = tokio::join!(NFT.run(&inet, ""), NFT.run(&arp, ""));
        Ok(inet? + &arp?)
    }

    /// Tells the LAN that a grain's addresses are here now. Once; to be repeated after one and five seconds, because
    /// nobody says that he has heard it.
    ///
    /// # Errors
    /// The uplink is not there, or nothing can be sent on it.
    pub async fn announce(&self, grain: &Attachment) -> Result<(), NetError> {
        Airwave::new(&self.settings.uplink, &Interfaces::read()?)?.announce(grain)
    }

    /// Whether this machine or somebody on its LAN has an address already. Takes about a second if not. To be asked
    /// before [`Self::arrange`] is told of it, and while no other node answers for it.
    ///
    /// # Errors
    /// The uplink is not there, or nothing can be sent on it.
    pub async fn in_use(&self, address: IpAddr) -> Result<bool, NetError> {
        let interfaces = Interfaces::read()?;
        if interfaces.own_addresses().contains(&address) {
            return Ok(true);
        }
        let airwave = Airwave::new(&self.settings.uplink, &interfaces)?;
        let failed = |error: tokio::task::JoinError| NetError::Interfaces(error.into());
        tokio::task::spawn_blocking(move || airwave.in_use(address)).await.map_err(failed)?
    }

    /// What is not as it should be. Changes nothing. An interface that has come since it was arranged the last time is not
    /// spoken of: its grain starts just now.
    pub async fn look(&self, wanted: &BTreeMap<GrainId, Attachment>) -> Vec<NetTrouble> {
        let inner = self.inner.lock().await;
        let (plan, refused) = match self.plan(wanted, &inner.surroundings) {
            Ok(planned) => planned,
            Err(error) => return vec![NetTrouble::Unclear(error)],
        };
        let mut troubles: Vec<NetTrouble> = refused.into_iter().map(NetTrouble::Refused).collect();
        match plan.interfaces.all.get(&self.settings.uplink) {
            None => troubles.push(NetTrouble::NoUplink(self.settings.uplink.clone())),
            Some(link) if !link.up => {
                troubles.push(NetTrouble::UplinkDown(self.settings.uplink.clone()));
            }
            Some(_) => (),
        }
        troubles.extend(self.look_at_table(&inner, &plan.table).await);
        let settled = inner.settled(&plan);
        for need in &plan.needs {
            match present(need.v4).await {
                Err(error) => troubles.push(NetTrouble::Unclear(error)),
                Ok(present) => {
                    // What has just come has not been arranged yet.
                    let wanted = routing::wanted(&Need { joined: settled.clone(), ..need.clone() });
                    let (missing, _) = routing::differences(&wanted, &present);
                    let missing = missing.into_iter().map(Entry::to_string);
                    troubles.extend(missing.map(NetTrouble::Missing));
                    let wanted = routing::wanted(need);
                    let (_, unwanted) = routing::differences(&wanted, &present);
                    let unwanted = unwanted.into_iter().map(Entry::to_string);
                    troubles.extend(unwanted.map(NetTrouble::Unwanted));
                }
            }
        }
        troubles.extend(self.kernel.look(&plan.uplink_settings));
        let settings = settled.iter().flat_map(|grain| self.settings_of(grain));
        troubles.extend(self.kernel.look(&settings.collect::<Vec<_>>()));
        match filter::missing(&settled).await {
            Ok(missing) => troubles.extend(missing.into_iter().map(NetTrouble::NoFilter)),
            Err(error) => troubles.push(NetTrouble::Unclear(error)),
        }
        troubles
    }

    async fn look_at_table(&self, inner: &Inner, text: &str) -> Option<NetTrouble> {
        let table = self.settings.table.clone();
        match (self.listing().await, &inner.loaded) {
            (Err(NetError::Refused { .. }), _) => Some(NetTrouble::NoTable(table)),
            (Ok(_), None) => Some(NetTrouble::NotLoaded(table)),
            (Err(error), _) => Some(NetTrouble::Unclear(error)),
            (Ok(now), Some((_, listing))) if now != *listing => {
                Some(NetTrouble::TableChanged(table))
            }
            // An address of this machine has come or gone since.
            (Ok(_), Some((loaded, _))) => (loaded != text).then_some(NetTrouble::NotLoaded(table)),
        }
    }

    /// Leaves the machine as it was: no table, no rules, no routes, no entries, the kernel's settings as remembered.
    ///
    /// # Errors
    /// Grains are still joined to this machine (nothing is touched then), or something cannot be removed.
    pub async fn clear(&self) -> Result<(), NetError> {
        let mut inner = self.inner.lock().await;
        let interfaces = of_grains(&Interfaces::read()?);
        if !interfaces.is_empty() {
            return Err(NetError::Attached { interfaces: interfaces.into_iter().collect() });
        }
        inner.loaded = None;
        inner.filtered.clear();
        inner.done = None;
        let families: &[bool] = if self.kernel.has_v6() { &[true, false] } else { &[true] };
        for v4 in families.iter().copied() {
            change(v4, &routing::changes(&routing::untouched(), &present(v4).await?)).await?;
        }
        let table = &self.settings.table;
        let text: String = ["inet", "arp"]
            .map(|family| format!("table {family} {table}\ndelete table {family} {table}\n"))
            .concat();
        NFT.run(&["-f", "-"], &text).await?;
        self.kernel.clear()
    }
}

/// Names of grains' interfaces among all.
fn of_grains(interfaces: &Interfaces) -> BTreeSet<String> {
    let names = interfaces.all.keys();
    names.filter(|name| name.starts_with(INTERFACE_PREFIX)).cloned().collect()
}

fn ground(uplink: &str, interfaces: &Interfaces, surroundings: &Surroundings) -> Ground {
    let own = interfaces.own_addresses();
    // Those that no router knows are closed always. They come and go with the interfaces of grains.
    let own = own.into_iter().filter(|address| match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    });
    let nodes = surroundings.nodes.iter().copied().chain(own);
    let mut never: BTreeSet<super::Prefix> = nodes.map(super::Prefix::of).collect();
    never.extend(interfaces.others(uplink).into_iter().filter(|network| !network.is_link_local()));
    Ground {
        uplink: uplink.to_owned(),
        lans: interfaces.lans(uplink),
        pools: surroundings.pools.clone(),
        never,
    }
}

fn family(v4: bool) -> &'static str {
    if v4 { "-4" } else { "-6" }
}

/// What of ours the kernel has.
async fn present(v4: bool) -> Result<BTreeSet<Entry>, NetError> {
    let answers = IP.run(&[family(v4), "-j", "-batch", "-"], routing::QUESTIONS).await?;
    routing::present(&answers).map_err(|source| NetError::Answer { program: IP.name(), source })
}

async fn change(v4: bool, changes: &[String]) -> Result<(), NetError> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut lines = changes.join("\n");
    lines.push('\n');
    IP.run(&[family(v4), "-batch", "-"], &lines).await.map(drop)
}

/// Gives interfaces a filter that have none, or that have come again.
async fn arrange_filters(
    filtered: &mut BTreeMap<String, usize>,
    plan: &Plan,
    missing: BTreeSet<String>,
) -> Result<(), NetError> {
    let mut without = missing.clone();
    let number = |grain: &String| filtered.get(grain).copied();
    without.extend(plan.grains.iter().filter(|grain| number(grain) != plan.number(grain)).cloned());
    filter::arrange(&missing, &without).await?;
    let now = plan.grains.iter().filter_map(|grain| Some((grain.clone(), plan.number(grain)?)));
    *filtered = now.collect();
    Ok(())
}
