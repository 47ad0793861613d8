//! The body of SCRAP: the daemon on every node.
#![forbid(unsafe_code)]

pub mod agent;
pub mod api;
pub mod daemon;
pub mod leader;
pub mod raft;
pub mod store;
