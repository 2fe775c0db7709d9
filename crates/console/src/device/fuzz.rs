//! The body of the fuzz target.

/// Lets a guest do what the bytes say.
pub fn fuzz(_data: &[u8]) {}
