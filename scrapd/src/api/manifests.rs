//! Manifests in requests: what the API document says about them, and how their refusal is told.

use scrap_decide::cluster::Cluster;
use scrap_decide::refusal::Refusal;
use scrap_schema::manifest::{Manifest, ManifestKind, Metadata};
use scrap_schema::problem::FieldError;
use scrap_schema::spec::{GrainSpec, Labels, NodeSpec, Policy};
use scrap_schema::strict::nearest;

use super::error::{Answer, Failure, bad_manifest};

/// A manifest of a grain.
#[derive(utoipa::ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(
    dead_code,
    reason = "only its schema is used; manifests are read by scrap_schema::manifest"
)]
pub(super) struct GrainManifest {
    /// `scrap/v1`.
    api_version: String,
    /// `Grain`.
    kind: String,
    metadata: Metadata,
    spec: GrainSpec,
}

/// A merge patch of a grain: what is left out stays, `null` removes.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "only its schema is used; patches are read as JSON")]
pub(super) struct GrainPatch {
    #[schema(value_type = Option<Object>)]
    metadata: Option<PatchMetadata>,
    /// Fields of the spec that change.
    #[schema(value_type = Option<Object>)]
    spec: Option<serde_json::Value>,
}

#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct PatchMetadata {
    labels: Option<Labels>,
    annotations: Option<Labels>,
}

/// A manifest of a policy.
#[derive(utoipa::ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(
    dead_code,
    reason = "only its schema is used; manifests are read by scrap_schema::manifest"
)]
pub(super) struct PolicyManifest {
    /// `scrap/v1`.
    api_version: String,
    /// `Policy`.
    kind: String,
    metadata: Metadata,
    spec: Policy,
}

/// A manifest of a node.
#[derive(utoipa::ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(
    dead_code,
    reason = "only its schema is used; manifests are read by scrap_schema::manifest"
)]
pub(super) struct NodeManifest {
    /// `scrap/v1`.
    api_version: String,
    /// `Node`.
    kind: String,
    metadata: Metadata,
    spec: Option<NodeSpec>,
}

/// A manifest of another kind than this address takes.
pub(super) fn wrong_kind(kind: &ManifestKind, wanted: &str) -> Failure {
    let detail = format!("this is a {}, here a {wanted} is wanted", kind.name());
    bad_manifest(vec![
        FieldError::new("/kind", detail).with_hint("send mixed manifests to /v1/apply"),
    ])
}

/// Refuses what a manifest says and nobody would keep: labels of policies, annotations of policies and nodes.
pub(super) fn nothing_lost(manifest: &Manifest) -> Answer<()> {
    let metadata = &manifest.metadata;
    let (kind, labels) = match manifest.kind {
        ManifestKind::Grain(_) => return Ok(()),
        ManifestKind::Policy(_) => ("policy", !metadata.labels.is_empty()),
        ManifestKind::Node(_) => ("node", false),
    };
    let mut errors = Vec::new();
    if labels {
        errors.push(FieldError::new("/metadata/labels", format!("a {kind} keeps no labels")));
    }
    if !metadata.annotations.is_empty() {
        let detail = format!("a {kind} keeps no annotations");
        errors.push(FieldError::new("/metadata/annotations", detail));
    }
    for error in &mut errors {
        error.line = Some(manifest.line);
        error.hint = Some("remove them".to_owned());
    }
    if errors.is_empty() { Ok(()) } else { Err(bad_manifest(errors)) }
}

/// A refusal of what a manifest says. An unknown policy is a fault of the manifest; `line` finds the one that names it.
pub(super) fn refused(
    cluster: &Cluster,
    refusal: Refusal,
    line: impl FnOnce(&str) -> Option<u32>,
) -> Failure {
    let Refusal::NotFound { what, name } = &refusal else { return refusal.into() };
    if what != "policy" {
        return refusal.into();
    }
    let known = cluster.policies.keys().map(|name| name.as_str());
    let hint = match nearest(name, known.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are {}", scrap_schema::strict::list(known)),
    };
    let fault = FieldError::new("/spec/protect", refusal.to_string()).with_hint(hint);
    bad_manifest(vec![FieldError { line: line(name), ..fault }])
}
