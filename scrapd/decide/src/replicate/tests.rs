//! Table tests of copies. Snapshots are written as `epoch.number`, see [`crate::fixture::snapshot`].

use scrap_schema::id::{Epoch, NodeId, OperationId};
use scrap_schema::node::{PoolFacts, PoolState};
use scrap_schema::operation::Work;
use scrap_schema::snapshot::{Guid, Purpose, SnapshotName};
use scrap_schema::spec::Keep;
use scrap_schema::time::Timestamp;
use scrap_schema::unit::Bytes;

use super::{Admitted, NotAdmitted, Offer, Route, admit, retain, route};
use crate::cluster::{Stage, Tenure};
use crate::fixture::{WEB, World, line, snapshot};
use crate::obey::{DataFacts, DataRole, HostFacts, RunFacts, SetAside};

/// `mine` and `theirs` as lines; the answer as words.
fn check(mine: &str, theirs: &str, expected: &str) {
    check_skipping("", mine, theirs, expected);
}

/// The same of a line of which somebody destroyed some states, whose bookmarks are left.
fn check_without(gone: &str, mine: &str, theirs: &str, expected: &str) {
    let guids = line(theirs).iter().map(|snapshot| snapshot.guid).collect::<Vec<Guid>>();
    let found = words(&route(&line(mine), &line(gone), &guids, |_| false));
    assert_eq!(found, expected, "`{mine}` without `{gone}` to `{theirs}`");
}

/// The same where some states may be jumped over.
fn check_skipping(skip: &str, mine: &str, theirs: &str, expected: &str) {
    let guids = |text| line(text).iter().map(|snapshot| snapshot.guid).collect::<Vec<Guid>>();
    let (theirs, skip) = (guids(theirs), guids(skip));
    let found = words(&route(&line(mine), &[], &theirs, |guid| skip.contains(&guid)));
    assert_eq!(found, expected, "`{mine}` to `{theirs:?}`");
}

fn words(route: &Route) -> String {
    match route {
        Route::UpToDate => "up to date".to_owned(),
        Route::Full { to } => format!("full {}", to.0),
        Route::Incremental { from, to } => format!("{} to {}", from.0, to.0),
        Route::Diverged { common, to: Some(to) } => {
            format!("diverged after {}, then to {}", common.0, to.0)
        }
        Route::Diverged { common, to: None } => format!("diverged after {}", common.0),
        Route::Nothing => "nothing".to_owned(),
    }
}

#[test]
fn nothing_to_send_before_the_first_snapshot() {
    check("", "", "nothing");
    check("", "1.1", "nothing");
}

#[test]
fn an_empty_copy_needs_everything() {
    check("1.1 1.2 1.3", "", "full 103");
}

#[test]
fn a_copy_is_brought_forward_state_by_state_from_the_newest_common_one() {
    check("1.1 1.2 1.3", "1.1 1.2", "102 to 103");
    check("1.1 1.2 1.3 1.4", "1.1", "101 to 102");
    check_skipping("1.2 1.3", "1.1 1.2 1.3 1.4", "1.1", "101 to 104");
    check_skipping("1.2", "1.1 1.2 1.3 1.4", "1.1", "101 to 103");
    check("1.2 1.3", "1.1 1.2", "102 to 103");
    check("1.1 1.2", "1.1 1.2", "up to date");
}

#[test]
fn what_people_and_moves_froze_is_never_jumped_over() {
    let all = "1.1 1.2 1.3 1.4";
    check_skipping(all, "1.1 1.2! 1.3 1.4", "1.1", "101 to 102");
    check_skipping(all, "1.1 1.2# 1.3", "1.1", "101 to 102");
    check("1.1 1.2! 1.3", "", "full 102");
    check_skipping(all, "1.1 1.2! 1.3 1.4", "1.1 1.2!", "102 to 104");
}

#[test]
fn a_state_that_this_line_does_not_have_is_divergence() {
    check("1.1 1.2", "1.1 2.9", "diverged after 101, then to 102");
    check("1.1 1.2! 1.3", "1.1 2.9", "diverged after 101, then to 102");
    check("2.1 2.2", "1.1 1.2", "full 202");
    check("1.1 1.2 2.3", "1.1 1.2 1.3", "diverged after 102, then to 203");
    check("1.1 1.2", "1.1 1.2 1.3", "diverged after 102");
}

