//! Grains whose program writes down every entry before it acknowledges it, and a visitor of each who writes all the time and
//! remembers what was acknowledged. No two entries have the same number, so the data tell what was lost.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::Client;
use scrap_schema::api::FailoverView;
use scrap_schema::time::Timestamp;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::world::{World, boot_ms};
use crate::cluster::{now, wait_for};

/// Pause between two looks at what is told of failovers.
const LOOK: Duration = Duration::from_millis(250);

/// The policy that protects them, with so many copies and a snapshot so often.
#[must_use]
pub fn policy(copies: usize, every: &str) -> String {
    format!(
        "apiVersion: scrap/v1\nkind: Policy\nmetadata: {{name: chaos}}\nspec:\n  \
         replicate: {{every: {every}, copies: {copies}, alertAfter: 1h}}\n  \
         failover: {{mode: auto, after: 0s, maxDataLoss: 1h}}\n  \
         snapshots: {{keep-last: 4, keep-hourly: 2, keep-daily: 1}}\n"
    )
}

/// An entry that was acknowledged.
#[derive(Debug, Clone)]
pub struct Ack {
    /// Its number.
    pub serial: u64,
    /// When it was sent, on both clocks.
    pub asked: (u64, Timestamp),
    /// When the acknowledgement came.
    pub acked: (u64, Timestamp),
    /// The node that took it.
    pub node: String,
    /// The epoch in which it was taken.
    pub epoch: u64,
}

/// A grain and its visitor.
pub struct Ledger {
    /// Its name.
    pub name: String,
    port: u16,
    world: Arc<World>,
    http: Client,
    serial: AtomicU64,
    acks: Mutex<Vec<Ack>>,
    failovers: Mutex<BTreeMap<u64, FailoverView>>,
    stop: AtomicBool,
}

/// What an entry's line says: `w 17 ada 3 12345`.
fn entry(line: &str) -> Option<(u64, String, u64)> {
    let mut words = line.split(' ');
    let mut next = || words.next();
    if next()? != "w" {
        return None;
    }
    let serial = next()?.parse().ok()?;
    let node = next()?.to_owned();
    Some((serial, node, next()?.parse().ok()?))
}

/// The numbers of all entries of a ledger's data. A torn last line was not acknowledged.
#[must_use]
pub fn serials(text: &str) -> BTreeSet<u64> {
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.filter_map(|line| Some(entry(line.trim_end())?.0)).collect()
}

/// Lines of a ledger's data whose epoch is older than that of a line before them: two of it have written at once, or something was
/// put together that does not belong together.
#[must_use]
pub fn disorder(text: &str) -> Vec<String> {
    let (mut newest, mut found) = (0, Vec::new());
    for line in text.lines() {
        let epoch = line.split(' ').rev().nth(1).and_then(|word| word.parse().ok());
        let Some(epoch) = epoch else { continue };
        if epoch < newest {
            found.push(format!("`{line}` after epoch {newest}"));
        }
        newest = newest.max(epoch);
    }
    found
}

impl Ledger {
    /// A ledger on this port of whichever node it lives on.
    ///
    /// # Errors
    /// If there can be no HTTP client.
    pub fn new(world: &Arc<World>, name: &str, port: u16) -> anyhow::Result<Arc<Self>> {
        let http =
            Client::builder().no_proxy().timeout(world.pace.patience).pool_max_idle_per_host(0);
        Ok(Arc::new(Self {
            name: name.to_owned(),
            port,
            world: Arc::clone(world),
            http: http.build()?,
            serial: AtomicU64::new(0),
            acks: Mutex::default(),
            failovers: Mutex::default(),
            stop: AtomicBool::new(false),
        }))
    }

    /// Its manifest, for a node that it would rather live on.
    ///
    /// # Errors
    /// If its program was not built.
    pub fn manifest(&self, prefer: &str) -> anyhow::Result<String> {
        let place = format!("  place: {{prefer: {prefer}}}\n");
        Ok(format!(
            "apiVersion: scrap/v1\nkind: Grain\nmetadata:\n  name: {name}\n  labels: {{app: ledger}}\nspec:\n  \
             command: [{program}]\n  env: {{PORT: \"{port}\", TRACE: {traces}, MOMENT: \"{moment}\"}}\n  \
             resources: {{cpu: 0.1, memory: 32MiB, disk: 32MiB}}\n  health:\n    \
             http: {{port: {port}, path: /}}\n    every: {beat}\n    grace: {grace}\n  \
             protect: chaos\n  stop: {{timeout: 3s}}\n{place}",
            name = self.name,
            program = self.world.ground.ledger()?.display(),
            beat = self.world.pace.beat,
            grace = self.world.pace.grace,
            moment = self.world.pace.moment_ms,
            port = self.port,
            traces = self.world.ground.traces().display(),
        ))
    }

    fn url(&self, node: &str, path: &str) -> String {
        let server = self.world.server(node);
        let host = server.rsplit_once(':').map_or(server.as_str(), |(host, _)| host);
        format!("{host}:{}{path}", self.port)
    }

