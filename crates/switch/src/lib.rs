//! A learning Ethernet switch in user space, for VDE and QEMU sockets.
