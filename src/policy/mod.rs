//! What an operator asks a tenant's data to comply with, and the log of what was done in it.

pub mod audit;
