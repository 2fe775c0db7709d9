//! Bytes that another process might send to the control socket of a running test, or the test to it.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotbed_driver::control::fuzz(data));
