//! Frames that are put into a guest's buffers, many in a row.

use hotbed_vhost_user::{Batch, Memory};

use super::Given;
use super::buffers::{Buffers, Sink};
use super::card::Card;
use crate::error::Error;
use crate::wire::vnet::Offload;

/// A guest's buffers for frames, while they are filled. The guest sees what is in them when this is dropped.
pub(super) struct Filling<'g> {
    pub(super) batch: Batch<'g>,
    pub(super) memory: &'g Memory,
    pub(super) card: &'g Card,
    pub(super) targets: &'g mut Buffers,
    pub(super) chains: &'g mut Vec<(u16, u32)>,
    pub(super) seen: &'g mut u16,
    pub(super) is_untold: &'g mut bool,
}

impl Filling<'_> {
    /// Puts a frame of `len` bytes into buffers: `fill` gives them, without a header.
    pub(super) fn put(
        &mut self,
        offload: &Offload,
        len: usize,
        fill: impl FnOnce(&mut Sink<'_>),
    ) -> Result<Given, Error> {
        let header_len = self.card.header_len();
        let wanted = header_len + len;
        let start = self.batch.position();
        self.targets.clear();
        self.chains.clear();
        while self.targets.len() < wanted {
            let Some(chain) = self.batch.next_chain() else {
                let is_whole = self.chains.len() >= usize::from(self.batch.size());
                *self.seen = self.batch.position();
                self.batch.rewind(start);
                return Ok(match is_whole {
                    true => Given::TooLong,
                    false => Given::Full,
                });
            };
            let (head, before) = (chain.head(), self.targets.len());
            self.targets.read_chain(self.memory, chain, true)?;
            // No buffer is longer than what was asked for, as the rest of it is not used.
            let chain_len = (self.targets.len() - before).min(wanted - before);
            self.chains.push((head, chain_len as u32));
            if self.targets.len() < wanted && !self.card.merges_buffers() {
                self.batch.rewind(start);
                return Ok(Given::TooLong);
            }
        }
        let mut sink = self.targets.sink(self.memory);
        sink.put(&offload.to_bytes(self.chains.len() as u16)[..header_len]);
        fill(&mut sink);
        for (head, len) in self.chains.iter() {
            self.batch.give_back(*head, *len)?;
        }
        *self.is_untold = true;
        Ok(Given::Done)
    }
}
