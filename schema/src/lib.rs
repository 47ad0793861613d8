//! The words of SCRAP: what every other room says to the others and to the world.
//!
//! Ids, units, specs, manifests, [`command::Command`], API bodies and problem codes, with their parsing and
//! their serialised forms. Nothing here reads a clock, touches a file, opens a socket or decides anything.
#![forbid(unsafe_code)]

pub mod api;
pub mod command;
pub mod event;
pub mod fence;
pub mod id;
pub mod manifest;
pub mod node;
pub mod operation;
pub mod problem;
pub mod snapshot;
pub mod spec;
pub mod strict;
pub mod time;
pub mod timing;
pub mod unit;
