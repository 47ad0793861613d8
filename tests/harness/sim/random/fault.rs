//! What can happen in a random history, and what each of them is called in a script.

use proptest::prelude::*;

use super::{Case, POLICIES};

/// Something that happens. Numbers are taken modulo what there is.
#[derive(Debug, Clone)]
pub enum Fault {
    /// `kill`: power off.
    Kill(usize),
    /// `kill-daemon`: kill -9.
    KillDaemon(usize),
    /// `start`.
    Start(usize),
    /// `goodbye`.
    Goodbye(usize),
    /// `lose-power`: what was written last was not on disk yet.
    LosePower(usize),
    /// `kill-all`, `start-all`.
    Blackout(bool),
    /// `pause` of a part, in seconds.
    Pause(usize, usize, u64),
    /// `network off|on`.
    Network(usize, bool),
    /// `partition` by the bits of a number.
    Partition(usize),
    /// `deaf`: one does not hear another one.
    Deaf(usize, usize, bool),
    /// `bridge`: two sides that only one machine hears.
    Bridge(usize),
    /// `heal`.
    Heal,
    /// `elect`.
    Elect(usize),
    /// `flap`: another one leads every 15 s.
    Flap(bool),
    /// `wall`: a wall clock jumps, in seconds.
    Wall(usize, i64),
    /// `clock`: a boot clock runs at another speed, in percent.
    Drift(usize, i64),
    /// `disk`: full or not.
    Disk(usize, bool),
    /// `slow-disk`, in milliseconds.
    SlowDisk(usize, u64),
    /// `rate` of streams, in KiB per second.
    Rate(u64),
    /// `holds`: nothing can be held on any disk.
    Holds(bool),
    /// `cut-streams`.
    CutStreams(usize, usize, bool),
    /// `wipe`, `rejoin`, `rm-node`, `join` of the witness.
    Wipe(usize),
    /// See `Wipe`.
    Rejoin(usize),
    /// See `Wipe`.
    RemoveNode(usize),
    /// See `Wipe`.
    JoinWitness,
    /// `confirm-off`.
    ConfirmOff(usize),
    /// `disarm` and `arm` of a node.
    Disarm(usize, bool),
    /// The same of all.
    DisarmAll(bool),
    /// `recover` from one node when the others are off.
    Recover(usize),
    /// `migrate`.
    Migrate(usize, usize),
    /// `cancel` a grain's operation.
    Cancel(usize),
    /// `cancel-all`.
    CancelAll,
    /// `drain`, `cancel` of a drain, `undrain`.
    Drain(usize),
    /// See `Drain`.
    CancelDrain(usize),
    /// See `Drain`.
    Undrain(usize),
    /// `stop`, `run`, `restart`.
    Stop(usize),
    /// See `Stop`.
    Run(usize),
    /// See `Stop`.
    Restart(usize),
    /// `failover` with any loss.
    Failover(usize),
    /// `snapshot` and later `restore`.
    Snapshot(usize, usize),
    /// See `Snapshot`.
    Restore(usize, usize),
    /// `clone`.
    Clone(usize, usize),
    /// `sick` on a machine.
    Sick(usize, usize, bool),
    /// `slow-stop`.
    SlowStop(usize, u64),
    /// `policy`.
    Policy(usize, usize),
    /// `create` another one.
    Create(usize, usize),
    /// `remove`, `undelete`, `purge`.
    Remove(usize),
    /// See `Remove`.
    Undelete(usize),
    /// See `Remove`.
    Purge(usize),
    /// `aside`: something is wanted of what was set aside.
    Aside(usize, usize),
}

/// One way to lose a node for a while, and its end.
pub(super) fn loss(node: usize, how: usize, away: u64) -> (Vec<Fault>, Vec<Fault>) {
    match how {
        0 | 1 => (vec![Fault::Kill(node)], vec![Fault::Start(node)]),
        2 => (vec![Fault::LosePower(node)], vec![Fault::Start(node)]),
        3 | 4 => (vec![Fault::Network(node, false)], vec![Fault::Network(node, true)]),
        5 => (vec![Fault::KillDaemon(node)], vec![Fault::Start(node)]),
        6 => (vec![Fault::Pause(node, 0, away)], vec![]),
        // The owner, and the leader with it: two of five.
        7 => (
            vec![Fault::Elect(node), Fault::Partition(1 << node | 1 << ((node + 1) % 5))],
            vec![Fault::Heal],
        ),
        8 => (vec![Fault::Elect(node), Fault::Kill(node)], vec![Fault::Start(node)]),
        _ => (vec![Fault::Goodbye(node)], vec![Fault::Start(node)]),
    }
}

fn n() -> std::ops::Range<usize> {
    0..5
}

