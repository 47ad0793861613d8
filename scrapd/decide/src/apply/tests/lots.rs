//! Table tests of what a grain gets for itself alone, and of the networks and templates that it comes from.

use scrap_schema::command::{ApplyItem, AssignCause, Command, GrainText};
use scrap_schema::id::{Epoch, GrainId, NodeId, OperationId, TemplateId};
use scrap_schema::snapshot::Guid;
use scrap_schema::spec::{GrainNetwork, GrainSpec, NetworkSpec};
use scrap_schema::time::Timestamp;
use scrap_schema::unit::Bytes;
use serde_json::{Value, json};

use crate::cluster::IDS_FIRST;
use crate::fixture::{World, text};

const DEBIAN: TemplateId = TemplateId(7);

fn network(spec: Value) -> NetworkSpec {
    serde_json::from_value(spec).unwrap()
}

fn put(name: &str, spec: Value) -> Command {
    Command::PutNetwork { name: name.parse().unwrap(), if_index: None, network: network(spec) }
}

fn template(id: TemplateId, name: &str) -> Command {
    Command::AddTemplate {
        template: id,
        name: name.parse().unwrap(),
        guid: Guid(70),
        size: Bytes(1),
        arch: "x86_64".to_owned(),
        os: "linux".to_owned(),
        description: None,
        node: NodeId(1),
    }
}

fn system(name: &str, wish: Value) -> GrainText {
    let plain = text(name);
    let network: Option<GrainNetwork> = serde_json::from_value(wish).unwrap();
    let spec = GrainSpec { template: "debian-13".parse().unwrap(), network, ..plain.spec };
    GrainText { spec, ..plain }
}

fn create(id: u128, wish: Value) -> Command {
    let (grain, operation) = (GrainId(id), OperationId(id + 1000));
    Command::CreateGrain { grain, operation, text: system(&format!("g{id}"), wish) }
}

fn world(pools: Value) -> World {
    let mut world = World::nodes(3);
    world.done(put("grains", pools));
    world.done(template(DEBIAN, "debian-13"));
    world
}

fn v4(world: &World, id: u128) -> String {
    world.the(GrainId(id)).address.map_or_else(String::new, |address| address.to_string())
}

/// What a grain wishes for, and what a grain that wishes for nothing gets after it.
fn wishes(pools: Value, wish: Value, expected: &str) {
    let mut world = world(pools);
    let got = match world.try_apply(create(1, wish.clone())) {
        Ok(_) => {
            let grain = world.the(GrainId(1));
            grain.addresses().map(|address| address.to_string()).collect::<Vec<_>>().join(" ")
        }
        Err(refusal) => refusal.to_string(),
    };
    assert_eq!(got, expected, "{wish}");
}

#[test]
fn the_lowest_free_address_is_given() {
    let grains = json!({"name": "grains"});
    wishes(json!({"v4": "10.0.0.0/24"}), grains.clone(), "10.0.0.1");
    wishes(json!({"v4": "10.0.0.5-10.0.0.9"}), grains.clone(), "10.0.0.5");
    wishes(json!({"v4": "10.0.0.7"}), grains.clone(), "10.0.0.7");
    let excluded = json!({"v4": "10.0.0.0/24", "exclude": ["10.0.0.0/28", "10.0.0.16-10.0.0.20"]});
    wishes(excluded, grains.clone(), "10.0.0.21");
    wishes(json!({"v4": "10.0.0.0/24", "v6": "fd00::/64"}), grains.clone(), "10.0.0.1 fd00::1");
    wishes(json!({"v6": "fd00::10-fd00::20"}), grains, "fd00::10");
    wishes(json!({"v4": "10.0.0.0/24"}), Value::Null, "");
}

