//! Bodies about grains that are whole systems: networks, templates, terminals, and what people look at inside of orphans.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::MetadataView;
use crate::id::Name;
use crate::snapshot::Guid;
use crate::spec::NetworkSpec;
use crate::unit::Bytes;

/// A network, as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkView {
    /// `scrap/v1`.
    pub api_version: String,
    /// `Network`.
    pub kind: String,
    /// Who.
    pub metadata: MetadataView,
    /// Its pools.
    pub spec: NetworkSpec,
    /// What is given out.
    pub status: NetworkStatus,
}

/// What is true of a network now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkStatus {
    /// Grains with their addresses, by name; those in the trash keep theirs.
    pub grains: Vec<AddressView>,
}

/// The addresses of a grain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddressView {
    /// Which grain.
    pub grain: Name,
    /// IPv4.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub address: Option<Ipv4Addr>,
    /// IPv6.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<String>)]
    pub address6: Option<Ipv6Addr>,
}

/// A template, as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateView {
    /// `scrap/v1`.
    pub api_version: String,
    /// `Template`.
    pub kind: String,
    /// Who.
    pub metadata: MetadataView,
    /// What is.
    pub status: TemplateStatus,
}

/// What is true of a template now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateStatus {
    /// The sealed snapshot that every copy of it has.
    pub guid: Guid,
    /// Space that it takes.
    pub size: Bytes,
    /// Processor architecture.
    pub arch: String,
    /// Operating system.
    pub os: String,
    /// What people say about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub description: Option<String>,
    /// Where it was imported, if that is a member still.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub origin: Option<Name>,
    /// Nodes that have it.
    pub nodes: Vec<Name>,
    /// Grains that began from it, those in the trash too.
    pub grains: Vec<Name>,
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub columns: u16,
}

impl Default for Window {
    fn default() -> Self {
        Self { rows: 24, columns: 80 }
    }
}

/// Body of `POST /v1/grains/{name}/console`, as the first line of the request; frames of the terminal follow it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConsoleBody {
    /// Size of the caller's terminal.
    pub window: Window,
}

/// Kinds of frames from whoever sits at a terminal: kind (1 byte), length (4 bytes, big endian), payload.
pub mod terminal {
    /// What was typed.
    pub const INPUT: u8 = 1;
    /// The window has another size now: rows and columns, 2 bytes each, big endian.
    pub const RESIZE: u8 = 2;
    /// Nothing more will be typed.
    pub const END: u8 = 3;
    /// Longest payload of a frame.
    pub const PAYLOAD_MAX: usize = 64 << 10;
}

/// What differs between an orphan and the state that it has in common with its grain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrphanDiff {
    /// Of which orphan.
    pub id: String,
    /// The common state.
    pub base: Guid,
    /// What changed after it, by path.
    pub changes: Vec<OrphanChange>,
    /// Whether there is more than is told here.
    pub more: bool,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrphanChange {
    /// Where, below the grain's data. Bytes that are no text are written as `\xNN`.
    pub path: String,
    /// What happened.
    pub kind: ChangeKind,
    /// Where it was before, if it was renamed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<String>,
}

/// What happened to a file.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It has other content or attributes.
    Modified,
    /// It has another name.
    Renamed,
}

/// Where an orphan can be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrphanMount {
    /// Which orphan.
    pub id: String,
    /// On which node.
    pub node: Name,
    /// In which folder there, read only.
    pub path: String,
}
