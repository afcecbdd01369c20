//! Fuzz target: `invariants::canonical_path`.
#![no_main]

#[path = "../invariants.rs"]
#[expect(dead_code, reason = "the others are targets of their own")]
mod invariants;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| invariants::canonical_path(bytes));
