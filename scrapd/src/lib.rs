//! The body of SCRAP.
#![forbid(unsafe_code)]

pub mod config;
