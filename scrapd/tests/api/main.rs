//! The HTTP API on real consensus: one node or three in this process, hands in memory.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod contract;
mod document;
mod flows;
mod lab;
mod proxy;
mod refusals;
mod starts;
mod streams;
mod transfers;
