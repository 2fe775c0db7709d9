#![doc = include_str!("../README.md")]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests start processes and write files"
)]

mod initramfs;
mod uml;
mod vmm;

pub use initramfs::Initramfs;
pub use uml::UserModeLinux;
pub use vmm::Vmm;
