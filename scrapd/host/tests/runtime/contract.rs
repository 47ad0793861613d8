//! Every sentence of the trait's documentation as a test. Generic over the backend.

use std::collections::BTreeMap;

use scrap_host::runtime::{Exec, InstanceState, Runtime, RuntimeCause, RuntimeError, Window};
use scrap_schema::id::Epoch;
use scrap_schema::time::BootTime;
use scrap_schema::unit::Span;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::bench::{Bench, WEB, instance, soon, wait_for_state, wait_until};

macro_rules! suite {
    ($bench:ty: $($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if !<$bench as crate::bench::Bench>::is_possible() {
                    return;
                }
                crate::contract::$name::<$bench>().await;
            }
        )*
    };
    ($bench:ty) => {
        crate::contract::suite! { $bench:
            nothing_runs_at_first
            start_says_what_runs
            the_same_epoch_is_a_success_without_effect
            an_older_epoch_is_refused
            a_newer_epoch_replaces
            stop_ends_it_and_is_idempotent
            a_stopped_grain_starts_again
            a_program_that_ends_is_started_again
            a_deadline_moves_forward_only
            a_passed_deadline_ends_it_for_good
            a_start_after_its_deadline_is_refused
            without_a_deadline_none_is_given
            arming_gives_a_deadline
            disarming_takes_it_away
            an_empty_command_is_refused
            the_log_can_be_followed
            exec_runs_beside_the_program
            a_terminal_is_one
            what_does_not_run_has_nothing_to_offer
            usage_is_measured
            only_a_stopped_grain_is_forgotten
        }
    };
}
pub(crate) use suite;

const GRACE: Span = Span::from_secs(5);

fn cause<T>(result: Result<T, RuntimeError>) -> RuntimeCause {
    result.err().unwrap().cause
}

macro_rules! assert_cause {
    ($result:expr, $pattern:pat $(if $guard:expr)?) => {
        let cause = cause($result);
        assert!(matches!(cause, $pattern $(if $guard)?), "{cause:?}");
    };
}

fn exec(command: &[&str]) -> Exec {
    let command = command.iter().map(|word| (*word).to_owned()).collect();
    let env = BTreeMap::from([("MORE".to_owned(), "too".to_owned())]);
    Exec { grain: WEB, command, env, tty: None, user: None }
}

pub(crate) async fn nothing_runs_at_first<B: Bench>() {
    let bench = B::new().await;
    let r = bench.runtime();
    assert_eq!(r.list().await.unwrap().instances, []);
    r.stop(WEB, GRACE).await.unwrap();
    assert!(r.extend(BootTime(u64::MAX)).await.unwrap().is_empty());
    r.forget(WEB).await.unwrap();
    assert_cause!(r.usage(WEB).await, RuntimeCause::NotRunning);
    assert_cause!(r.logs(WEB, 0, None, 10).await, RuntimeCause::NotRunning);
    assert_cause!(r.exec(exec(&["true"])).await, RuntimeCause::NotRunning);
}

pub(crate) async fn start_says_what_runs<B: Bench>() {
    let mut bench = B::new().await;
    let deadline = soon(600_000);
    let order = scrap_host::runtime::Start { deadline: Some(deadline), ..bench.order(7) };
    bench.runtime().start(order).await.unwrap();
    bench.reopen().await;
    let found = instance(bench.runtime()).await.unwrap();
    assert_eq!((found.epoch, found.state), (Epoch(7), InstanceState::Running));
    assert_eq!((found.restarts, found.last_exit), (0, None));
    assert_eq!(found.deadline, Some(deadline));
    bench.runtime().stop(WEB, GRACE).await.unwrap();
}

pub(crate) async fn the_same_epoch_is_a_success_without_effect<B: Bench>() {
    let bench = B::new().await;
    let r = bench.runtime();
    r.start(bench.order(2)).await.unwrap();
    bench.say("once\n");
    wait_until(async || r.logs(WEB, 0, None, 99).await.unwrap().text == b"once\n").await;
    let before = instance(r).await;
    let other = scrap_host::runtime::Start { deadline: Some(soon(5)), ..bench.order(2) };
    r.start(other).await.unwrap();
    assert_eq!(instance(r).await, before);
    r.stop(WEB, GRACE).await.unwrap();
}

pub(crate) async fn an_older_epoch_is_refused<B: Bench>() {
    let bench = B::new().await;
    let r = bench.runtime();
    r.start(bench.order(5)).await.unwrap();
    let refused = r.start(bench.order(4)).await;
    assert_cause!(refused, RuntimeCause::Stale { offered: Epoch(4), held: Epoch(5) });
    assert_eq!(instance(r).await.unwrap().state, InstanceState::Running);
    r.stop(WEB, GRACE).await.unwrap();
}

