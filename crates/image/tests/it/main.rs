//! Real builds, booted under real QEMU.
