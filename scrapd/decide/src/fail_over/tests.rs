//! Table tests of failover: which copy, and every reason why not.

use scrap_schema::command::{AssignCause, Command};
use scrap_schema::fence::OffBy;
use scrap_schema::id::{BootId, Epoch, GrainId, NodeId};
use scrap_schema::operation::Work;
use scrap_schema::snapshot::{Guid, Snapshot};
use scrap_schema::spec::FailoverMode;
use scrap_schema::time::Timestamp;
use scrap_schema::unit::Span;

use super::{choose, on_main_line};
use crate::cluster::Tenure;
use crate::fixture::{WEB, World, copy, copy_seen, data, snapshot};
use crate::lead::{Subject, View, lead};
use crate::place::Loads;
use crate::preview;
use crate::refusal::Refusal;

/// The choice for the grain whose owner is n1, in words.
fn choice(world: &mut World) -> String {
    world.observed.refresh(&world.cluster, world.now);
    let view = View { cluster: &world.cluster, observed: &world.observed, now: world.now };
    let loads = Loads::of(&world.cluster, &world.observed, None);
    let grain = world.the(WEB);
    match choose(view, grain, grain.owner.unwrap(), &loads) {
        Ok(copy) => {
            let lost = Span::from_ms(copy.loss.window_ms).rounded();
            format!("n{} from {}, loses {lost}", copy.node.0, copy.head.guid.0)
        }
        Err(reason) => reason.to_string(),
    }
}

/// n1 owns the grain and is fenced; n2 and n3 have copies that end at these snapshots (seconds 1000000 + number).
fn fenced(second: &str, third: &str) -> World {
    let mut world = World::web(&[2, 3]);
    world.now.wall = Timestamp(1_000_020_000);
    world.fence(1);
    world.wait(30_000);
    world.observed.since = world.now.boot;
    world.hear(2, [(WEB, copy(second))].into());
    world.hear(3, [(WEB, copy(third))].into());
    world
}

#[test]
fn the_freshest_copy_is_chosen() {
    // Last heard at 20, certainly dead 13 s later, the copy's state is of second 9.
    assert_eq!(choice(&mut fenced("1.5", "1.9")), "n3 from 109, loses 24 s");
    assert_eq!(choice(&mut fenced("1.9", "1.5")), "n2 from 109, loses 24 s");
}

#[test]
fn an_owner_that_cannot_begin_is_replaced_unless_too_many_are_silent() {
    let mut world = fenced("1.5", "1.9");
    let (base, cause) = (Some(snapshot("1.9")), AssignCause::Failover { loss: None });
    let (grain, epoch, to) = (WEB, Epoch(1), NodeId(3));
    world.done(Command::AssignGrain { grain, epoch, to, base, cause });
    let epoch = Epoch(2);
    for sure in [false, true] {
        assert!(choice(&mut world).contains("n3 is silent"), "not before it is sure");
        world.done(Command::GrainDeclined { grain, epoch, sure });
    }
    world.hear(3, [(WEB, copy("1.7"))].into());
    assert!(choice(&mut world).starts_with("n3 from 107"), "what it has by now");
    let (node, boot) = (NodeId(2), BootId(1));
    world.done(Command::SuspectNode { node, boot, last_heard: world.now.wall });
    assert!(choice(&mut world).contains("2 of 3 data nodes are silent"));
}

#[test]
fn while_an_owner_makes_sure_that_it_has_declined_the_grain_waits_for_that() {
    let mut world = fenced("1.5", "1.9");
    let (base, cause) = (Some(snapshot("1.9")), AssignCause::Failover { loss: None });
    let (grain, epoch, to) = (WEB, Epoch(1), NodeId(3));
    world.done(Command::AssignGrain { grain, epoch, to, base, cause });
    world.hear(3, [(WEB, copy("1.7"))].into());
    world.done(Command::GrainDeclined { grain, epoch: Epoch(2), sure: false });
    world.observed.refresh(&world.cluster, world.now);
    let plan = lead(&world.cluster, &world.observed, world.now);
    let of_web = plan.waiting.iter().filter(|waiting| waiting.subject == Subject::Grain(WEB));
    let reasons: Vec<String> = of_web.map(|waiting| waiting.reason.to_string()).collect();
    assert_eq!(
        reasons,
        [
            "n3 has not the state that it should go on from; once it has made sure that nothing of it runs there, another copy is chosen"
        ]
    );
}

