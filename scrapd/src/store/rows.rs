//! Objects of the replicated state as rows and back: which kind and id a key has, and what its body is.
//!
//! Bodies are JSON of the object alone and always the same bytes for the same object: the hash of the state depends on it.

use scrap_decide::cluster::{Cluster, Key, OrphanKey};
use scrap_schema::event::Event;
use scrap_schema::id::{Epoch, NodeId};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Kind and id of a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RowName {
    /// What kind of object.
    pub(crate) kind: &'static str,
    /// Which.
    pub(crate) id: String,
}

/// The row of an object.
pub(crate) fn name_of(key: &Key) -> RowName {
    let (kind, id) = match key {
        Key::Identity => ("identity", String::new()),
        Key::Node(node) => ("node", node.to_string()),
        Key::Policy(name) => ("policy", name.to_string()),
        Key::Network(name) => ("network", name.to_string()),
        Key::Template(template) => ("template", template.to_string()),
        Key::RemovedTemplate(template) => ("removed-template", template.to_string()),
        Key::Grain(grain) => ("grain", grain.to_string()),
        Key::Purged(grain) => ("purged", grain.to_string()),
        Key::Operation(operation) => ("operation", operation.to_string()),
        Key::Orphan(OrphanKey { grain, epoch, node }) => {
            ("orphan", format!("{grain}.{epoch}.{node}"))
        }
        Key::Answer(key) => ("answer", key.clone()),
        Key::Event(index, place) => ("event", format!("{index}.{place}")),
    };
    RowName { kind, id }
}

/// The body of an object; `None` if there is no such object (any more).
///
/// # Errors
/// If it has no JSON form, which would be a fault of its type.
pub(crate) fn body_of(cluster: &Cluster, key: &Key) -> Result<Option<Vec<u8>>, serde_json::Error> {
    fn body<T: Serialize>(object: Option<&T>) -> Result<Option<Vec<u8>>, serde_json::Error> {
        object.map(serde_json::to_vec).transpose()
    }
    match key {
        Key::Identity => body(cluster.identity.as_ref()),
        Key::Node(node) => body(cluster.nodes.get(node)),
        Key::Policy(name) => body(cluster.policies.get(name)),
        Key::Network(name) => body(cluster.networks.get(name)),
        Key::Template(template) => body(cluster.templates.get(template)),
        Key::RemovedTemplate(template) => body(cluster.removed_templates.get(template)),
        Key::Grain(grain) => body(cluster.grains.get(grain)),
        Key::Purged(grain) => body(cluster.purged.get(grain)),
        Key::Operation(operation) => body(cluster.operations.get(operation)),
        Key::Orphan(orphan) => body(cluster.orphans.get(orphan)),
        Key::Answer(key) => body(cluster.answers.get(key)),
        Key::Event(index, place) => body(cluster.events.get(&(*index, *place))),
    }
}

/// Puts the object of a row into the state. The state must be derived anew afterwards.
///
/// # Errors
/// What is wrong with the row.
pub(crate) fn put_row(
    cluster: &mut Cluster,
    kind: &str,
    id: &str,
    body: &[u8],
) -> Result<Key, String> {
    let bad = |what: &dyn std::fmt::Display| format!("row `{kind}` `{id}`: {what}");
    fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
        serde_json::from_slice(body)
    }
    let key = match kind {
        "identity" => {
            cluster.identity = Some(read(body).map_err(|error| bad(&error))?);
            Key::Identity
        }
        "node" => {
            let node = NodeId(id.parse().map_err(|error| bad(&error))?);
            cluster.nodes.insert(node, read(body).map_err(|error| bad(&error))?);
            Key::Node(node)
        }
        "policy" => {
            let name: scrap_schema::id::Name = id.parse().map_err(|error| bad(&error))?;
            cluster.policies.insert(name.clone(), read(body).map_err(|error| bad(&error))?);
            Key::Policy(name)
        }
        "network" | "template" | "removed-template" => {
            put_system_row(cluster, kind, id, body).map_err(|error| bad(&error))?
        }
        "grain" => {
            let grain = id.parse().map_err(|error| bad(&error))?;
            cluster.grains.insert(grain, read(body).map_err(|error| bad(&error))?);
            Key::Grain(grain)
        }
        "purged" => {
            let grain = id.parse().map_err(|error| bad(&error))?;
            cluster.purged.insert(grain);
            Key::Purged(grain)
        }
        "operation" => {
            let operation = id.parse().map_err(|error| bad(&error))?;
            cluster.operations.insert(operation, read(body).map_err(|error| bad(&error))?);
            Key::Operation(operation)
        }
        "orphan" => {
            let orphan = orphan_key(id).ok_or_else(|| bad(&"it is no orphan's id"))?;
            cluster.orphans.insert(orphan, read(body).map_err(|error| bad(&error))?);
            Key::Orphan(orphan)
        }
        "answer" => {
            cluster.answers.insert(id.to_owned(), read(body).map_err(|error| bad(&error))?);
            Key::Answer(id.to_owned())
        }
        "event" => {
            let event: Event = read(body).map_err(|error| bad(&error))?;
            let key = (event.index, event.place);
            cluster.events.insert(key, event);
            Key::Event(key.0, key.1)
        }
        _ => return Err(bad(&"this version of scrapd does not know the kind")),
    };
    if name_of(&key).id == id { Ok(key) } else { Err(bad(&"the id is not in its usual form")) }
}