#[test]
fn what_somebody_destroyed_is_still_a_beginning() {
    check_without("1.2", "1.1 1.3", "1.1 1.2", "102 to 103");
    check_without("1.2", "1.3", "1.1 1.2", "102 to 103");
    check_without("1.2", "1.1 2.3 2.4", "1.2", "102 to 203");
    // It cannot be made again: what follows it has to be frozen first.
    check_without("1.3", "1.1 1.2", "1.1 1.2 1.3", "nothing");
    // A copy that ends elsewhere gains nothing by it.
    check_without("1.2", "1.1 1.3", "1.1", "101 to 103");
    check_without("1.2", "1.1 1.3", "1.1 1.2 1.3", "up to date");
    check_without("1.2", "1.3", "1.2 2.9", "full 103");
    // A clone's line begins with a state of its source, whose epoch may be higher.
    check_without("1.3", "5.2 1.4", "5.2 1.3", "103 to 104");
}

fn facts(role: DataRole, snapshots: &str) -> DataFacts {
    DataFacts {
        role,
        epoch: Epoch(1),
        snapshots: line(snapshots),
        bookmarks: Vec::new(),
        held: Default::default(),
        used: Bytes(0),
        dirty: None,
        restored: None,
        described: 0,
    }
}

fn offer(from: Option<&str>, line_: &str) -> Offer {
    let line = line(line_).iter().map(|snapshot| snapshot.guid).collect();
    let from = from.map(|from| snapshot(from).guid);
    Offer { sender: NodeId(1), epoch: Epoch(1), from, line }
}

/// On n2, which keeps a copy of the grain that n1 owns in epoch 1.
fn admitted(offer: &Offer, data: Option<&DataFacts>) -> Result<Admitted, NotAdmitted> {
    let world = World::web(&[2]);
    let data = data.map(|data| (WEB, data.clone())).into_iter().collect();
    let host = HostFacts { data, ..HostFacts::default() };
    admit(NodeId(2), Some(world.the(WEB)), offer, &host)
}

#[test]
fn a_stream_comes_in_only_where_it_continues_what_is_there() {
    use Admitted::{Receive, SetAsideFirst};
    let aside = |base: Option<u64>| {
        let name = SnapshotName { epoch: Epoch(1), seq: 3, purpose: Purpose::Orphan };
        Ok(SetAsideFirst(SetAside { epoch: None, base: base.map(Guid), name }))
    };
    let copy = facts(DataRole::Standby, "1.1 1.2");
    assert_eq!(admitted(&offer(None, "1.1"), None), Ok(Receive));
    assert_eq!(admitted(&offer(Some("1.2"), "1.1 1.2 1.3"), Some(&copy)), Ok(Receive));
    assert_eq!(admitted(&offer(None, "2.1"), Some(&copy)), aside(None));
    assert_eq!(admitted(&offer(Some("1.1"), "1.1 1.3"), Some(&copy)), aside(Some(101)));
    // So long is the sender's line that it names only its end: what is here may be on it.
    let missing = NotAdmitted::DoesNotContinue { from: Some(Guid(101)), newest: None };
    assert_eq!(admitted(&offer(Some("1.1"), "1.1"), None), Err(missing));
    let older = NotAdmitted::DoesNotContinue { from: Some(Guid(101)), newest: Some(Guid(102)) };
    assert_eq!(admitted(&offer(Some("1.1"), "1.3"), Some(&copy)), Err(older.clone()));
    // The sender did not know yet that it has come here.
    assert_eq!(admitted(&offer(Some("1.1"), "1.1 1.2 1.3"), Some(&copy)), Err(older));
    let full = NotAdmitted::DoesNotContinue { from: None, newest: Some(Guid(102)) };
    assert_eq!(admitted(&offer(None, "1.1"), Some(&copy)), Err(full));
    let head = facts(DataRole::Owner, "1.1 1.2");
    let writable = Err(NotAdmitted::WritableHere);
    assert_eq!(admitted(&offer(Some("1.2"), "1.2"), Some(&head)), writable);
}

