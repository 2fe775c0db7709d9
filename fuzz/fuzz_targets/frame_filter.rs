//! An expression that says which frames are meant, and behind its line a frame.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotbed_switch::wire::filter::fuzz(data));
