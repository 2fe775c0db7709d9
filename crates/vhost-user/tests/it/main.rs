//! A back end with a real front end, that of the `vhost` crate, and with bytes that no front end would send.

#![expect(clippy::disallowed_types, reason = "tests are an I/O shell")]

mod early;
mod hostile;
mod life;
mod migration;
mod support;
#[expect(unsafe_code, reason = "descriptors become eventfds")]
mod sys;