#[test]
fn a_stream_comes_in_only_from_the_owner_in_its_epoch_to_a_copy_that_is_wanted() {
    let world = World::web(&[2]);
    let grain = Some(world.the(WEB));
    let good = offer(None, "1.1");
    let host = HostFacts::default();
    assert_eq!(admit(NodeId(2), grain, &good, &host), Ok(Admitted::Receive));
    assert_eq!(admit(NodeId(2), None, &good, &host), Err(NotAdmitted::UnknownGrain));
    assert_eq!(admit(NodeId(3), grain, &good, &host), Err(NotAdmitted::NotWanted));
    let other = Offer { sender: NodeId(3), ..good.clone() };
    let not_owner = NotAdmitted::NotOwner { sender: NodeId(3), owner: Some(NodeId(1)) };
    assert_eq!(admit(NodeId(2), grain, &other, &host), Err(not_owner));
    for epoch in [Epoch(0), Epoch(2)] {
        let other = Offer { epoch, ..good.clone() };
        let wrong = NotAdmitted::WrongEpoch { offered: epoch, held: Epoch(1) };
        assert_eq!(admit(NodeId(2), grain, &other, &host), Err(wrong));
    }
    let run =
        RunFacts { epoch: Epoch(1), alive: true, up: true, armed: true, ..RunFacts::default() };
    let host = HostFacts { runs: [(WEB, run)].into(), ..HostFacts::default() };
    let writable = Err(NotAdmitted::WritableHere);
    assert_eq!(admit(NodeId(2), grain, &good, &host), writable);
}

#[test]
fn a_stream_continues_a_template_only_where_it_is() {
    let mut world = World::web(&[2]);
    let template = scrap_schema::id::TemplateId(7);
    world.cluster.grains.get_mut(&WEB).unwrap().template = Some(template);
    let grain = Some(world.the(WEB));
    let clone = offer(Some("1.1"), "1.1 1.2");
    let mut host = HostFacts::default();
    let missing = NotAdmitted::DoesNotContinue { from: Some(Guid(101)), newest: None };
    assert_eq!(admit(NodeId(2), grain, &clone, &host), Err(missing));
    host.templates.insert(template, Guid(101));
    assert_eq!(admit(NodeId(2), grain, &clone, &host), Ok(Admitted::Receive));
}

#[test]
fn full_storage_lets_in_only_what_somebody_stands_still_for() {
    let mut world = World::web(&[2]);
    let good = offer(None, "1.1");
    let pool = |state, used: u64| HostFacts {
        pool: Some(PoolFacts {
            state,
            used: Bytes(used),
            free: Bytes(100 - used),
            ..PoolFacts::default()
        }),
        ..HostFacts::default()
    };
    let says = |world: &World, host: &HostFacts| {
        let admitted = admit(NodeId(2), Some(world.the(WEB)), &good, host);
        admitted.map_or_else(|why| why.to_string(), |_| String::new())
    };
    assert_eq!(says(&world, &pool(PoolState::Online, 90)), "");
    let full = "the storage of that node is 91 % full: it takes copies up to 90 %";
    assert_eq!(says(&world, &pool(PoolState::Online, 91)), full);
    let read_only = "the storage of that node is read-only";
    assert_eq!(says(&world, &pool(PoolState::ReadOnly, 1)), read_only);
    let (to, operation, ordered) = (NodeId(2), OperationId(1), 1);
    world.cluster.grains.get_mut(&WEB).unwrap().stage = Stage::Quiescing { to, operation, ordered };
    assert_eq!(says(&world, &pool(PoolState::Online, 91)), "");
    assert_eq!(says(&world, &pool(PoolState::ReadOnly, 1)), read_only);
}

#[test]
fn the_state_of_the_template_stays() {
    let world = World::web(&[2]);
    let mut data = facts(DataRole::Owner, "1.1 1.2 1.3 1.4");
    data.snapshots[0].name.purpose = Purpose::Template;
    let keep = Keep { keep_last: 1, keep_hourly: 0, keep_daily: 0 };
    let goes = retain(&world.cluster, world.the(WEB), &data, &keep);
    assert_eq!(goes, [Guid(103), Guid(102)]);
}

/// Which numbers of epoch 1 may go.
fn goes(snapshots: &str, keep: (u32, u32, u32), held: Option<&str>) -> Vec<u64> {
    let world = World::web(&[2]);
    let mut data = facts(DataRole::Owner, snapshots);
    if let Some(held) = held {
        data.held.insert("last:2".to_owned(), snapshot(held).guid);
    }
    let keep = Keep { keep_last: keep.0, keep_hourly: keep.1, keep_daily: keep.2 };
    let mut goes: Vec<u64> = retain(&world.cluster, world.the(WEB), &data, &keep)
        .iter()
        .map(|guid| guid.0 - 100)
        .collect();
    goes.sort_unstable();
    goes
}

