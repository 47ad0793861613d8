//! The log is kept for ever: what is written today must decode in every later version, to the same meaning.
//!
//! `golden/commands.v1.jsonl` holds the bytes of one proposal of every kind. Its lines are never changed. A new kind of command
//! gets new lines (`UPDATE_EXPECT=1` adds what is missing); a field that old lines lack gets a default.
#![expect(clippy::unwrap_used, reason = "these are helpers of tests")]

use std::collections::BTreeSet;

use scrap_schema::command::{
    ApplyItem, AssignCause, Command, GrainText, IdempotencyKey, NewNode, Proposal,
};
use scrap_schema::fence::{FenceProtocol, FenceSpec, OffBy};
use scrap_schema::id::{BootId, ClusterId, Epoch, GrainId, Name, NodeId, OperationId, TemplateId};
use scrap_schema::node::{Addresses, NodeFacts, NodeRole};
use scrap_schema::operation::{Loss, Need, Phase, Summary, Work};
use scrap_schema::snapshot::{Guid, Purpose, Snapshot, SnapshotName};
use scrap_schema::spec::{GrainSpec, Labels, NetworkSpec, NodeSpec, Policy};
use scrap_schema::time::Timestamp;
use scrap_schema::timing::Timing;
use scrap_schema::unit::{Bytes, MilliCpu, Span};

/// Every kind of command and the word for it in the log. A new one does not compile until it is here, and fails until it has a line.
macro_rules! kinds {
    ($($kind:ident $word:literal)*) => {
        const KINDS: &[&str] = &[$($word),*];
        fn word(command: &Command) -> &'static str {
            match command { $(Command::$kind { .. } => $word),* }
        }
    };
}

kinds! {
    FormCluster "form-cluster"
    AddNode "add-node"
    RegisterNode "register-node"
    SuspectNode "suspect-node"
    TickNode "tick-node"
    FenceNode "fence-node"
    LeaveNode "leave-node"
    AlarmNode "alarm-node"
    SetCordon "set-cordon"
    UpdateNode "update-node"
    UndrainNode "undrain-node"
    RemoveNode "remove-node"
    ConfirmNodeOff "confirm-node-off"
    AwaitNode "await-node"
    Disarm "disarm"
    Arm "arm"
    RecoverCluster "recover-cluster"
    PutPolicy "put-policy"
    DeletePolicy "delete-policy"
    CreateGrain "create-grain"
    UpdateGrain "update-grain"
    TrashGrain "trash-grain"
    UndeleteGrain "undelete-grain"
    PurgeGrain "purge-grain"
    Apply "apply"
    StartOperation "start-operation"
    CancelOperation "cancel-operation"
    EnterPhase "enter-phase"
    FinishOperation "finish-operation"
    OperationNeeds "operation-needs"
    AssignGrain "assign-grain"
    UnarmGrain "unarm-grain"
    SetStandbys "set-standbys"
    RememberCopy "remember-copy"
    BeginMigration "begin-migration"
    QuiesceGrain "quiesce-grain"
    AbortMigration "abort-migration"
    EndMigration "end-migration"
    TurnBack "turn-back"
    GrainArmed "grain-armed"
    GrainBorn "grain-born"
    GrainStarted "grain-started"
    GrainStopped "grain-stopped"
    GrainReleased "grain-released"
    SnapshotTaken "snapshot-taken"
    GrainRestored "grain-restored"
    OrphanKept "orphan-kept"
    OperationStuck "operation-stuck"
    GrainHealth "grain-health"
    GrainDeclined "grain-declined"
    OrphanGone "orphan-gone"
    PutNetwork "put-network"
    DeleteNetwork "delete-network"
    AddTemplate "add-template"
    TemplateHeld "template-held"
    TemplateLost "template-lost"
    RemoveTemplate "remove-template"
    AttestNode "attest-node"
}

const GRAIN: GrainId = GrainId(0x0190_1234_5678_9abc_def0_1234_5678_9abc);
const OTHER: GrainId = GrainId(2);
const OPERATION: OperationId = OperationId(0x0190_0000_0000_0000_0000_0000_0000_0001);
const NODE: NodeId = NodeId(2);
const BOOT: BootId = BootId(0xb007);
const EPOCH: Epoch = Epoch(3);
const AT: Timestamp = Timestamp(1_795_219_200_123);

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn labels() -> Labels {
    [("zone".to_owned(), "cellar".to_owned())].into()
}

