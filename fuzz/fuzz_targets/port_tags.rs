//! A frame that a guest might send to a port that knows tags; the first three bytes say how the port is set.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotbed_switch::state::tags::fuzz(data));
