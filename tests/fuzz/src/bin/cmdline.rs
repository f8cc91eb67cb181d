//! Fuzzes `props::agent::cmdline`.
//! Readers: agent/src/options.rs agent/src/options
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lab::props::agent::cmdline(bytes));
