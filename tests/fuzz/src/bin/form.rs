//! Fuzzes `props::server::form`.
//! Readers: server/src/form.rs
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lab::props::server::form(bytes));
