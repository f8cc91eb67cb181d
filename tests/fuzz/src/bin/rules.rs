//! Fuzzes `props::upgrade::rules`.
//! Readers: specs/src/upgrade/rules.rs specs/src/upgrade/pattern.rs
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lab::props::upgrade::rules(bytes));