pub(crate) async fn a_newer_epoch_replaces<B: Bench>() {
    let bench = B::new().await;
    let r = bench.runtime();
    r.start(bench.order(5)).await.unwrap();
    r.start(bench.order(6)).await.unwrap();
    let found = instance(r).await.unwrap();
    assert_eq!((found.epoch, found.state), (Epoch(6), InstanceState::Running));
    assert_eq!(r.list().await.unwrap().instances.len(), 1);
    r.stop(WEB, GRACE).await.unwrap();
}

pub(crate) async fn stop_ends_it_and_is_idempotent<B: Bench>() {
    let mut bench = B::new().await;
    bench.runtime().start(bench.order(1)).await.unwrap();
    bench.say("here\n");
    let log = async || bench.runtime().logs(WEB, 0, None, 99).await.unwrap().text;
    wait_until(async || log().await == b"here\n").await;
    // It ends by itself, however slow the machine is.
    bench.runtime().stop(WEB, Span::from_secs(60)).await.unwrap();
    bench.runtime().stop(WEB, GRACE).await.unwrap();
    bench.reopen().await;
    let found = instance(bench.runtime()).await.unwrap();
    assert_eq!((found.epoch, found.state), (Epoch(1), InstanceState::Stopped));
    assert_eq!(found.last_exit.as_deref(), Some(B::ASKED));
    assert_cause!(bench.runtime().usage(WEB).await, RuntimeCause::NotRunning);
    assert_cause!(bench.runtime().exec(exec(&["true"])).await, RuntimeCause::NotRunning);
}

pub(crate) async fn a_stopped_grain_starts_again<B: Bench>() {
    let bench = B::new().await;
    let r = bench.runtime();
    r.start(bench.order(3)).await.unwrap();
    r.stop(WEB, GRACE).await.unwrap();
    r.start(bench.order(3)).await.unwrap();
    let found = instance(r).await.unwrap();
    assert_eq!((found.epoch, found.state), (Epoch(3), InstanceState::Running));
    r.stop(WEB, GRACE).await.unwrap();
}

pub(crate) async fn a_program_that_ends_is_started_again<B: Bench>() {
    let bench = B::new().await;
    let r = bench.runtime();
    r.start(bench.order(1)).await.unwrap();
    bench.crash();
    let down = wait_for_state(r, InstanceState::BackingOff).await;
    assert_eq!(down.restarts, 0);
    r.start(bench.order(1)).await.unwrap();
    bench.come_back();
    let back = wait_for_state(r, InstanceState::Running).await;
    assert_eq!((back.restarts, back.last_exit.as_deref()), (1, Some("exit status 3")));
    r.stop(WEB, GRACE).await.unwrap();
}

pub(crate) async fn a_deadline_moves_forward_only<B: Bench>() {
    let bench = B::new().await;
    let r = bench.runtime();
    let (first, later) = (soon(600_000), soon(700_000));
    let order = scrap_host::runtime::Start { deadline: Some(first), ..bench.order(1) };
    r.start(order).await.unwrap();
    r.extend(soon(300_000)).await.unwrap();
    assert_eq!(instance(r).await.unwrap().deadline, Some(first));
    assert!(r.extend(later).await.unwrap().is_empty());
    assert_eq!(instance(r).await.unwrap().deadline, Some(later));
    r.stop(WEB, GRACE).await.unwrap();
    r.extend(soon(900_000)).await.unwrap();
    assert_eq!(instance(r).await.unwrap().state, InstanceState::Stopped);
}

pub(crate) async fn a_passed_deadline_ends_it_for_good<B: Bench>() {
    let mut bench = B::new().await;
    let order = scrap_host::runtime::Start { deadline: Some(soon(400)), ..bench.order(1) };
    bench.runtime().start(order).await.unwrap();
    bench.reopen().await;
    let r = bench.runtime();
    wait_for_state(r, InstanceState::Stopped).await;
    r.extend(soon(600_000)).await.unwrap();
    assert_eq!(instance(r).await.unwrap().state, InstanceState::Stopped, "dead stays dead");
    let again = scrap_host::runtime::Start { deadline: Some(soon(600_000)), ..bench.order(1) };
    r.start(again).await.unwrap();
    assert_eq!(instance(r).await.unwrap().state, InstanceState::Running, "until it is started");
    r.stop(WEB, GRACE).await.unwrap();
}

