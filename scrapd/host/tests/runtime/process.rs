//! What only real processes show: nothing survives a stop, a deadline, or the death of a keeper.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use scrap_host::process::{OpenError, ProcessRuntime};
use scrap_host::runtime::{Exec, InstanceState, Runtime, RuntimeCause, Start};
use scrap_schema::id::GrainId;
use scrap_schema::unit::Span;

use crate::bench::{
    Bench, ProcessBench, WEB, instance, is_alive, kill, soon, start, tagged, wait_for_state,
    wait_until,
};

const GRACE: Span = Span::from_secs(5);

/// A tree: a child, a grandchild, one in a session of its own whose parent has ended, one that also cleared its
/// environment, and a main program that ignores being asked.
const TREE: &str = "
    trap '' TERM
    sleep 1000 & echo $! > child
    sh -c 'trap \"\" TERM; sleep 1000 & echo $! > grandchild; wait' &
    (setsid sh -c 'echo $$ > daemon; exec sleep 1000' & )
    (setsid env -i /bin/sh -c 'echo $$ > stranger; exec sleep 1000' & )
    echo $$ > main
    while :; do sleep 0.05; done";

async fn tree(bench: &ProcessBench) -> Vec<i32> {
    let mut pids = Vec::new();
    for name in ["main", "child", "grandchild", "daemon", "stranger"] {
        pids.push(bench.pid_in(name).await);
    }
    assert!(pids.iter().all(|pid| is_alive(*pid)), "{pids:?}");
    pids
}

