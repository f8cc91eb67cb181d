//! Fuzzes `props::server::http`.
//! Readers: server/src/http/incoming.rs
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lab::props::server::http(bytes));
