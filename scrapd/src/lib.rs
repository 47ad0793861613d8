//! The body of SCRAP: the daemon on every node.
#![forbid(unsafe_code)]

pub mod raft;
pub mod store;
