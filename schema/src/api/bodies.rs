//! Bodies that ask for something, and what is said of it before and after: previews, placements, applied manifests.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fence::{Power, ProgramName};
use crate::id::{Name, OperationId};
use crate::operation::Loss;
use crate::unit::Span;

/// Body of `POST /v1/grains/{name}/migrate`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct MigrateBody {
    /// Where to; the best node if nobody says.
    pub to: Option<Name>,
    /// Only say what would happen.
    pub dry_run: bool,
}

/// Body of `POST /v1/grains/{name}/failover`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct FailoverBody {
    /// Where to; the freshest copy if nobody says.
    pub to: Option<Name>,
    /// Loss that is accepted instead of the policy's limit.
    pub accept_loss: Option<Span>,
    /// Your word that the old owner is off: needed for grains whose policy is `manual`, which run without a lease.
    pub owner_is_off: bool,
    /// Only say what would happen.
    pub dry_run: bool,
}

/// Body of `POST /v1/grains/{name}/snapshots`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotBody {
    /// Its name.
    pub name: Name,
}

/// Body of `POST /v1/grains/{name}/restore`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RestoreBody {
    /// Name or guid of the snapshot.
    pub snapshot: String,
    /// Only say what would happen.
    #[serde(default)]
    pub dry_run: bool,
}

/// Body of `POST /v1/grains/{name}/clone`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CloneBody {
    /// Name of the new grain.
    pub name: Name,
    /// Name or guid of the snapshot; the state now if nobody says.
    #[serde(default)]
    pub snapshot: Option<String>,
    /// Environment to change in the new grain, such as its port.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Whether the new grain should run.
    #[serde(default)]
    pub running: bool,
}

/// Body of `POST /v1/orphans/{id}/fork`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ForkBody {
    /// Name of the new grain.
    pub name: Name,
    /// The grain whose spec it gets; the one that the orphan is of if nobody says.
    #[serde(default)]
    pub like: Option<Name>,
    /// Environment to change in the new grain, such as its port.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Whether the new grain should run.
    #[serde(default)]
    pub running: bool,
    /// Only say what would happen.
    #[serde(default)]
    pub dry_run: bool,
}

/// Body of `POST /v1/orphans/{id}/promote`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct PromoteBody {
    /// Only say what would happen.
    pub dry_run: bool,
}

/// Body of `POST /v1/orphans/{id}/discard`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct DiscardBody {
    /// Who wants that, for the record: 100 characters at most, none of them a control character.
    pub by: Option<String>,
    /// Only say what would happen.
    pub dry_run: bool,
}

/// Body of `POST /v1/nodes/{name}/drain`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct DrainBody {
    /// Only say what would happen.
    pub dry_run: bool,
}

/// Body of `POST /v1/nodes/{name}/confirm-off`: somebody's word that a silent node is off.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct ConfirmOffBody {
    /// Who says so; it stands in the event.
    pub by: Option<String>,
    /// Only say what would happen with each of its grains.
    pub dry_run: bool,
}

/// Answer of `POST /v1/nodes/{name}/fence-test`: the device answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FenceTest {
    /// The node whose power it is.
    pub node: Name,
    /// The node that asked.
    pub from: Name,
    /// The program that it asked with.
    pub program: ProgramName,
    /// Whether it has power.
    pub power: Power,
    /// How long the answer took.
    pub took_ms: u64,
}

/// A plan that was not carried out: the answer to every `dryRun`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DryRun {
    /// What would happen, step by step, one sentence each.
    pub steps: Vec<String>,
    /// What would be lost at most.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub loss: Option<Loss>,
    /// Expected time in which the grain does not answer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expected_downtime_ms: Option<u64>,
    /// Why it could not be done now.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refused: Option<String>,
    /// What to do instead, if it could not be done.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hint: Option<String>,
}

/// `GET /v1/grains/{name}/services`: what the init of a grain says of its services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ServicesView {
    /// By name; empty where the init keeps no list.
    pub services: Vec<ServiceView>,
}

/// One service inside a grain. Its texts come from the grain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceView {
    /// As the init names it: `ssh.service`, `nginx`.
    pub name: String,
    /// What it does.
    pub activity: ServiceActivity,
    /// The init's own words for it.
    pub words: String,
}

/// What a service inside a grain does.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceActivity {
    /// It runs, or has done its work.
    Active,
    /// It starts or stops.
    Changing,
    /// It does not run, and need not.
    Inactive,
    /// It should run and does not.
    Failed,
}

/// `GET /v1/grains/{name}/placement` and `POST /v1/place`: every node with its score or what it lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PlacementView {
    /// Best first, then the unfit ones by name.
    pub nodes: Vec<CandidateView>,
}

/// One node as a place for a grain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CandidateView {
    /// Which.
    pub node: Name,
    /// Higher is better; `null`: it cannot take the grain.
    pub score: Option<i64>,
    /// What makes up the score, or everything that it lacks.
    pub reasons: Vec<String>,
    /// Whether the grain lives there now.
    pub current: bool,
}

/// What `apply` did or would do with one object.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ApplyAction {
    /// It is new.
    Created,
    /// It was changed.
    Updated,
    /// It was so already.
    Unchanged,
    /// It was not in the set and had the label of `prune`: put into the trash.
    Pruned,
}

/// One object of an `apply`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ApplyResult {
    /// `Grain`, `Policy`, `Node`, `Network`.
    pub kind: String,
    /// Its name.
    pub name: Name,
    /// What happened to it.
    pub action: ApplyAction,
    /// The operation that it began.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub operation: Option<OperationId>,
    /// Changed fields: pointer, before, after.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub changes: Vec<FieldChange>,
}

/// A field that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FieldChange {
    /// JSON pointer.
    pub pointer: String,
    /// Before, as JSON; absent if there was none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub before: Option<serde_json::Value>,
    /// After, as JSON; absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub after: Option<serde_json::Value>,
}

/// Answer of `POST /v1/apply` (body: manifests as YAML or JSON; query: `dryRun`, `prune=key=value`, `checkIndex`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ApplyView {
    /// Whether anything changed.
    pub changed: bool,
    /// Log index of the state that this was computed from (`dryRun`) or that it made.
    pub index: u64,
    /// Object by object.
    pub items: Vec<ApplyResult>,
}
