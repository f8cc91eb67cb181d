//! Fuzzes `props::language::template`.
//! Readers: specs/src/configure/template.rs
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lab::props::language::template(bytes));