    /// Everything that its visitor was told.
    #[must_use]
    pub fn acks(&self) -> Vec<Ack> {
        self.acks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many entries were acknowledged so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        let acks = self.acks.lock().unwrap_or_else(PoisonError::into_inner);
        u64::try_from(acks.len()).unwrap_or_default()
    }

    /// The failovers that were told, by the epoch that began with them.
    #[must_use]
    pub fn failovers(&self) -> BTreeMap<u64, FailoverView> {
        self.failovers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Begins to write, with so long a pause between two entries, and to look at what is told.
    #[must_use]
    pub fn start(self: &Arc<Self>, pause: Duration) -> Vec<JoinHandle<()>> {
        let (writer, reader) = (Arc::clone(self), Arc::clone(self));
        let writes = tokio::spawn(async move { writer.write_all(pause).await });
        let looks = tokio::spawn(async move { reader.look_all().await });
        vec![writes, looks]
    }

    /// Ends both.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    async fn write_all(&self, pause: Duration) {
        let mut at = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let Some(node) = self.world.nodes.get(at % self.world.nodes.len()) else { return };
            if self.write(node).await.is_err() {
                at += 1;
            }
            sleep(pause).await;
        }
    }

    async fn write(&self, node: &str) -> anyhow::Result<()> {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let asked = (boot_ms(), now());
        let request = self.http.post(self.url(node, &format!("/write/{serial}")));
        let text = request.send().await?.error_for_status()?.text().await?;
        let acked = (boot_ms(), now());
        let (told, node, epoch) = entry(text.trim_end()).context("a strange answer")?;
        if told != serial {
            bail!("asked for {serial}, told of {told}");
        }
        let ack = Ack { serial, asked, acked, node, epoch };
        self.acks.lock().unwrap_or_else(PoisonError::into_inner).push(ack);
        Ok(())
    }

    async fn look_all(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            self.look().await;
            sleep(LOOK).await;
        }
    }

    /// Looks once at what is told of its last failover.
    pub async fn look(&self) {
        if let Ok(grain) = self.world.api.grain(&self.name).await
            && let Some(failover) = grain.status.last_failover
        {
            let mut failovers = self.failovers.lock().unwrap_or_else(PoisonError::into_inner);
            failovers.insert(failover.epoch.0, failover);
        }
    }

    /// Its data, as a visitor reads them.
    ///
    /// # Errors
    /// If it answers nowhere.
    pub async fn all(&self) -> anyhow::Result<String> {
        let mut last = None;
        for node in &self.world.nodes {
            let request = self.http.get(self.url(node, "/all")).timeout(Duration::from_secs(20));
            match request.send().await.and_then(reqwest::Response::error_for_status) {
                Ok(answer) => return Ok(answer.text().await?),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("there are no nodes")?.into())
    }

    /// The numbers of entries in everything of it that was set aside. A node that came back a moment ago may still be at that: it is given
    /// so long until these are among them.
    ///
    /// # Errors
    /// If something that was set aside cannot be looked at.
    pub async fn set_aside(
        &self,
        lost: &BTreeSet<u64>,
        limit: Duration,
    ) -> anyhow::Result<BTreeSet<u64>> {
        let mut last = Ok(BTreeSet::new());
        let all = wait_for(limit, "what was lost is set aside", async || {
            last = self.lies_aside().await;
            let all = last.as_ref().is_ok_and(|found| lost.is_subset(found));
            Ok(all.then_some(()))
        });
        // What is there is judged, whether it is all or not.
        let _ = all.await;
        last
    }

    async fn lies_aside(&self) -> anyhow::Result<BTreeSet<u64>> {
        let mut found = BTreeSet::new();
        for orphan in self.world.api.orphans().await? {
            if orphan.grain_name.as_ref().is_none_or(|name| name.as_str() != self.name) {
                continue;
            }
            let node = orphan.node.as_str();
            let lab = &self.world.ground;
            let mounted =
                lab.exec(node, &["scrapctl", "orphan", "mount", &orphan.id]).await?.good()?;
            let place = mounted.trim().strip_prefix(&format!("{node}:")).map(ToOwned::to_owned);
            let place = place.with_context(|| format!("no place in: {mounted}"))?;
            let file = Path::new(&place).join("ledger").display().to_string();
            found.extend(serials(&lab.exec(node, &["cat", &file]).await?.good()?));
            lab.exec(node, &["scrapctl", "orphan", "unmount", &orphan.id]).await?.good()?;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: &str = "w 1 ada 1 100\nb ada 1 110\nw 3 ada 1 120\nw 4 ben 2 200\nw 5 be";

    #[test]
    fn entries_are_read_and_a_torn_one_is_none() {
        assert_eq!(serials(DATA), BTreeSet::from([1, 3, 4]));
        assert_eq!(entry("w 4 ben 2 200"), Some((4, "ben".to_owned(), 2)));
        assert_eq!(entry("b ben 2 200"), None);
    }

    #[test]
    fn an_old_epoch_after_a_new_one_is_disorder() {
        assert_eq!(disorder(DATA), Vec::<String>::new());
        assert_eq!(disorder(&format!("{DATA}\nb ada 1 300\n")).len(), 1);
    }
}
