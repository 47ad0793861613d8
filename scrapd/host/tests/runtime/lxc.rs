//! What only containers show: inits are asked and everything is verified gone, whatever hangs or was killed; terminals,
//! users and freezing.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};
use scrap_host::runtime::{Exec, InstanceState, Runtime, RuntimeCause, Start, Window};
use scrap_schema::unit::Span;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::bench::{Bench, WEB, instance, kill, soon, wait_for_state, wait_until};
use crate::container::{LxcBench, contained, exec, open};

const GRACE: Span = Span::from_secs(20);
const WINDOW: Window = Window { rows: 24, columns: 80 };

/// Children, one of them in a session of its own that has lost its parent, and a first process that ignores being asked.
const TREE: &str = "
    trap '' TERM PWR INT
    sleep 1000 &
    (setsid sh -c 'trap \"\" TERM; sleep 1000; sleep 1000' & )
    echo $$ > /main
    while :; do sleep 0.05; done";

mod contained_tests {
    super::contained! {
        an_init_is_asked_in_its_own_way
        an_init_that_does_not_listen_yet_is_asked_again
        an_init_that_hears_nothing_is_not_waited_for
        what_ignores_being_asked_is_killed
        a_deadline_needs_no_daemon
        a_deadline_holds_when_the_maker_hangs
        what_a_killed_keeper_leaves_is_found_and_ended
        a_keeper_that_hangs_is_killed_with_its_grain
        a_killed_maker_takes_its_system_along_and_is_started_again
        a_lost_record_still_names_the_group
        a_system_that_cannot_begin_is_named_and_not_tried_again
        nothing_is_started_that_is_not_prepared
        a_terminal_is_one
        the_console_is_a_terminal_too
        users_are_those_of_the_grain
        without_a_network_there_is_a_loopback
        a_dropped_exec_ends_inside_too
        a_frozen_grain_does_nothing_and_can_be_stopped
        the_environment_is_what_was_ordered
        an_init_without_a_tool_has_no_services
    }
}

fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

async fn an_init_is_asked_in_its_own_way() {
    let bench = LxcBench::new().await;
    let inittab = "::sysinit:/bin/sh -c 'echo $$ > /main'\n::shutdown:/bin/echo bye\n";
    fs::write(bench.rootfs().join("etc/inittab"), inittab).unwrap();
    bench.runtime.start(bench.whole(1)).await.unwrap();
    bench.appears("main").await;
    bench.runtime.stop(WEB, Span::from_secs(60)).await.unwrap();
    let found = instance(&bench.runtime).await.unwrap();
    assert_eq!(found.last_exit.as_deref(), Some("exit status 0"));
    let log = bench.runtime.logs(WEB, 0, None, 10_000).await.unwrap().text;
    assert!(String::from_utf8_lossy(&log).contains("bye\n"), "{}", String::from_utf8_lossy(&log));
    bench.assert_gone();
}

async fn an_init_that_does_not_listen_yet_is_asked_again() {
    let bench = LxcBench::new().await;
    let script =
        "trap '' INT; echo $$ > /main; sleep 1; trap 'exit 0' TERM; while :; do sleep 0.05; done";
    bench.runtime.start(bench.shell(script, 1)).await.unwrap();
    bench.appears("main").await;
    bench.runtime.stop(WEB, Span::from_secs(60)).await.unwrap();
    let found = instance(&bench.runtime).await.unwrap();
    assert_eq!(found.last_exit.as_deref(), Some("exit status 0"));
    bench.assert_gone();
}

async fn an_init_that_hears_nothing_is_not_waited_for() {
    let bench = LxcBench::new().await;
    let command = ["/bin/sleep", "1000"].map(str::to_owned).into();
    bench.runtime.start(Start { command, ..bench.order(1) }).await.unwrap();
    let stop = bench.runtime.stop(WEB, Span::from_secs(3600));
    tokio::time::timeout(std::time::Duration::from_secs(60), stop).await.unwrap().unwrap();
    let found = instance(&bench.runtime).await.unwrap();
    assert_eq!(found.last_exit.as_deref(), Some("signal 9"));
    bench.assert_gone();
}

