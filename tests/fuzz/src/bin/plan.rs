//! Fuzzes `props::wire::plan`.
//! Readers: specs/src/plan.rs specs/src/plan/lint.rs specs/src/plan/describe.rs
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lab::props::wire::plan(bytes));