pub(crate) async fn a_start_after_its_deadline_is_refused<B: Bench>() {
    let bench = B::new().await;
    let order = scrap_host::runtime::Start { deadline: Some(soon(0)), ..bench.order(1) };
    let refused = bench.runtime().start(order).await;
    assert_cause!(refused, RuntimeCause::Io { ref what, .. } if what.contains("deadline"));
    let found = instance(bench.runtime()).await;
    assert!(found.is_none_or(|instance| instance.state == InstanceState::Stopped));
}

pub(crate) async fn without_a_deadline_none_is_given<B: Bench>() {
    let bench = B::new().await;
    bench.runtime().start(bench.order(1)).await.unwrap();
    bench.runtime().extend(soon(1000)).await.unwrap();
    assert_eq!(instance(bench.runtime()).await.unwrap().deadline, None);
    bench.runtime().stop(WEB, GRACE).await.unwrap();
}

pub(crate) async fn arming_gives_a_deadline<B: Bench>() {
    let bench = B::new().await;
    let r = bench.runtime();
    assert_cause!(r.arm(WEB, soon(1000)).await, RuntimeCause::NotRunning);
    r.start(bench.order(1)).await.unwrap();
    let (first, later) = (soon(600_000), soon(700_000));
    for (given, held) in [(first, first), (later, later), (first, later)] {
        r.arm(WEB, given).await.unwrap();
        assert_eq!(instance(r).await.unwrap().deadline, Some(held));
    }
    r.stop(WEB, GRACE).await.unwrap();
    assert_cause!(r.arm(WEB, soon(1000)).await, RuntimeCause::NotRunning);
}

pub(crate) async fn disarming_takes_it_away<B: Bench>() {
    let bench = B::new().await;
    let r = bench.runtime();
    assert_cause!(r.disarm(WEB).await, RuntimeCause::NotRunning);
    let armed = scrap_host::runtime::Start { deadline: Some(soon(600_000)), ..bench.order(1) };
    r.start(armed).await.unwrap();
    for _ in 0..2 {
        r.disarm(WEB).await.unwrap();
        assert_eq!(instance(r).await.unwrap().deadline, None);
        r.extend(soon(700_000)).await.unwrap();
        assert_eq!(instance(r).await.unwrap().deadline, None);
    }
    let again = soon(600_000);
    r.arm(WEB, again).await.unwrap();
    assert_eq!(instance(r).await.unwrap().deadline, Some(again));
    r.stop(WEB, GRACE).await.unwrap();
}

pub(crate) async fn an_empty_command_is_refused<B: Bench>() {
    let bench = B::new().await;
    if B::NEEDS_COMMAND {
        let order = scrap_host::runtime::Start { command: Vec::new(), ..bench.order(1) };
        assert_cause!(bench.runtime().start(order).await, RuntimeCause::Program { .. });
    }
    bench.runtime().start(bench.order(1)).await.unwrap();
    let refused = bench.runtime().exec(exec(&[])).await;
    assert_cause!(refused, RuntimeCause::Program { .. });
    let refused = bench.runtime().exec(exec(&["/no/such/program"])).await;
    assert_cause!(refused, RuntimeCause::Program { ref program, .. } if program == "/no/such/program");
    bench.runtime().stop(WEB, GRACE).await.unwrap();
}

pub(crate) async fn the_log_can_be_followed<B: Bench>() {
    let bench = B::new().await;
    let r = bench.runtime();
    r.start(bench.order(1)).await.unwrap();
    bench.say("one\ntwo\nthree\n");
    wait_until(async || r.logs(WEB, 0, None, 100).await.unwrap().next == 14).await;
    let piece = r.logs(WEB, 0, None, 5).await.unwrap();
    assert_eq!((piece.text.as_slice(), piece.next), (&b"one\nt"[..], 5));
    let piece = r.logs(WEB, piece.next, None, 100).await.unwrap();
    assert_eq!((piece.text.as_slice(), piece.next), (&b"wo\nthree\n"[..], 14));
    let nothing = r.logs(WEB, piece.next, None, 100).await.unwrap();
    assert_eq!((nothing.text.as_slice(), nothing.next), (&b""[..], 14));
    let tail = r.logs(WEB, 3, Some(2), 100).await.unwrap();
    assert_eq!((tail.text.as_slice(), tail.next), (&b"two\nthree\n"[..], 14));
    r.stop(WEB, GRACE).await.unwrap();
    let after = r.logs(WEB, 4, None, 4).await.unwrap();
    assert_eq!(after.text, b"two\n", "also of a stopped instance");
    r.start(bench.order(2)).await.unwrap();
    bench.say("four\n");
    wait_until(async || r.logs(WEB, 14, None, 100).await.unwrap().text == b"four\n").await;
    r.stop(WEB, GRACE).await.unwrap();
}

