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

fn orphan_key(id: &str) -> Option<OrphanKey> {
    let mut parts = id.splitn(3, '.');
    let grain = parts.next()?.parse().ok()?;
    let epoch = Epoch(parts.next()?.parse().ok()?);
    let node = NodeId(parts.next()?.parse().ok()?);
    Some(OrphanKey { grain, epoch, node })
}
