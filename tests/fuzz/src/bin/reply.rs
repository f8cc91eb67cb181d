//! Fuzzes `props::wire::reply`.
//! Readers: specs/src/wire.rs
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lab::props::wire::reply(bytes));
