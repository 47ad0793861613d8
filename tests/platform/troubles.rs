//! Tools and pools that go away while the daemon runs: each trouble is named, the daemon lives and rests, and when it is put right
//! all is well again without a person's word.

use scrap_schema::api::GrainState;
use scrap_tests::platform::book::{Book, Kind};
use scrap_tests::platform::{Lab, SOON};

use crate::by_hand::{daemon, lives_and_rests, one, two_nodes};
use crate::prepared;

/// Takes a program out of its folder, for one node alone: over the folder comes one that has everything else.
async fn hide(lab: &Lab, node: &str, folder: &str, program: &str) -> anyhow::Result<()> {
    let (whole, less) = (format!("/run/whole.{program}"), format!("/run/less.{program}"));
    let text = format!(
        "mkdir {whole} {less}; mount --bind {folder} {whole}; ln -s {whole}/* {less}/; \
         rm {less}/{program}; mount --bind {less} {folder}; ! command -v {program}"
    );
    lab.sh(node, &text).await.map(drop)
}

async fn give_back(lab: &Lab, node: &str, folder: &str) -> anyhow::Result<()> {
    lab.sh(node, &format!("umount {folder}")).await.map(drop)
}

/// All is as it was, by the same daemon.
async fn is_healed(lab: &Lab, node: &str, pid: &str) -> anyhow::Result<()> {
    lab.says(&["status"], " HEALTHY ").await?;
    lab.says(&["node", "info", node], "storage     online").await?;
    lab.is_protected("web", 1).await?;
    assert_eq!(daemon(lab, node).await?.0, pid, "scrapd of {node} is another one");
    Ok(())
}

/// The pool of the copy is a mirror, and one half of it goes away.
async fn a_half_of_the_pool_is_gone(lab: &Lab, web: &Book, pid: &str) -> anyhow::Result<()> {
    let (pool, folder) = (format!("{}-ben", lab.name), lab.dir.join("nodes/ben"));
    let (first, second) = (folder.join("pool.img"), folder.join("second.img"));
    let (first, second) = (first.display(), second.display());
    let mirror = format!(
        "truncate -s 2G {second}; zpool attach {pool} {first} {second}; \
         until zpool status {pool} | grep -q 'with 0 errors'; do sleep 0.1; done; \
         zpool offline {pool} {second}"
    );
    lab.sh("ben", &mirror).await?;
    let info = lab.says(&["node", "info", "ben"], "storage     degraded").await?;
    assert!(info.contains(&format!("See `zpool status {pool}`")), "{info}");
    // It holds what it is given all the same.
    web.write(1).await?;
    lab.is_protected("web", 1).await?;
    lives_and_rests(lab, "ben", pid, "a degraded pool").await?;
    lab.sh("ben", &format!("zpool online {pool} {second}")).await?;
    is_healed(lab, "ben", pid).await
}

/// The pool is let go of by hand. That it comes back and takes nothing cannot be had here: zfs-fuse imports no pool for reading
/// alone.
async fn the_pool_is_away(lab: &Lab, web: &Book, pid: &str) -> anyhow::Result<()> {
    let pool = format!("{}-ben", lab.name);
    let export = format!("zpool export {pool}");
    scrap_tests::cluster::wait_for(SOON, "nobody is in the pool", async || {
        lab.sh("ben", &export).await.map(Some)
    })
    .await?;
    web.write(2).await?;
    let named = format!("{pool}/scrap is not there: import the pool");
    let status = lab.says(&["status"], &named).await?;
    assert!(status.contains("grain web") && !status.contains(" HEALTHY "), "{status}");
    lives_and_rests(lab, "ben", pid, "a pool that is away").await?;
    let folder = lab.dir.join("nodes/ben");
    lab.sh("ben", &format!("zpool import -d {} {pool}", folder.display())).await?;
    is_healed(lab, "ben", pid).await
}

async fn zfs_is_missing(lab: &Lab, web: &Book, pid: &str) -> anyhow::Result<()> {
    hide(lab, "ben", "/usr/sbin", "zfs").await?;
    web.write(3).await?;
    let named = "the program `zfs` is not there: install the ZFS tools";
    let status = lab.says(&["status"], named).await?;
    assert!(status.contains("grain web") && !status.contains(" HEALTHY "), "{status}");
    let info = lab.says(&["node", "info", "ben"], "storage     faulted").await?;
    assert!(info.contains(named), "{info}");
    lives_and_rests(lab, "ben", pid, "no zfs").await?;
    give_back(lab, "ben", "/usr/sbin").await?;
    is_healed(lab, "ben", pid).await
}

async fn lxc_start_is_missing(lab: &Lab, web: &Book, pid: &str) -> anyhow::Result<()> {
    hide(lab, "ada", "/usr/bin", "lxc-start").await?;
    // What runs needs it no more.
    web.write(4).await?;
    lab.ctl(&["stop", "web"]).await?;
    lab.ctl(&["start", "web", "--no-wait"]).await?;
    let named = "the program `/usr/bin/lxc-start` cannot be started";
    let status = lab.says(&["status"], named).await?;
    assert!(status.contains("CRITICAL") && status.contains("grain web does not run"), "{status}");
    lab.says(&["info", "web"], named).await?;
    lives_and_rests(lab, "ada", pid, "no lxc-start").await?;
    give_back(lab, "ada", "/usr/bin").await?;
    lab.grain_is("web", "runs", |grain| grain.status.state == GrainState::Running).await?;
    is_healed(lab, "ada", pid).await
}

#[tokio::test]
async fn what_goes_away_under_a_daemon_is_named_and_heals() -> anyhow::Result<()> {
    let Some(lab) = prepared(two_nodes(), Kind::Busybox, 1).await? else { return Ok(()) };
    let web = one(&lab).await?;
    let (ada, ben) = (daemon(&lab, "ada").await?.0, daemon(&lab, "ben").await?.0);
    a_half_of_the_pool_is_gone(&lab, &web, &ben).await?;
    the_pool_is_away(&lab, &web, &ben).await?;
    zfs_is_missing(&lab, &web, &ben).await?;
    lxc_start_is_missing(&lab, &web, &ada).await?;
    assert_eq!(web.pages().await?.len(), 4);
    lab.end().await
}
