//! Crashes, restarts and hostile directories: what was acknowledged is there, whole and in order.

mod common;

#[path = "crash/balances.rs"]
mod balances;
#[path = "crash/disk.rs"]
mod disk;
#[path = "crash/kill.rs"]
mod kill;
#[path = "crash/refusals.rs"]
mod refusals;
#[path = "crash/same.rs"]
mod same;