pub(crate) async fn exec_runs_beside_the_program<B: Bench>() {
    let bench = B::new().await;
    let r = bench.runtime();
    r.start(bench.order(1)).await.unwrap();
    let script = "read line; echo \"$GREETING $MORE $line\"; echo bad >&2; exit 4";
    let mut child = r.exec(exec(&["sh", "-c", script])).await.unwrap().child;
    child.stdin.take().unwrap().write_all(b"input\n").await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello too input\n");
    assert_eq!((output.stderr.as_slice(), output.status.code()), (&b"bad\n"[..], Some(4)));
    let mut child = r.exec(exec(&["cat"])).await.unwrap().child;
    r.stop(WEB, GRACE).await.unwrap();
    let ended = async {
        let mut rest = Vec::new();
        child.stdout.take().unwrap().read_to_end(&mut rest).await.unwrap();
        child.wait().await.unwrap()
    };
    let ended = tokio::time::timeout(std::time::Duration::from_secs(20), ended).await.unwrap();
    assert!(!ended.success(), "it ends with the grain");
}

pub(crate) async fn a_terminal_is_one<B: Bench>() {
    let bench = B::new().await;
    let r = bench.runtime();
    r.start(bench.order(1)).await.unwrap();
    let window = Window { rows: 24, columns: 80 };
    let script = "stty size; read line; echo \"got $line\"; exit 5";
    let order = Exec { tty: Some(window), ..exec(&["sh", "-c", script]) };
    let mut started = r.exec(order).await.unwrap();
    let mut terminal = started.terminal.take().unwrap();
    let mut printed = Vec::new();
    let talk = async {
        let mut typed = false;
        loop {
            let mut buffer = [0; 1024];
            let length = terminal.read(&mut buffer).await.unwrap();
            if length == 0 {
                break;
            }
            printed.extend_from_slice(&buffer[..length]);
            if !typed && String::from_utf8_lossy(&printed).contains("24 80") {
                terminal.write_all(b"this\n").await.unwrap();
                typed = true;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), talk).await.unwrap();
    let printed = String::from_utf8_lossy(&printed);
    assert!(printed.contains("got this"), "{printed}");
    assert_eq!(started.child.wait().await.unwrap().code(), Some(5));
    let missing = Exec { tty: Some(window), ..exec(&["/no/such/program"]) };
    assert_cause!(r.exec(missing).await, RuntimeCause::Program { .. });
    r.stop(WEB, GRACE).await.unwrap();
}

pub(crate) async fn what_does_not_run_has_nothing_to_offer<B: Bench>() {
    let bench = B::new().await;
    let r = bench.runtime();
    let window = Window { rows: 24, columns: 80 };
    assert_cause!(r.console(WEB, window).await, RuntimeCause::NotRunning);
    assert_cause!(r.freeze(WEB).await, RuntimeCause::NotRunning);
    assert_cause!(r.thaw(WEB).await, RuntimeCause::NotRunning);
    assert_cause!(r.services(WEB).await, RuntimeCause::NotRunning);
    r.start(bench.order(1)).await.unwrap();
    assert_eq!(r.services(WEB).await.unwrap(), []);
    r.thaw(WEB).await.unwrap();
    r.stop(WEB, GRACE).await.unwrap();
    assert_cause!(r.services(WEB).await, RuntimeCause::NotRunning);
}

pub(crate) async fn usage_is_measured<B: Bench>() {
    let bench = B::new().await;
    bench.runtime().start(bench.order(1)).await.unwrap();
    // The system counts pages roughly: a program that has just begun may have none.
    let measured = async || {
        let usage = bench.runtime().usage(WEB).await.unwrap();
        usage.processes >= 1 && usage.memory.0 > 0
    };
    wait_until(measured).await;
    bench.runtime().stop(WEB, GRACE).await.unwrap();
}

pub(crate) async fn only_a_stopped_grain_is_forgotten<B: Bench>() {
    let bench = B::new().await;
    let r = bench.runtime();
    r.start(bench.order(1)).await.unwrap();
    assert_cause!(r.forget(WEB).await, RuntimeCause::StillAlive { .. });
    r.stop(WEB, GRACE).await.unwrap();
    r.forget(WEB).await.unwrap();
    assert_eq!(r.list().await.unwrap().instances, []);
    assert_cause!(r.logs(WEB, 0, None, 10).await, RuntimeCause::NotRunning);
}
