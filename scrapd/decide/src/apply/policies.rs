//! Commands about policies.

use scrap_schema::event::{Severity, Topic};
use scrap_schema::id::Name;
use scrap_schema::spec::Policy;

use super::{About, Change, unchanged_since};
use crate::cluster::{Key, Outcome, PolicyState};
use crate::refusal::Refusal;

pub(super) fn put(
    change: &mut Change<'_>,
    name: &Name,
    if_index: Option<u64>,
    policy: &Policy,
) -> Result<Outcome, Refusal> {
    let before = change.cluster.policies.get(name);
    if let Some(before) = before {
        unchanged_since("policy", name, before.modified, if_index)?;
        if before.policy == *policy {
            return Ok(Outcome::Unchanged);
        }
    }
    let others = before.is_some();
    let word = if before.is_some() { "changed" } else { "made" };
    let state = PolicyState { policy: policy.clone(), modified: change.index };
    change.cluster.policies.insert(name.clone(), state);
    change.touch(Key::Policy(name.clone()));
    if others {
        change.other_leases();
    }
    let message = format!("policy {name} was {word}");
    change.tell(Topic::Policy, Severity::Info, About::default(), message);
    Ok(Outcome::Done)
}

pub(super) fn delete(
    change: &mut Change<'_>,
    name: &Name,
    if_index: Option<u64>,
) -> Result<Outcome, Refusal> {
    let missing = || Refusal::NotFound { what: "policy".to_owned(), name: name.to_string() };
    let state = change.cluster.policies.get(name).ok_or_else(missing)?;
    unchanged_since("policy", name, state.modified, if_index)?;
    if *name == Policy::standard_name() {
        let by = "every grain that names no other".to_owned();
        return Err(Refusal::InUse { what: "policy".to_owned(), name: name.to_string(), by });
    }
    let mut grains = change.cluster.grains.values();
    if let Some(grain) = grains.find(|grain| grain.spec.protect == *name) {
        let by = grain.called();
        return Err(Refusal::InUse { what: "policy".to_owned(), name: name.to_string(), by });
    }
    change.cluster.policies.remove(name);
    change.other_leases();
    change.touch(Key::Policy(name.clone()));
    let message = format!("policy {name} was removed");
    change.tell(Topic::Policy, Severity::Info, About::default(), message);
    Ok(Outcome::Done)
}
