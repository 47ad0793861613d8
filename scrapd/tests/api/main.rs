//! The HTTP API on real consensus: one node or three in this process, hands in memory.
#![forbid(unsafe_code)]

mod document;
mod flows;
mod lab;
mod proxy;
mod refusals;
mod streams;
