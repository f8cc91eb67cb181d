//! Fuzzes `props::language::configure`.
//! Readers: specs/src/configure.rs specs/src/configure/places.rs
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lab::props::language::configure(bytes));
