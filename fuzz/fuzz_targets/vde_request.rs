//! Bytes that a VDE client might send to ask for a port.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotbed_switch::wire::vde::fuzz(data));