#[test]
fn among_equals_the_better_place_wins() {
    assert_eq!(choice(&mut fenced("1.9", "1.9")), "n2 from 109, loses 24 s");
    let mut world = fenced("1.9", "1.9");
    world.grain(GrainId(2), "mail", 2, &[]);
    assert_eq!(choice(&mut world), "n3 from 109, loses 24 s");
}

#[test]
fn what_the_owner_saw_unchanged_is_not_lost() {
    let mut world = fenced("1.5", "1.5");
    let mut report = data("1.5", true, Epoch(1));
    let seen = copy_seen("1.5", Timestamp(1_000_015_000), 0);
    report.copies.insert(NodeId(2), seen);
    world.hear(1, [(WEB, report)].into());
    assert_eq!(choice(&mut world), "n2 from 105, loses 18 s");
}

#[test]
fn a_goodbye_says_when_the_last_write_was() {
    let mut world = World::web(&[2]);
    world.now.wall = Timestamp(1_000_020_000);
    world.done(Command::LeaveNode { node: NodeId(1), boot: BootId(1) });
    world.hear(2, [(WEB, copy("1.9"))].into());
    assert_eq!(choice(&mut world), "n2 from 109, loses 11 s");
}

#[test]
fn a_diverged_head_and_a_writable_one_are_no_copies() {
    let mut world = fenced("1.9", "1.5");
    let web = world.cluster.grains.get_mut(&WEB).unwrap();
    let base = Some(snapshot("1.7"));
    web.epoch = Epoch(2);
    web.tenures.push(Tenure { epoch: Epoch(2), node: NodeId(1), base });
    // n2 sets aside what is beyond 1.7, and has more than n3 then; when it does not, it is no copy.
    assert_eq!(choice(&mut world), "n2 has newer data and is still making them a copy");
    world.wait(60_000);
    world.hear(2, [(WEB, copy("1.9"))].into());
    world.hear(3, [(WEB, copy("1.5"))].into());
    assert_eq!(choice(&mut world), "n3 from 105, loses 28 s");
    world.hear(3, [(WEB, data("1.5", true, Epoch(1)))].into());
    let nobody = "no reachable node has a copy of it; its data are on n1";
    assert_eq!(choice(&mut world), nobody);
}

#[test]
fn what_is_about_to_become_the_newer_copy_is_waited_for_but_not_for_ever() {
    let mut world = fenced("1.5", "1.5");
    // n3 gave it to n1 with its state 1.9 a moment ago.
    let web = world.cluster.grains.get_mut(&WEB).unwrap();
    web.epoch = Epoch(2);
    web.tenures.push(Tenure { epoch: Epoch(2), node: NodeId(1), base: Some(snapshot("1.9")) });
    let older = "n2 from 105, loses 28 s";
    assert_eq!(choice(&mut world), older);
    world.hear(3, [(WEB, data("1.9", true, Epoch(1)))].into());
    assert_eq!(choice(&mut world), "n3 has newer data and is still making them a copy");
    let waiting = world.clone();
    world.hear(3, [(WEB, copy("1.9"))].into());
    assert_eq!(choice(&mut world), "n3 from 109, loses 24 s");
    // What is beyond the fork is set aside first.
    world.hear(3, [(WEB, data("1.10", true, Epoch(1)))].into());
    assert_eq!(choice(&mut world), "n3 has newer data and is still making them a copy");
    world.hear(3, [(WEB, copy("1.10"))].into());
    assert_eq!(choice(&mut world), "n3 has newer data and is still making them a copy");
    // Older: nothing to wait for.
    world.hear(3, [(WEB, data("1.4", true, Epoch(1)))].into());
    assert_eq!(choice(&mut world), older);
    // A person has said where it goes.
    let mut world = waiting.clone();
    world.begin(Work::Failover {
        grain: WEB,
        to: Some(NodeId(2)),
        accept_loss: None,
        owner_is_off: false,
    });
    assert_eq!(choice(&mut world), older);
    let mut world = waiting;
    world.wait(60_000);
    world.hear(2, [(WEB, copy("1.5"))].into());
    world.hear(3, [(WEB, data("1.9", true, Epoch(1)))].into());
    assert!(choice(&mut world).starts_with("n2 from 105"), "{}", choice(&mut world));
}

