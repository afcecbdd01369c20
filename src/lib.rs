#![doc = include_str!("ARCHITECTURE.md")]

// In the order of their layers: a module imports only from those above its own line.
pub mod base;

pub mod compress;
pub mod expr;
pub mod shape;
pub mod store;
pub mod tls;

pub mod router;
pub mod upstream;

pub mod exchange;
pub mod link;

pub mod call;
pub mod telemetry;

pub mod policy;

pub mod config;

pub mod plan;

pub mod flow;

pub mod gateway;

pub mod admin;

pub mod server;

pub mod cli;
