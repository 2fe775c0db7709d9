//! The pure parts of machines.
