//! What a gateway is asked by DNS.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotbed_switch::hosts::gateway::dns::fuzz(data));
