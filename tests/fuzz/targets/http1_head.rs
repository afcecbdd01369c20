//! Fuzz target: `invariants::http1_head`.
#![no_main]

#[path = "../invariants.rs"]
#[expect(dead_code, reason = "the others are targets of their own")]
mod invariants;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| invariants::http1_head(bytes));