#[test]
fn a_wish_is_granted_or_refused_with_the_reason() {
    let pools = json!({"v4": "10.0.0.0/24", "exclude": ["10.0.0.9"]});
    let wish = |address: &str| json!({"name": "grains", "address": address});
    wishes(pools.clone(), wish("10.0.0.40"), "10.0.0.40");
    let refused = |why: &str| format!("network `grains` cannot give the address {why}");
    wishes(pools.clone(), wish("10.0.1.1"), &refused("10.0.1.1: it has 10.0.0.0/24"));
    let edge = "it is excluded, or the edge of the block";
    wishes(pools.clone(), wish("10.0.0.9"), &refused(&format!("10.0.0.9: {edge}")));
    wishes(pools.clone(), wish("10.0.0.0"), &refused(&format!("10.0.0.0: {edge}")));
    wishes(pools.clone(), wish("10.0.0.255"), &refused(&format!("10.0.0.255: {edge}")));
    let v6 = json!({"name": "grains", "address6": "fd00::1"});
    wishes(pools.clone(), v6, &refused("fd00::1: it has no addresses of that family"));
    wishes(pools, json!({"name": "lan"}), "there is no network `lan`");
}

#[test]
fn what_a_node_has_is_no_grains() {
    let mut world = world(json!({"v4": "10.0.0.0/24"}));
    let node = world.cluster.nodes.get_mut(&NodeId(2)).unwrap();
    node.addresses.api = "10.0.0.1:7272".parse().unwrap();
    let taken = json!({"name": "grains", "address": "10.0.0.1"});
    let refusal = world.refused(create(1, taken));
    let said = "network `grains` cannot give the address 10.0.0.1: a node has it";
    assert_eq!(refusal.to_string(), said);
    world.done(create(1, json!({"name": "grains"})));
    assert_eq!(v4(&world, 1), "10.0.0.2");
}

#[test]
fn nothing_is_given_twice_until_its_grain_is_purged() {
    let mut world = world(json!({"v4": "10.0.0.1-10.0.0.2"}));
    let grains = json!({"name": "grains"});
    world.done(create(1, grains.clone()));
    let taken = json!({"name": "grains", "address": "10.0.0.1"});
    let refusal = world.refused(create(2, taken));
    assert_eq!(refusal.to_string(), "the address 10.0.0.1 belongs to grain g1");
    world.done(create(2, grains.clone()));
    assert_eq!((v4(&world, 1), v4(&world, 2)), ("10.0.0.1".into(), "10.0.0.2".into()));
    let ids = |world: &World, id| world.the(GrainId(id)).ids;
    assert_eq!((ids(&world, 1), ids(&world, 2)), (Some(IDS_FIRST), Some(IDS_FIRST + 65_536)));
    let refusal = world.refused(create(3, grains.clone()));
    let words = "there is no free IPv4 address left in 10.0.0.1-10.0.0.2 of network `grains`";
    assert_eq!(refusal.to_string(), words);
    // In the trash it keeps what it has.
    let trash = |id| Command::TrashGrain { grain: id, if_index: None, keep_until: Timestamp(0) };
    world.done(trash(GrainId(1)));
    world.refused(create(3, grains.clone()));
    world.done(Command::PurgeGrain { grain: GrainId(1), if_index: None });
    world.done(create(3, grains));
    assert_eq!((v4(&world, 3), ids(&world, 3)), ("10.0.0.1".into(), Some(IDS_FIRST)));
}

#[test]
fn a_hardware_address_is_local_and_the_same_for_ever() {
    let mut world = world(json!({"v4": "10.0.0.0/24"}));
    world.done(create(1, json!({"name": "grains"})));
    world.done(create(2, json!({"name": "grains"})));
    let mac = |id| world.the(GrainId(id)).mac.unwrap();
    assert_eq!((mac(1)[0], mac(2)[0]), (2, 2));
    assert_ne!(mac(1), mac(2));
    assert_eq!(mac(1), [0x02, 0xaa, 0xcd, 0x7f, 0xe0, 0xb2], "a grain would change its address");
}

fn update(id: u128, wish: Value) -> Command {
    let text = system("any", wish);
    let (labels, annotations) = (text.labels, text.annotations);
    Command::UpdateGrain {
        grain: GrainId(id),
        if_index: None,
        labels,
        annotations,
        spec: text.spec,
    }
}

