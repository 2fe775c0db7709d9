//! Bytes that a guest might send, in any pieces, to the decoder of the agent's host.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotbed_console::agent::wire::fuzz_events(data));
