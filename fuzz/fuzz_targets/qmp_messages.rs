//! Bytes that a QEMU might send, in any pieces, to the QMP parser and to a session.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hotbed_qmp::wire::fuzz_messages(data));
