//! The numbers of the lease, and the relation between them that makes a failover safe.

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
        Self {
            renew: Span::from_secs(1),
            suspect: Span::from_secs(3),
            stop: Span::from_secs(6),
            lease: Span::from_secs(9),
            kill: Span::from_secs(4),
            tick: Span::from_secs(2),
            ticks: 8,
        }
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
