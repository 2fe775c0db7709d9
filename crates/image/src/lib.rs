//! What a machine boots: kernels, initramfs and root images, built once.
