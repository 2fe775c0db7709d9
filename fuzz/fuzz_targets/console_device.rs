//! Guest memory as a hostile guest leaves it, to the virtio-console device.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotbed_console::device::fuzz(data));