async fn what_ignores_being_asked_is_killed() {
    let bench = LxcBench::new().await;
    let script = TREE.replace("trap '' TERM PWR INT", "trap : TERM PWR INT");
    bench.runtime.start(bench.shell(&script, 1)).await.unwrap();
    bench.appears("main").await;
    wait_until(async || bench.living().len() >= 4).await;
    bench.runtime.stop(WEB, Span::from_ms(200)).await.unwrap();
    let found = instance(&bench.runtime).await.unwrap();
    assert_eq!(found.last_exit.as_deref(), Some("signal 9"));
    bench.assert_gone();
}

async fn a_deadline_needs_no_daemon() {
    let mut bench = LxcBench::new().await;
    let order = Start { deadline: Some(soon(3000)), ..bench.shell(TREE, 1) };
    open(bench.root.path()).await.start(order).await.unwrap();
    bench.appears("main").await;
    wait_until(async || bench.record()["status"]["state"] == "stopped").await;
    bench.assert_gone();
    bench.reopen().await;
    assert_eq!(instance(&bench.runtime).await.unwrap().state, InstanceState::Stopped);
}

async fn a_deadline_holds_when_the_maker_hangs() {
    let bench = LxcBench::new().await;
    let order = Start { deadline: Some(soon(3000)), ..bench.shell(TREE, 1) };
    bench.runtime.start(order).await.unwrap();
    bench.appears("main").await;
    signal(bench.maker_pid(), Signal::STOP);
    wait_until(async || bench.record()["status"]["state"] == "stopped").await;
    bench.assert_gone();
}

async fn what_a_killed_keeper_leaves_is_found_and_ended() {
    let mut bench = LxcBench::new().await;
    bench.runtime.start(bench.shell(TREE, 1)).await.unwrap();
    bench.appears("main").await;
    kill(bench.keeper_pid());
    bench.reopen().await;
    let found = wait_for_state(&bench.runtime, InstanceState::Stopped).await;
    assert_eq!(found.last_exit.as_deref(), Some("its keeper was killed"));
    bench.assert_gone();
    bench.runtime.start(bench.order(1)).await.unwrap();
    // This time the maker cannot take the system along.
    signal(bench.maker_pid(), Signal::STOP);
    kill(bench.keeper_pid());
    bench.runtime.stop(WEB, GRACE).await.unwrap();
    bench.assert_gone();
}

async fn a_keeper_that_hangs_is_killed_with_its_grain() {
    let bench = LxcBench::new().await;
    bench.runtime.start(bench.shell(TREE, 1)).await.unwrap();
    bench.appears("main").await;
    signal(bench.keeper_pid(), Signal::STOP);
    bench.runtime.stop(WEB, Span::from_ms(100)).await.unwrap();
    bench.assert_gone();
}

async fn a_killed_maker_takes_its_system_along_and_is_started_again() {
    let bench = LxcBench::new().await;
    bench.runtime.start(bench.shell(TREE, 1)).await.unwrap();
    bench.appears("main").await;
    let before = bench.living();
    kill(bench.maker_pid());
    let down = wait_for_state(&bench.runtime, InstanceState::BackingOff).await;
    assert_eq!(down.last_exit.as_deref(), Some("signal 9"));
    let back = wait_for_state(&bench.runtime, InstanceState::Running).await;
    assert_eq!(back.restarts, 1);
    // Until it was started again they may have been on their way out.
    assert!(!before.iter().any(|pid| crate::bench::is_alive(*pid)));
    bench.runtime.stop(WEB, Span::from_ms(100)).await.unwrap();
    bench.assert_gone();
}

async fn a_lost_record_still_names_the_group() {
    let bench = LxcBench::new().await;
    bench.runtime.start(bench.shell(TREE, 1)).await.unwrap();
    bench.appears("main").await;
    let (groups, path) = (bench.groups(), bench.root.path().join(format!("run/{WEB}/keeper.json")));
    assert!(!groups.is_empty());
    signal(bench.maker_pid(), Signal::STOP);
    kill(bench.keeper_pid());
    fs::write(&path, "{").unwrap();
    bench.runtime.stop(WEB, GRACE).await.unwrap();
    assert_eq!(bench.living(), Vec::<i32>::new());
    assert!(!groups.iter().any(|group| group.exists()));
}

