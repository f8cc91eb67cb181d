//! Fuzzes `props::upgrade::listing`.
//! Readers: agent/src/host/listing.rs
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lab::props::upgrade::listing(bytes));
