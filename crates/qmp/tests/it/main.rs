//! The client against a fake and a real QEMU.
