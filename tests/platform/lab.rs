//! The lab itself: cables, power, and that nothing is left of it, even when it was killed in the middle.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process_group};
use scrap_tests::cluster::wait_for;
use scrap_tests::platform::leftovers::Trace;
use scrap_tests::platform::{SOON, Spec, lab_program, leave_network, new_name, refusal, up};

fn bare() -> Spec {
    Spec { options: ["--bare", "--size", "1G"].map(ToOwned::to_owned).into(), name: None }
}

#[tokio::test]
async fn machines_have_cables_power_and_pools_of_their_own() -> anyhow::Result<()> {
    let Some(lab) = up(bare()).await? else { return Ok(()) };
    lab.sh("client", "ping -c 1 -W 5 10.99.0.2 && ping -6 -c 1 -W 5 fd99::2").await?;
    let page = lab.sh("ben", "busybox wget -q -O - http://8.8.8.8/").await?;
    assert_eq!(page, "the internet of the lab\n");

    // What happens on one pool is not seen on another.
    let dataset = lab.dataset("ben");
    let list = lab.sh("ben", &format!("zfs create {dataset}/mine && zfs list -H -o name")).await?;
    assert!(list.contains(&format!("{dataset}/mine")), "{list}");
    let list = lab.sh("ada", "zfs list -H -o name").await?;
    assert!(list.contains(&lab.dataset("ada")) && !list.contains("-ben"), "{list}");

    lab.verb(&["cut", "ben"]).await?;
    assert!(lab.sh("client", "ping -c 1 -W 1 10.99.0.2").await.is_err(), "the cable is out");
    lab.verb(&["join", "ben"]).await?;
    lab.sh("client", "ping -c 3 -W 5 10.99.0.2").await?;

    // A power cut ends everything of the node, and what its pool had on disk is there afterwards.
    lab.sh(
        "ben",
        &format!("zfs snapshot {dataset}/mine@kept; setsid sleep 1000 >/dev/null 2>&1 &"),
    )
    .await?;
    lab.verb(&["kill", "ben"]).await?;
    assert!(lab.exec("ben", &["true"]).await?.all().contains("ben is down"));
    lab.verb(&["start", "ben"]).await?;
    let processes = lab.sh("ben", "ps -e -o args").await?;
    assert!(!processes.contains("sleep 1000"), "{processes}");
    lab.sh("ben", &format!("zfs get -Hp guid {dataset}/mine@kept")).await?;
    lab.end().await
}

#[tokio::test]
async fn two_labs_do_not_meet() -> anyhow::Result<()> {
    let spec = bare().option("--nodes", "1");
    let Some(one) = up(spec.clone()).await? else { return Ok(()) };
    let Some(two) = up(spec).await? else { return Ok(()) };
    two.end().await?;
    one.sh("client", "ping -c 1 -W 5 10.99.0.1").await?;
    one.sh("ada", "zpool list -H").await?;
    one.end().await
}

#[tokio::test]
async fn a_lab_that_was_killed_in_the_middle_is_taken_down() -> anyhow::Result<()> {
    if refusal().is_some() {
        return Ok(());
    }
    leave_network()?;
    // At several places: with nothing but a folder, with some machines, with pools.
    for pause in [50, 400, 1500, 4000] {
        let name = new_name();
        let trace = Trace::begin(&name);
        let mut command = Command::new(lab_program());
        command.args(["--name", &name, "up", "--bare", "--size", "1G"]).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        // Not waited for: where it is killed is left to chance.
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let group = Pid::from_raw(i32::try_from(child.id())?).context("a process has a number")?;
        kill_process_group(group, Signal::KILL)?;
        child.wait()?;
        trace.look();
        trace.ends(None);
        for _ in 0..2 {
            let down = Command::new(lab_program()).args(["--name", &name, "down"]).output()?;
            assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
        }
        assert_eq!(trace.left(), Vec::<String>::new(), "killed after {pause} ms");
    }
    Ok(())
}

#[tokio::test]
async fn a_lab_goes_with_the_program_that_holds_it() -> anyhow::Result<()> {
    let Some(lab) = up(bare()).await? else { return Ok(()) };
    let trace = lab.trace.clone();
    leave_network()?;
    // All machines of three nodes, and what is of them is found as long as it is there.
    assert_eq!(trace.machines(), 7, "{trace:?}");
    let there = trace.left();
    // The kernel's ZFS has no process of a lab.
    let pool = if Path::new("/dev/zfs").exists() { "pool " } else { "pool.img open" };
    for what in ["folder ", pool, "the network of ada", "its control group", "control group /sys"] {
        assert!(there.iter().any(|line| line.contains(what)), "no {what} in {there:#?}");
    }
    // As if a test had failed.
    trace.ends(None);
    drop(lab);
    wait_for(SOON, "nothing is left of the lab", async || Ok(trace.left().is_empty().then_some(())))
        .await
}
