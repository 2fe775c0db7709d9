//! The console against a real bash on a pty, and against guests that misbehave.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests start processes and measure time"
)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bulk;
mod commands;
mod guest;
mod hostile;
#[cfg(all(feature = "device", target_arch = "x86_64"))]
mod kvm;
mod put;
mod repeat;
mod sys;
#[cfg(feature = "vhost-user")]
mod vhost_user;
