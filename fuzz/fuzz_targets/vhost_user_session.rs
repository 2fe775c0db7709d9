//! Bytes that a vhost-user front end might send before it hangs up.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotbed_vhost_user::io::fuzz(data));
