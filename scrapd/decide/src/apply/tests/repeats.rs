//! Table tests of requests that are sent twice.

use scrap_schema::command::{Command, IdempotencyKey, Proposal};
use scrap_schema::id::{GrainId, NodeId, OperationId};
use scrap_schema::time::Timestamp;

use crate::apply::Applied;
use crate::fixture::{World, text};
use crate::refusal::Refusal;

fn keyed(world: &mut World, key: &str, fingerprint: &str, at: i64, command: Command) -> Applied {
    let key = IdempotencyKey { key: key.to_owned(), fingerprint: fingerprint.to_owned() };
    world.propose(Proposal { at: Timestamp(at), key: Some(key), command })
}

#[test]
fn a_repeated_request_gets_the_first_answer() {
    let mut world = World::nodes(2);
    let create = |number| {
        let (grain, operation) = (GrainId(number), OperationId(number));
        Command::CreateGrain { grain, operation, text: text("web") }
    };
    let first = keyed(&mut world, "k", "body", 0, create(1));
    assert!(!first.repeated && first.outcome.is_ok());
    let again = keyed(&mut world, "k", "body", 1, create(2));
    assert!(again.repeated && again.touched.is_empty() && again.events.is_empty());
    assert_eq!(again.outcome, first.outcome);
    let other = keyed(&mut world, "k", "other body", 2, create(3));
    assert_eq!(other.outcome, Err(Refusal::KeyReused));
    assert_eq!(world.cluster.grains.len(), 1);
    // A refusal is an answer too.
    let refused = keyed(&mut world, "l", "body", 3, create(4));
    assert!(matches!(refused.outcome, Err(Refusal::NameTaken { .. })));
    let again = keyed(&mut world, "l", "body", 4, create(4));
    assert!(again.repeated && again.outcome == refused.outcome);
}

#[test]
fn answers_are_forgotten_after_a_day() {
    let mut world = World::nodes(2);
    let day = 24 * 3_600_000;
    let cordon = || Command::SetCordon { node: NodeId(2), cordoned: true };
    keyed(&mut world, "k", "body", 0, cordon());
    keyed(&mut world, "l", "body", day, cordon());
    assert_eq!(world.cluster.answers.len(), 2);
    keyed(&mut world, "m", "body", day + 1, cordon());
    let left: Vec<&str> = world.cluster.answers.keys().map(String::as_str).collect();
    assert_eq!(left, ["l", "m"]);
}
