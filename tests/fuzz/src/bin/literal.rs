//! Fuzzes `props::literal::literal`.
//! Readers: specs/src/literal.rs specs/src/literal
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lab::props::literal::literal(bytes));