#[test]
fn every_later_fork_counts() {
    let mut world = World::web(&[2]);
    let web = world.cluster.grains.get_mut(&WEB).unwrap();
    for (epoch, base) in [(2, "1.7"), (3, "1.3")] {
        let base = Some(snapshot(base));
        web.tenures.push(Tenure { epoch: Epoch(epoch), node: NodeId(2), base });
    }
    let main = |head: &str| on_main_line(world.the(WEB), &snapshot(head));
    let found: Vec<bool> = ["1.3", "1.4", "1.7", "1.8", "2.8", "3.9"].map(main).to_vec();
    assert_eq!(found, [true, false, false, false, false, true]);
}

#[test]
fn epochs_that_the_line_went_around_count_for_nothing() {
    // Epoch 2 went on from 1.3, epoch 3 from 1.7 again, as when a person makes what was set aside the head; 4 nobody began.
    let mut world = World::web(&[2]);
    let web = world.cluster.grains.get_mut(&WEB).unwrap();
    for (epoch, base) in [(2, Some("1.3")), (3, Some("1.7")), (4, None), (5, Some("3.9"))] {
        let base = base.map(snapshot);
        web.tenures.push(Tenure { epoch: Epoch(epoch), node: NodeId(2), base });
    }
    let web = world.the(WEB);
    for (head, is_on, until) in [
        ("1.3", true, (1, 3)),
        ("1.5", true, (1, 5)),
        ("1.7", true, (1, 7)),
        ("1.8", false, (1, 7)),
        ("2.4", false, (1, 3)),
        ("3.9", true, (3, 9)),
        ("3.10", false, (3, 9)),
        ("4.1", false, (3, 9)),
        ("5.1", true, (5, 1)),
        ("0.1", true, (0, 1)),
    ] {
        let head = snapshot(head);
        assert_eq!(on_main_line(web, &head), is_on, "{}", head.name);
        let until = (Epoch(until.0), until.1);
        assert_eq!(super::settled(web, &head), Some(until), "{}", head.name);
    }
    // Another state in the place of a fork is not on the line.
    let other = Snapshot { guid: Guid(1), ..snapshot("1.7") };
    assert!(!on_main_line(web, &other));
}

#[test]
fn an_owner_that_may_still_run_keeps_its_grain() {
    let mut world = fenced("1.5", "1.9");
    let node = world.cluster.nodes.get_mut(&NodeId(1)).unwrap();
    let last_heard = world.now.wall;
    node.liveness = crate::cluster::Liveness::Suspect { ticks: 8, last_heard };
    assert_eq!(choice(&mut world), "node n1 is silent; it may still run there");
}

#[test]
fn without_a_lease_a_person_must_know() {
    let mut world = fenced("1.5", "1.9");
    world.cluster.grains.get_mut(&WEB).unwrap().armed = false;
    let needs = "it runs without a lease, so only you can know that it does not run on n1 any more";
    assert_eq!(choice(&mut world), needs);
    let ask =
        |owner_is_off| Work::Failover { grain: WEB, to: None, accept_loss: None, owner_is_off };
    let mut unsure = world.clone();
    unsure.begin(ask(false));
    assert_eq!(choice(&mut unsure), needs);
    world.begin(ask(true));
    assert_eq!(choice(&mut world), "n3 from 109, loses 41 s");
}

