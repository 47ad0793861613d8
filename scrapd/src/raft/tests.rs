//! Tests of the consensus: the algorithm's own suite for stores, clusters over real HTTP, restarts, kills, full disks.

mod cluster;
mod crash;
mod lab;
mod raw;
mod recover;
mod restart;
mod suite;
