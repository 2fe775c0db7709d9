//! The clock of the `with` blocks, of `retry` and of the script as a whole.

use std::time::Instant;

/// The time.
#[expect(clippy::disallowed_methods, reason = "the I/O shell's one clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
