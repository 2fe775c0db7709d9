//! Bytes that a QEMU might send to a stream port, in pieces of any size.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotbed_switch::wire::stream::fuzz(data));