fn snapshot(purpose: Purpose) -> Snapshot {
    let name = SnapshotName { epoch: EPOCH, seq: 7, purpose };
    Snapshot { name, guid: Guid(0xabc), created: AT }
}

fn new_node() -> NewNode {
    let facts = NodeFacts {
        cpu: MilliCpu(4000),
        memory: Bytes(8 << 30),
        disk: Bytes(100 << 30),
        arch: "x86_64".to_owned(),
        os: "linux".to_owned(),
        version: "0.1.0".to_owned(),
        ..NodeFacts::default()
    };
    let addresses = Addresses { api: "10.0.0.2:7272".to_owned(), peer: "10.0.0.2:7273".to_owned() };
    NewNode { name: name("n2"), role: NodeRole::Storage, labels: labels(), addresses, facts }
}

fn spec() -> GrainSpec {
    serde_json::from_value(serde_json::json!({
        "command": ["/bin/web", "--port", "80"],
        "env": {"LANG": "C"},
        "resources": {"cpu": "0.5", "memory": "128MiB", "disk": "2GiB"},
        "health": {"http": {"port": 80, "path": "/ok"}, "every": "5s", "grace": "1m"},
        "protect": "gold",
        "place": {"require": {"zone": "cellar"}, "prefer": "n2", "apartFrom": [{"app": "db"}]},
        "stop": {"timeout": "20s"},
        "running": false
    }))
    .unwrap()
}

fn text() -> GrainText {
    let annotations = [("why".to_owned(), "because".to_owned())].into();
    GrainText { name: name("web"), labels: labels(), annotations, spec: spec() }
}

fn loss() -> Loss {
    let until = AT + Span::from_secs(9);
    Loss { from: AT, until, window_ms: 9_000, heard: Some(AT), last_known_bytes: Some(Bytes(4096)) }
}

fn of_nodes() -> Vec<Command> {
    let NewNode { addresses, facts, .. } = new_node();
    vec![
        Command::FormCluster {
            cluster: ClusterId(77),
            name: name("home"),
            timing: Timing::default(),
            node: new_node(),
        },
        Command::AddNode { node: new_node() },
        register(addresses, facts),
        Command::SuspectNode { node: NODE, boot: BOOT, last_heard: AT },
        Command::TickNode { node: NODE, boot: BOOT, tick: 4 },
        Command::FenceNode { node: NODE, boot: BOOT },
        Command::LeaveNode { node: NODE, boot: BOOT },
        Command::SetCordon { node: NODE, cordoned: true },
        Command::UpdateNode {
            node: NODE,
            if_index: Some(9),
            labels: labels(),
            spec: NodeSpec { cordoned: true, fence: None },
        },
        Command::UndrainNode { node: NODE },
        Command::RemoveNode { node: NODE, if_index: Some(7), leave_orphans: false },
    ]
}

fn of_people() -> Vec<Command> {
    let policy = Policy::standard();
    let items = vec![
        ApplyItem::Grain { new_id: GRAIN, operation: OPERATION, text: text() },
        ApplyItem::Policy { name: name("gold"), policy: policy.clone() },
        ApplyItem::Node {
            name: name("n2"),
            labels: labels(),
            spec: NodeSpec { cordoned: false, fence: None },
        },
    ];
    vec![
        Command::PutPolicy { name: name("gold"), if_index: None, policy },
        Command::DeletePolicy { name: name("gold"), if_index: Some(3) },
        Command::CreateGrain { grain: GRAIN, operation: OPERATION, text: text() },
        Command::UpdateGrain {
            grain: GRAIN,
            if_index: Some(1),
            labels: labels(),
            annotations: Labels::new(),
            spec: spec(),
        },
        Command::TrashGrain { grain: GRAIN, if_index: None, keep_until: AT },
        Command::UndeleteGrain { grain: GRAIN },
        Command::PurgeGrain { grain: GRAIN, if_index: Some(7) },
        Command::Apply { items, prune: Some(labels()), keep_until: AT, unchanged_after: Some(7) },
    ]
}

