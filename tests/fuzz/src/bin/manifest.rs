//! Fuzzes `props::upgrade::manifest`.
//! Readers: specs/src/upgrade/text.rs specs/src/upgrade/path.rs
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lab::props::upgrade::manifest(bytes));
