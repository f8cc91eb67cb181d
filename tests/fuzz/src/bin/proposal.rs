//! Fuzzes `props::upgrade::proposal`.
//! Readers: specs/src/metadata.rs specs/src/metadata
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lab::props::upgrade::proposal(bytes));
