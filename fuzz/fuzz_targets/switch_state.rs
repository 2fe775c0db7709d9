//! The state of a switch as a damaged file might have it.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotbed_switch::state::frozen::fuzz(data));
