//! For a VMM that links this crate.
