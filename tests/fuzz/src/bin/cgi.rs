//! Fuzzes `props::server::cgi`.
//! Readers: server/src/cgi.rs server/src/request.rs
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lab::props::server::cgi(bytes));
