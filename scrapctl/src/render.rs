//! Values in, text out. Nothing here asks the cluster, reads a clock or writes anywhere.
//!
//! Texts from the cluster are not trusted: they pass [`text::clean`] before they stand in a line.

pub(crate) mod changes;
pub(crate) mod events;
pub(crate) mod failure;
pub(crate) mod grains;
pub(crate) mod grid;
pub(crate) mod networks;
pub(crate) mod nodes;
pub(crate) mod operations;
pub(crate) mod orphans;
pub(crate) mod place;
pub(crate) mod plan;
pub(crate) mod policies;
pub(crate) mod quorum;
pub(crate) mod services;
pub(crate) mod status;
pub(crate) mod templates;
pub(crate) mod text;

#[cfg(test)]
mod tests;
