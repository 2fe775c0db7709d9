//! A frame from a guest, behind the header that says what is left to do for it.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotbed_switch::state::offload::fuzz(data));
