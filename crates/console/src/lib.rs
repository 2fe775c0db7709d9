//! Commands in a guest over a virtio-console: the NixOS backdoor protocol.