fn of_operations() -> Vec<Command> {
    let start = |work| Command::StartOperation { operation: OPERATION, work, text: None };
    let summary = Summary {
        message: "moved".to_owned(),
        downtime_ms: Some(812),
        loss: Some(loss()),
        hint: Some("nothing to do".to_owned()),
    };
    let clone = Work::Clone { from: GRAIN, snapshot: Some(Guid(1)), grain: OTHER };
    let failover = Work::Failover {
        grain: GRAIN,
        to: Some(NODE),
        accept_loss: Some(Span::from_secs(60)),
        owner_is_off: true,
    };
    vec![
        start(Work::Create { grain: GRAIN }),
        start(Work::Start { grain: GRAIN }),
        start(Work::Stop { grain: GRAIN }),
        start(Work::Restart { grain: GRAIN }),
        start(Work::Migrate { grain: GRAIN, to: None }),
        start(failover),
        start(Work::Drain { node: NODE }),
        start(Work::Snapshot { grain: GRAIN, name: name("before") }),
        start(Work::Restore { grain: GRAIN, snapshot: Guid(5) }),
        Command::StartOperation { operation: OPERATION, work: clone, text: Some(text()) },
        Command::CancelOperation { operation: OPERATION },
        Command::EnterPhase { operation: OPERATION, phase: Phase::Warm },
        Command::FinishOperation { operation: OPERATION, failed: true, cancelled: false, summary },
        Command::OperationStuck {
            grain: GRAIN,
            operation: OPERATION,
            node: NODE,
            why: "disk full".to_owned(),
        },
    ]
}

fn of_owners() -> Vec<Command> {
    let assign =
        |base, cause| Command::AssignGrain { grain: GRAIN, epoch: EPOCH, to: NODE, base, cause };
    let last = snapshot(Purpose::Final(OPERATION));
    let remember = |snapshot| Command::RememberCopy {
        grain: GRAIN,
        epoch: EPOCH,
        node: NODE,
        snapshot,
        silent: false,
    };
    vec![
        assign(None, AssignCause::Place),
        assign(Some(last), AssignCause::Migrate { operation: OPERATION }),
        assign(Some(snapshot(Purpose::Replication)), AssignCause::Failover { loss: Some(loss()) }),
        Command::SetStandbys { grain: GRAIN, epoch: EPOCH, standbys: [NODE, NodeId(3)].into() },
        remember(Some(Guid(7))),
        remember(None),
        Command::BeginMigration { grain: GRAIN, epoch: EPOCH, operation: OPERATION, to: NODE },
        Command::QuiesceGrain { grain: GRAIN, epoch: EPOCH, operation: OPERATION },
        Command::AbortMigration {
            grain: GRAIN,
            epoch: EPOCH,
            operation: OPERATION,
            why: "the target has no room".to_owned(),
        },
        Command::EndMigration { grain: GRAIN, epoch: EPOCH, operation: OPERATION },
        Command::TurnBack { grain: GRAIN, epoch: EPOCH, operation: OPERATION },
    ]
}

fn of_facts() -> Vec<Command> {
    vec![
        Command::GrainBorn { grain: GRAIN, epoch: EPOCH },
        Command::GrainArmed { grain: GRAIN, epoch: EPOCH, seen: None },
        Command::GrainStarted { grain: GRAIN, epoch: EPOCH, at: AT, seen: None },
        Command::GrainStopped { grain: GRAIN, epoch: EPOCH, at: AT, seen: None },
        Command::GrainReleased {
            grain: GRAIN,
            epoch: EPOCH,
            operation: OPERATION,
            last: snapshot(Purpose::Final(OPERATION)),
            stopping: AT,
            quiesced: 17,
        },
        Command::SnapshotTaken {
            grain: GRAIN,
            epoch: EPOCH,
            operation: OPERATION,
            snapshot: snapshot(Purpose::User(name("before"))),
        },
        Command::GrainRestored {
            grain: GRAIN,
            epoch: EPOCH,
            operation: OPERATION,
            before: snapshot(Purpose::Replication),
        },
        Command::OrphanKept {
            grain: GRAIN,
            orphan_epoch: Epoch(2),
            node: NODE,
            base: Some(Guid(1)),
            head: snapshot(Purpose::Orphan),
            newer: Bytes(10),
            used: Bytes(20),
            seen: None,
        },
        // Newer than the others: the golden file only grows at its end.
        Command::RemoveNode { node: NODE, if_index: None, leave_orphans: true },
    ]
}

fn register(addresses: Addresses, facts: NodeFacts) -> Command {
    Command::RegisterNode {
        node: NODE,
        boot: BOOT,
        addresses,
        facts,
        seal: None,
        again: false,
        seen: None,
    }
}

