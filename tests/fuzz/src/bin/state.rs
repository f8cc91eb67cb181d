//! Fuzzes `props::stock::state`.
//! Readers: specs/src/state.rs
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lab::props::stock::state(bytes));
