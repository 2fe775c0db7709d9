//! What a device must be able to do.

use std::io;

/// The most queues of a device: a front end names queues by a byte when it passes their descriptors.
pub const QUEUES_MAX: usize = 256;

/// The most bytes of a device's configuration space, as the protocol has it.
pub const CONFIG_MAX: usize = 4096;

/// The most bytes of a device's saved state: what a pipe holds, so that nobody waits for the other end.
pub const STATE_MAX: usize = 65_536;

/// A virtio device, as far as the connection needs to know it.
///
/// The data path is not here: the embedder takes queues and memory from [`Connection::parts`](crate::Connection::parts)
/// when [`Connection::handle`](crate::Connection::handle) says that there is something to do.
pub trait Device {
    /// The virtio features that are offered, without those of vhost-user.
    fn features(&self) -> u64;

    /// How many queues there are, 1 to [`QUEUES_MAX`]. It does not change.
    fn queue_count(&self) -> usize;

    /// How many entries a queue may have, a power of two. It does not change.
    fn queue_size_max(&self) -> u16 {
        1024
    }

    /// Takes the features that the driver chose; they were offered.
    fn set_driver_features(&mut self, features: u64);

    /// Fills `data` with what the configuration space has at `offset`; what lies behind its end is left as it is (0).
    fn read_config(&self, offset: u32, data: &mut [u8]);

    /// Takes what the driver wrote to the configuration space. What cannot be written there is ignored.
    fn write_config(&mut self, offset: u32, data: &[u8]);

    /// Whether the configuration space is here. For a network card QEMU has its own, and warns when it is offered another.
    fn has_config(&self) -> bool {
        true
    }

    /// Learns that a queue runs now, or does so no longer.
    ///
    /// A front end that goes away stops all queues. While this is called, none of the queue's buffers is borrowed.
    fn queue_changed(&mut self, queue: usize, is_running: bool) {
        let _ = (queue, is_running);
    }

    /// Goes back to the state of a device that no driver has touched.
    fn reset(&mut self);

    /// Gives the state that another device must take to go on from here, at most [`STATE_MAX`] bytes. No queue runs.
    ///
    /// # Errors
    ///
    /// When there is no such thing; then the device does not offer it.
    fn save(&mut self) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Takes the state of a saved device. No queue runs.
    ///
    /// # Errors
    ///
    /// When it is not the state of such a device. It may come from anywhere.
    fn load(&mut self, state: &[u8]) -> io::Result<()> {
        let _ = state;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Whether [`save`](Self::save) and [`load`](Self::load) work.
    fn has_state(&self) -> bool {
        false
    }
}
