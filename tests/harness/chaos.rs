//! Chaos over a real cluster in a lab: clients and visitors at work, faults from a seed, and a judgement at the end that is only
//! worth something if there was work and every fault really came.

pub mod accept;
pub mod clients;
pub mod figures;
pub mod ground;
pub mod history;
pub mod judge;
pub mod kinds;
pub mod ledgers;
pub mod linear;
pub mod machines;
pub mod nemesis;
pub mod run;
pub mod stories;
pub mod trace;
pub mod watchdog;
pub mod world;
