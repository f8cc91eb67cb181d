//! Fuzzes `props::agent::lease`.
//! Readers: agent/src/link/lease.rs
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lab::props::agent::lease(bytes));
