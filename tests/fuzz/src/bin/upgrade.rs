//! Fuzzes `props::upgrade::upgrade`.
//! Readers: specs/src/upgrade/diff.rs
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lab::props::upgrade::upgrade(bytes));
