//! What only a real guard shows: it ends what its keeper does not, says only what is true, and asks for no memory.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use scrap_host::clock;
use scrap_host::guard::{Board, Guard, LENGTH, Settings, Token, Word};
use scrap_host::runtime::{InstanceState, Runtime, Start};
use scrap_schema::id::{BootId, GrainId, NodeId};
use scrap_schema::time::BootTime;
use scrap_schema::unit::Span;
use tokio::net::UdpSocket;

use crate::bench::{Bench, ProcessBench, WEB, instance, is_alive, kill, soon, wait_until};

const TREE: &str = "
    trap '' TERM
    (setsid sh -c 'echo $$ > daemon; exec sleep 1000' & )
    echo $$ > main
    while :; do sleep 0.05; done";

const NODE: NodeId = NodeId(7);

struct Guarded {
    bench: ProcessBench,
    guard: Guard,
}

fn settings(bench: &ProcessBench) -> Settings {
    let program = env!("CARGO_BIN_EXE_scrap-guard").into();
    Settings { run_dir: bench.root.path().join("run"), program, watchdog: None }
}

impl Guarded {
    async fn new() -> Self {
        let bench = ProcessBench::new().await;
        let guard = Guard::open(settings(&bench)).await.unwrap();
        Self { bench, guard }
    }

    fn board(&self) -> &Board {
        self.guard.board()
    }

    fn guard_pid(&self) -> i32 {
        let path = Board::path(&self.bench.root.path().join("run"));
        let word = std::fs::read(path).unwrap()[24..32].try_into().unwrap();
        i32::try_from(u64::from_le_bytes(word)).unwrap()
    }

    async fn start(&self, deadline: Option<BootTime>) -> Vec<i32> {
        let order = Start { deadline, ..self.bench.shell(TREE, 1) };
        self.bench.runtime.start(order).await.unwrap();
        let mut pids = vec![self.bench.keeper_pid()];
        for name in ["main", "daemon"] {
            pids.push(self.bench.pid_in(name).await);
        }
        pids
    }

    /// After so long, by the guard's own beat.
    async fn until_it_has_looked_after(&self, moment: BootTime) {
        wait_until(async || self.board().last_beat() > moment + Span::from_secs(1)).await;
    }
}

fn stop(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::STOP).unwrap();
}

fn go_on(pid: i32) {
    let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::CONT);
}

async fn ear() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

