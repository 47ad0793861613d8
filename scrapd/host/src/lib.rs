//! The hands of SCRAP: what a node can do with data and with running grains.
//!
//! Two traits speak the house's language ([`datasets::Datasets`], [`runtime::Runtime`]); each has real backends and an
//! in-memory twin, and one contract suite runs against all of them. Nothing here decides anything: no policy, no
//! cluster, no choice of when. The only room that may start a program.

pub mod any;
pub mod archive;
mod cgroups;
pub mod clock;
pub mod datasets;
pub mod dir;
pub mod fence;
pub mod guard;
pub mod keeper;
mod keepers;
mod log;
#[cfg(target_os = "linux")]
pub mod lxc;
pub mod machine;
pub mod mem;
pub mod net;
pub mod process;
mod processes;
mod run;
pub mod runtime;
mod terminal;
pub mod zfs;
