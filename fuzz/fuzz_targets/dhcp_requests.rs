//! What DHCP clients send to a gateway: messages of 300 bytes.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotbed_switch::hosts::gateway::dhcp::fuzz(data));
