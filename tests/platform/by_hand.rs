//! ZFS states that somebody has made by hand: each is named where an operator looks, and the daemon neither dies nor spins.

use std::fs;

use anyhow::Context;
use scrap_schema::api::GrainState;
use scrap_tests::cluster::wait_for;
use scrap_tests::platform::book::{Book, Kind};
use scrap_tests::platform::{Lab, SOON, Spec};

use crate::{launched, prepared};

/// The daemon of a node: its number, and the processor time that it and its children have used, in ticks.
pub(crate) async fn daemon(lab: &Lab, node: &str) -> anyhow::Result<(String, u64)> {
    let file = lab.dir.join("nodes").join(node).join("scrapd.pid");
    let text = format!("pid=$(cat {}); echo $pid; cat /proc/$pid/stat", file.display());
    let said = lab.sh(node, &text).await?;
    let (pid, stat) = said.split_once('\n').context("no stat")?;
    let fields: Vec<&str> =
        stat.rsplit_once(')').context("no stat")?.1.split_whitespace().collect();
    let ticks = fields.get(11..15).context("no ticks")?.iter();
    let ticks = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok((pid.to_owned(), ticks))
}

/// While the trouble lasts the daemon lives and rests: over some seconds it uses less than most of one processor.
pub(crate) async fn lives_and_rests(
    lab: &Lab,
    node: &str,
    before: &str,
    trouble: &str,
) -> anyhow::Result<()> {
    let (pid, from) = daemon(lab, node).await?;
    lab.sh(node, "sleep 5").await?;
    let (again, until) = daemon(lab, node).await?;
    assert_eq!((pid.as_str(), again.as_str()), (before, before), "scrapd died of: {trouble}");
    let ticks = until - from;
    eprintln!("{trouble}: scrapd and its children used {ticks} of 500 ticks");
    assert!(ticks < 400, "scrapd spins: {trouble}");
    Ok(())
}

/// A grain on ada with its copy on ben, and the daemons' numbers.
pub(crate) async fn one(lab: &Lab) -> anyhow::Result<Book> {
    let web = Book::new("web", Kind::Busybox, 73)?.on("ada");
    launched(lab, &web, 1).await?;
    wait_for(SOON, "the copy is on ben", async || {
        let grain = lab.api.grain("web").await?;
        let there = grain.status.copies.iter().any(|copy| copy.node.as_str() == "ben");
        Ok(there.then_some(()))
    })
    .await?;
    Ok(web)
}

pub(crate) fn two_nodes() -> Spec {
    Spec::default().option("--nodes", "2").option("--size", "2G")
}

#[tokio::test]
async fn a_foreign_snapshot_on_a_copy_is_named_and_nothing_is_rolled_back() -> anyhow::Result<()> {
    let Some(lab) = prepared(two_nodes(), Kind::Busybox, 1).await? else { return Ok(()) };
    let web = one(&lab).await?;
    let copy = lab.dataset_of("ben", "web").await?;
    let (pid, _) = daemon(&lab, "ben").await?;
    lab.sh("ben", &format!("zfs snapshot {copy}@mine")).await?;
    web.write(1).await?;
    // What was written does not get past it: that is said with its name and with what to do.
    let named = format!("snapshot {copy}@mine was not made by SCRAP and stands in the way");
    lab.says(&["info", "web"], &named).await?;
    let status = lab.says(&["status"], &named).await?;
    assert!(status.contains("grain web") && status.contains("copy on ben: "), "{status}");
    lives_and_rests(&lab, "ben", &pid, "a foreign snapshot").await?;
    lab.sh("ben", &format!("zfs get -Hp guid {copy}@mine")).await?;
    assert_eq!(lab.api.grain("web").await?.status.state, GrainState::Running);
    // Its owner takes it away, and all is well.
    lab.sh("ben", &format!("zfs destroy {copy}@mine")).await?;
    lab.says(&["status"], " HEALTHY ").await?;
    lab.end().await
}

