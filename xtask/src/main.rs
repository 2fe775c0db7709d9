//! The project's own jobs: `cargo xtask <job>`.

fn main() {}