#[test]
fn a_running_grain_gives_no_address_up() {
    let mut world = world(json!({"v4": "10.0.0.0/24"}));
    world.done(create(1, json!({"name": "grains"})));
    let (grain, to, cause) = (GrainId(1), NodeId(1), AssignCause::Place);
    world.done(Command::AssignGrain { grain, epoch: Epoch(0), to, base: None, cause });
    let epoch = Epoch(1);
    world.done(Command::GrainBorn { grain, epoch });
    world.done(Command::GrainStarted { grain, epoch, at: world.now.wall, seen: None });
    let other = json!({"name": "grains", "address": "10.0.0.50"});
    let refusal = world.refused(update(1, other.clone()));
    assert!(refusal.to_string().contains("only by a stopped grain"), "{refusal}");
    // Without a network it keeps its address, and uses none.
    world.done(update(1, Value::Null));
    assert_eq!((v4(&world, 1), world.the(grain).attachment()), ("10.0.0.1".into(), None));
    world.done(update(1, json!({"name": "grains", "address": "10.0.0.1"})));
    let mut stopped = system("any", other);
    stopped.spec.running = false;
    let mut off = system("any", json!({"name": "grains"}));
    off.spec.running = false;
    let to = |text: GrainText| Command::UpdateGrain {
        grain,
        if_index: None,
        labels: text.labels,
        annotations: text.annotations,
        spec: text.spec,
    };
    world.done(to(off));
    world.done(Command::GrainStopped { grain, epoch, at: world.now.wall, seen: None });
    world.done(to(stopped));
    assert_eq!(v4(&world, 1), "10.0.0.50");
}

#[test]
fn the_template_of_a_grain_with_data_stays() {
    let mut world = world(json!({"v4": "10.0.0.0/24"}));
    world.done(template(TemplateId(8), "alpine"));
    let mut new = create(1, Value::Null);
    world.done(new.clone());
    let alpine = |world: &mut World| {
        let mut command = update(1, Value::Null);
        if let Command::UpdateGrain { spec, .. } = &mut command {
            spec.template = "alpine".parse().unwrap();
        }
        world.try_apply(command)
    };
    alpine(&mut world).unwrap();
    assert_eq!(world.the(GrainId(1)).template, Some(TemplateId(8)));
    world.done(update(1, Value::Null));
    let (grain, to, cause) = (GrainId(1), NodeId(1), AssignCause::Place);
    world.done(Command::AssignGrain { grain, epoch: Epoch(0), to, base: None, cause });
    let refusal = alpine(&mut world).unwrap_err().to_string();
    assert!(refusal.starts_with("grain g1 has begun from `debian-13`"), "{refusal}");
    if let Command::CreateGrain { grain, operation, text } = &mut new {
        (*grain, *operation) = (GrainId(2), OperationId(2));
        text.name = "other".parse().unwrap();
        text.spec.template = "gentoo".parse().unwrap();
    }
    assert_eq!(world.refused(new).to_string(), "there is no template `gentoo`");
}

#[test]
fn what_is_in_use_is_not_removed_and_says_by_whom() {
    let mut world = world(json!({"v4": "10.0.0.0/24"}));
    for id in 1..=10 {
        world.done(create(id, json!({"name": "grains"})));
    }
    let all =
        "grain g1, grain g2, grain g3, grain g4, grain g5, grain g6, grain g7, grain g8 and 2 more";
    let network = Command::DeleteNetwork { name: "grains".parse().unwrap(), if_index: None };
    let template = Command::RemoveTemplate { template: DEBIAN, if_index: None };
    let words = |world: &mut World, command: &Command| world.refused(command.clone()).to_string();
    let by = |what: &str| format!("{what} is still used by {all}");
    assert_eq!(words(&mut world, &network), by("network `grains`"));
    assert_eq!(words(&mut world, &template), by("template `debian-13`"));
    let smaller = put("grains", json!({"v4": "10.0.0.0/29"}));
    let words = words(&mut world, &smaller);
    assert_eq!(words, "network `grains` is still used by grain g7 with 10.0.0.7");
    for id in 1..=10 {
        let (grain, if_index) = (GrainId(id), None);
        world.done(Command::TrashGrain { grain, if_index, keep_until: Timestamp(0) });
        world.done(Command::PurgeGrain { grain, if_index });
    }
    world.done(network);
    world.done(template);
    assert!(world.cluster.removed_templates.contains(&DEBIAN));
}

