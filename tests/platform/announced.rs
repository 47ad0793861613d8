//! A grain that has come to another node says so on the LAN: who had its address in mind finds it at once.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Context;
use scrap_schema::api::GrainState;
use scrap_tests::cluster::wait_for;
use scrap_tests::platform::book::{Book, Kind};
use scrap_tests::platform::wire::{Ear, Mac, announced, mac};
use scrap_tests::platform::{Lab, SOON, Spec};

use crate::{launched, prepared};

/// What was announced of a grain's addresses, in the order in which the client heard it.
struct Heard {
    ear: Ear,
    addresses: BTreeSet<IpAddr>,
    all: Vec<(IpAddr, Mac)>,
}

impl Heard {
    fn listen(&mut self) {
        let said = self.ear.listen();
        let said = said.iter().filter_map(|frame| announced(frame));
        self.all.extend(said.filter(|(address, _)| self.addresses.contains(address)));
    }

    /// Waits until each address was announced with the hardware of this node, which is returned, after so many other owners.
    async fn from(&mut self, lab: &Lab, node: &str, before: usize) -> anyhow::Result<Mac> {
        let text = lab.sh(node, "cat /sys/class/net/eth0/address").await?;
        let hardware: Mac = mac(&text).context("a node has hardware")?;
        wait_for(SOON, &format!("{node} announces {:?}", self.addresses), async || {
            self.listen();
            let told = |address: &IpAddr| {
                let by = self.by(address);
                by.len() == before + 1 && by.last() == Some(&hardware)
            };
            Ok(self.addresses.iter().all(told).then_some(()))
        })
        .await?;
        // The client believes it, if it had it in mind.
        for address in &self.addresses {
            let neighbour = lab.sh("client", &format!("ip neigh show {address}")).await?;
            assert!(neighbour.is_empty() || neighbour.contains(text.trim()), "{node}: {neighbour}");
        }
        Ok(hardware)
    }

    /// Who has announced an address, one after the other.
    fn by(&self, address: &IpAddr) -> Vec<Mac> {
        let mut by: Vec<Mac> =
            self.all.iter().filter(|it| it.0 == *address).map(|it| it.1).collect();
        by.dedup();
        by
    }
}

#[tokio::test]
async fn an_address_that_moves_is_announced_on_the_lan() -> anyhow::Result<()> {
    let spec = Spec::default().option("--timing", "fast");
    let Some(lab) = prepared(spec, Kind::Busybox, 2).await? else { return Ok(()) };
    let web = Book::new("web", Kind::Busybox, 74)?.on("ada");
    let ear = Ear::at(&lab, "client")?;
    launched(&lab, &web, 2).await?;
    let status = lab.api.grain("web").await?.status;
    let v4 = status.address.context("it has an address")?;
    let v6 = status.address6.context("it has an address of IPv6")?;
    let addresses = BTreeSet::from([IpAddr::V4(v4), IpAddr::V6(v6)]);
    let mut heard = Heard { ear, addresses, all: Vec::new() };
    let first = heard.from(&lab, "ada", 0).await?;
    lab.sh("client", &format!("ping -c 1 -W 5 {v4} || true; ping -6 -c 1 -W 5 {v6} || true"))
        .await?;

    lab.ctl(&["migrate", "web", "--to", "ben"]).await?;
    let second = heard.from(&lab, "ben", 1).await?;
    assert_eq!(web.front().await?, "a grain of the busybox template\n");

    lab.is_protected("web", 2).await?;
    lab.verb(&["kill", "ben"]).await?;
    let grain = lab.grain_is("web", "was taken over", |grain| {
        let node = grain.status.node.as_ref().map(|node| node.as_str());
        grain.status.state == GrainState::Running && node != Some("ben")
    });
    let node = grain.await?.status.node.context("it has a node")?.to_string();
    let third = heard.from(&lab, &node, 2).await?;
    assert_eq!(web.front().await?, "a grain of the busybox template\n");
    heard.listen();
    // An old owner, which repeats it for some seconds, has not said so again once it had given the grain away.
    for address in &heard.addresses {
        let by = heard.by(address);
        assert_eq!(by, [first, second, third], "{address}: {by:x?}");
    }
    lab.end().await
}
