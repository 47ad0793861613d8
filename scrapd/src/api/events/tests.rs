//! Lists of events: where they begin, where they are cut, and what is gone.

use scrap_schema::event::Severity;
use scrap_schema::time::Timestamp;

use super::*;

/// A state with `of` events at each of these indexes.
fn cluster(indexes: std::ops::RangeInclusive<u64>, of: u32) -> Cluster {
    let mut cluster = Cluster::default();
    for index in indexes {
        cluster.index = index;
        for place in 0..of {
            let event = Event {
                index,
                place,
                at: Timestamp(0),
                topic: if place == 0 { Topic::Node } else { Topic::Grain },
                severity: Severity::Info,
                grain: None,
                node: None,
                operation: None,
                message: String::new(),
            };
            cluster.events.insert((index, place), event);
        }
    }
    cluster
}

#[track_caller]
fn check(since: Option<u64>, limit: usize, told: &[(u64, u32)], go_on: u64) {
    let view = list(&cluster(1..=4, 2), since, limit, Filter::default());
    let found: Vec<_> = view.events.iter().map(|event| (event.index, event.place)).collect();
    assert_eq!((found.as_slice(), view.index), (told, go_on));
}

#[test]
fn a_list_goes_on_after_an_index() {
    check(Some(2), 100, &[(3, 0), (3, 1), (4, 0), (4, 1)], 4);
    check(Some(4), 100, &[], 4);
}

#[test]
fn a_cut_list_keeps_events_of_one_index_together() {
    check(Some(0), 1, &[(1, 0), (1, 1)], 1);
    check(Some(0), 2, &[(1, 0), (1, 1)], 1);
    check(Some(0), 3, &[(1, 0), (1, 1), (2, 0), (2, 1)], 2);
}

#[test]
fn a_list_without_a_beginning_holds_the_newest() {
    check(None, 2, &[(4, 0), (4, 1)], 4);
}

#[test]
fn nothing_is_gone_before_the_first_removal() {
    let young = cluster(5..=9, 1);
    assert_eq!(oldest(&young), 0);
    assert!(still_kept(&young, 0).is_ok());
}

#[test]
fn what_is_gone_is_said_with_the_oldest_index() {
    let mut old = cluster(1_000..=1_000 + EVENTS_MAX as u64, 1);
    old.events.pop_first();
    assert_eq!(oldest(&old), 1_001);
    assert!(still_kept(&old, 1_000).is_ok());
    let problem = still_kept(&old, 999).unwrap_err().problem;
    assert_eq!((problem.status, problem.code, problem.oldest), (410, Code::Gone, Some(1_001)));
}

#[test]
fn an_index_that_has_lost_its_first_events_is_not_whole() {
    let mut old = cluster(1_000..=1_000 + EVENTS_MAX as u64 / 2, 2);
    while old.events.len() > EVENTS_MAX {
        old.events.pop_first();
    }
    assert!(old.events.first_key_value().is_some_and(|((_, place), _)| *place == 0));
    old.events.pop_first();
    old.events.insert((9_999_999, 0), old.events.values().next().unwrap().clone());
    let first = *old.events.first_key_value().unwrap().0;
    assert_eq!((first.1, oldest(&old)), (1, first.0 + 1));
}

#[test]
fn what_was_told_is_not_told_again() {
    let state = cluster(1..=3, 2);
    let entry = |index: u64| after(&state, index - 1).into_iter().take(2).collect::<Vec<_>>();
    let mut telling = Telling { last: 1, ..Telling::default() };
    telling.take(&entry(1));
    assert!(telling.ready.is_empty(), "it was in the replay already");
    telling.take(&entry(2));
    telling.take(&entry(2));
    telling.take(&entry(3));
    assert_eq!((telling.ready.len(), telling.last), (4, 3));
}
