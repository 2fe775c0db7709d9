//! The client, over a socket pair.