fn assert_dead(pids: &[i32]) {
    let left: Vec<&i32> = pids.iter().filter(|pid| is_alive(**pid)).collect();
    assert!(left.is_empty(), "{left:?} of {pids:?} are alive");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_leaves_no_descendant() {
    let bench = ProcessBench::new().await;
    bench.runtime.start(bench.shell(TREE, 1)).await.unwrap();
    let mut pids = tree(&bench).await;
    pids.push(bench.keeper_pid());
    bench.runtime.stop(WEB, Span::from_ms(200)).await.unwrap();
    assert_dead(&pids);
    let found = instance(&bench.runtime).await.unwrap();
    assert_eq!(found.last_exit.as_deref(), Some("signal 9"), "it ignored being asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_may_use_its_grace() {
    let bench = ProcessBench::new().await;
    let script = "trap 'echo bye; exit 0' TERM; echo $$ > main; while :; do sleep 0.02; done";
    bench.runtime.start(bench.shell(script, 1)).await.unwrap();
    bench.pid_in("main").await;
    bench.runtime.stop(WEB, Span::from_secs(60)).await.unwrap();
    let found = instance(&bench.runtime).await.unwrap();
    assert_eq!(found.last_exit.as_deref(), Some("exit status 0"));
    // The shell may say before that its `sleep` was terminated.
    let text = bench.runtime.logs(WEB, 0, None, 100).await.unwrap().text;
    assert!(text.ends_with(b"bye\n"), "{}", String::from_utf8_lossy(&text));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_needs_no_daemon() {
    let mut bench = ProcessBench::new().await;
    let order = Start { deadline: Some(soon(1500)), ..bench.shell(TREE, 1) };
    let starter = bench.runtime.clone();
    starter.start(order).await.unwrap();
    drop(starter);
    let mut pids = tree(&bench).await;
    pids.push(bench.keeper_pid());
    wait_until(async || !pids.iter().any(|pid| is_alive(*pid))).await;
    bench.reopen().await;
    assert_eq!(instance(&bench.runtime).await.unwrap().state, InstanceState::Stopped);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keeper_without_its_folder_keeps_its_deadline() {
    let bench = ProcessBench::new().await;
    let order = Start { deadline: Some(soon(1500)), ..bench.shell(TREE, 1) };
    bench.runtime.start(order).await.unwrap();
    let mut pids = tree(&bench).await;
    pids.push(bench.keeper_pid());
    fs::remove_dir_all(bench.root.path().join("run")).unwrap();
    wait_until(async || !pids.iter().any(|pid| is_alive(*pid))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_keeper_leaves_is_found_and_ended() {
    let mut bench = ProcessBench::new().await;
    let script = TREE.replace("env -i /bin/sh", "sh");
    bench.runtime.start(bench.shell(&script, 1)).await.unwrap();
    let pids = tree(&bench).await;
    kill(bench.keeper_pid());
    let main = pids[0];
    wait_until(async || !is_alive(main)).await;
    bench.reopen().await;
    let found = wait_for_state(&bench.runtime, InstanceState::Stopped).await;
    assert_eq!(found.last_exit.as_deref(), Some("its keeper was killed"));
    assert_dead(&pids);
    bench.runtime.start(bench.order(1)).await.unwrap();
    assert_eq!(instance(&bench.runtime).await.unwrap().state, InstanceState::Running);
    kill(bench.keeper_pid());
    bench.runtime.stop(WEB, GRACE).await.unwrap();
    assert_eq!(tagged(bench.record()["tag"].as_str().unwrap()), Vec::<i32>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keeper_that_hangs_is_killed_with_its_grain() {
    let bench = ProcessBench::new().await;
    bench.runtime.start(bench.shell(TREE, 1)).await.unwrap();
    let mut pids = tree(&bench).await;
    // The one that shows neither tag nor session cannot be found without its keeper; that is said in the documentation.
    kill(pids.pop().unwrap());
    let keeper = rustix::process::Pid::from_raw(bench.keeper_pid()).unwrap();
    rustix::process::kill_process(keeper, rustix::process::Signal::STOP).unwrap();
    bench.runtime.stop(WEB, Span::from_ms(100)).await.unwrap();
    assert_dead(&pids);
    assert!(!is_alive(keeper.as_raw_nonzero().get()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_daemon_finds_it_again() {
    let mut bench = ProcessBench::new().await;
    bench.runtime.start(bench.order(4)).await.unwrap();
    let keeper = bench.keeper_pid();
    bench.reopen().await;
    assert_eq!(bench.keeper_pid(), keeper);
    bench.runtime.start(bench.order(4)).await.unwrap();
    assert_eq!(bench.keeper_pid(), keeper, "the same one");
    assert!(is_alive(keeper));
    bench.runtime.stop(WEB, GRACE).await.unwrap();
    assert!(!is_alive(keeper));
}

/// A keeper that is slow to begin: it waits for a file.
fn slow_keeper(bench: &ProcessBench) -> std::path::PathBuf {
    let root = bench.root.path().display();
    let script = format!(
        "#!/bin/sh\necho $$ > {root}/slow\nwhile [ ! -e {root}/go ]; do sleep 0.02; done\nexec {}\n",
        env!("CARGO_BIN_EXE_scrap-keeper")
    );
    let path = bench.root.path().join("slow-keeper");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// The daemon is killed after it has spawned a keeper and before that has done anything, and starts again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keeper_that_wakes_up_late_finds_its_place_taken() {
    let bench = ProcessBench::new().await;
    let script = slow_keeper(&bench);
    let slow = ProcessRuntime::open(&bench.root.path().join("run"), script).await.unwrap();
    let daemon = tokio::runtime::Runtime::new().unwrap();
    let order = bench.order(1);
    drop(daemon.spawn(async move { slow.start(order).await }));
    let pid = || fs::read_to_string(bench.root.path().join("slow")).ok()?.trim().parse().ok();
    wait_until(async || pid().is_some()).await;
    daemon.shutdown_background();
    let late: i32 = pid().unwrap();
    bench.runtime.start(bench.order(1)).await.unwrap();
    let first = bench.record();
    fs::write(bench.root.path().join("go"), "").unwrap();
    wait_until(async || !is_alive(late)).await;
    assert_eq!(bench.record()["tag"], first["tag"], "the record is of the first one");
    assert_eq!(instance(&bench.runtime).await.unwrap().state, InstanceState::Running);
    bench.runtime.stop(WEB, GRACE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_of_another_boot_is_not_believed() {
    let mut bench = ProcessBench::new().await;
    bench.runtime.start(bench.order(1)).await.unwrap();
    bench.runtime.stop(WEB, GRACE).await.unwrap();
    let mut record = bench.record();
    record["boot"] = "another".into();
    record["status"]["state"] = "running".into();
    record["keeper"]["pid"] = std::process::id().into();
    let path = bench.root.path().join(format!("run/{WEB}/keeper.json"));
    fs::write(&path, record.to_string()).unwrap();
    bench.reopen().await;
    let found = instance(&bench.runtime).await.unwrap();
    assert_eq!(found.state, InstanceState::Stopped);
    assert_eq!(found.last_exit.as_deref(), Some("the machine was restarted"));
    bench.runtime.stop(WEB, GRACE).await.unwrap();
    // The bench must not clean up by this record.
    fs::remove_file(path).unwrap();
}

/// Leaves nothing of what is in the keeper's record, and a bit of it.
const DAMAGES: [&str; 2] = ["", "{\"grain\": \"0000"];

fn record_path(bench: &ProcessBench) -> std::path::PathBuf {
    bench.root.path().join(format!("run/{WEB}/keeper.json"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_record_is_written_again_by_its_keeper() {
    let mut bench = ProcessBench::new().await;
    bench.runtime.start(bench.order(3)).await.unwrap();
    let before = (bench.keeper_pid(), instance(&bench.runtime).await.unwrap());
    for damage in DAMAGES {
        fs::write(record_path(&bench), damage).unwrap();
        bench.reopen().await;
        let found = instance(&bench.runtime).await.unwrap();
        assert_eq!((bench.keeper_pid(), found), before.clone());
    }
    fs::write(record_path(&bench), "").unwrap();
    bench.runtime.stop(WEB, GRACE).await.unwrap();
    assert!(!is_alive(before.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_record_of_a_dead_keeper_hides_nothing_that_it_left() {
    let mut bench = ProcessBench::new().await;
    for damage in DAMAGES {
        let script = TREE.replace("env -i /bin/sh", "sh");
        bench.runtime.start(bench.shell(&script, 1)).await.unwrap();
        let pids = tree(&bench).await;
        kill(bench.keeper_pid());
        fs::write(record_path(&bench), damage).unwrap();
        wait_until(async || !is_alive(pids[0])).await;
        bench.reopen().await;
        let found = wait_for_state(&bench.runtime, InstanceState::Stopped).await;
        assert_eq!(found.last_exit.as_deref(), Some("its record was lost"));
        assert_dead(&pids);
        for name in ["main", "child", "grandchild", "daemon", "stranger"] {
            fs::remove_file(bench.root.path().join("data").join(name)).unwrap();
        }
    }
}

/// Neither its record nor its keeper says anything: it is told as unclear, it is not stopped, and the others are seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_record_of_a_keeper_that_hangs_hides_no_other_grain() {
    use rustix::process::{Pid, Signal, kill_process};
    let bench = ProcessBench::new().await;
    let other = GrainId(2);
    bench.runtime.start(bench.order(1)).await.unwrap();
    bench.runtime.start(Start { grain: other, ..bench.order(1) }).await.unwrap();
    let keeper = Pid::from_raw(bench.keeper_pid()).unwrap();
    kill_process(keeper, Signal::STOP).unwrap();
    fs::write(record_path(&bench), "").unwrap();
    let seen = bench.runtime.list().await.unwrap();
    let instances: Vec<_> = seen.instances.iter().map(|it| (it.grain, it.state)).collect();
    assert_eq!(instances, [(other, InstanceState::Running)]);
    let unclear: Vec<_> = seen.unclear.iter().map(|error| error.grain).collect();
    assert_eq!(unclear, [WEB]);
    let refused = bench.runtime.stop(WEB, GRACE).await.unwrap_err();
    assert!(refused.cause.to_string().contains("keeper.json is not readable"), "{refused}");
    assert!(bench.runtime.start(bench.order(2)).await.is_err(), "no second one beside it");
    kill_process(keeper, Signal::CONT).unwrap();
    wait_for_state(&bench.runtime, InstanceState::Running).await;
    bench.runtime.stop(WEB, GRACE).await.unwrap();
    bench.runtime.stop(other, GRACE).await.unwrap();
}

/// Both reasons not to answer: the one hangs, of the other nobody knows where it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keepers_that_do_not_answer_cost_no_other_grain_its_deadline() {
    use rustix::process::{Pid, Signal, kill_process};
    let bench = ProcessBench::new().await;
    let (first, later) = (soon(300_000), soon(600_000));
    let others = [GrainId(2), GrainId(3)];
    for grain in [WEB, others[0], others[1]] {
        let order = Start { grain, deadline: Some(first), ..bench.order(1) };
        bench.runtime.start(order).await.unwrap();
    }
    let keeper = Pid::from_raw(bench.keeper_pid()).unwrap();
    kill_process(keeper, Signal::STOP).unwrap();
    let silent = bench.runtime.extend(later).await.unwrap();
    assert_eq!(silent.iter().map(|error| error.grain).collect::<Vec<_>>(), [WEB]);
    let listing = bench.runtime.list().await.unwrap();
    let deadlines = listing.instances.iter().map(|instance| (instance.grain, instance.deadline));
    let expected = [(WEB, first), (others[0], later), (others[1], later)];
    assert!(deadlines.eq(expected.map(|(grain, deadline)| (grain, Some(deadline)))), "{listing:?}");
    kill_process(keeper, Signal::CONT).unwrap();
    for grain in [WEB, others[0], others[1]] {
        bench.runtime.stop(grain, GRACE).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pid_that_was_given_away_again_is_not_touched() {
    let mut bench = ProcessBench::new().await;
    bench.runtime.start(bench.order(1)).await.unwrap();
    bench.runtime.stop(WEB, GRACE).await.unwrap();
    let mut record = bench.record();
    record["status"]["state"] = "running".into();
    record["keeper"]["pid"] = std::process::id().into();
    record["keeper"]["started"] = 1.into();
    let path = bench.root.path().join(format!("run/{WEB}/keeper.json"));
    fs::write(path, record.to_string()).unwrap();
    bench.reopen().await;
    // Still here to see it.
    assert_eq!(instance(&bench.runtime).await.unwrap().state, InstanceState::Stopped);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leftovers_of_a_crashed_program_end_before_its_restart() {
    let bench = ProcessBench::new().await;
    let script = "if [ -e helper ]; then echo $$ > second; exec sleep 1000; fi
        (setsid sleep 1000 & echo $! > helper); exit 7";
    bench.runtime.start(bench.shell(script, 1)).await.unwrap();
    let helper = bench.pid_in("helper").await;
    bench.pid_in("second").await;
    assert!(!is_alive(helper));
    let found = wait_for_state(&bench.runtime, InstanceState::Running).await;
    assert_eq!((found.restarts, found.last_exit.as_deref()), (1, Some("exit status 7")));
    bench.runtime.stop(WEB, GRACE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exec_and_what_it_starts_end_with_the_grain() {
    let bench = ProcessBench::new().await;
    bench.runtime.start(bench.order(1)).await.unwrap();
    let script = "pwd; (setsid sh -c 'echo $$ > hidden; exec sleep 1000' &); sleep 1000";
    let command = ["sh", "-c", script].map(str::to_owned).to_vec();
    let exec =
        Exec { grain: WEB, command, env: std::collections::BTreeMap::new(), tty: None, user: None };
    let child = bench.runtime.exec(exec).await.unwrap().child;
    let hidden = bench.pid_in("hidden").await;
    assert!(is_alive(hidden), "its working directory is the grain's");
    bench.runtime.stop(WEB, GRACE).await.unwrap();
    assert!(!is_alive(hidden));
    drop(child);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_started_is_named() {
    let bench = ProcessBench::new().await;
    let data = bench.root.path().join("data");
    fs::write(data.join("plain"), "text").unwrap();
    fs::set_permissions(data.join("plain"), fs::Permissions::from_mode(0o644)).unwrap();
    let plain = data.join("plain").display().to_string();
    for (program, kind) in [
        ("/no/such/program", std::io::ErrorKind::NotFound),
        ("no-such-program", std::io::ErrorKind::NotFound),
        (plain.as_str(), std::io::ErrorKind::PermissionDenied),
    ] {
        let refused = bench.runtime.start(start(&[program, "x"], &data, 1)).await.unwrap_err();
        match refused.cause {
            RuntimeCause::Program { program: named, source } => {
                assert_eq!((named.as_str(), source.kind()), (program, kind));
            }
            other => panic!("{other:?}"),
        }
        let found = instance(&bench.runtime).await.unwrap();
        assert_eq!(found.state, InstanceState::Stopped);
    }
    let order = start(&["true"], &bench.root.path().join("nowhere"), 1);
    let refused = bench.runtime.start(order).await.unwrap_err();
    let text = refused.cause.to_string();
    assert!(text.contains("nowhere"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_given_environment_is_there() {
    let bench = ProcessBench::new().await;
    let script = "env; echo end; exec sleep 1000";
    bench.runtime.start(bench.shell(script, 1)).await.unwrap();
    let log = async || bench.runtime.logs(WEB, 0, None, 9999).await.unwrap().text;
    wait_until(async || log().await.ends_with(b"end\n")).await;
    let text = String::from_utf8(log().await).unwrap();
    let mut names: Vec<&str> =
        text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    names.sort_unstable();
    names.retain(|name| !["_", "PWD", "SHLVL", "OLDPWD"].contains(name));
    assert_eq!(names, ["GREETING", "PATH", "SCRAP_INSTANCE"]);
    bench.runtime.stop(WEB, GRACE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_counts_everything_that_runs_or_ran() {
    let bench = ProcessBench::new().await;
    let script =
        "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; sleep 1000 & echo $$ > main; wait";
    bench.runtime.start(bench.shell(script, 1)).await.unwrap();
    bench.pid_in("main").await;
    let measured = async || {
        let usage = bench.runtime.usage(WEB).await.unwrap();
        usage.processes == 2 && usage.cpu_ms > 0 && usage.memory.0 > 100_000
    };
    wait_until(measured).await;
    bench.runtime.stop(WEB, GRACE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_keeper_is_small_and_leaves_the_disk_alone() {
    let bench = ProcessBench::new().await;
    let order = Start { deadline: Some(soon(600_000)), ..bench.shell("exec sleep 1000", 1) };
    bench.runtime.start(order).await.unwrap();
    let keeper = bench.keeper_pid();
    let status = fs::read_to_string(format!("/proc/{keeper}/status")).unwrap();
    let line = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap();
    assert_eq!(line("Threads:").split_whitespace().nth(1), Some("1"));
    let resident: u64 = line("VmRSS:").split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(resident < 8 << 10, "{resident} KiB, unoptimised");
    let folder = bench.root.path().join(format!("run/{WEB}"));
    let picture = || {
        let mut all: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (entry.file_name(), entry.metadata().unwrap().modified().unwrap())
            })
            .collect();
        all.sort();
        all
    };
    let before = picture();
    for ms in 1..50 {
        bench.runtime.extend(soon(600_000 + ms)).await.unwrap();
    }
    assert_eq!(picture(), before);
    bench.runtime.stop(WEB, GRACE).await.unwrap();
}

#[tokio::test]
async fn an_impossible_folder_or_keeper_is_named() {
    let root = tempfile::tempdir().unwrap();
    let long = root.path().join("x".repeat(80));
    let keeper = env!("CARGO_BIN_EXE_scrap-keeper").into();
    let refused = ProcessRuntime::open(&long, keeper).await.unwrap_err();
    assert!(matches!(refused, OpenError::PathTooLong { .. }));
    let text = refused.to_string();
    assert!(text.contains("xxxx") && text.contains("/run/scrap"), "{text}");
    let missing = root.path().join("no-keeper");
    let refused = ProcessRuntime::open(&root.path().join("run"), missing).await.unwrap_err();
    assert!(refused.to_string().contains("no-keeper"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keeper_that_slept_over_its_deadline_hears_no_extension() {
    use rustix::process::{Pid, Signal, kill_process};
    let bench = ProcessBench::new().await;
    let deadline = soon(800);
    let order = Start { deadline: Some(deadline), ..bench.order(1) };
    bench.runtime.start(order).await.unwrap();
    let keeper = Pid::from_raw(bench.keeper_pid()).unwrap();
    kill_process(keeper, Signal::STOP).unwrap();
    let runtime = bench.runtime.clone();
    let extended = tokio::spawn(async move { runtime.extend(soon(600_000)).await });
    wait_until(async || soon(0) > deadline).await;
    kill_process(keeper, Signal::CONT).unwrap();
    extended.await.unwrap().unwrap();
    wait_for_state(&bench.runtime, InstanceState::Stopped).await;
}
