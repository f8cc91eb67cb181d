//! Fuzzes `props::stock::cmdb`.
//! Readers: specs/src/cmdb.rs specs/src/cmdb/entry.rs specs/src/cmdb/generate.rs
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lab::props::stock::cmdb(bytes));
