//! Fuzzes `props::literal`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::props::literal(bytes));
