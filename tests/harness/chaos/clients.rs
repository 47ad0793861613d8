//! Clients of the API who make registers of policies that nobody uses: they read one, write one, and put a value in the place of one
//! that they have read, at whatever node, and remember what they were told. What they were not told they do not guess.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Method;
use scrap_schema::api::PolicyView;
use scrap_schema::problem::{Code, Problem};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::history::{FIRST, History};
use super::linear::Deed;
use super::world::{HEALED, World, boot_ms};
use crate::cluster::api::{Answer, Api, Call};
use crate::cluster::wait_for;
use crate::random::Random;

/// Registers that are used at a time.
const SLOTS: usize = 4;
/// Deeds after which a register is left alone: the search for an order grows with them.
const USES: u32 = 250;
/// Deeds without an answer after which it is left alone: the search doubles with each.
const UNKNOWN: u32 = 6;
/// Longest time that a client waits for one answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a client keeps away from a node that did not answer.
const AVOID: Duration = Duration::from_secs(2);

/// One register.
struct Register {
    name: String,
    next: AtomicU64,
    uses: AtomicU32,
    unknown: AtomicU32,
}

impl Register {
    fn is_worn(&self) -> bool {
        self.uses.load(Ordering::Relaxed) >= USES || self.unknown.load(Ordering::Relaxed) >= UNKNOWN
    }
}

/// All clients.
pub struct Clients {
    /// What they did and were told.
    pub history: History,
    world: Arc<World>,
    /// With little patience.
    api: Api,
    slots: Mutex<[Option<Arc<Register>>; SLOTS]>,
    made: AtomicU32,
    stop: AtomicBool,
    /// Longest time without an acknowledged change so far, and since when there is none.
    pause: Duration,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Done,
    /// Something else was there.
    Changed,
    /// Surely nothing.
    Not,
    Unknown,
}

fn fate(answer: &anyhow::Result<Answer>) -> Fate {
    match answer {
        Ok(answer) if (200..300).contains(&answer.status) => Fate::Done,
        Ok(answer) => match serde_json::from_str::<Problem>(&answer.body).map(|it| it.code) {
            Ok(Code::Changed) => Fate::Changed,
            // Their words are: nothing was changed. The judge takes them at their word.
            Ok(Code::NoLeader | Code::NoQuorum | Code::Unavailable | Code::TooManyRequests) => {
                Fate::Not
            }
            Ok(_) | Err(_) => Fate::Unknown,
        },
        Err(error) => {
            let refused = error.downcast_ref::<reqwest::Error>();
            if refused.is_some_and(reqwest::Error::is_connect) { Fate::Not } else { Fate::Unknown }
        }
    }
}

fn manifest(name: &str, value: u64) -> serde_json::Value {
    json!({
        "apiVersion": "scrap/v1", "kind": "Policy", "metadata": {"name": name},
        "spec": {"replicate": {"every": "1s", "copies": 0, "alertAfter": format!("{value}s")}},
    })
}

fn value(answer: &Answer) -> anyhow::Result<u64> {
    Ok(answer.json::<PolicyView>()?.spec.replicate.alert_after.ms() / 1000)
}

impl Clients {
    /// Clients of a cluster who pause so long between two deeds.
    ///
    /// # Errors
    /// If there can be no HTTP client.
    pub fn new(world: &Arc<World>, pause: Duration) -> anyhow::Result<Arc<Self>> {
        let servers = world.nodes.iter().map(|node| world.server(node)).collect();
        Ok(Arc::new(Self {
            history: History::default(),
            world: Arc::clone(world),
            api: Api::with_patience(servers, PATIENCE)?,
            slots: Mutex::default(),
            made: AtomicU32::new(0),
            stop: AtomicBool::new(false),
            pause,
        }))
    }

    /// Begins with so many.
    #[must_use]
    pub fn start(self: &Arc<Self>, count: u64, seed: u64) -> Vec<JoinHandle<()>> {
        let client = |number| {
            let (clients, random) = (Arc::clone(self), Random::new(seed ^ (number << 32)));
            tokio::spawn(async move { clients.one(random).await })
        };
        (0..count).map(client).collect()
    }