async fn a_system_that_cannot_begin_is_named_and_not_tried_again() {
    let bench = LxcBench::new().await;
    fs::remove_file(bench.rootfs().join("sbin/init")).unwrap();
    let refused = bench.runtime.start(bench.whole(1)).await.unwrap_err().cause;
    let RuntimeCause::Program { program, source } = refused else { panic!("{refused:?}") };
    assert_eq!((program.as_str(), source.kind()), ("/sbin/init", std::io::ErrorKind::NotFound));
    let found = instance(&bench.runtime).await.unwrap();
    assert_eq!(found.state, InstanceState::Stopped);
    bench.assert_gone();
    let above = bench.root.path();
    fs::set_permissions(above, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let refused = bench.runtime.start(bench.order(1)).await.unwrap_err().cause.to_string();
    assert!(refused.contains("chmod o+x"), "{refused}");
}

async fn nothing_is_started_that_is_not_prepared() {
    let bench = LxcBench::new().await;
    let system = scrap_host::runtime::System {
        ids: scrap_host::runtime::IdRange { base: 70_000, count: 65_536 },
        ..bench.system()
    };
    let order = Start { system: Some(system), ..bench.order(1) };
    let refused = bench.runtime.start(order).await.unwrap_err().cause.to_string();
    assert!(refused.contains("/etc/subuid") && refused.contains("root:70000:65536"), "{refused}");
    fs::remove_file(bench.data().join(".scrap-ids")).unwrap();
    let refused = bench.runtime.start(bench.order(1)).await.unwrap_err().cause.to_string();
    assert!(refused.contains("prepare"), "{refused}");
    bench.runtime.prepare(&bench.data(), bench.ids).await.unwrap();
    bench.runtime.start(bench.order(1)).await.unwrap();
    bench.runtime.stop(WEB, GRACE).await.unwrap();
}

/// Reads from a terminal until a text was printed.
async fn until(terminal: &mut (impl AsyncReadExt + Unpin), text: &str) -> String {
    let mut printed = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&printed).contains(text) {
            let mut buffer = [0; 1024];
            let length = terminal.read(&mut buffer).await.unwrap();
            assert!(length > 0, "it ended after {:?}", String::from_utf8_lossy(&printed));
            printed.extend_from_slice(&buffer[..length]);
        }
    };
    let read = tokio::time::timeout(std::time::Duration::from_secs(30), reading).await;
    let printed = String::from_utf8_lossy(&printed).into_owned();
    assert!(read.is_ok(), "never {text:?}, but {printed:?}");
    printed
}

/// What a terminal prints until it has been silent for a second.
async fn printed_in_a_second(terminal: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut printed = Vec::new();
    let mut buffer = [0; 1024];
    let second = std::time::Duration::from_secs(1);
    while let Ok(read) = tokio::time::timeout(second, terminal.read(&mut buffer)).await {
        let length = read.unwrap();
        assert!(length > 0, "it ended after {:?}", String::from_utf8_lossy(&printed));
        printed.extend_from_slice(&buffer[..length]);
    }
    String::from_utf8_lossy(&printed).into_owned()
}

