//! Fuzzes `props::language::ids`.
//! Readers: specs/src/ids.rs specs/src/ids
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lab::props::language::ids(bytes));
