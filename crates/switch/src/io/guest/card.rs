//! What the guest's driver sees: a network card with offloads, and what the driver chose of them.

use std::io;

use hotbed_vhost_user::Device;

use crate::wire::vnet::{HEADER_LEN, Offload, SHORT_HEADER_LEN, SegmentKind};

/// The driver leaves checksums to us.
const CSUM: u64 = 1 << 0;
/// The driver takes frames without them.
const GUEST_CSUM: u64 = 1 << 1;
/// The driver takes frames that would have to be cut.
const GUEST_TSO4: u64 = 1 << 7;
const GUEST_TSO6: u64 = 1 << 8;
const GUEST_ECN: u64 = 1 << 9;
/// The driver leaves cutting to us.
const HOST_TSO4: u64 = 1 << 11;
const HOST_TSO6: u64 = 1 << 12;
const HOST_ECN: u64 = 1 << 13;
/// A frame may lie in several chains of buffers.
const MRG_RXBUF: u64 = 1 << 15;
/// A header may lie in one buffer with what is behind it.
const ANY_LAYOUT: u64 = 1 << 27;
const INDIRECT_DESC: u64 = 1 << 28;
const EVENT_IDX: u64 = 1 << 29;
const VERSION_1: u64 = 1 << 32;

/// No UFO: Linux has not left it to a network card since 4.14.
const OFFERED: u64 = CSUM
    | GUEST_CSUM
    | GUEST_TSO4
    | GUEST_TSO6
    | GUEST_ECN
    | HOST_TSO4
    | HOST_TSO6
    | HOST_ECN
    | MRG_RXBUF
    | ANY_LAYOUT
    | INDIRECT_DESC
    | EVENT_IDX
    | VERSION_1;

/// Entries of a queue at most.
const QUEUE_SIZE: u16 = 1024;

/// What a saved card is: there is nothing in it that the front end does not know.
const STATE: &[u8] = b"hotbed network card 1";

/// The card.
#[derive(Debug, Default)]
pub(super) struct Card {
    /// What the driver chose.
    features: u64,
}

impl Card {
    /// Bytes in front of a frame.
    pub(super) fn header_len(&self) -> usize {
        if self.features & (VERSION_1 | MRG_RXBUF) != 0 {
            HEADER_LEN
        } else {
            SHORT_HEADER_LEN
        }
    }

    /// Whether a frame for the guest may lie in several chains of buffers.
    pub(super) fn merges_buffers(&self) -> bool {
        self.features & MRG_RXBUF != 0
    }

    /// Whether the driver does what is left to do for a frame.
    pub(super) fn does(&self, offload: &Offload) -> bool {
        let mut wanted = 0;
        if offload.checksum.is_some() {
            wanted |= GUEST_CSUM;
        }
        if let Some(segment) = &offload.segment {
            wanted |= match segment.kind {
                SegmentKind::Tcp4 => GUEST_TSO4,
                SegmentKind::Tcp6 => GUEST_TSO6,
            };
            if segment.has_ecn {
                wanted |= GUEST_ECN;
            }
        }
        self.features & wanted == wanted
    }
}

impl Device for Card {
    fn features(&self) -> u64 {
        OFFERED
    }

    fn queue_count(&self) -> usize {
        2
    }

    fn queue_size_max(&self) -> u16 {
        QUEUE_SIZE
    }

    fn set_driver_features(&mut self, features: u64) {
        self.features = features;
    }

    fn read_config(&self, _offset: u32, _data: &mut [u8]) {}

    fn write_config(&mut self, _offset: u32, _data: &[u8]) {}

    /// The front end has the address and everything else that is there.
    fn has_config(&self) -> bool {
        false
    }

    fn reset(&mut self) {
        self.features = 0;
    }

    fn has_state(&self) -> bool {
        true
    }

    fn save(&mut self) -> io::Result<Vec<u8>> {
        Ok(STATE.to_vec())
    }

    fn load(&mut self, state: &[u8]) -> io::Result<()> {
        if state == STATE {
            Ok(())
        } else {
            Err(io::ErrorKind::InvalidData.into())
        }
    }
}
