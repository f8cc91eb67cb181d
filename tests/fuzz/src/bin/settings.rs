//! Fuzzes `props::server::settings`.
//! Readers: server/src/settings.rs server/src/settings
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lab::props::server::settings(bytes));
