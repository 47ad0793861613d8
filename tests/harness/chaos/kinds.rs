//! Kinds of faults, their names, and how long each stays.

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The leader's daemon is killed.
    KillLeader,
    /// The owner's daemon is killed.
    KillOwner,
    /// All daemons are killed at once.
    KillAll,
    /// The leader's daemon hangs, then goes on with what it knew.
    PauseLeader,
    /// The owner's daemon hangs.
    PauseOwner,
    /// Whoever is beside the owner's grains to end them hangs.
    PauseKeepers,
    /// The owner's guard hangs.
    PauseGuard,
    /// The owner's daemon and the keepers of its grains hang; its guard is left.
    PauseDaemonAndKeepers,
    /// The owner's daemon and its guard hang; the keepers are left.
    PauseDaemonAndGuard,
    /// The cable of the owner is out.
    CutOwner,
    /// The cable of the leader is out.
    CutLeader,
    /// Old leader and owner are together on the smaller side; clients reach both sides.
    SplitLeaderAndOwner,
    /// Nobody hears the leader, which hears everybody.
    MuteLeader,
    /// The leader hears nobody, and everybody hears it.
    DeafLeader,
    /// Nobody hears the owner.
    MuteOwner,
    /// Every node loses many frames.
    Lose,
    /// Frames of a node wait for each other.
    Slow,
    /// The power of the owner is cut.
    PowerOwner,
    /// The power of the leader is cut.
    PowerLeader,
    /// The power of everything is cut, and comes back in any order.
    PowerAll,
    /// The power of a node is cut that leads and owns.
    PowerLeaderAndOwner,
    /// The power of the owner is cut, and again while it boots.
    PowerTwice,
    /// The data folder of the leader's daemon is full.
    FullLeader,
    /// The data folder of the owner's daemon is full.
    FullOwner,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 24] = [
        Self::KillLeader,
        Self::KillOwner,
        Self::KillAll,
        Self::PauseLeader,
        Self::PauseOwner,
        Self::PauseKeepers,
        Self::PauseGuard,
        Self::PauseDaemonAndKeepers,
        Self::PauseDaemonAndGuard,
        Self::CutOwner,
        Self::CutLeader,
        Self::SplitLeaderAndOwner,
        Self::MuteLeader,
        Self::DeafLeader,
        Self::MuteOwner,
        Self::Lose,
        Self::Slow,
        Self::PowerOwner,
        Self::PowerLeader,
        Self::PowerAll,
        Self::PowerLeaderAndOwner,
        Self::PowerTwice,
        Self::FullLeader,
        Self::FullOwner,
    ];

    /// Power cuts: what machines are for.
    pub const POWER: [Self; 5] = [
        Self::PowerOwner,
        Self::PowerLeader,
        Self::PowerLeaderAndOwner,
        Self::PowerAll,
        Self::PowerTwice,
    ];

    /// Those of a short run: one of each family.
    pub const FEW: [Self; 7] = [
        Self::KillLeader,
        Self::PauseOwner,
        Self::SplitLeaderAndOwner,
        Self::MuteLeader,
        Self::Lose,
        Self::PowerOwner,
        Self::FullLeader,
    ];

    /// Its name on the command line and in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::KillLeader => "kill-leader",
            Self::KillOwner => "kill-owner",
            Self::KillAll => "kill-all",
            Self::PauseLeader => "pause-leader",
            Self::PauseOwner => "pause-owner",
            Self::PauseKeepers => "pause-keepers",
            Self::PauseGuard => "pause-guard",
            Self::PauseDaemonAndKeepers => "pause-daemon-and-keepers",
            Self::PauseDaemonAndGuard => "pause-daemon-and-guard",
            Self::CutOwner => "cut-owner",
            Self::CutLeader => "cut-leader",
            Self::SplitLeaderAndOwner => "split-leader-and-owner",
            Self::MuteLeader => "mute-leader",
            Self::DeafLeader => "deaf-leader",
            Self::MuteOwner => "mute-owner",
            Self::Lose => "lose",
            Self::Slow => "slow",
            Self::PowerOwner => "power-owner",
            Self::PowerLeader => "power-leader",
            Self::PowerAll => "power-all",
            Self::PowerLeaderAndOwner => "power-leader-and-owner",
            Self::PowerTwice => "power-twice",
            Self::FullLeader => "full-leader",
            Self::FullOwner => "full-owner",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The programs of its victim that hang.
    pub(super) const fn hangs(self) -> &'static [&'static str] {
        match self {
            Self::PauseLeader | Self::PauseOwner => &["scrapd"],
            Self::PauseKeepers => &["scrap-keeper"],
            Self::PauseGuard => &["scrap-guard"],
            Self::PauseDaemonAndKeepers => &["scrapd", "scrap-keeper"],
            Self::PauseDaemonAndGuard => &["scrapd", "scrap-guard"],
            Self::KillLeader
            | Self::KillOwner
            | Self::KillAll
            | Self::CutOwner
            | Self::CutLeader
            | Self::SplitLeaderAndOwner
            | Self::MuteLeader
            | Self::DeafLeader
            | Self::MuteOwner
            | Self::Lose
            | Self::Slow
            | Self::PowerOwner
            | Self::PowerLeader
            | Self::PowerAll
            | Self::PowerLeaderAndOwner
            | Self::PowerTwice
            | Self::FullLeader
            | Self::FullOwner => &[],
        }
    }

    /// Whether it can only be survived, or be done at all, where a guard runs beside the daemon.
    #[must_use]
    pub const fn needs_guard(self) -> bool {
        matches!(self, Self::PauseGuard | Self::PauseDaemonAndKeepers | Self::PauseDaemonAndGuard)
    }

    /// How long it stays, in milliseconds.
    pub(super) const fn hold(self) -> (u64, u64) {
        match self {
            Self::KillLeader | Self::KillOwner | Self::KillAll => (0, 4_000),
            Self::PauseLeader | Self::PauseOwner => (1_000, 20_000),
            Self::PauseKeepers
            | Self::PauseGuard
            | Self::PauseDaemonAndKeepers
            | Self::PauseDaemonAndGuard => (2_000, 14_000),
            Self::CutOwner | Self::CutLeader | Self::SplitLeaderAndOwner => (2_000, 15_000),
            Self::MuteLeader | Self::DeafLeader | Self::MuteOwner => (2_000, 12_000),
            Self::Lose | Self::Slow => (5_000, 12_000),
            Self::PowerOwner | Self::PowerLeader | Self::PowerLeaderAndOwner | Self::PowerTwice => {
                (1_000, 12_000)
            }
            Self::PowerAll => (500, 3_000),
            Self::FullLeader | Self::FullOwner => (4_000, 10_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_name() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of(kind.name()), Some(kind));
        }
        assert_eq!(Kind::of("kill"), None);
    }
}
