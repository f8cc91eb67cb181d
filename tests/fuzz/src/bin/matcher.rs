//! Fuzzes `props::matcher::matcher`.
//! Readers: specs/src/matching.rs specs/src/matching specs/src/lang/function.rs specs/src/explain.rs specs/src/explain
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lab::props::matcher::matcher(bytes));
