//! Handles of processes, against children of the test itself.
#![expect(clippy::disallowed_methods, reason = "tests of processes need processes")]

use std::process::{Child, Command};

use super::*;

/// Ends its process when the test is over.
struct Sleeper(Child);

impl Sleeper {
    fn start(dir: &Path, environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new("sleep");
        command.arg("600").env_clear().current_dir(dir).envs(environment.iter().copied());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_recorded_process_is_found_and_ended() {
    let dir = tempfile::tempdir().unwrap();
    let mut sleeper = Sleeper::start(dir.path(), &[]);
    let path = dir.path().join("pid");
    Record::of(sleeper.0.id()).unwrap().write(&path).unwrap();
    let process = Record::find(&path, Path::new("600")).unwrap().unwrap();
    process.signal(Signal::KILL).unwrap();
    assert!(process.wait(Duration::from_secs(20)).await.unwrap());
    sleeper.0.wait().unwrap();
    assert!(Record::find(&path, Path::new("600")).unwrap().is_none());
}

#[test]
fn another_process_with_the_same_number_is_never_taken_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let sleeper = Sleeper::start(dir.path(), &[]);
    let path = dir.path().join("pid");
    let record = Record::of(sleeper.0.id()).unwrap();
    Record { start: record.start + 1, ..record }.write(&path).unwrap();
    assert!(Record::find(&path, Path::new("600")).unwrap().is_none());
    record.write(&path).unwrap();
    assert!(Record::find(&path, Path::new("/another/config")).unwrap().is_none());
    assert!(Record::find(&path, Path::new("600")).unwrap().is_some());
}

#[test]
fn grains_of_a_folder_are_found_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("ada/data/x").display().to_string();
    let other = dir.path().join("ada2/data/x").display().to_string();
    let grain = Sleeper::start(dir.path(), &[("SCRAP_INSTANCE", "1"), ("SCRAP_DATA", &data)]);
    let neighbour = Sleeper::start(dir.path(), &[("SCRAP_INSTANCE", "1"), ("SCRAP_DATA", &other)]);
    let stranger = Sleeper::start(dir.path(), &[("SCRAP_DATA", &data)]);
    // A child shows its parent's environment until it has become its own program.
    let ready = |sleeper: &Sleeper| name(sleeper.0.id()).is_some_and(|name| name.contains("sleep"));
    while !(ready(&grain) && ready(&neighbour) && ready(&stranger)) {
        std::thread::yield_now();
    }
    let found: Vec<u32> = grains(&dir.path().join("ada"), &dir.path().join("run"))
        .iter()
        .map(|process| process.pid)
        .collect();
    assert_eq!(found, [grain.0.id()]);
}

#[test]
fn a_keeper_is_found_by_its_record_while_it_is_the_same_process() {
    let dir = tempfile::tempdir().unwrap();
    let run_dir = dir.path().join("run");
    std::fs::create_dir_all(run_dir.join("grain")).unwrap();
    let keeper = Sleeper::start(dir.path(), &[]);
    let pid = keeper.0.id();
    let found = |started: u64| {
        let record =
            format!("{{\"keeper\":{{\"pid\":{pid},\"started\":{started}}},\"tag\":\"x\"}}");
        std::fs::write(run_dir.join("grain/keeper.json"), record).unwrap();
        let found = grains(&dir.path().join("ada"), &run_dir);
        found.iter().map(|process| process.pid).collect::<Vec<_>>()
    };
    let started = start_time(pid).unwrap();
    assert_eq!(found(started), [pid]);
    assert!(found(started + 1).is_empty());
}
