//! Frames to a gateway and to simulated hosts, each behind its length in one byte.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotbed_switch::hosts::fuzz(data));
