//! The harness itself: what it must notice it notices, and nothing is left of a test that was killed.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use scrap_tests::cluster::grain::Entry;
use scrap_tests::cluster::processes::{Process, of_folder};
use scrap_tests::cluster::twice::Watch;
use scrap_tests::cluster::writer::Seen;
use scrap_tests::cluster::{SOON, janitor, now, wait_for};

use crate::migrate::epochs;

/// A process that looks like one of a grain on a node.
fn grain(folder: &Path, name: &str, node: &str) -> anyhow::Result<Child> {
    let mut command = Command::new("sleep");
    command.arg("60").env("SCRAP_GRAIN", name).env("SCRAP_NODE", node).current_dir(folder);
    Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?)
}

fn end(child: &mut Child) -> anyhow::Result<()> {
    child.kill()?;
    child.wait()?;
    Ok(())
}

fn entry(number: u64, epoch: &str, node: &str) -> Entry {
    let (text, epoch, node) = (format!("write {number}"), epoch.to_owned(), node.to_owned());
    Entry { number, text, node, epoch }
}

#[tokio::test]
async fn the_watch_sees_a_grain_that_runs_twice() -> anyhow::Result<()> {
    let root = tempfile::tempdir_in("/tmp")?;
    let mut ada = grain(root.path(), "web", "ada")?;
    let mut other = grain(root.path(), "mail", "bob")?;
    let watch = Watch::start(root.path().to_owned());
    wait_for(SOON, "it has looked", async || Ok((watch.looks() > 2).then_some(()))).await?;
    assert!(watch.end().is_ok(), "two grains on two nodes are none that runs twice");

    let mut bob = grain(root.path(), "web", "bob")?;
    let watch = Watch::start(root.path().to_owned());
    wait_for(SOON, "it has found something", async || Ok(watch.is_over().then_some(()))).await?;
    let found = watch.end().err().map(|error| error.to_string()).unwrap_or_default();
    assert!(found.contains("grain web runs twice"), "{found}");
    [&mut ada, &mut other, &mut bob].into_iter().try_for_each(end)
}

#[tokio::test]
async fn the_janitor_clears_up_behind_a_test_that_was_killed() -> anyhow::Result<()> {
    let root = tempfile::tempdir_in("/tmp")?;
    let mut sleeper = grain(root.path(), "web", "ada")?;
    let mut janitor = janitor(root.path())?;
    assert_eq!(of_folder(root.path()).len(), 1);
    // What every death of a test does to the janitor's input.
    drop(janitor.stdin.take());
    assert!(janitor.wait()?.success());
    assert!(of_folder(root.path()).is_empty());
    assert!(!sleeper.wait()?.success(), "it was killed");
    Ok(())
}

#[test]
fn a_pid_that_was_given_away_again_is_another_process() -> anyhow::Result<()> {
    let root = tempfile::tempdir_in("/tmp")?;
    let mut sleeper = grain(root.path(), "web", "ada")?;
    let process = Process::of(i32::try_from(sleeper.id())?);
    let process = process.ok_or_else(|| anyhow::anyhow!("it does not run"))?;
    let other = Process { started: process.started + 1, ..process };
    other.signal(Signal::KILL);
    assert!(process.is_alive() && !other.is_alive());
    end(&mut sleeper)
}

#[test]
fn a_lost_write_and_an_old_owner_that_goes_on_are_noticed() {
    let acknowledged = (1..=3).map(|number| (entry(number, "1", "ada"), now())).collect();
    let seen = Seen { acknowledged, ..Seen::default() };
    let kept = [entry(1, "1", "ada"), entry(3, "1", "ada")];
    let missing = seen.missing(&kept);
    assert_eq!(missing.iter().map(|(entry, _)| entry.number).collect::<Vec<_>>(), [2]);

    let one = [entry(1, "1", "ada"), entry(2, "1", "ada"), entry(3, "2", "bob")];
    assert_eq!(epochs(&one).ok(), Some(vec![(1, "ada".to_owned()), (2, "bob".to_owned())]));
    let two = [entry(1, "1", "ada"), entry(2, "2", "bob"), entry(3, "1", "ada")];
    assert!(epochs(&two).is_err());
}
