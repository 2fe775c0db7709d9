//! Bytes that a host might send, in any pieces, to the agent's decoder.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotbed_console::agent::wire::fuzz_requests(data));