/// How often the logs of the nodes have said that a copy is not what it was.
fn said_so(lab: &Lab) -> anyhow::Result<usize> {
    let mut count = 0;
    for node in ["ada", "ben"] {
        let log = fs::read_to_string(lab.dir.join("nodes").join(node).join("scrapd.log"))?;
        let words = [": it does not exist", "not as it was left: somebody else has changed it"];
        count += log.lines().filter(|line| words.iter().any(|word| line.contains(word))).count();
    }
    Ok(count)
}

/// Waits until it is said that ben's copy is gone: by `info`, by the refusal of a stream in the log, or by whoever looked at the
/// disk. It is made again so soon that not everybody says it.
async fn is_said_to_be_gone(lab: &Lab, before: usize) -> anyhow::Result<()> {
    let named = wait_for(SOON, "somebody says that the copy is gone", async || {
        let info = lab.ctl(&["info", "web"]).await?;
        let copy = info.lines().find(|line| line.trim_start().starts_with("ben ")).unwrap_or("");
        if ["it does not exist", "nothing yet"].iter().any(|word| copy.contains(word)) {
            return Ok(Some(copy.trim().to_owned()));
        }
        Ok((said_so(lab)? > before).then(|| "a log".to_owned()))
    });
    eprintln!("that the copy is gone was said by: {}", named.await?);
    Ok(())
}

#[tokio::test]
async fn a_copy_that_was_renamed_or_destroyed_is_named_and_made_again() -> anyhow::Result<()> {
    let Some(lab) = prepared(two_nodes(), Kind::Busybox, 1).await? else { return Ok(()) };
    let web = one(&lab).await?;
    let (pid, _) = daemon(&lab, "ben").await?;
    for (number, deed) in ["destroy", "rename"].into_iter().enumerate() {
        let copy = lab.dataset_of("ben", "web").await?;
        let aside = format!("{}-ben/aside", lab.name);
        let how = match deed {
            "rename" => format!("zfs rename {copy} {aside}"),
            _ => format!(
                "for name in $(zfs get -Hp -r -o name userrefs {copy} | grep @); do \
                 for tag in $(zfs get -Hp -o value scrap:holds $name); do \
                 zfs release $tag $name 2>/dev/null || true; done; done; \
                 zfs destroy -r {copy} || zfs rename {copy} {aside}2"
            ),
        };
        let said = said_so(&lab)?;
        lab.sh("ben", &how).await?;
        match deed {
            "rename" => {
                web.write(u64::try_from(number)?).await?;
                is_said_to_be_gone(&lab, said).await?;
            }
            // Nobody writes, so no stream finds out: whoever looks after the disk tells it, and it is made again.
            _ => {
                let event = "somebody else has destroyed or renamed the data of grain web";
                lab.says(&["events"], event).await?;
            }
        }
        lives_and_rests(&lab, "ben", &pid, deed).await?;
        wait_for(SOON, "a new copy is there", async || {
            lab.dataset_of("ben", "web").await.map(Some)
        })
        .await?;
        lab.is_protected("web", 1).await?;
        if deed == "rename" {
            // What a person has put elsewhere is that person's.
            lab.sh("ben", &format!("zfs get -Hp guid {aside}")).await?;
        }
    }
    lab.end().await
}

#[tokio::test]
async fn a_template_that_was_renamed_is_fetched_again_and_harms_no_copy() -> anyhow::Result<()> {
    let Some(lab) = prepared(two_nodes(), Kind::Busybox, 1).await? else { return Ok(()) };
    let web = one(&lab).await?;
    let (pid, _) = daemon(&lab, "ben").await?;
    let parent = format!("{}/templates", lab.dataset("ben"));
    let list = lab.sh("ben", &format!("zfs list -H -o name -r -d 1 {parent}")).await?;
    let template = list.lines().find(|name| **name != parent).context("ben has no template")?;
    let aside = format!("{}-ben/aside", lab.name);
    lab.sh("ben", &format!("zfs rename {template} {aside}")).await?;
    web.write(1).await?;
    lab.is_protected("web", 1).await?;
    let again = format!(
        "zfs list -H -o name {template}@$(zfs list -H -o name -t snapshot -r -d 1 {aside} | cut -d@ -f2)"
    );
    wait_for(2 * SOON, "it is there again", async || Ok(lab.sh("ben", &again).await.ok())).await?;
    lives_and_rests(&lab, "ben", &pid, "a template that was renamed").await?;
    web.write(2).await?;
    lab.is_protected("web", 1).await?;
    // What a person has put elsewhere is that person's, and the copy still shares its blocks.
    let copy = lab.dataset_of("ben", "web").await?;
    let origin = lab.sh("ben", &format!("zfs get -Hp -o value origin {copy}")).await?;
    assert!(origin.starts_with(&aside), "{origin}");
    lab.end().await
}

