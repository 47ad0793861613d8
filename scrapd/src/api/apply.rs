//! `POST /v1/apply`: a set of manifests at once, all or none, or only what they would change.

use std::collections::BTreeMap;

use axum::extract::State;
use scrap_decide::cluster::{Cluster, Outcome};
use scrap_decide::refusal::Refusal;
use scrap_host::clock;
use scrap_schema::api::{ApplyAction, ApplyResult, ApplyView};
use scrap_schema::command::{ApplyItem, Command, GrainText, Proposal};
use scrap_schema::id::{GrainId, Name};
use scrap_schema::manifest::{Manifest, ManifestKind};
use scrap_schema::problem::Code;
use scrap_schema::spec::Labels;
use serde_json::Value;

use super::error::{Answer, Failure};
use super::grains::TRASH_KEPT;
use super::input::{Asked, Pairs};
use super::manifests::{AnyManifest, OneOrManyManifests, nothing_lost, refused};
use super::merge::differences;
use super::selector::Selector;
use super::state::{Api, fresh, fresh_operation, shown};
use super::view;

/// Makes what the manifests say, as one change.
#[utoipa::path(post, path = "/v1/apply", tag = "apply",
    params(
        ("dryRun" = Option<bool>, Query, description = "Only say what would change"),
        ("prune" = Option<String>, Query, description = "`key=value`: grains with these labels that are not in the set go into the trash"),
        ("checkIndex" = Option<u64>, Query, description = "Refuse with `changed` (409) if anything in the set was changed after this log index"),
    ),
    request_body(description = "Manifests of any kind: YAML with several documents, or JSON, one or an array",
        content((AnyManifest = "application/yaml"), (OneOrManyManifests = "application/json"))),
    responses((status = 200, description = "Object by object", body = ApplyView)))]
pub(super) async fn apply(State(api): State<Api>, asked: Asked) -> Answer {
    let query = asked.query(&["dryRun", "prune", "checkIndex"])?;
    let dry = query.flag("dryRun")?;
    let prune = prune(&query)?;
    let unchanged_after = query.number("checkIndex")?;
    let manifests = asked.manifests(true)?;
    for manifest in &manifests {
        nothing_lost(manifest)?;
    }
    // What changes is told by comparing with the newest state.
    api.confirm().await?;
    let before = api.read(Clone::clone);
    let lines: BTreeMap<String, u32> = manifests.iter().rev().filter_map(protects).collect();
    let refused = |refusal| {
        let failure = refused(&before, refusal, |policy| lines.get(policy).copied());
        if unchanged_after.is_some() { failure.of_a_set() } else { failure }
    };
    let items: Vec<ApplyItem> = manifests.into_iter().map(item).collect();
    let keep_until = clock::wall() + TRASH_KEPT;
    let command = Command::Apply { items: items.clone(), prune, keep_until, unchanged_after };
    let (index, mut results) = if dry {
        tried(&before, command)?.map_err(refused)?
    } else {
        let outcome = api.try_propose(&asked, command).await?;
        let outcome = outcome.map_err(refused)?;
        (api.read(|cluster| cluster.index), results(outcome)?)
    };
    for result in &mut results {
        result.operation =
            result.operation.filter(|_| !dry && result.action == ApplyAction::Created);
        result.changes = changes(&before, &items, result);
    }
    let changed = results.iter().any(|result| result.action != ApplyAction::Unchanged);
    Ok(shown(index, ApplyView { changed, index, items: results }))
}

/// The policy that the manifest of a grain names, and its line.
fn protects(manifest: &Manifest) -> Option<(String, u32)> {
    match &manifest.kind {
        ManifestKind::Grain(spec) => Some((spec.protect.to_string(), manifest.line)),
        ManifestKind::Policy(_) | ManifestKind::Node(_) | ManifestKind::Network(_) => None,
    }
}

fn prune(query: &Pairs) -> Answer<Option<Labels>> {
    let Some(selector) = query.parsed::<Selector>("prune", Code::BadRequest)? else {
        return Ok(None);
    };
    let only_equal = || {
        let detail = "only key=value decides what is pruned";
        Failure::bad_value(Code::BadRequest, "/query/prune", detail)
    };
    selector.labels().map(Some).ok_or_else(only_equal)
}

