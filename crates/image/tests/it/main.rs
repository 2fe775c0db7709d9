//! Real builds, booted under real QEMU.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests start machines, measure time, and fail where something is not as expected"
)]

mod build;
mod debian;
mod machine;
mod micro;