/// Networks, templates, and what a grain is that begins from one. Newer than the others: the golden file only grows at its end.
fn of_systems() -> Vec<Command> {
    let (template, network_name) =
        (TemplateId(0x0190_0000_0000_0000_0000_0000_0000_0007), name("grains"));
    let network: NetworkSpec = serde_json::from_value(serde_json::json!({
        "v4": "192.168.60.0/24", "v6": "fd00:60::10-fd00:60::ff", "exclude": ["192.168.60.1"]
    }))
    .unwrap();
    let spec: GrainSpec = serde_json::from_value(serde_json::json!({
        "template": "debian-13",
        "resources": {"pids": 512, "reserve": "1GiB", "recordSize": "16KiB"},
        "network": {"name": "grains", "address": "192.168.60.40", "address6": "fd00:60::40"},
        "ingress": [{"port": 443}, {"ports": "8000-8010", "protocol": "udp", "from": "10.0.0.0/8"}],
        "egress": [{"to": "internet"}, {"to": "192.168.1.7", "port": 5432, "protocol": "tcp"}],
        "health": {"exec": {"command": ["/bin/true"]}, "checks": [{"tcp": {"port": 443}}], "timeout": "2s"}
    }))
    .unwrap();
    let facts: NodeFacts = serde_json::from_value(serde_json::json!({
        "cpu": 4, "memory": "8GiB", "disk": "100GiB", "arch": "x86_64", "os": "linux", "version": "0.2.0",
        "runtimes": ["process", "lxc"], "network": "eth0"
    }))
    .unwrap();
    let addresses = new_node().addresses;
    let text = GrainText { spec, ..text() };
    let items = vec![ApplyItem::Network { name: name("grains"), network: network.clone() }];
    vec![
        register(addresses, facts),
        Command::CreateGrain { grain: GRAIN, operation: OPERATION, text },
        Command::Apply { items, prune: None, keep_until: AT, unchanged_after: None },
        Command::PutNetwork { name: network_name.clone(), if_index: Some(1), network },
        Command::DeleteNetwork { name: network_name, if_index: None },
        Command::AddTemplate {
            template,
            name: name("debian-13"),
            guid: Guid(0x7e),
            size: Bytes(400 << 20),
            arch: "x86_64".to_owned(),
            os: "linux".to_owned(),
            description: Some("as small as it gets".to_owned()),
            node: NODE,
        },
        Command::TemplateHeld { template, node: NodeId(3) },
        Command::TemplateLost { template, node: NODE },
        Command::RemoveTemplate { template, if_index: Some(7) },
        Command::GrainHealth {
            grain: GRAIN,
            epoch: EPOCH,
            ailment: Some("port 443 is closed".to_owned()),
            seen: None,
        },
        Command::GrainHealth { grain: GRAIN, epoch: EPOCH, ailment: None, seen: None },
        Command::AlarmNode {
            node: NODE,
            boot: BOOT,
            what: "a table is gone".to_owned(),
            well: false,
        },
        Command::GrainDeclined { grain: GRAIN, epoch: EPOCH, sure: false },
        Command::RememberCopy {
            grain: GRAIN,
            epoch: EPOCH,
            node: NODE,
            snapshot: None,
            silent: true,
        },
        Command::GrainDeclined { grain: GRAIN, epoch: EPOCH, sure: true },
    ]
}

/// Of the power of nodes, and of what fails over by itself.
fn of_power() -> Vec<Command> {
    vec![
        Command::ConfirmNodeOff {
            node: NODE,
            boot: BOOT,
            until: AT,
            by: OffBy::Person { by: "kim@desk".to_owned() },
        },
        Command::ConfirmNodeOff {
            node: NODE,
            boot: BOOT,
            until: AT,
            by: OffBy::Agent { program: "fence_ipmilan".parse().unwrap(), from: name("ada") },
        },
        Command::UpdateNode {
            node: NODE,
            if_index: None,
            labels: labels(),
            spec: NodeSpec {
                cordoned: false,
                fence: Some(FenceSpec {
                    program: "fence_ipmilan".parse().unwrap(),
                    protocol: FenceProtocol::Agent,
                    timeout: Span::from_secs(20),
                }),
            },
        },
        Command::AwaitNode { node: NODE, boot: BOOT },
        Command::Disarm { node: None, until: Some(AT), by: "kim".to_owned() },
        Command::Disarm { node: Some(NODE), until: None, by: "kim".to_owned() },
        Command::Arm { node: None, by: None },
        Command::Arm { node: Some(NODE), by: Some("kim".to_owned()) },
        Command::UnarmGrain { grain: GRAIN, epoch: EPOCH },
        Command::AttestNode { node: NODE, boot: BOOT },
        Command::RecoverCluster { generation: 1, node: NODE },
    ]
}