fn item(manifest: Manifest) -> ApplyItem {
    let Manifest { metadata, kind, line: _ } = manifest;
    let (name, labels) = (metadata.name, metadata.labels);
    match kind {
        ManifestKind::Grain(spec) => ApplyItem::Grain {
            new_id: GrainId(fresh()),
            operation: fresh_operation(),
            text: GrainText { name, labels, annotations: metadata.annotations, spec },
        },
        ManifestKind::Policy(policy) => ApplyItem::Policy { name, policy },
        ManifestKind::Node(spec) => ApplyItem::Node { name, labels, spec },
        ManifestKind::Network(network) => ApplyItem::Network { name, network },
    }
}

/// What the set would do, on a copy of the state.
fn tried(before: &Cluster, command: Command) -> Answer<Result<(u64, Vec<ApplyResult>), Refusal>> {
    let mut copy = before.clone();
    let proposal = Proposal { at: clock::wall(), key: None, command };
    let next = copy.index.saturating_add(1);
    let outcome = scrap_decide::apply::apply(&mut copy, next, &proposal).outcome;
    Ok(match outcome {
        Ok(outcome) => Ok((before.index, results(outcome)?)),
        Err(refusal) => Err(refusal),
    })
}

fn results(outcome: Outcome) -> Answer<Vec<ApplyResult>> {
    match outcome {
        Outcome::Items { items } => Ok(items),
        Outcome::Done
        | Outcome::Unchanged
        | Outcome::Node { .. }
        | Outcome::Grain { .. }
        | Outcome::Operation { .. } => {
            Err(Failure::internal("the change was made but says nothing of its objects"))
        }
    }
}

/// What of an object differs between the state before and the set.
fn changes(
    before: &Cluster,
    items: &[ApplyItem],
    result: &ApplyResult,
) -> Vec<scrap_schema::api::FieldChange> {
    if result.action != ApplyAction::Updated {
        return Vec::new();
    }
    let Some(item) = items.iter().find(|item| names(item) == (&result.kind, &result.name)) else {
        return Vec::new();
    };
    let (old, new) = match item {
        ApplyItem::Grain { text, .. } => {
            let old =
                before.grain_named(&text.name).map(|grain| json(&view::grain_manifest(grain)));
            (old, json(&as_manifest(text)))
        }
        ApplyItem::Policy { name, policy } => {
            let old = before.policies.get(name).map(|state| spec(&state.policy));
            (old, spec(policy))
        }
        ApplyItem::Network { name, network } => {
            let old = before.networks.get(name).map(|state| spec(&state.network));
            (old, spec(network))
        }
        ApplyItem::Node { name, labels, spec } => {
            let old = before.node_named(name).map(|node| json(&view::node_manifest(node)));
            let mut new = before.node_named(name).map(view::node_manifest);
            if let Some(new) = &mut new {
                new.metadata.labels = labels.clone();
                new.kind = ManifestKind::Node(spec.clone());
            }
            (old, new.map_or(Value::Null, |new| json(&new)))
        }
    };
    old.map_or_else(Vec::new, |old| differences(&old, &new))
}

fn names(item: &ApplyItem) -> (&str, &Name) {
    match item {
        ApplyItem::Grain { text, .. } => ("Grain", &text.name),
        ApplyItem::Policy { name, .. } => ("Policy", name),
        ApplyItem::Node { name, .. } => ("Node", name),
        ApplyItem::Network { name, .. } => ("Network", name),
    }
}

fn as_manifest(text: &GrainText) -> Manifest {
    Manifest {
        metadata: scrap_schema::manifest::Metadata {
            name: text.name.clone(),
            labels: text.labels.clone(),
            annotations: text.annotations.clone(),
        },
        kind: ManifestKind::Grain(text.spec.clone()),
        line: 1,
    }
}

fn json(manifest: &Manifest) -> Value {
    serde_json::to_value(manifest).unwrap_or_default()
}

fn spec(spec: &impl serde::Serialize) -> Value {
    serde_json::json!({ "spec": spec })
}
