//! A datagram that anybody might send to a VXLAN port.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotbed_switch::wire::vxlan::fuzz(data));
