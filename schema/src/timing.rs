//! The numbers of the lease, and the relation between them that makes a failover safe.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::unit::Span;

/// The least that `kill` may be: from the end of the lease a keeper asks, waits for its grace, kills, and sees that nothing is
/// left. What a keeper takes for that is checked against this number.
pub const KILL_MIN: Span = Span::from_secs(2);

/// The lease's numbers. One set for the whole cluster, fixed at `scrapd init` and replicated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timing {
    /// Time between two renewals of a node's lease.
    pub renew: Span,
    /// Silence after which renewals are refused and the countdown starts.
    pub suspect: Span,
    /// Time since the last sent renewal that was answered, after which a node stops its `auto` grains by itself.
    pub stop: Span,
    /// Time since the same renewal after which what still runs is killed.
    pub lease: Span,
    /// Upper bound from the lease's end to certainly dead. At least [`KILL_MIN`].
    pub kill: Span,
    /// Length of one committed tick of the countdown.
    pub tick: Span,
    /// Number of ticks until the node counts as fenced.
    pub ticks: u32,
}

impl Default for Timing {
    fn default() -> Self {
        Preset::Standard.timing()
    }
}

/// A set of numbers with a name. What each is for, and its sums, stand in `docs/lease.md`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// For Wi-Fi, slow disks and machines that stand still now and then.
    Calm,
    /// For most networks.
    #[default]
    Standard,
    /// For a wired network and fast disks.
    Swift,
}

impl Preset {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Calm, Self::Standard, Self::Swift];

    /// Its name, as people write it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Standard => "standard",
            Self::Swift => "swift",
        }
    }

    /// Its numbers.
    #[must_use]
    pub fn timing(self) -> Timing {
        let (ms, s) = (Span::from_ms, Span::from_secs);
        let ([renew, suspect, stop, lease, kill, tick], ticks) = match self {
            Self::Calm => ([s(2), s(9), s(18), s(25), s(6), s(4)], 9),
            Self::Standard => ([s(1), s(3), s(6), s(9), s(4), s(2)], 8),
            Self::Swift => ([ms(500), s(2), s(4), s(5), s(2), s(1)], 8),
        };
        Timing { renew, suspect, stop, lease, kill, tick, ticks }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// A name that no set of numbers has.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not one of `calm`, `standard`, `swift`")]
pub struct NoSuchPreset(String);

impl FromStr for Preset {
    type Err = NoSuchPreset;

    fn from_str(text: &str) -> Result<Self, NoSuchPreset> {
        let found = Self::ALL.into_iter().find(|preset| preset.word() == text);
        found.ok_or_else(|| NoSuchPreset(text.chars().take(80).collect()))
    }
}

/// Why a set of numbers is not safe. Each names the sum that fails.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UnsafeTiming {
    /// The countdown ends before the old owner is certainly dead.
    #[error(
        "the countdown of {ticks} × {tick} must be longer than lease {lease} + kill {kill} at 1 % clock drift: \
         {countdown_ms} ms is not more than {needed_ms} ms"
    )]
    CountdownTooShort {
        /// Number of ticks.
        ticks: u32,
        /// Length of a tick.
        tick: Span,
        /// The lease.
        lease: Span,
        /// The kill bound.
        kill: Span,
        /// Countdown as a fast leader's clock counts it, in milliseconds.
        countdown_ms: u64,
        /// What a slow owner may need until it is dead, in milliseconds.
        needed_ms: u64,
    },
    /// Two numbers stand in the wrong order.
    #[error("`{smaller}` ({smaller_is}) must be less than `{larger}` ({larger_is})")]
    OutOfOrder {
        /// Name of the number that must be the smaller one.
        smaller: &'static str,
        /// Its value.
        smaller_is: Span,
        /// Name of the number that must be the larger one.
        larger: &'static str,
        /// Its value.
        larger_is: Span,
    },
    /// What a keeper needs after the lease is not granted to it.
    #[error(
        "`kill` ({is}) must be at least {KILL_MIN}: a grain is asked to end before it is killed"
    )]
    KillTooShort {
        /// What it is.
        is: Span,
    },
    /// A number is zero.
    #[error("`{0}` must not be zero")]
    Zero(&'static str),
}

impl Timing {
    /// The preset that has exactly these numbers.
    #[must_use]
    pub fn preset(&self) -> Option<Preset> {
        Preset::ALL.into_iter().find(|preset| preset.timing() == *self)
    }

    /// From the last renewal that the leader got until a node counts as fenced, if nothing proves its death earlier.
    #[must_use]
    pub fn fenced_after(&self) -> Span {
        let countdown = self.tick.ms().saturating_mul(u64::from(self.ticks));
        Span::from_ms(self.suspect.ms().saturating_add(countdown))
    }

    /// Checks the relation between the numbers: a node is dead before its grains may be given away.
    ///
    /// # Errors
    /// The first relation that does not hold, with the numbers in it.
    pub fn check(&self) -> Result<(), UnsafeTiming> {
        let zeros = [("renew", self.renew), ("tick", self.tick)];
        if let Some((name, _)) = zeros.into_iter().find(|(_, span)| span.ms() == 0) {
            return Err(UnsafeTiming::Zero(name));
        }
        if self.kill < KILL_MIN {
            return Err(UnsafeTiming::KillTooShort { is: self.kill });
        }
        let order = [
            ("renew", self.renew, "suspect", self.suspect),
            ("renew", self.renew, "stop", self.stop),
            ("stop", self.stop, "lease", self.lease),
        ];
        for (smaller, smaller_is, larger, larger_is) in order {
            if smaller_is >= larger_is {
                return Err(UnsafeTiming::OutOfOrder { smaller, smaller_is, larger, larger_is });
            }
        }
        // The leader's clock may run 1 % fast, the owner's 1 % slow. Both sums are rounded down, so "more than" is
        // also true of what was cut off. Wide numbers, because a sum that wraps around would pass for a small one.
        let wide = |span: Span| u128::from(span.ms());
        let countdown = wide(self.tick) * u128::from(self.ticks) * 100 / 101;
        let needed = wide(self.lease) * 100 / 99 + wide(self.kill);
        if countdown <= needed {
            let narrow = |ms: u128| u64::try_from(ms).unwrap_or(u64::MAX);
            let (countdown_ms, needed_ms) = (narrow(countdown), narrow(needed));
            return Err(UnsafeTiming::CountdownTooShort {
                ticks: self.ticks,
                tick: self.tick,
                lease: self.lease,
                kill: self.kill,
                countdown_ms,
                needed_ms,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