    /// They end with what they are doing.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    async fn one(&self, mut random: Random) {
        let mut avoided: Vec<(String, Instant)> = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            let slot = usize::try_from(random.below(SLOTS as u64)).unwrap_or_default();
            let Some(register) = self.register(slot).await else {
                sleep(self.pause).await;
                continue;
            };
            avoided.retain(|(_, until)| *until > Instant::now());
            let away: Vec<String> = avoided.iter().map(|(node, _)| node.clone()).collect();
            let near = self.world.others(&away);
            let nodes = if near.is_empty() { &self.world.nodes } else { &near };
            let Some(node) = random.pick(nodes).cloned() else { return };
            register.uses.fetch_add(1, Ordering::Relaxed);
            let answered = match random.below(20) {
                0..=9 => self.read(&register.name, &node).await.is_some(),
                10..=15 => self.swap(&register, &node).await,
                16..=17 => self.write(&register, &node).await,
                _ => self.apply(&register, &node).await,
            };
            if !answered {
                avoided.push((node, Instant::now() + AVOID));
            }
            sleep(self.pause).await;
        }
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, [Option<Arc<Register>>; SLOTS]> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The register of a slot; a worn one is replaced by whoever sees it first.
    async fn register(&self, slot: usize) -> Option<Arc<Register>> {
        {
            let mut slots = self.slots();
            let place = slots.get_mut(slot)?;
            match place.take() {
                Some(register) if !register.is_worn() => {
                    *place = Some(Arc::clone(&register));
                    return Some(register);
                }
                // While it is empty the others use other slots, or make one more, which does no harm.
                Some(_) | None => {}
            }
        }
        let name = format!("reg-{}", self.made.fetch_add(1, Ordering::Relaxed));
        let call = Call::apply(&manifest(&name, FIRST).to_string());
        let made = self.api.call(&call).await.ok().filter(|answer| answer.status == 200)?;
        drop(made);
        let (next, uses) = (AtomicU64::new(FIRST + 1), AtomicU32::new(0));
        let register = Arc::new(Register { name, next, uses, unknown: AtomicU32::new(0) });
        if let Some(place) = self.slots().get_mut(slot) {
            *place = Some(Arc::clone(&register));
        }
        Some(register)
    }

    /// Reads a register and remembers what it was told. A register that was made and is not there any more holds 0, which nobody
    /// ever writes.
    async fn read(&self, name: &str, node: &str) -> Option<(u64, String)> {
        let begun = self.history.begin();
        let call = Call::get(format!("/v1/policies/{name}"));
        let answer = self.api.ask(&self.world.server(node), &call).await.ok()?;
        let (seen, etag) = match answer.status {
            200 => (value(&answer).ok()?, answer.etag.unwrap_or_default()),
            404 => (0, String::new()),
            _ => return None,
        };
        self.history.end(begun, name, node, Deed::Read(seen), true);
        Some((seen, etag))
    }

    async fn swap(&self, register: &Register, node: &str) -> bool {
        let Some((expected, etag)) = self.read(&register.name, node).await else { return false };
        let new = register.next.fetch_add(1, Ordering::Relaxed);
        let call = Call::new(Method::PUT, format!("/v1/policies/{}", register.name));
        let call = call.json(&manifest(&register.name, new)).header("if-match", &etag);
        let begun = self.history.begin();
        let fate = fate(&self.api.ask(&self.world.server(node), &call).await);
        let done = match fate {
            Fate::Done => Some(true),
            Fate::Changed => Some(false),
            Fate::Not => return false,
            Fate::Unknown => None,
        };
        let deed = Deed::Swap { expected, new, done };
        self.history.end(begun, &register.name, node, deed, done.is_some());
        self.count(register, fate)
    }

    /// Writes over whatever is there.
    async fn write(&self, register: &Register, node: &str) -> bool {
        let new = register.next.fetch_add(1, Ordering::Relaxed);
        let call = Call::new(Method::PUT, format!("/v1/policies/{}?force=true", register.name));
        let call = call.json(&manifest(&register.name, new));
        let begun = self.history.begin();
        let fate = fate(&self.api.ask(&self.world.server(node), &call).await);
        self.written(register, node, new, begun, fate)
    }

    /// Applies a manifest, at one node after the other until one says what became of it: repeated under its key it is done once.
    async fn apply(&self, register: &Register, node: &str) -> bool {
        let new = register.next.fetch_add(1, Ordering::Relaxed);
        let call = Call::apply(&manifest(&register.name, new).to_string());
        let begun = self.history.begin();
        let mut known = fate(&self.api.ask(&self.world.server(node), &call).await);
        for other in self.world.others(&[node.to_owned()]) {
            if matches!(known, Fate::Done | Fate::Changed) {
                break;
            }
            let again = fate(&self.api.ask(&self.world.server(&other), &call).await);
            known = match (known, again) {
                // Once it is unknown only the answer to the same request says more.
                (Fate::Unknown, Fate::Not) => Fate::Unknown,
                (_, again) => again,
            };
        }
        self.written(register, node, new, begun, known)
    }

    fn written(
        &self,
        register: &Register,
        node: &str,
        new: u64,
        begun: super::history::Begun,
        fate: Fate,
    ) -> bool {
        let answered = match fate {
            Fate::Done => true,
            Fate::Unknown => false,
            Fate::Changed | Fate::Not => return fate == Fate::Changed,
        };
        self.history.end(begun, &register.name, node, Deed::Write(new), answered);
        self.count(register, fate)
    }

    fn count(&self, register: &Register, fate: Fate) -> bool {
        register.unknown.fetch_add(u32::from(fate == Fate::Unknown), Ordering::Relaxed);
        fate != Fate::Unknown
    }

    /// Everybody has ended: every register that was used is read once more, at every node.
    ///
    /// # Errors
    /// If a node does not answer in time.
    pub async fn read_all(&self) -> anyhow::Result<()> {
        for key in self.history.keys() {
            for node in &self.world.nodes {
                // What is not answered is no evidence.
                wait_for(HEALED, &format!("{node} reads {key}"), async || {
                    Ok(self.read(&key, node).await)
                })
                .await?;
            }
        }
        Ok(())
    }

    /// Tries to change something from now on until it is acknowledged, at one node after the other. Returns the milliseconds
    /// since a moment of boot time.
    ///
    /// # Errors
    /// If nobody acknowledges it.
    pub async fn next_change(&self, since: u64, limit: Duration) -> anyhow::Result<u64> {
        let call = Call::apply(&manifest("probe", since % 1_000_000 + 1).to_string());
        let end = Instant::now() + limit;
        while Instant::now() < end {
            for node in &self.world.nodes {
                if fate(&self.api.ask(&self.world.server(node), &call).await) == Fate::Done {
                    return Ok(boot_ms().saturating_sub(since));
                }
            }
            sleep(Duration::from_millis(10)).await;
        }
        anyhow::bail!("nobody changes anything within {limit:?}")
    }
}
