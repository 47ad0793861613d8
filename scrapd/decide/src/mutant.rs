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
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::LeaseFromAnswer,
        Self::AnswersUnconfirmed,
        Self::AnswersSuspect,
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
