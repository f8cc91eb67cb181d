//! Fuzzes `props::language::spec`.
//! Readers: specs/src/lang.rs specs/src/lang/parser.rs
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lab::props::language::spec(bytes));
