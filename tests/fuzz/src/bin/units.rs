//! Fuzzes `props::language::units`.
//! Readers: specs/src/units.rs specs/src/lang/quantity.rs
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lab::props::language::units(bytes));
