//! The cluster was begun anew, and a machine that was left behind is another node now, with the data that it had.

use scrap_schema::command::Command;
use scrap_schema::id::NodeId;
use scrap_schema::node::NodeRole;
use scrap_schema::unit::Bytes;

use super::{Dirty, head, host, orders, standby};
use crate::fixture::{WEB, World};
use crate::obey::DataFacts;

/// `web` was on n2 with a copy on n1, which has begun anew; n4 is the machine that n2 was.
fn anew() -> World {
    let mut world = World::nodes(3);
    world.grain(WEB, "web", 2, &[1]);
    world.done(Command::RecoverCluster { generation: 1, node: NodeId(1) });
    world.join(4, NodeRole::Data);
    world
}

fn at(world: &World, data: DataFacts) -> Vec<String> {
    let mut host = host(world, 1_000);
    host.data.insert(WEB, data);
    orders(world, 4, &host)
}

#[test]
fn the_head_of_an_owner_that_was_left_behind_becomes_a_copy_with_all_that_is_in_it() {
    let world = anew();
    let looked = |snapshots, bytes| {
        let dirty = Some(Dirty { bytes: Bytes(bytes), at: world.now.wall, probed: world.now.boot });
        at(&world, DataFacts { dirty, ..head(snapshots, 1) })
    };
    assert_eq!(at(&world, head("1.1 1.2", 1)), ["look for writes in web"]);
    assert_eq!(looked("1.1 1.2", 0), ["make web a copy"]);
    for (snapshots, bytes) in [("1.1 1.2", 9), ("", 9), ("", 0)] {
        let orders = looked(snapshots, bytes);
        assert!(orders.len() == 1 && orders[0].starts_with("snapshot web"), "{orders:?}");
    }
}

#[test]
fn no_copy_is_surplus_while_the_owner_was_left_behind() {
    let epoch = anew().the(WEB).epoch.0;
    assert_eq!(at(&anew(), standby("1.1 1.2", epoch)), [""; 0]);
}
