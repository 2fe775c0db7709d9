//! The memory of a guest with a queue in it.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotbed_vhost_user::batch::fuzz(data));