async fn a_terminal_is_one() {
    let bench = LxcBench::new().await;
    bench.runtime.start(bench.order(1)).await.unwrap();
    let order =
        Exec { tty: Some(WINDOW), ..exec(&["sh", "-c", "stty size; read x; stty size; exit 5"]) };
    let mut started = bench.runtime.exec(order).await.unwrap();
    let mut terminal = started.terminal.take().unwrap();
    until(&mut terminal, "24 80").await;
    terminal.resize(Window { rows: 50, columns: 132 }).unwrap();
    // The program that stands for it passes the size on when it hears of it.
    let mut again = Exec { tty: Some(WINDOW), ..exec(&["sh"]) };
    again.env.insert("TERM".to_owned(), "dumb".to_owned());
    terminal.write_all(b"\n").await.unwrap();
    let rest = until(&mut terminal, "\r\n").await;
    let status = started.child.wait().await.unwrap();
    assert_eq!(status.code(), Some(5), "{rest}");
    let mut shell = bench.runtime.exec(again).await.unwrap();
    let mut terminal = shell.terminal.take().unwrap();
    terminal.resize(Window { rows: 50, columns: 132 }).unwrap();
    terminal
        .write_all(
            b"while [ \"$(stty size)\" != '50 132' ]; do sleep 0.01; done; echo si''zed $TERM\n",
        )
        .await
        .unwrap();
    until(&mut terminal, "sized dumb").await;
    terminal.write_all(b"exit 6\n").await.unwrap();
    assert_eq!(shell.child.wait().await.unwrap().code(), Some(6));
    let mut open = bench.runtime.exec(Exec { tty: Some(WINDOW), ..exec(&["cat"]) }).await.unwrap();
    bench.runtime.stop(WEB, GRACE).await.unwrap();
    let ended = tokio::time::timeout(std::time::Duration::from_secs(20), open.child.wait()).await;
    assert!(!ended.unwrap().unwrap().success(), "it ends with the grain");
    bench.assert_gone();
}

async fn the_console_is_a_terminal_too() {
    let bench = LxcBench::new().await;
    let inittab = "::respawn:-/bin/sh\n";
    fs::write(bench.rootfs().join("etc/inittab"), inittab).unwrap();
    bench.runtime.start(bench.whole(1)).await.unwrap();
    let mut console = bench.runtime.console(WEB, WINDOW).await.unwrap();
    let mut terminal = console.terminal.take().unwrap();
    until(&mut terminal, "exit the console").await;
    // What is typed before the shell is there is thrown away: whoever sits there types again until somebody reads.
    let mut said = String::new();
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !said.contains("console 42") {
        assert!(std::time::Instant::now() < limit, "nobody reads, but {said:?}");
        terminal.write_all(b"\necho con''sole $((40 + 2))\n").await.unwrap();
        said.push_str(&printed_in_a_second(&mut terminal).await);
    }
    bench.runtime.stop(WEB, GRACE).await.unwrap();
    let ended =
        tokio::time::timeout(std::time::Duration::from_secs(20), console.child.wait()).await;
    ended.unwrap().unwrap();
    let log = bench.runtime.logs(WEB, 0, None, 10_000).await.unwrap().text;
    assert!(String::from_utf8_lossy(&log).contains("console 42\n"));
}

async fn users_are_those_of_the_grain() {
    let bench = LxcBench::new().await;
    bench.runtime.start(bench.order(1)).await.unwrap();
    for (user, shown) in [("www", "33 34"), ("33:7", "33 7"), ("5", "5 5")] {
        let script = "while read name first second rest; do case $name in \
            Uid:) u=$second;; Gid:) g=$second;; esac; done < /proc/self/status; echo $u $g";
        let order = Exec { user: Some(user.to_owned()), ..exec(&["sh", "-c", script]) };
        let output =
            bench.runtime.exec(order).await.unwrap().child.wait_with_output().await.unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), shown, "{user}");
    }
    for user in ["nobody-here", "-u", "", "a\nb"] {
        let order = Exec { user: Some(user.to_owned()), ..exec(&["true"]) };
        let refused = bench.runtime.exec(order).await.unwrap_err().cause;
        assert!(matches!(refused, RuntimeCause::NoUser { .. }), "{user:?}: {refused:?}");
    }
    bench.runtime.stop(WEB, GRACE).await.unwrap();
}

async fn without_a_network_there_is_a_loopback() {
    let bench = LxcBench::new().await;
    bench.runtime.start(bench.order(1)).await.unwrap();
    let order = exec(&["sh", "-c", "cd /sys/class/net && echo * && cat lo/flags"]);
    let output = bench.runtime.exec(order).await.unwrap().child.wait_with_output().await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "lo\n0x9\n", "up, and the loopback");
    bench.runtime.stop(WEB, GRACE).await.unwrap();
}

