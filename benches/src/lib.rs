//! What the benches share: testbeds for the whole, many datagrams at once for the switch.

pub mod machines;
#[expect(unsafe_code, reason = "recvmmsg and sendmmsg")]
pub mod sys;
