//! Fuzzes `props::language::state`.
//! Readers: specs/src/state.rs
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lab::props::language::state(bytes));
