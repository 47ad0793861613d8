//! Manifests in requests: what the API document says about them, and how their refusal is told.

use scrap_decide::cluster::Cluster;
use scrap_decide::refusal::Refusal;
use scrap_schema::manifest::{Manifest, ManifestKind, Metadata};
use scrap_schema::problem::FieldError;
use scrap_schema::spec::{GrainSpec, Labels, NetworkSpec, NodeSpec, Policy};
use scrap_schema::strict::nearest;

use super::error::{Answer, Failure, bad_manifest};

/// A manifest of a grain.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct GrainManifest {
    #[schema(inline)]
    api_version: ApiVersion,
    #[schema(inline)]
    kind: GrainKind,
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
#[derive(serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct PolicyManifest {
    #[schema(inline)]
    api_version: ApiVersion,
    #[schema(inline)]
    kind: PolicyKind,
    metadata: Metadata,
    spec: Policy,
}

/// A manifest of a node.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct NodeManifest {
    #[schema(inline)]
    api_version: ApiVersion,
    #[schema(inline)]
    kind: NodeKind,
    metadata: Metadata,
    spec: Option<NodeSpec>,
}

/// A manifest of a network.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct NetworkManifest {
    #[schema(inline)]
    api_version: ApiVersion,
    #[schema(inline)]
    kind: NetworkKind,
    metadata: Metadata,
    spec: NetworkSpec,
}

/// A manifest of any kind.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
#[expect(clippy::large_enum_variant, reason = "an answer has one, and most are grains")]
pub(super) enum AnyManifest {
    Grain(GrainManifest),
    Policy(PolicyManifest),
    Node(NodeManifest),
    Network(NetworkManifest),
}

/// A set of manifests in JSON.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[serde(untagged)]
#[expect(dead_code, clippy::large_enum_variant, reason = "only its schema is used")]
pub(super) enum OneOrManyManifests {
    One(AnyManifest),
    Many(Vec<AnyManifest>),
}

#[derive(serde::Serialize, utoipa::ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
enum ApiVersion {
    #[serde(rename = "scrap/v1")]
    V1,
}

#[derive(serde::Serialize, utoipa::ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
enum GrainKind {
    Grain,
}

#[derive(serde::Serialize, utoipa::ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
enum PolicyKind {
    Policy,
}

#[derive(serde::Serialize, utoipa::ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
enum NodeKind {
    Node,
}

#[derive(serde::Serialize, utoipa::ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
enum NetworkKind {
    Network,
}

/// A manifest of another kind than this address takes.
pub(super) fn wrong_kind(kind: &ManifestKind, wanted: &str) -> Failure {
    let detail = format!("this is a {}, here a {wanted} is wanted", kind.name());
    bad_manifest(vec![
        FieldError::new("/kind", detail).with_hint("send mixed manifests to /v1/apply"),
    ])
}

/// Refuses what a manifest says and nobody would keep: labels of policies and networks, annotations of those and of nodes.
pub(super) fn nothing_lost(manifest: &Manifest) -> Answer<()> {
    let metadata = &manifest.metadata;
    let (kind, labels) = match manifest.kind {
        ManifestKind::Grain(_) => return Ok(()),
        ManifestKind::Policy(_) => ("policy", !metadata.labels.is_empty()),
        ManifestKind::Node(_) => ("node", false),
        ManifestKind::Network(_) => ("network", !metadata.labels.is_empty()),
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
    if what == "node" {
        let fault = FieldError::new("/metadata/name", refusal.to_string());
        return Failure::from(refusal).errors(vec![fault]);
    }
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
