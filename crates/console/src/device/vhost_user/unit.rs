//! The device, as the connection wants it.

use std::io;

use hotbed_vhost_user::Device;

use crate::device::console::{Config, Console};

/// A console, and what it was made from.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) console: Console,
    config: Config,
}

impl Unit {
    pub(super) fn new(config: Config) -> Result<Self, crate::device::Error> {
        let console = Console::new(config.clone())?;
        Ok(Self { console, config })
    }
}

impl Device for Unit {
    fn features(&self) -> u64 {
        self.console.features()
    }

    fn queue_count(&self) -> usize {
        self.console.queue_count()
    }

    fn set_driver_features(&mut self, features: u64) {
        self.console.set_driver_features(features);
    }

    fn read_config(&self, offset: u32, data: &mut [u8]) {
        self.console.read_config(offset.into(), data);
    }

    fn write_config(&mut self, offset: u32, data: &[u8]) {
        self.console.write_config(offset.into(), data);
    }

    fn reset(&mut self) {
        self.console.reset();
    }

    fn has_state(&self) -> bool {
        true
    }

    fn save(&mut self) -> io::Result<Vec<u8>> {
        postcard::to_stdvec(&self.console.save()).map_err(io::Error::other)
    }

    fn load(&mut self, state: &[u8]) -> io::Result<()> {
        let state = postcard::from_bytes(state).map_err(io::Error::other)?;
        self.console = Console::restore(self.config.clone(), state).map_err(io::Error::other)?;
        Ok(())
    }
}
