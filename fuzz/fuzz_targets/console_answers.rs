//! Bytes that a guest might send, in any pieces, to the parser of answers.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotbed_console::wire::fuzz_answers(data));
