//! The mind of SCRAP: four pure functions and what they are made of.
//!
//! [`lead::lead`] decides for the cluster, [`apply::apply`] changes the replicated state, [`obey::obey`] decides for one node,
//! [`check::check`] finds contradictions. There is no clock here, no I/O, no randomness, no hash order, no float: time is
//! an argument, order is part of the output, a refusal and a wait are values with a reason.
#![forbid(unsafe_code)]
#![deny(
    clippy::expect_used,
    clippy::float_arithmetic,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm
)]

pub mod alarm;
pub mod apply;
pub mod check;
pub mod cluster;
pub mod lead;
pub mod lease;
pub mod migrate;
pub mod mutant;
pub mod obey;
pub mod observed;
pub mod place;
pub mod power;
pub mod preview;
pub mod quorum;
pub mod reach;
pub mod refusal;
pub mod replicate;
pub mod voters;

mod arm;
mod asides;
mod drain;
mod fail_over;
mod needs;
mod operate;

#[cfg(test)]
mod fixture;
