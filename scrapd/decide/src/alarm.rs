//! What a node tells people by itself because it found it on its host, and when it does not say it again.

use scrap_schema::id::NodeId;
use scrap_schema::node::{PoolFacts, PoolState};
use scrap_schema::time::{BootTime, Timestamp};
use scrap_schema::unit::Span;

/// The same alarm is not told again before this.
const AGAIN: Span = Span::from_secs(600);

/// Whether people are told of what a node found, if `last` is what they were told before, and when.
#[must_use]
pub fn is_news(last: Option<(&str, BootTime)>, what: &str, now: BootTime) -> bool {
    last.is_none_or(|(told, at)| told != what || now.since(at) >= AGAIN)
}

/// Nodes have their storage scrubbed at so different times at least: what all nodes do at once all grains feel.
const APART: Span = Span::from_secs(24 * 3600);

/// The storage of a node is scrubbed if it was last scrubbed before this moment, so that nobody goes without it for longer than a
/// week more than `every`. `None`: not now. Zero means that others see to it, and a pool that is not well has other work to do.
#[must_use]
pub fn scrub_before(
    node: NodeId,
    every: Span,
    pool: Option<PoolState>,
    now: Timestamp,
) -> Option<Timestamp> {
    if every == Span::ZERO || pool != Some(PoolState::Online) {
        return None;
    }
    let apart = APART.ms().saturating_mul(node.0 % 7);
    let ago = i64::try_from(every.ms().saturating_add(apart)).unwrap_or(i64::MAX);
    Some(Timestamp(now.0.saturating_sub(ago)))
}

/// A sentence for people about a node, without its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// What happened.
    pub what: String,
    /// Whether it means that something is well again.
    pub well: bool,
}

/// What people should hear of a node's storage, if `told` is how it was when they last heard of it.
#[must_use]
pub fn pool_news(told: &PoolFacts, now: &PoolFacts) -> Option<News> {
    let is_new = now.state != told.state;
    let state = match now.state {
        PoolState::Online if is_new => Some(format!("was {} and is online again", told.state)),
        PoolState::Degraded | PoolState::ReadOnly | PoolState::Suspended | PoolState::Faulted
            if is_new =>
        {
            Some(format!("is {} now", now.state))
        }
        PoolState::Online
        | PoolState::Degraded
        | PoolState::ReadOnly
        | PoolState::Suspended
        | PoolState::Faulted => None,
    };
    let errors = match now.errors {
        0 if told.errors > 0 => Some("has no known errors any more".to_owned()),
        1 if told.errors == 0 => Some("has an error that it could not repair".to_owned()),
        errors if errors > told.errors => {
            Some(format!("has {errors} errors that it could not repair"))
        }
        _ => None,
    };
    let well = now.state == PoolState::Online && now.errors == 0;
    let why = now.what.as_ref().filter(|_| !well);
    let why = why.map_or_else(String::new, |what| format!(": {what}"));
    let said: Vec<String> = state.into_iter().chain(errors).collect();
    (!said.is_empty())
        .then(|| News { what: format!("its storage {}{why}", said.join(" and ")), well })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_alarm_is_told_again_only_after_a_while() {
        let told = Some(("the table is gone", BootTime(1_000)));
        for (last, what, now, expected) in [
            (None, "the table is gone", 0, true),
            (told, "the table is gone", 600_999, false),
            (told, "the table is gone", 601_000, true),
            (told, "the table was changed", 1_001, true),
        ] {
            assert_eq!(is_news(last, what, BootTime(now)), expected, "{last:?}, {what} at {now}");
        }
    }

    #[test]
    fn nodes_scrub_on_different_days() {
        let day = 24 * 3600 * 1000;
        let (every, now) = (Span::from_secs(35 * 24 * 3600), Timestamp(100 * day));
        for (node, days) in [(1, 64), (2, 63), (6, 59), (7, 65), (8, 64)] {
            let before = scrub_before(NodeId(node), every, Some(PoolState::Online), now);
            assert_eq!(before, Some(Timestamp(days * day)), "{node}");
        }
        let late = scrub_before(NodeId(1), Span::from_ms(u64::MAX), Some(PoolState::Online), now);
        assert_eq!(late, Some(Timestamp(now.0 - i64::MAX)));
        for (every, pool) in [
            (Span::ZERO, Some(PoolState::Online)),
            (every, Some(PoolState::Degraded)),
            (every, Some(PoolState::Suspended)),
            (every, None),
        ] {
            assert_eq!(scrub_before(NodeId(1), every, pool, now), None, "{every} {pool:?}");
        }
    }

    #[test]
    fn every_change_of_a_pool_is_told_once() {
        use PoolState::{Degraded, Online, Suspended};
        let pool = |state, errors, what: &str| PoolFacts {
            state,
            errors,
            what: Some(what.to_owned()).filter(|what| !what.is_empty()),
            ..PoolFacts::default()
        };
        for (told, now, news) in [
            (pool(Online, 0, ""), pool(Online, 0, ""), ""),
            (
                pool(Online, 0, ""),
                pool(Degraded, 0, "sdb is gone."),
                "its storage is degraded now: sdb is gone.",
            ),
            (pool(Degraded, 0, "sdb is gone."), pool(Degraded, 0, "sdb is gone."), ""),
            (pool(Degraded, 0, ""), pool(Suspended, 0, ""), "its storage is suspended now"),
            (
                pool(Degraded, 0, "sdb is gone."),
                pool(Online, 0, ""),
                "+its storage was degraded and is online again",
            ),
            (
                pool(Online, 0, ""),
                pool(Online, 2, "see `zpool status`"),
                "its storage has 2 errors that it could not repair: see `zpool status`",
            ),
            (
                pool(Degraded, 0, ""),
                pool(Degraded, 1, ""),
                "its storage has an error that it could not repair",
            ),
            (
                pool(Degraded, 0, "sdb is gone."),
                pool(Online, 5, "see `zpool status`"),
                "its storage was degraded and is online again and has 5 errors that it could not repair: see `zpool status`",
            ),
            (
                pool(Online, 0, ""),
                pool(Degraded, 1, "sdb is gone."),
                "its storage is degraded now and has an error that it could not repair: sdb is gone.",
            ),
            (pool(Online, 2, ""), pool(Online, 1, ""), ""),
            (pool(Online, 2, ""), pool(Online, 0, ""), "+its storage has no known errors any more"),
        ] {
            let found = pool_news(&told, &now)
                .map(|news| format!("{}{}", if news.well { "+" } else { "" }, news.what));
            assert_eq!(found.unwrap_or_default(), news, "{told:?} {now:?}");
        }
    }
}
