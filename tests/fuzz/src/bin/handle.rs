//! Fuzzes `props::server::handle`.
//! Readers: server/src/handle.rs server/src/reply.rs
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lab::props::server::handle(bytes));
