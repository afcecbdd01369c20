//! What the integration tests share: a scripted origin, a raw client, the real binary and foreign tools.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test stops at the first thing that is not as expected"
)]
#![allow(
    dead_code,
    unused_imports,
    reason = "it is whole before the tests are: each new test finds what it needs"
)]

mod bulk;
mod canonical;
mod canonical_tests;
mod client;
mod dribble;
pub(crate) mod frames;
mod gate;
mod mmdb;
mod origin;
mod pki;
mod process;
mod reply;
mod responder;
mod secure;
mod serve;
mod telltale;
mod tests;
mod tools;

pub(crate) use bulk::{Checksum, Pattern, checksum};
pub(crate) use canonical::{BodyCheck, Framing, Parsed, Violation, check_request};
pub(crate) use client::{Client, Ended, Response, get};
pub(crate) use dribble::{dribbling, dribbling_after};
pub(crate) use frames::{Frame, Frames, Outcome};
pub(crate) use gate::Gate;
pub(crate) use mmdb::countries;
pub(crate) use origin::{ConnectionSeen, Origin, Recorded};
pub(crate) use pki::{Pair, Pki};
pub(crate) use process::{Gateway, Output, Process, Setup, run, run_cli};
pub(crate) use reply::{Early, Reply, Script};
pub(crate) use responder::{Responder, spoken};
pub(crate) use secure::{Heard, Tls, TlsOrigin};
pub(crate) use tools::{
    Browser, Nginx, Node, PythonFiles, calls, chromium_dump, debian, free_port, internet_calls,
    npm, python, traced,
};

use std::time::Duration;

/// How long anything may take before a test calls it stuck. Generous: two cores may run a build beside the tests.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The size of a load: about 1 % of `full` (at least 1), or all of it with `DOORWARD_TEST_SIZE=full`.
pub(crate) fn scale(full: u64) -> u64 {
    if is_full() { full } else { (full / 100).max(1) }
}

/// Whether the tests run at full size, one after the other: then it can also be told how fast something was.
pub(crate) fn is_full() -> bool {
    std::env::var_os("DOORWARD_TEST_SIZE").is_some_and(|size| size == "full")
}