#[test]
fn a_node_that_is_confirmed_off_needs_no_other_word_and_wrote_nothing_after_it() {
    let mut world = fenced("1.5", "1.9");
    world.cluster.grains.get_mut(&WEB).unwrap().armed = false;
    let by = OffBy::Person { by: "kim".to_owned() };
    let (node, boot, until) = (NodeId(1), BootId(1), Timestamp(1_000_030_000));
    world.done(Command::ConfirmNodeOff { node, boot, until, by });
    // Without that it may have written until now, second 50.
    assert_eq!(choice(&mut world), "n3 from 109, loses 21 s");
    // Under the lease it was dead 13 s after it was last heard, at second 20: the earlier of both counts.
    world.cluster.grains.get_mut(&WEB).unwrap().armed = true;
    assert_eq!(choice(&mut world), "n3 from 109, loses 21 s");
    let off = world.cluster.nodes.get_mut(&NodeId(1)).unwrap().off.as_mut().unwrap();
    off.until = Timestamp(1_000_040_000);
    assert_eq!(choice(&mut world), "n3 from 109, loses 24 s");
    // Whose policy says so is still left to a person.
    let prompt = world.cluster.policies.get_mut(&"prompt".parse().unwrap()).unwrap();
    prompt.policy.failover.mode = FailoverMode::Manual;
    assert!(choice(&mut world).contains("leaves the failover to you"));
}

#[test]
fn after_everything_was_off_the_owner_is_waited_for_unless_a_person_knows_better() {
    let mut world = fenced("1.5", "1.9");
    world.cluster.nodes.get_mut(&NodeId(1)).unwrap().awaited = Some(world.now.wall);
    let waits = "everything was off, and node n1, which has the newest data, is given 180 s more to come back";
    assert_eq!(choice(&mut world), waits);
    let mut said = world.clone();
    let by = OffBy::Person { by: "kim".to_owned() };
    let (node, boot, until) = (NodeId(1), BootId(1), said.now.wall);
    said.done(Command::ConfirmNodeOff { node, boot, until, by });
    assert!(choice(&mut said).starts_with("n3 from 109"), "{}", choice(&mut said));
    let mut asked = world.clone();
    asked.begin(Work::Failover { grain: WEB, to: None, accept_loss: None, owner_is_off: false });
    assert!(choice(&mut asked).starts_with("n3 from 109"), "{}", choice(&mut asked));
    world.wait(179_999);
    assert!(choice(&mut world).contains("given 1 ms more"), "{}", choice(&mut world));
    world.wait(1);
    assert!(choice(&mut world).starts_with("n3 from 109"), "{}", choice(&mut world));
}

#[test]
fn a_dry_run_of_the_word_says_what_becomes_of_each_grain() {
    let mut world = World::web(&[2, 3]);
    world.now.wall = Timestamp(1_000_020_000);
    world.grain(GrainId(2), "mail", 1, &[]);
    world.hear(2, [(WEB, copy("1.9"))].into());
    world.hear(3, [(WEB, copy("1.5"))].into());
    let by = OffBy::Person { by: "kim".to_owned() };
    let (node, boot, until) = (NodeId(1), BootId(1), world.now.wall);
    let command = Command::ConfirmNodeOff { node, boot, until, by };
    let tried = |world: &World| {
        let (cluster, observed) = (&world.cluster, &world.observed);
        preview::confirmed_off(cluster, observed, world.now, node, command.clone())
    };
    assert!(matches!(tried(&world), Err(Refusal::NodeAlive { .. })));
    world.done(Command::SuspectNode { node, boot, last_heard: world.now.wall });
    let before = world.cluster.clone();
    let plan = tried(&world).unwrap();
    assert_eq!(world.cluster, before, "a dry run changes nothing");
    let says = |words: &str| plan.steps.iter().any(|step| step.starts_with(words));
    assert!(says("start grain web on node n2, epoch 2, from snapshot"), "{:?}", plan.steps);
    assert!(says("grain mail waits: no reachable node has a copy of it"), "{:?}", plan.steps);
    assert_eq!(plan.loss.as_ref().map(|loss| loss.window_ms), Some(11_000));
    // The deed does what was said.
    world.done(command);
    assert_eq!(choice(&mut world), "n2 from 109, loses 11 s");
}