#[test]
fn networks_share_no_addresses() {
    let mut world = world(json!({"v4": "10.0.0.0/24"}));
    let refusal = world.refused(put("lan", json!({"v4": "10.0.0.200-10.0.1.20"})));
    let words = "network `lan` would share addresses with network `grains`, which has 10.0.0.0/24";
    assert_eq!(refusal.to_string(), words);
    world.done(put("lan", json!({"v4": "10.0.1.0/24", "v6": "fd00::/64"})));
    world.refused(put("grains", json!({"v4": "10.0.0.0/24", "v6": "fd00::7"})));
    // A family that is added is given to who is there.
    world.done(create(1, json!({"name": "grains"})));
    world.done(put("grains", json!({"v4": "10.0.0.0/24", "v6": "fd01::/64"})));
    assert_eq!(world.the(GrainId(1)).address6, Some("fd01::1".parse().unwrap()));
}

#[test]
fn an_apply_makes_its_networks_first() {
    let mut world = World::nodes(1);
    world.done(template(DEBIAN, "debian-13"));
    let (name, network) = ("grains".parse().unwrap(), network(json!({"v4": "10.0.0.0/24"})));
    let text = system("web", json!({"name": "grains"}));
    let items = vec![
        ApplyItem::Grain { new_id: GrainId(1), operation: OperationId(1), text },
        ApplyItem::Network { name, network },
    ];
    let (prune, keep_until, unchanged_after) = (None, Timestamp(0), None);
    world.done(Command::Apply { items, prune, keep_until, unchanged_after });
    assert_eq!(v4(&world, 1), "10.0.0.1");
}

#[test]
fn templates_are_held_and_lost_by_members() {
    let mut world = world(json!({"v4": "10.0.0.0/24"}));
    let (template, node) = (DEBIAN, NodeId(2));
    world.done(Command::TemplateHeld { template, node });
    assert_eq!(world.cluster.templates[&DEBIAN].holders, [NodeId(1), node].into());
    world.done(Command::TemplateLost { template, node });
    let only = Command::RemoveNode { node: NodeId(1), if_index: None, leave_orphans: false };
    let refusal = world.refused(only).to_string();
    assert_eq!(
        refusal,
        "node `n1` is needed: it has the only reachable copy of template debian-13"
    );
    world.done(Command::TemplateHeld { template, node });
    world.done(Command::RemoveNode { node, if_index: None, leave_orphans: false });
    assert_eq!(world.cluster.templates[&DEBIAN].holders, [NodeId(1)].into());
}

#[test]
fn a_template_has_a_name_of_its_own_and_words_for_its_kind() {
    let mut world = world(json!({"v4": "10.0.0.0/24"}));
    let refused = |world: &mut World, change: &dyn Fn(&mut Command)| {
        let mut command = template(TemplateId(9), "alpine");
        change(&mut command);
        world.refused(command).to_string()
    };
    let named = |text: &'static str| {
        move |command: &mut Command| {
            if let Command::AddTemplate { name, .. } = command {
                *name = text.parse().unwrap();
            }
        }
    };
    let words = refused(&mut world, &named("debian-13"));
    assert_eq!(words, "there is a template `debian-13` already");
    let words = refused(&mut world, &named("process"));
    assert_eq!(words, "`process` means programs of the machine: choose another name");
    for wrong in ["", "x86 64", "x\n", "../x86"] {
        let words = refused(&mut world, &|command| {
            if let Command::AddTemplate { arch, .. } = command {
                wrong.clone_into(arch);
            }
        });
        assert!(words.starts_with("architecture and system"), "{wrong:?}: {words}");
    }
    let words = refused(&mut world, &|command| {
        if let Command::AddTemplate { description, .. } = command {
            *description = Some("two\nlines".to_owned());
        }
    });
    assert_eq!(words, "a description is one line of at most 1024 bytes");
}
