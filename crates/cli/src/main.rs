//! The `hotbed` command.

fn main() {}