#[test]
fn the_policy_may_leave_it_to_a_person_or_grant_time() {
    let mut world = fenced("1.5", "1.9");
    let prompt = world.cluster.policies.get_mut(&"prompt".parse().unwrap()).unwrap();
    prompt.policy.failover.after = Span::from_secs(60);
    assert_eq!(choice(&mut world), "its policy gives the owner 30 s more to come back");
    world.wait(30_000);
    assert_eq!(choice(&mut world), "n3 from 109, loses 24 s");
    let prompt = world.cluster.policies.get_mut(&"prompt".parse().unwrap()).unwrap();
    prompt.policy.failover.mode = FailoverMode::Manual;
    let manual = "node n1 is gone, and its policy leaves the failover to you";
    assert_eq!(choice(&mut world), manual);
}

#[test]
fn an_owner_that_speaks_again_is_given_its_time_but_not_for_ever() {
    let mut world = fenced("1.5", "1.9");
    let prompt = world.cluster.policies.get_mut(&"prompt".parse().unwrap()).unwrap();
    prompt.policy.failover.after = Span::from_secs(60);
    // The leader was cut off for long, or the owner: that it speaks again is its first word since.
    world.wait(90_000);
    world.observed.marks.clear();
    world.hear(1, Default::default());
    assert_eq!(choice(&mut world), "its policy gives the owner 60 s more to come back");
    world.wait(50_000);
    world.hear(1, Default::default());
    assert_eq!(choice(&mut world), "its policy gives the owner 60 s more to come back");
    // It speaks, and gets no further.
    world.wait(70_000);
    world.hear(1, Default::default());
    let given = choice(&mut world);
    assert!(given.starts_with("n3 from 109"), "{given}");
}

#[test]
fn a_person_may_accept_more_loss_than_the_policy_and_choose_the_node() {
    let mut world = fenced("1.5", "1.9");
    let prompt = world.cluster.policies.get_mut(&"prompt".parse().unwrap()).unwrap();
    prompt.policy.failover.max_data_loss = Span::from_secs(10);
    let large = "the freshest copy, on n3, would lose 24 s of writes, the limit is 10s";
    assert_eq!(choice(&mut world), large);
    let to = Some(NodeId(2));
    let accept_loss = Some(Span::from_secs(30));
    world.begin(Work::Failover { grain: WEB, to, accept_loss, owner_is_off: false });
    assert_eq!(choice(&mut world), "n2 from 105, loses 28 s");
}

#[test]
fn the_brake_holds_until_a_person_speaks() {
    let mut world = fenced("1.5", "1.9");
    world.fence(2);
    let brake = "2 of 3 data nodes are silent at once: until fewer are, nothing is started elsewhere without your word";
    assert_eq!(choice(&mut world), brake);
    world.begin(Work::Failover { grain: WEB, to: None, accept_loss: None, owner_is_off: false });
    assert_eq!(choice(&mut world), "n3 from 109, loses 24 s");
}

#[test]
fn a_new_leader_waits_for_the_reports_of_all_copies_but_not_for_ever() {
    let mut world = fenced("1.5", "1.9");
    world.observed.nodes.remove(&NodeId(2));
    assert_eq!(choice(&mut world), "not every copy has reported to this leader yet");
    world.wait(5_000);
    assert_eq!(choice(&mut world), "n3 from 109, loses 24 s");
}

#[test]
fn a_copy_without_room_is_refused_with_what_is_missing() {
    let mut world = fenced("1.5", "1.9");
    for number in [2, 3] {
        let node = world.cluster.nodes.get_mut(&NodeId(number)).unwrap();
        node.facts.memory = scrap_schema::unit::Bytes(0);
    }
    let expected =
        "no node can take it: n2 needs 64.0 MiB more memory; n3 needs 64.0 MiB more memory";
    assert_eq!(choice(&mut world), expected);
}
