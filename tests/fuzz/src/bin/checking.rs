//! Fuzzes `props::language::checking`.
//! Readers: specs/src/check.rs specs/src/check
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lab::props::language::checking(bytes));
