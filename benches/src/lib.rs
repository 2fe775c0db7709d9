//! What the benches share: testbeds for the whole, a guest without the driver, many datagrams at once for the switch.

pub mod guest;
pub mod machines;
pub mod plain;
#[expect(unsafe_code, reason = "recvmmsg and sendmmsg")]
pub mod sys;
