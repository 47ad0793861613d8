//! Planted bugs that the simulator must find: a judge that never found anything proves nothing. They are there only with the
//! feature `mutants`, which no program of SCRAP is built with; without it every question is `false` when it is compiled.

/// A bug that can be planted. Each breaks one rule of the protocol, named where it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Mutant {
    /// The lease counts from the arrival of the answer.
    LeaseFromAnswer = 1,
    /// A leader answers renewals without having asked a majority whether it still leads.
    AnswersUnconfirmed,
    /// Renewals of a suspected node are granted.
    AnswersSuspect,
    /// Renewals are granted of a node whose suspicion is decided and not committed yet.
    GrantsLate,
    /// Steps of the countdown take no time.
    CountsAtOnce,
    /// Nothing kills a grain whose lease has ended.
    NoGuard,
    /// `apply` takes orders of any epoch.
    AnyEpoch,
    /// A copy takes streams of any epoch and sender.
    AdmitsAnybody,
    /// A copy takes streams that do not continue it.
    AdmitsAnything,
    /// Where the next stream begins is pruned.
    PrunesBases,
    /// What a silent node stands at is pruned.
    ForgetsSilent,
    /// A failover takes the oldest copy.
    OldestCopy,
    /// A node starts what it owns before its lease is granted.
    StartsUnleased,
    /// A grain that runs without a lease fails over by itself.
    TakesUnarmed,
    /// More than half of the nodes silent stops nothing.
    NoBrake,
    /// A failover does not wait for the end of the countdown.
    NoFence,
    /// The last state of a move may be one from before the stop.
    KeepsEarlyState,
    /// A head that was left behind becomes a copy although something was written to it.
    OverwritesHead,
    /// What a node reports counts, whatever was decided after it had looked.
    LateReports,
    /// A registration counts although the node has registered again since.
    OldStarts,
    /// A late renewal of an earlier registration makes a leader forget what it has heard since.
    HearsOldStarts,
    /// What a leader before this one has granted is not counted when a loss is told.
    ForgetsGrants,
    /// Renewals of a start of the daemon that is not registered are granted.
    AnswersAnyStart,
    /// A guard's word counts for whatever start of its node is waited for.
    AttestsAnyStart,
    /// What runs under the lease lives twice as long.
    KillsLate,
    /// A step of the countdown counts twice.
    CountsDouble,
    /// `apply` gives away what an owner still may run.
    GivesAlive,
    /// A change of owner does not raise the epoch.
    EpochStays,
    /// `apply` lets a move end at another node or state than was released.
    MovesToAnybody,
    /// An owner may keep a copy of its own grain.
    OwnerKeepsCopy,
    /// A move can be given up after it has its new owner.
    AbortsAfterAssign,
    /// A move is assigned before its last state is there.
    MovesUnfinished,
    /// An owner lets go of what it still runs.
    ReleasesRunning,
    /// An owner says that a grain runs under the lease when it does not.
    ArmsUndisciplined,
    /// An owner takes a deadline away before that is written down.
    DisarmsFirst,
    /// A grain is started on whatever data are there.
    RunsWithoutHead,
    /// An epoch begins from another state than it should.
    PromotesAnything,
    /// A grain whose data are missing begins empty.
    CreatesEmpty,
    /// Data are restored under a running grain.
    RestoresRunning,
    /// A copy that is wanted is removed.
    DestroysWanted,
    /// What was set aside is removed without a word.
    DiscardsUnasked,
    /// What was set aside is not written down.
    LosesOrphans,
    /// The id of a node is given out again.
    ReusesIds,
    /// Power is cut while most nodes are silent.
    CutsBraked,
    /// Power is cut while people work on the machine.
    CutsDisarmed,
    /// Power is cut where nothing is gained by it.
    CutsForNothing,
    /// The number of voters may be even.
    EvenVoters,
    /// A failover happens by itself while that is switched off.
    GivesDisarmed,
    /// A failover loses more than its policy allows.
    AnyLoss,
    /// A failover does not give an owner the time that its policy says.
    NoPatience,
    /// After a power cut of everything no owner is waited for.
    AwaitsNobody,
    /// A diverged state counts as one of the grain's line.
    TakesDiverged,
    /// A failover says that nothing is lost.
    TellsNoLoss,
    /// A node of a generation that was left behind takes part again.
    IgnoresGeneration,
    /// A node obeys before its start is registered.
    ObeysUnregistered,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 55] = [
        Self::LeaseFromAnswer,
        Self::AnswersUnconfirmed,
        Self::AnswersSuspect,
        Self::GrantsLate,
        Self::CountsAtOnce,
        Self::NoGuard,
        Self::AnyEpoch,
        Self::AdmitsAnybody,
        Self::AdmitsAnything,
        Self::PrunesBases,
        Self::ForgetsSilent,
        Self::OldestCopy,
        Self::StartsUnleased,
        Self::TakesUnarmed,
        Self::NoBrake,
        Self::NoFence,
        Self::KeepsEarlyState,
        Self::OverwritesHead,
        Self::LateReports,
        Self::OldStarts,
        Self::HearsOldStarts,
        Self::ForgetsGrants,
        Self::AnswersAnyStart,
        Self::AttestsAnyStart,
        Self::KillsLate,
        Self::CountsDouble,
        Self::GivesAlive,
        Self::EpochStays,
        Self::MovesToAnybody,
        Self::OwnerKeepsCopy,
        Self::AbortsAfterAssign,
        Self::MovesUnfinished,
        Self::ReleasesRunning,
        Self::ArmsUndisciplined,
        Self::DisarmsFirst,
        Self::RunsWithoutHead,
        Self::PromotesAnything,
        Self::CreatesEmpty,
        Self::RestoresRunning,
        Self::DestroysWanted,
        Self::DiscardsUnasked,
        Self::LosesOrphans,
        Self::ReusesIds,
        Self::CutsBraked,
        Self::CutsDisarmed,
        Self::CutsForNothing,
        Self::EvenVoters,
        Self::GivesDisarmed,
        Self::AnyLoss,
        Self::NoPatience,
        Self::AwaitsNobody,
        Self::TakesDiverged,
        Self::TellsNoLoss,
        Self::IgnoresGeneration,
        Self::ObeysUnregistered,
    ];
}

#[cfg(feature = "mutants")]
static PLANTED: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Plants one, or takes out the one that is planted, in this whole process.
#[cfg(feature = "mutants")]
pub fn plant(mutant: Option<Mutant>) {
    let number = mutant.map_or(0, |mutant| mutant as u8);
    PLANTED.store(number, std::sync::atomic::Ordering::SeqCst);
}

/// Whether this bug is planted.
#[cfg(feature = "mutants")]
#[must_use]
pub fn is(mutant: Mutant) -> bool {
    PLANTED.load(std::sync::atomic::Ordering::Relaxed) == mutant as u8
}

/// Whether this bug is planted: never.
#[cfg(not(feature = "mutants"))]
#[must_use]
pub const fn is(_: Mutant) -> bool {
    false
}
