//! Fuzzes `props::wire::events`.
//! Readers: specs/src/event.rs
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lab::props::wire::events(bytes));
