//! Real clusters of real processes: what an operator and a grain's visitors see when machines, daemons and disks fail.
//! No test measures speed; limits are generous.

mod arm;
mod fail_over;
mod harness;
mod idle;
mod leader;
mod lease;
mod lifecycle;
mod many;
mod members;
mod migrate;
mod power;
mod recover;
mod soak;
mod two;
