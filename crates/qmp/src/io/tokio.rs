//! The front for async programs: the same calls as [`blocking`](super::blocking), awaited.
