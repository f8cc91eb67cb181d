//! Fuzzes `props::language::import`.
//! Readers: specs/src/import.rs specs/src/import
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lab::props::language::import(bytes));
