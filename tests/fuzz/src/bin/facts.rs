//! Fuzzes `props::language::facts`.
//! Readers: specs/src/facts.rs specs/src/facts specs/src/machine/identity.rs
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lab::props::language::facts(bytes));