#[tokio::test]
async fn the_head_of_a_running_grain_that_is_gone_is_named() -> anyhow::Result<()> {
    let Some(lab) = prepared(two_nodes(), Kind::Busybox, 1).await? else { return Ok(()) };
    let _web = one(&lab).await?;
    let head = lab.dataset_of("ada", "web").await?;
    let (pid, _) = daemon(&lab, "ada").await?;
    lab.ctl(&["stop", "web"]).await?;
    let take = format!("zfs rename {head} {}-ada/taken", lab.name);
    wait_for(SOON, "the head is free", async || lab.sh("ada", &take).await.map(Some)).await?;
    lab.ctl(&["start", "--no-wait", "web"]).await?;
    lab.says(&["info", "web"], "its dataset is not there any more").await?;
    lives_and_rests(&lab, "ada", &pid, "a head that is gone").await?;
    let said = lab.ctl(&["info", "web"]).await?;
    assert_ne!(lab.api.grain("web").await?.status.state, GrainState::Running, "{said}");
    assert!(said.contains("Ready       no"), "{said}");
    let status = lab.says(&["status"], "its dataset is not there any more").await?;
    let named = |line: &str| line.contains("grain web") && line.contains("put it back");
    assert!(status.lines().any(named), "the grain is not named:\n{status}");
    assert!(!status.contains(" HEALTHY "), "{status}");
    // It is put back, and the grain runs again.
    let give_back = format!("zfs rename {}-ada/taken {head}", lab.name);
    wait_for(SOON, "it can be put back", async || lab.sh("ada", &give_back).await.map(Some))
        .await?;
    lab.grain_is("web", "runs again", |grain| grain.status.state == GrainState::Running).await?;
    lab.end().await
}

#[tokio::test]
async fn a_zfs_that_hangs_is_named_and_harms_nobody_else() -> anyhow::Result<()> {
    let Some(lab) = prepared(two_nodes(), Kind::Busybox, 1).await? else { return Ok(()) };
    let web = one(&lab).await?;
    let (pid, _) = daemon(&lab, "ben").await?;
    // A program of the same name stands in front, as long as a file says so.
    let bin = lab.dir.join("nodes/ben/bin");
    for tool in ["zfs", "zpool"] {
        let text = format!(
            "real=$(command -v {tool}); \
             printf '#!/bin/sh\\n[ ! -e /run/hang ] || sleep 100000\\nexec %s \"$@\"\\n' $real >{0}/{tool}; \
             chmod 755 {0}/{tool}",
            bin.display()
        );
        lab.exec("ben", &["env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "sh", "-ec", &text])
            .await?
            .good()?;
    }
    lab.verb(&["daemon", "ben", "stop"]).await?;
    lab.verb(&["daemon", "ben", "start"]).await?;
    lab.is_protected("web", 1).await?;
    let (restarted, _) = daemon(&lab, "ben").await?;
    assert_ne!(restarted, pid);
    lab.sh("ben", ": >/run/hang").await?;
    web.write(1).await?;
    lab.says(&["status"], "ben").await?;
    lives_and_rests(&lab, "ben", &restarted, "a zfs that hangs").await?;
    // The owner has nothing to do with it.
    web.write(2).await?;
    assert_eq!(web.pages().await?.len(), 2);
    let hanging = lab.sh("ben", "ps -e -o args | grep -c '[s]leep 100000' || true").await?;
    eprintln!("programs that hang at the same time: {}", hanging.trim());
    assert!(hanging.trim().parse::<u32>()? < 20, "they pile up");
    lab.sh("ben", "rm /run/hang").await?;
    lab.is_protected("web", 1).await?;
    lab.end().await
}