fn of_orphans() -> Vec<Command> {
    let (of, epoch, node) = (GRAIN, EPOCH, NODE);
    let begin = |work| Command::StartOperation { operation: OPERATION, work, text: None };
    let head = Snapshot {
        name: SnapshotName { epoch: EPOCH, seq: 9, purpose: Purpose::Orphan },
        guid: Guid(9),
        created: AT,
    };
    vec![
        begin(Work::Fork { grain: OTHER, of, epoch, node }),
        begin(Work::Promote { grain: of, epoch, node }),
        begin(Work::Discard { of, epoch, node, by: Some("ada@home".to_owned()) }),
        begin(Work::Discard { of, epoch, node, by: None }),
        Command::AssignGrain {
            grain: GRAIN,
            epoch: EPOCH,
            to: NODE,
            base: Some(head),
            cause: AssignCause::Promote { operation: OPERATION },
        },
        Command::OrphanGone { grain: of, orphan_epoch: epoch, node, head_again: true, seen: None },
        Command::OrphanGone { grain: of, orphan_epoch: epoch, node, head_again: false, seen: None },
        Command::OperationNeeds {
            operation: OPERATION,
            phase: Phase::Warm,
            need: Need {
                kind: "no-place".to_owned(),
                what: "no node can take it".to_owned(),
                look: "scrapctl place web".to_owned(),
                cancel: None,
            },
        },
    ]
}

/// Reports that say what their node had applied when it looked.
fn of_reports() -> Vec<Command> {
    let (grain, epoch, at, seen) = (GRAIN, EPOCH, AT, Some(41));
    let NewNode { addresses, facts, .. } = new_node();
    let seal = Some("5ea1".to_owned());
    vec![
        Command::GrainArmed { grain, epoch, seen },
        Command::GrainStarted { grain, epoch, at, seen },
        Command::GrainStopped { grain, epoch, at, seen },
        Command::GrainHealth { grain, epoch, ailment: None, seen },
        Command::OrphanGone { grain, orphan_epoch: epoch, node: NODE, head_again: false, seen },
        Command::OrphanKept {
            grain,
            orphan_epoch: epoch,
            node: NODE,
            base: None,
            head: snapshot(Purpose::Orphan),
            newer: Bytes(10),
            used: Bytes(20),
            seen,
        },
        Command::RegisterNode { node: NODE, boot: BOOT, addresses, facts, seal, again: true, seen },
    ]
}

fn samples() -> Vec<Proposal> {
    let key = IdempotencyKey { key: "k".to_owned(), fingerprint: "f00".to_owned() };
    let power = of_power();
    let all = [of_nodes(), of_people(), of_operations(), of_owners(), of_facts(), of_systems()];
    [all.concat(), power, of_orphans(), of_reports()]
        .concat()
        .into_iter()
        .enumerate()
        .map(|(at, command)| Proposal { at: AT, key: (at % 2 == 0).then(|| key.clone()), command })
        .collect()
}

fn golden() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/commands.v1.jsonl")
}

fn lines() -> Vec<String> {
    let text = std::fs::read_to_string(golden()).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn old_bytes_decode_and_keep_their_meaning() {
    let mut seen = BTreeSet::new();
    for line in lines() {
        let proposal: Proposal = serde_json::from_str(&line).unwrap_or_else(|error| {
            panic!("an entry of an older version does not decode any more: {error}\n{line}")
        });
        let again = serde_json::to_string(&proposal).unwrap();
        assert_eq!(serde_json::from_str::<Proposal>(&again).unwrap(), proposal);
        seen.insert(word(&proposal.command));
    }
    let missing: Vec<_> = KINDS.iter().filter(|kind| !seen.contains(*kind)).collect();
    assert!(missing.is_empty(), "no line for {missing:?}");
}

#[test]
fn what_is_written_today_is_in_the_file() {
    let known = lines();
    let mut all = known.clone();
    for sample in samples() {
        let line = serde_json::to_string(&sample).unwrap();
        if !all.contains(&line) {
            all.push(line);
        }
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(golden(), all.join("\n") + "\n").unwrap();
        return;
    }
    let new: Vec<_> = all.iter().filter(|line| !known.contains(line)).collect();
    assert!(new.is_empty(), "not in the file (UPDATE_EXPECT=1 adds them): {new:#?}");
}