/// What grains that are whole systems need: networks and templates.
fn put_system_row(
    cluster: &mut Cluster,
    kind: &str,
    id: &str,
    body: &[u8],
) -> Result<Key, Box<dyn std::error::Error>> {
    Ok(match kind {
        "network" => {
            let name: scrap_schema::id::Name = id.parse()?;
            cluster.networks.insert(name.clone(), serde_json::from_slice(body)?);
            Key::Network(name)
        }
        "template" => {
            let template = id.parse()?;
            cluster.templates.insert(template, serde_json::from_slice(body)?);
            Key::Template(template)
        }
        _ => {
            let template = id.parse()?;
            cluster.removed_templates.insert(template);
            Key::RemovedTemplate(template)
        }
    })
}

fn orphan_key(id: &str) -> Option<OrphanKey> {
    let mut parts = id.splitn(3, '.');
    let grain = parts.next()?.parse().ok()?;
    let epoch = Epoch(parts.next()?.parse().ok()?);
    let node = NodeId(parts.next()?.parse().ok()?);
    Some(OrphanKey { grain, epoch, node })
}

#[cfg(test)]
mod tests {
    use scrap_decide::apply::apply;
    use scrap_decide::cluster::Orphan;
    use scrap_schema::command::{Command, GrainText, IdempotencyKey, Proposal};
    use scrap_schema::id::{GrainId, OperationId, TemplateId};
    use scrap_schema::snapshot::{Guid, Purpose, Snapshot, SnapshotName};
    use scrap_schema::spec::{Labels, Policy};
    use scrap_schema::time::Timestamp;
    use scrap_schema::unit::Bytes;

    use super::*;

    const GRAIN: GrainId = GrainId(7);

    /// A state with objects of every kind.
    fn everything() -> Cluster {
        let mut cluster = Cluster::default();
        let form = serde_json::json!({"do": "form-cluster", "cluster": "00000000000000000000000001",
            "name": "home", "timing": {"renew": "1s", "suspect": "3s", "stop": "6s", "lease": "9s",
            "kill": "4s", "tick": "2s", "ticks": 8}, "node": {"name": "n1", "role": "data",
            "labels": {}, "addresses": {"api": "a:1", "peer": "a:2"}, "facts": {"cpu": "4",
            "memory": "8GiB", "disk": "8GiB", "arch": "x86_64", "os": "linux", "templates": [],
            "version": "0"}}});
        let text = GrainText {
            name: "web".parse().unwrap(),
            labels: Labels::new(),
            annotations: Labels::new(),
            spec: serde_json::from_str("{}").unwrap(),
        };
        let policy = Policy::standard();
        let commands = [
            serde_json::from_value(form).unwrap(),
            Command::CreateGrain { grain: GRAIN, operation: OperationId(8), text },
            Command::PutPolicy { name: "gold".parse().unwrap(), if_index: None, policy },
            Command::PutNetwork {
                name: "grains".parse().unwrap(),
                if_index: None,
                network: serde_json::from_str(r#"{"v4": "10.0.0.0/24"}"#).unwrap(),
            },
            Command::AddTemplate {
                template: TemplateId(5),
                name: "debian-13".parse().unwrap(),
                guid: Guid(6),
                size: Bytes(7),
                arch: "x86_64".to_owned(),
                os: "linux".to_owned(),
                description: None,
                node: NodeId(1),
            },
        ];
        for (index, command) in commands.into_iter().enumerate() {
            // An id may be any text, also one with the separators of other ids.
            let key = IdempotencyKey { key: format!("a.b/{index}"), fingerprint: "f".to_owned() };
            let proposal = Proposal { at: Timestamp(1_000), key: Some(key), command };
            apply(&mut cluster, index as u64 + 1, &proposal).outcome.unwrap();
        }
        cluster.purged.insert(GrainId(9));
        cluster.removed_templates.insert(TemplateId(10));
        let name = SnapshotName { epoch: Epoch(1), seq: 2, purpose: Purpose::Orphan };
        let head = Snapshot { name, guid: Guid(3), created: Timestamp(5) };
        let key = OrphanKey { grain: GRAIN, epoch: Epoch(1), node: NodeId(1) };
        let (newer, used) = (Bytes(1), Bytes(2));
        let orphan = Orphan {
            key,
            head,
            base: None,
            newer,
            used,
            kept: Timestamp(6),
            left_on: None,
            discard: None,
        };
        cluster.orphans.insert(key, orphan);
        cluster
    }

    #[test]
    fn every_object_comes_back_from_its_row_with_the_same_bytes() {
        let cluster = everything();
        let mut kinds = std::collections::BTreeSet::new();
        let mut back = Cluster::default();
        back.index = cluster.index;
        for key in cluster.keys() {
            let name = name_of(&key);
            let body = body_of(&cluster, &key).unwrap().unwrap();
            assert_eq!(put_row(&mut back, name.kind, &name.id, &body).unwrap(), key);
            assert_eq!(body_of(&back, &key).unwrap().unwrap(), body, "{key:?}");
            kinds.insert(name.kind);
        }
        back.derive();
        assert_eq!(back, cluster);
        assert_eq!(kinds.len(), 12, "{kinds:?}");
    }

    #[test]
    fn a_row_that_is_gone_has_no_body() {
        assert_eq!(body_of(&Cluster::default(), &Key::Grain(GRAIN)).unwrap(), None);
    }

    #[test]
    fn rows_that_nobody_wrote_are_refused() {
        for (kind, id, body) in [
            ("spaceship", "1", "{}"),
            ("node", "one", "{}"),
            ("node", "1", "{}"),
            ("purged", "0000000000000000000000000!", "null"),
            ("orphan", "1.2", "{}"),
            ("event", "1.0", r#"{"index":2}"#),
        ] {
            let mut cluster = Cluster::default();
            assert!(put_row(&mut cluster, kind, id, body.as_bytes()).is_err(), "{kind} {id}");
        }
    }
}
