//! Fuzzes `props::agent::assignments`.
//! Readers: agent/src/assignments.rs
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lab::props::agent::assignments(bytes));