#[test]
fn the_newest_so_many_stay() {
    assert_eq!(goes("1.1 1.2 1.3 1.4", (2, 0, 0), None), [1, 2]);
    assert_eq!(goes("1.1 1.2", (2, 0, 0), None), [0; 0]);
    assert_eq!(goes("1.1 1.2 1.3", (0, 0, 0), None), [1, 2]);
}

#[test]
fn what_is_held_and_what_people_took_stays() {
    assert_eq!(goes("1.1 1.2 1.3 1.4", (1, 0, 0), Some("1.1")), [2, 3]);
    assert_eq!(goes("1.1 1.2! 1.3 1.4", (1, 0, 0), None), [1, 3]);
}

#[test]
fn the_newest_of_each_hour_and_day_stays() {
    // Frozen at second 1, 2, 3601, 3602 and 90000 after a full hour.
    let world = World::web(&[2]);
    let hour = 3_600_000;
    let mut data = facts(DataRole::Owner, "1.1 1.2 1.3 1.4 1.5");
    let times = [1_000, 2_000, hour + 1_000, hour + 2_000, 25 * hour];
    for (snapshot, time) in data.snapshots.iter_mut().zip(times) {
        snapshot.created = Timestamp(time);
    }
    let goes = |hourly, daily| {
        let keep = Keep { keep_last: 1, keep_hourly: hourly, keep_daily: daily };
        let mut gone: Vec<u64> =
            retain(&world.cluster, world.the(WEB), &data, &keep).iter().map(|it| it.0).collect();
        gone.sort_unstable();
        gone
    };
    assert_eq!(goes(0, 0), [101, 102, 103, 104]);
    assert_eq!(goes(2, 0), [101, 102, 103]);
    assert_eq!(goes(3, 0), [101, 103]);
    assert_eq!(goes(0, 2), [101, 102, 103]);
}

#[test]
fn what_a_later_line_or_an_operation_needs_stays() {
    let mut world = World::web(&[2]);
    let data = facts(DataRole::Owner, "1.1 1.2# 1.3 1.4");
    let keep = Keep { keep_last: 1, keep_hourly: 0, keep_daily: 0 };
    let goes = |world: &World| -> Vec<u64> {
        retain(&world.cluster, world.the(WEB), &data, &keep).iter().map(|it| it.0).collect()
    };
    assert_eq!(goes(&world), [103, 102, 101]);
    let operation = OperationId(1);
    let work = Work::Migrate { grain: WEB, to: Some(NodeId(2)) };
    world.done(scrap_schema::command::Command::StartOperation { operation, work, text: None });
    assert_eq!(goes(&world), [103, 101]);
    let web = world.cluster.grains.get_mut(&WEB).unwrap();
    web.stage = Stage::Restoring { operation, snapshot: Guid(101) };
    web.tenures[0].base = Some(snapshot("1.3"));
    assert_eq!(goes(&world), [0; 0]);
}

#[test]
fn what_a_silent_copy_goes_back_to_that_stood_beyond_the_fork_stays() {
    let mut world = World::web(&[2, 3]);
    let data = facts(DataRole::Owner, "1.1 1.2 1.3 2.4 2.5 2.6");
    let keep = Keep { keep_last: 1, keep_hourly: 0, keep_daily: 0 };
    let web = world.cluster.grains.get_mut(&WEB).unwrap();
    web.tenures.push(Tenure { epoch: Epoch(2), node: NodeId(1), base: Some(snapshot("1.3")) });
    // (where n3 stood when it fell silent, what may go)
    for (stands, expected) in [
        (None, vec![205, 204, 102, 101]),
        (Some("1.2"), vec![205, 204, 101]),
        (Some("2.4"), vec![205, 102, 101]),
        // It was sent this by the owner that was left behind, and sets it aside when it is back.
        (Some("1.5"), vec![205, 204]),
    ] {
        let mut world = world.clone();
        let away = stands.map(|stands| (NodeId(3), Some(snapshot(stands).guid)));
        world.cluster.grains.get_mut(&WEB).unwrap().away.extend(away);
        let goes = retain(&world.cluster, world.the(WEB), &data, &keep);
        assert_eq!(goes, expected.into_iter().map(Guid).collect::<Vec<_>>(), "{stands:?}");
    }
}