async fn a_dropped_exec_ends_inside_too() {
    let bench = LxcBench::new().await;
    bench.runtime.start(bench.order(1)).await.unwrap();
    let child = bench
        .runtime
        .exec(exec(&["sh", "-c", "echo $$ > /beside; exec sleep 1000"]))
        .await
        .unwrap();
    bench.appears("beside").await;
    let sleeps = || {
        let names = bench.living().into_iter().map(|pid| fs::read(format!("/proc/{pid}/cmdline")));
        names.filter(|name| name.as_ref().is_ok_and(|name| name.ends_with(b"1000\0"))).count()
    };
    assert_eq!(sleeps(), 1);
    drop(child);
    wait_until(async || sleeps() == 0).await;
    assert_eq!(instance(&bench.runtime).await.unwrap().state, InstanceState::Running);
    bench.runtime.stop(WEB, GRACE).await.unwrap();
}

async fn a_frozen_grain_does_nothing_and_can_be_stopped() {
    let bench = LxcBench::new().await;
    let script = "i=0; while :; do i=$((i+1)); echo $i > /tick.new; mv /tick.new /tick; done";
    let script = script.replace("mv /tick.new /tick", "cat /tick.new > /tick");
    bench.runtime.start(bench.shell(&script, 1)).await.unwrap();
    bench.appears("tick").await;
    let tick = || fs::read_to_string(bench.rootfs().join("tick")).unwrap();
    bench.runtime.freeze(WEB).await.unwrap();
    bench.runtime.freeze(WEB).await.unwrap();
    let held = tick();
    let refused = bench.runtime.exec(exec(&["true"])).await.unwrap_err().cause.to_string();
    assert!(refused.contains("frozen"), "{refused}");
    let state = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    assert!(bench.living().iter().all(|pid| !state(pid).contains("R (running)")));
    assert_eq!(tick(), held);
    bench.runtime.thaw(WEB).await.unwrap();
    bench.runtime.thaw(WEB).await.unwrap();
    wait_until(async || !tick().is_empty() && tick() != held).await;
    bench.runtime.freeze(WEB).await.unwrap();
    bench.runtime.stop(WEB, GRACE).await.unwrap();
    bench.assert_gone();
}

async fn the_environment_is_what_was_ordered() {
    let bench = LxcBench::new().await;
    let mut order = bench.shell(
        "env > /env.new; echo >> /env.new; cat /env.new > /env; while :; do sleep 1; done",
        1,
    );
    order.env.insert("ODD".to_owned(), " \"two\"  words' ".to_owned());
    order.env.insert("LD_PRELOAD_NOT".to_owned(), "x".to_owned());
    bench.runtime.start(order).await.unwrap();
    let text = bench.appears("env").await;
    let mut names: Vec<&str> =
        text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    names.sort_unstable();
    names.retain(|name| !["_", "PWD", "SHLVL", "OLDPWD"].contains(name));
    assert_eq!(names, ["GREETING", "LD_PRELOAD_NOT", "ODD", "PATH", "container"]);
    assert!(text.contains("ODD= \"two\"  words' \n"), "{text}");
    let refused = bench.shell("true", 2);
    let env = [("KEY".to_owned(), "one\ntwo".to_owned())].into();
    let refused =
        bench.runtime.start(Start { env, ..refused }).await.unwrap_err().cause.to_string();
    assert!(refused.contains("KEY"), "{refused}");
    let mut order = exec(&["sh", "-c", "env; ls -l /proc/self/fd"]);
    order.env.insert("LD_PRELOAD".to_owned(), "/no/such".to_owned());
    bench.runtime.stop(WEB, GRACE).await.unwrap();
    bench.runtime.start(bench.order(2)).await.unwrap();
    let output = bench.runtime.exec(order).await.unwrap().child.wait_with_output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("LD_PRELOAD=/no/such\n") && !text.contains("SCRAP_INSTANCE"), "{text}");
    assert!(!text.contains("/run/") && !text.contains("socket"), "files of the machine: {text}");
    bench.runtime.stop(WEB, GRACE).await.unwrap();
}

async fn an_init_without_a_tool_has_no_services() {
    let bench = LxcBench::new().await;
    bench.runtime.start(bench.order(1)).await.unwrap();
    assert_eq!(bench.runtime.services(WEB).await.unwrap(), []);
    bench.runtime.stop(WEB, GRACE).await.unwrap();
}
