//! The gateway as its users meet it: the real binary, real sockets, a recording origin behind it.

mod audit;
mod browser;
mod bulk;
mod cli;
mod control;
mod deadlines;
mod ending;
mod examples;
mod explain;
mod files;
mod hostile;
mod mission;
mod plans;
mod problems;
mod proxying;
mod readme;
mod reference;
mod request_tests;
mod retiring;
mod rewrite;
mod routing;
mod scale;
mod secrets;
mod service;
mod support;
mod telemetry;