/// Machines and networks of every day, and what people want.
pub(super) fn mild() -> impl Strategy<Value = Fault> {
    let faults = prop_oneof![
        4 => n().prop_map(Fault::Kill),
        4 => n().prop_map(Fault::KillDaemon),
        6 => n().prop_map(Fault::Start),
        1 => n().prop_map(Fault::Goodbye),
        4 => (n(), any::<bool>()).prop_map(|(a, on)| Fault::Network(a, on)),
        4 => (1..31_usize).prop_map(Fault::Partition),
        4 => Just(Fault::Heal),
        3 => n().prop_map(Fault::Elect),
        2 => (n(), n(), any::<bool>()).prop_map(|(a, b, cut)| Fault::CutStreams(a, b, cut)),
        6 => (n(), n()).prop_map(|(g, a)| Fault::Migrate(g, a)),
        2 => n().prop_map(Fault::Cancel),
        3 => n().prop_map(Fault::Drain),
        1 => n().prop_map(Fault::CancelDrain),
        2 => n().prop_map(Fault::Undrain),
        2 => n().prop_map(Fault::Stop),
        2 => n().prop_map(Fault::Run),
        1 => n().prop_map(Fault::Restart),
    ];
    prop_oneof![3 => faults, 1 => wish()]
}

/// What people want of grains.
fn wish() -> impl Strategy<Value = Fault> {
    prop_oneof![
        3 => n().prop_map(Fault::Failover),
        2 => (n(), n()).prop_map(|(g, s)| Fault::Snapshot(g, s)),
        2 => (n(), n()).prop_map(|(g, s)| Fault::Restore(g, s)),
        1 => (n(), n()).prop_map(|(g, s)| Fault::Clone(g, s)),
        2 => (n(), n(), any::<bool>()).prop_map(|(g, a, s)| Fault::Sick(g, a, s)),
        1 => (n(), 1..30_u64).prop_map(|(g, s)| Fault::SlowStop(g, s)),
        1 => (n(), n()).prop_map(|(g, p)| Fault::Policy(g, p)),
        1 => (n(), n()).prop_map(|(g, p)| Fault::Create(g, p)),
        1 => n().prop_map(Fault::Remove),
        1 => n().prop_map(Fault::Undelete),
        1 => n().prop_map(Fault::Purge),
        1 => Just(Fault::CancelAll),
    ]
}

/// Nodes die and come back all the time.
pub(super) fn hard() -> impl Strategy<Value = Fault> {
    prop_oneof![
        6 => n().prop_map(Fault::Kill),
        8 => n().prop_map(Fault::Start),
        1 => n().prop_map(Fault::KillDaemon),
        1 => n().prop_map(Fault::Goodbye),
        4 => (n(), prop::bool::weighted(0.4)).prop_map(|(a, on)| Fault::Network(a, on)),
        3 => (1..31_usize).prop_map(Fault::Partition),
        5 => Just(Fault::Heal),
        3 => n().prop_map(Fault::Elect),
        3 => (n(), n()).prop_map(|(g, a)| Fault::Migrate(g, a)),
        1 => (n(), n(), any::<bool>()).prop_map(|(a, b, cut)| Fault::CutStreams(a, b, cut)),
        1 => any::<bool>().prop_map(Fault::Holds),
    ]
}

/// The same, and people want something of what was set aside.
pub(super) fn aside() -> impl Strategy<Value = Fault> {
    let aside = (n(), 0..3_usize).prop_map(|(g, what)| Fault::Aside(g, what));
    prop_oneof![4 => hard(), 1 => aside]
}

/// What stands still, is heard by half, or shows the wrong time.
pub(super) fn storm() -> impl Strategy<Value = Fault> {
    let walls = prop_oneof![Just(3_600_i64), Just(-3_600), Just(0), Just(60), Just(-60)];
    prop_oneof![
        6 => (n(), n(), prop::bool::weighted(0.3)).prop_map(|(a, b, on)| Fault::Deaf(a, b, on)),
        3 => n().prop_map(Fault::Bridge),
        4 => (1..31_usize).prop_map(Fault::Partition),
        5 => Just(Fault::Heal),
        6 => (n(), 0..8_usize, 1..120_u64).prop_map(|(a, part, s)| Fault::Pause(a, part, s)),
        3 => (n(), walls).prop_map(|(a, s)| Fault::Wall(a, s)),
        2 => (n(), -1..=1_i64).prop_map(|(a, p)| Fault::Drift(a, p)),
        2 => prop::bool::weighted(0.6).prop_map(Fault::Flap),
        3 => n().prop_map(Fault::Elect),
        3 => n().prop_map(Fault::KillDaemon),
        2 => n().prop_map(Fault::LosePower),
        6 => n().prop_map(Fault::Start),
        1 => (n(), any::<bool>()).prop_map(|(a, full)| Fault::Disk(a, full)),
        1 => (n(), 50..5_000_u64).prop_map(|(a, ms)| Fault::SlowDisk(a, ms)),
        1 => prop_oneof![Just(200_u64), Just(2_000), Just(100_000)].prop_map(Fault::Rate),
        2 => (n(), n()).prop_map(|(g, a)| Fault::Migrate(g, a)),
        1 => n().prop_map(Fault::Restart),
        1 => n().prop_map(Fault::Stop),
        2 => n().prop_map(Fault::Run),
        1 => wish(),
    ]
}