async fn hear(ear: &UdpSocket) -> Word {
    let mut datagram = [0; 2 * LENGTH];
    let heard = tokio::time::timeout(Duration::from_secs(30), ear.recv(&mut datagram)).await;
    Word::parse(&datagram[..heard.unwrap().unwrap()]).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_keeper_that_stands_still_does_not_end_the_guard_ends() {
    let here = Guarded::new().await;
    let pids = here.start(Some(soon(1500))).await;
    stop(pids[0]);
    wait_until(async || !pids.iter().any(|pid| is_alive(*pid))).await;
    wait_until(async || here.board().kills() == 1).await;
    assert_eq!(here.board().allocations(), 0);
    let found = instance(&here.bench.runtime).await.unwrap();
    assert_eq!(found.state, InstanceState::Stopped);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_deadline_is_left_alone() {
    let here = Guarded::new().await;
    let pids = here.start(None).await;
    stop(pids[0]);
    here.until_it_has_looked_after(clock::boot_time() + Span::from_secs(2)).await;
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    go_on(pids[0]);
    here.bench.runtime.stop(WEB, Span::from_ms(100)).await.unwrap();
    assert_eq!((here.board().kills(), here.board().allocations()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_longer_lease_keeps_a_grain_and_the_guard_hears_of_it() {
    let here = Guarded::new().await;
    let first = soon(1500);
    let pids = here.start(Some(first)).await;
    here.bench.runtime.extend(soon(600_000)).await.unwrap();
    stop(pids[0]);
    here.until_it_has_looked_after(first + Span::from_secs(2)).await;
    assert!(pids.iter().all(|pid| is_alive(*pid)), "{pids:?}");
    go_on(pids[0]);
    here.bench.runtime.stop(WEB, Span::from_ms(100)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guard_that_is_killed_or_stands_still_is_followed_by_another() {
    let here = Guarded::new().await;
    let first = here.guard_pid();
    assert!(!here.guard.ensure().await.unwrap(), "it watches");
    kill(first);
    wait_until(async || !is_alive(first)).await;
    assert!(here.guard.ensure().await.unwrap());
    let second = here.guard_pid();
    assert_ne!(first, second);
    stop(second);
    wait_until(async || here.guard.ensure().await.unwrap()).await;
    assert!(!is_alive(second));
    // The third one knows what was entered while the first one watched.
    let pids = here.start(Some(soon(1500))).await;
    kill(here.guard_pid());
    stop(pids[0]);
    wait_until(async || here.guard.ensure().await.unwrap()).await;
    wait_until(async || !pids.iter().any(|pid| is_alive(*pid))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guard_that_is_asked_to_end_waits_until_nothing_has_a_deadline() {
    let here = Guarded::new().await;
    let pids = here.start(Some(soon(600_000))).await;
    let guard = here.guard_pid();
    kill_process(Pid::from_raw(guard).unwrap(), Signal::TERM).unwrap();
    here.until_it_has_looked_after(clock::boot_time()).await;
    assert!(is_alive(guard), "a grain has a deadline");
    here.bench.runtime.stop(WEB, Span::from_ms(100)).await.unwrap();
    wait_until(async || !is_alive(guard)).await;
    assert!(!pids.iter().any(|pid| is_alive(*pid)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_registration_is_said_when_nothing_runs_and_nothing_begins_after_it() {
    let here = Guarded::new().await;
    let (ear, address) = ear().await;
    let (boot, token) = (BootId(5), Token::draw().unwrap());
    here.guard.register(NODE, boot, &token);
    let pids = here.start(Some(soon(3000))).await;
    here.guard.lease_until(soon(100), &[address]);
    stop(pids[0]);
    let word = hear(&ear).await;
    assert!(!pids.iter().any(|pid| is_alive(*pid)), "it was said while something ran");
    assert_eq!(word, Word { node: NODE, boot, token });
    assert!(here.board().is_closed(boot));
    // A daemon that slept meanwhile has a lease that it believes in.
    let late = Start { deadline: Some(soon(600_000)), ..here.bench.shell(TREE, 2) };
    let refused = here.bench.runtime.start(late.clone()).await.unwrap_err();
    assert!(refused.cause.to_string().contains("deadline has passed"), "{refused}");
    // What needs no lease runs, and cannot be made to need this one.
    here.bench.runtime.start(Start { deadline: None, ..late.clone() }).await.unwrap();
    here.bench.runtime.arm(WEB, soon(600_000)).await.unwrap_err();
    assert_eq!(instance(&here.bench.runtime).await.unwrap().deadline, None);
    here.bench.runtime.stop(WEB, Span::from_ms(100)).await.unwrap();
    // Another registration is another beginning.
    here.guard.register(NODE, BootId(6), &Token::draw().unwrap());
    here.bench.runtime.start(Start { deadline: Some(soon(600_000)), ..late }).await.unwrap();
    here.bench.runtime.stop(WEB, Span::from_ms(100)).await.unwrap();
    assert_eq!(here.board().allocations(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_said_while_a_grain_may_run_longer_or_one_is_not_on_the_board() {
    let bench = ProcessBench::new().await;
    // From before there was a guard.
    let old = Start { grain: GrainId(2), deadline: Some(soon(600_000)), ..bench.order(1) };
    bench.runtime.start(old).await.unwrap();
    let here = Guarded { guard: Guard::open(settings(&bench)).await.unwrap(), bench };
    let (_ear, address) = ear().await;
    let boot = BootId(5);
    here.guard.register(NODE, boot, &Token::draw().unwrap());
    let end = soon(100);
    here.guard.lease_until(end, &[address]);
    here.until_it_has_looked_after(end + Span::from_secs(2)).await;
    assert!(!here.board().is_closed(boot));
    here.bench.runtime.stop(GrainId(2), Span::from_ms(100)).await.unwrap();
    // Now all are on it, but one may run still.
    let again = Guard::open(settings(&here.bench)).await.unwrap();
    here.start(Some(soon(600_000))).await;
    again.lease_until(end, &[address]);
    let now = clock::boot_time();
    here.until_it_has_looked_after(now + Span::from_secs(2)).await;
    assert!(!here.board().is_closed(boot));
    here.bench.runtime.stop(WEB, Span::from_ms(100)).await.unwrap();
    wait_until(async || here.board().is_closed(boot)).await;
}
