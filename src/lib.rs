#![doc = include_str!("ARCHITECTURE.md")]

// In the order of their layers: a module imports only from those above it in this list.
pub mod base;

pub mod cli;
pub mod config;
pub mod exchange;
pub mod expr;
pub mod gateway;
pub mod link;
pub mod plan;
pub mod policy;
pub mod router;
pub mod server;
pub mod telemetry;
pub mod upstream;