/// Power, plugs, arming, a new beginning.
pub(super) fn power() -> impl Strategy<Value = Fault> {
    prop_oneof![
        4 => n().prop_map(Fault::Kill),
        4 => n().prop_map(Fault::LosePower),
        8 => n().prop_map(Fault::Start),
        2 => Just(Fault::Blackout(true)),
        2 => Just(Fault::Blackout(false)),
        3 => n().prop_map(Fault::ConfirmOff),
        2 => (n(), any::<bool>()).prop_map(|(a, on)| Fault::Disarm(a, on)),
        4 => any::<bool>().prop_map(Fault::DisarmAll),
        3 => (1..31_usize).prop_map(Fault::Partition),
        4 => Just(Fault::Heal),
        3 => (n(), any::<bool>()).prop_map(|(a, on)| Fault::Network(a, on)),
        2 => n().prop_map(Fault::Elect),
        2 => (n(), n()).prop_map(|(g, p)| Fault::Policy(g, p)),
        2 => n().prop_map(Fault::Failover),
        2 => n().prop_map(Fault::Recover),
        2 => n().prop_map(Fault::Rejoin),
        2 => (n(), 0..8_usize, 1..60_u64).prop_map(|(a, part, s)| Fault::Pause(a, part, s)),
        1 => Just(Fault::CancelAll),
    ]
}

/// Who is a member.
pub(super) fn members() -> impl Strategy<Value = Fault> {
    prop_oneof![
        3 => Just(Fault::JoinWitness),
        3 => n().prop_map(Fault::RemoveNode),
        3 => n().prop_map(Fault::Wipe),
        6 => n().prop_map(Fault::Rejoin),
        4 => n().prop_map(Fault::Drain),
        3 => n().prop_map(Fault::Undrain),
        4 => n().prop_map(Fault::Kill),
        6 => n().prop_map(Fault::Start),
        2 => n().prop_map(Fault::Goodbye),
        2 => (1..31_usize).prop_map(Fault::Partition),
        4 => Just(Fault::Heal),
        2 => n().prop_map(Fault::Elect),
        2 => (n(), n()).prop_map(|(g, a)| Fault::Migrate(g, a)),
        1 => n().prop_map(Fault::Failover),
        1 => n().prop_map(Fault::ConfirmOff),
        1 => Just(Fault::CancelAll),
        1 => wish(),
    ]
}

impl Case {
    fn partition(&self, bits: usize) -> String {
        let side = |bit: usize| {
            let names = (0..self.nodes).filter(|at| (bits >> at) & 1 == bit);
            names.map(|at| self.node(at)).collect::<Vec<_>>().join(",")
        };
        match (side(0), side(1)) {
            (a, b) if a.is_empty() || b.is_empty() => "heal".to_owned(),
            (a, b) => format!("partition {a} | {b}"),
        }
    }

