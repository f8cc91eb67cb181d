//! Fuzzes `props::language::planning`.
//! Readers: specs/src/plan/build.rs specs/src/plan/build
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lab::props::language::planning(bytes));