    /// What the script says.
    pub(super) fn words(&self, fault: &Fault) -> String {
        let (n, g) = (|at: &usize| self.node(*at), |at: &usize| self.grain(*at));
        let on = |on: &bool| if *on { "on" } else { "off" };
        match fault {
            Fault::Kill(a) => format!("kill {}", n(a)),
            Fault::KillDaemon(a) => format!("kill-daemon {}", n(a)),
            Fault::Start(a) => format!("start {}", n(a)),
            Fault::Goodbye(a) => format!("goodbye {}", n(a)),
            Fault::LosePower(a) => format!("lose-power {}", n(a)),
            Fault::Blackout(true) => "kill-all".to_owned(),
            Fault::Blackout(false) => "start-all".to_owned(),
            Fault::Pause(a, part, seconds) => {
                let parts = ["daemon", "daemon", "daemon", "daemon", "keepers", "guard", "all"];
                let part = parts.get(*part).copied().unwrap_or("all");
                format!("pause {} {part} {seconds}s", n(a))
            }
            Fault::Network(a, state) => format!("network {} {}", n(a), on(state)),
            Fault::Partition(bits) => self.partition(*bits),
            Fault::Deaf(a, b, hears) => format!("deaf {} {} {}", n(a), n(b), on(&!hears)),
            Fault::Bridge(a) => format!("bridge {}", n(a)),
            Fault::Heal => "heal".to_owned(),
            Fault::Elect(a) => format!("elect {}", n(a)),
            Fault::Flap(true) => "flap 15s".to_owned(),
            Fault::Flap(false) => "flap off".to_owned(),
            Fault::Wall(a, seconds) => format!("wall {} {seconds}", n(a)),
            Fault::Drift(a, percent) => format!("clock {} drift {percent}%", n(a)),
            Fault::Disk(a, true) => format!("disk {} 100GiB", n(a)),
            Fault::Disk(a, false) => format!("disk {} 0B", n(a)),
            Fault::SlowDisk(a, ms) => format!("slow-disk {} {ms}ms", n(a)),
            Fault::Rate(kib) => format!("rate {kib}KiB"),
            Fault::Holds(true) => "holds fail".to_owned(),
            Fault::Holds(false) => "holds work".to_owned(),
            Fault::CutStreams(a, b, state) => {
                format!("cut-streams {} {} {}", n(a), n(b), on(state))
            }
            Fault::Wipe(a) => format!("wipe {}", n(a)),
            Fault::Rejoin(a) => format!("rejoin {}", n(a)),
            Fault::RemoveNode(a) => format!("rm-node {}", n(a)),
            Fault::JoinWitness => "rejoin w1".to_owned(),
            Fault::ConfirmOff(a) => format!("confirm-off {}", n(a)),
            Fault::Disarm(a, true) => format!("disarm {}", n(a)),
            Fault::Disarm(a, false) => format!("arm {}", n(a)),
            Fault::DisarmAll(true) => "disarm for=60s".to_owned(),
            Fault::DisarmAll(false) => "arm".to_owned(),
            Fault::Recover(a) => format!("recover {}", n(a)),
            Fault::Migrate(a, b) => format!("migrate {} to {}", g(a), n(b)),
            Fault::Cancel(a) => format!("cancel {}", g(a)),
            Fault::CancelAll => "cancel-all".to_owned(),
            Fault::Drain(a) => format!("drain {}", n(a)),
            Fault::CancelDrain(a) => format!("cancel {}", n(a)),
            Fault::Undrain(a) => format!("undrain {}", n(a)),
            Fault::Stop(_)
            | Fault::Run(_)
            | Fault::Restart(_)
            | Fault::Failover(_)
            | Fault::Snapshot(..)
            | Fault::Restore(..)
            | Fault::Clone(..)
            | Fault::Sick(..)
            | Fault::SlowStop(..)
            | Fault::Policy(..)
            | Fault::Create(..)
            | Fault::Remove(_)
            | Fault::Undelete(_)
            | Fault::Purge(_)
            | Fault::Aside(..) => self.wish_in_words(fault),
        }
    }

    fn wish_in_words(&self, fault: &Fault) -> String {
        let (n, g) = (|at: &usize| self.node(*at), |at: &usize| self.grain(*at));
        #[expect(clippy::wildcard_enum_match_arm, reason = "the others are no wishes of grains")]
        match fault {
            Fault::Stop(a) => format!("stop {}", g(a)),
            Fault::Run(a) => format!("run {}", g(a)),
            Fault::Restart(a) => format!("restart {}", g(a)),
            Fault::Failover(a) => format!("failover {} accept-loss=1h", g(a)),
            Fault::Snapshot(a, s) => format!("snapshot {} s{}", g(a), s % 2),
            Fault::Restore(a, s) => format!("restore {} s{}", g(a), s % 2),
            Fault::Clone(a, s) => format!("clone {} c{}", g(a), s % 2),
            Fault::Sick(a, b, true) => format!("sick {} on {}", g(a), n(b)),
            Fault::Sick(a, b, false) => format!("sick {} on {} no more", g(a), n(b)),
            Fault::SlowStop(a, s) => format!("slow-stop {} {s}s", g(a)),
            Fault::Policy(a, p) => format!("policy {} {}", g(a), POLICIES[p % POLICIES.len()]),
            Fault::Create(a, p) => {
                let name = self.grains.len() + 1;
                format!("create g{name} policy={} on={}", POLICIES[p % POLICIES.len()], n(a))
            }
            Fault::Remove(a) => format!("remove {}", g(a)),
            Fault::Undelete(a) => format!("undelete {}", g(a)),
            Fault::Purge(a) => format!("purge {}", g(a)),
            Fault::Aside(a, what) => {
                format!("aside {} {}", g(a), ["promote", "fork", "discard"][what % 3])
            }
            _ => "heal".to_owned(),
        }
    }
}
