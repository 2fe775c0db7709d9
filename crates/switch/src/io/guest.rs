//! A port whose guest shares its memory: frames go from the buffers of one guest straight into those of another.
//!
//! - [`Guest`]: the connection and its two queues. Everything that a guest's driver writes is read once, and checked.
//! - `buffers`: where frames lie in a guest's memory. `crossing`: the way of a frame that comes from a guest; `filling`: how one comes to one.

use std::os::unix::net::UnixStream;

use hotbed_vhost_user::virtio_queue::QueueT as _;
use hotbed_vhost_user::{Connection, Event, Parts, Poller};

use self::buffers::Buffers;
use self::card::Card;
use self::filling::Filling;
use super::port::Link;
use crate::error::Error;
use crate::report::Counters;
use crate::state::queue::{Overflow, Queue as Waiting};
use crate::wire::vnet::{HEADER_LEN, Offload, SHORT_HEADER_LEN};
use crate::wire::{self, FRAME_MAX, Span};

mod buffers;
mod card;
mod crossing;
mod filling;

pub(super) use self::crossing::Crossing;

/// The queue of buffers that the guest has for frames.
const RECEIVE: usize = 0;
/// The queue of frames from the guest.
const TRANSMIT: usize = 1;

/// Frames that are taken from a guest before they are passed on.
const FRAMES_AT_ONCE: usize = 32;

/// How often a guest may bring buffers that are too few while frames wait: they come one by one at worst, and no more than a
/// queue holds.
const TRIES_MAX: usize = 1024;

/// What is at the other end of the port.
#[derive(Debug)]
pub(super) struct Guest {
    connection: Connection<Card>,
    /// Where the frames lie that were taken last.
    sources: Vec<Buffers>,
    /// Where a frame goes.
    targets: Buffers,
    /// The chains of buffers that make up `targets`, and how long each is.
    chains: Vec<(u16, u32)>,
    /// How far its queue of buffers went when they were too few.
    seen: u16,
    /// The guest is to be told that there is something in its queue of buffers.
    is_untold: bool,
    /// What it did wrong.
    fault: Option<Error>,
}

/// A frame that was taken from a guest, and lies in its memory still.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    chain: u16,
    /// Its place among the frames that were taken together.
    place: usize,
    pub(super) len: usize,
    pub(super) offload: Offload,
    /// The beginning of the frame, which was read once: the guest may write there again.
    beginning: [u8; wire::HEADER_LEN],
}

/// What became of a frame for a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Given {
    /// It is in the guest's buffers.
    Done,
    /// There are too few of them now.
    Full,
    /// They will never do.
    TooLong,
    /// No driver is there.
    Nobody,
}

impl Guest {
    pub(super) fn new(
        stream: UnixStream,
        poller: Poller,
    ) -> Result<Guest, hotbed_vhost_user::Error> {
        Ok(Guest {
            connection: Connection::new(stream, Card::default(), poller)?,
            sources: Vec::new(),
            targets: Buffers::default(),
            chains: Vec::new(),
            seen: 0,
            is_untold: false,
            fault: None,
        })
    }

    /// Takes a descriptor's event.
    fn handle(&mut self, token: u64) -> Result<Event, Error> {
        Ok(self.connection.handle(token)?)
    }

    /// Gives what it did wrong, if it is to go for that.
    pub(super) fn take_fault(&mut self) -> Option<Error> {
        self.fault.take()
    }

    /// Whether its driver does what is left to do for a frame.
    fn does(&self, offload: &Offload) -> bool {
        self.connection.device().does(offload)
    }

    /// Takes the next frames that the guest sends; gives how many chains it had for that. Those that go nowhere are counted. The error is
    /// the guest's fault, and about the frame behind those that were taken.
    fn take(&mut self, taken: &mut Vec<Taken>, counters: &mut Counters) -> Result<usize, Error> {
        let Parts {
            memory,
            rings,
            device,
        } = self.connection.parts();
        let Some(ring) = rings.get_mut(TRANSMIT).filter(|ring| ring.is_running()) else {
            return Ok(0);
        };
        let mut batch = ring.batch(memory)?;
        let header_len = device.header_len();
        for count in 0..FRAMES_AT_ONCE {
            let Some(chain) = batch.next_chain() else {
                return Ok(count);
            };
            let head = chain.head();
            let place = taken.len();
            if self.sources.len() == place {
                self.sources.push(Buffers::default());
            }
            let source = &mut self.sources[place];
            source.clear();
            source.read_chain(memory, chain, false)?;
            let begin = header_len + wire::HEADER_LEN;
            let len = source.len().saturating_sub(header_len);
            if source.len() < begin || len > FRAME_MAX {
                counters.drops.runt += u64::from(source.len() < begin);
                counters.drops.oversized += u64::from(len > FRAME_MAX);
                batch.give_back(head, 0)?;
                continue;
            }
            let mut bytes = [0; HEADER_LEN + wire::HEADER_LEN];
            source.copy_to(memory, &mut bytes[..begin]);
            source.skip(begin);
            let (header, rest) = bytes.split_at(header_len);
            let header = header.first_chunk::<SHORT_HEADER_LEN>();
            let (Some(header), Some(beginning)) = (header, rest.first_chunk()) else {
                return Err(Error::Guest("it sent a frame without a header"));
            };
            taken.push(Taken {
                chain: head,
                place,
                len,
                offload: Offload::parse(header, len)?,
                beginning: *beginning,
            });
        }
        Ok(FRAMES_AT_ONCE)
    }

    /// Gives the guest its buffers back.
    fn give_back(&mut self, taken: &[Taken]) -> Result<(), Error> {
        let Parts { memory, rings, .. } = self.connection.parts();
        if let Some(ring) = rings.get_mut(TRANSMIT).filter(|ring| ring.is_running()) {
            let mut batch = ring.batch(memory)?;
            for taken in taken {
                batch.give_back(taken.chain, 0)?;
            }
        }
        Ok(())
    }

    /// Asks to be woken for the next frame. False if there is one already.
    fn rest(&mut self) -> Result<bool, Error> {
        let Parts { memory, rings, .. } = self.connection.parts();
        match rings.get_mut(TRANSMIT).filter(|ring| ring.is_running()) {
            Some(ring) => Ok(!ring.queue().enable_notification(&**memory)?),
            None => Ok(true),
        }
    }

    /// Asks not to be woken for each frame: they are looked for.
    fn begin_turn(&mut self) -> Result<(), Error> {
        let Parts { memory, rings, .. } = self.connection.parts();
        match rings.get_mut(TRANSMIT).filter(|ring| ring.is_running()) {
            Some(ring) => Ok(ring.queue().disable_notification(&**memory)?),
            None => Ok(()),
        }
    }

    /// Tells the guest that its frames were taken, if it wants to know.
    fn end_turn(&mut self) -> Result<(), Error> {
        let Parts { memory, rings, .. } = self.connection.parts();
        if let Some(ring) = rings.get_mut(TRANSMIT).filter(|ring| ring.is_running()) {
            ring.notify(memory)?;
        }
        Ok(())
    }

    /// Tells the guest that frames came for it, if it wants to know.
    fn tell(&mut self) -> Result<(), Error> {
        if !std::mem::take(&mut self.is_untold) {
            return Ok(());
        }
        let Parts { memory, rings, .. } = self.connection.parts();
        if let Some(ring) = rings.get_mut(RECEIVE).filter(|ring| ring.is_running()) {
            ring.notify(memory)?;
        }
        Ok(())
    }

    /// The guest's buffers for frames, to be filled; `None` when there is no driver.
    fn filling(&mut self) -> Result<Option<Filling<'_>>, Error> {
        let Parts {
            memory,
            rings,
            device,
        } = self.connection.parts();
        let Some(ring) = rings.get_mut(RECEIVE).filter(|ring| ring.is_running()) else {
            return Ok(None);
        };
        Ok(Some(Filling {
            batch: ring.batch(memory)?,
            memory,
            card: device,
            targets: &mut self.targets,
            chains: &mut self.chains,
            seen: &mut self.seen,
            is_untold: &mut self.is_untold,
        }))
    }

    /// Puts frames that another guest has in its buffers into this one's, until there are too few: gives how many frames need not be
    /// seen to again.
    fn receive_from(
        &mut self,
        from: &mut Guest,
        taken: &[Taken],
        counters: &mut Counters,
    ) -> Result<usize, Error> {
        let Guest {
            connection,
            sources,
            ..
        } = from;
        let memory = connection.parts().memory;
        let Some(mut filling) = self.filling()? else {
            counters.drops.no_peer += taken.len() as u64;
            return Ok(taken.len());
        };
        for (done, taken) in taken.iter().enumerate() {
            let given = filling.put(&taken.offload, taken.len, |sink| {
                sink.put(&taken.beginning);
                if let Some(source) = sources.get(taken.place) {
                    source.copy_to_sink(memory, sink);
                }
            })?;
            count(counters, given, taken.len);
            if given == Given::Full {
                return Ok(done);
            }
        }
        Ok(taken.len())
    }

    /// Appends a frame that was taken to `bytes`.
    fn append(&mut self, taken: &Taken, bytes: &mut Vec<u8>) {
        let memory = self.connection.parts().memory;
        bytes.extend_from_slice(&taken.beginning);
        let start = bytes.len();
        bytes.resize(start + taken.len - taken.beginning.len(), 0);
        if let Some(source) = self.sources.get(taken.place) {
            source.copy_to(memory, &mut bytes[start..]);
        }
    }

    /// Gives the guest frames with nothing left to do, which lie in `bytes`. Those that find no buffers wait in the queue.
    pub(super) fn send(
        &mut self,
        bytes: &[u8],
        frames: &[Span],
        waiting: &mut Waiting,
        overflow: Overflow,
        counters: &mut Counters,
    ) -> Link {
        let sent = self.fill(bytes, frames, waiting, counters);
        let sent = sent.and_then(|done| {
            for span in frames.get(done..).unwrap_or_default() {
                let frame = span.of(bytes);
                self.wait(&Offload::default(), frame, waiting, overflow, counters)?;
            }
            Ok(())
        });
        if let Err(fault) = sent {
            return self.fail(fault);
        }
        match self.tell() {
            Ok(()) => Link::Up,
            Err(fault) => self.fail(fault),
        }
    }

    /// Puts frames into the guest's buffers, as long as none waits: gives how many need not be seen to again.
    fn fill(
        &mut self,
        bytes: &[u8],
        frames: &[Span],
        waiting: &Waiting,
        counters: &mut Counters,
    ) -> Result<usize, Error> {
        if !waiting.is_empty() {
            return Ok(0);
        }
        let Some(mut filling) = self.filling()? else {
            counters.drops.no_peer += frames.len() as u64;
            return Ok(frames.len());
        };
        for (done, span) in frames.iter().enumerate() {
            let frame = span.of(bytes);
            let given = filling.put(&Offload::default(), frame.len(), |sink| sink.put(frame))?;
            count(counters, given, frame.len());
            if given == Given::Full {
                return Ok(done);
            }
        }
        Ok(frames.len())
    }

    /// Has a frame wait until there are buffers for it.
    fn wait(
        &mut self,
        offload: &Offload,
        frame: &[u8],
        waiting: &mut Waiting,
        overflow: Overflow,
        counters: &mut Counters,
    ) -> Result<(), Error> {
        let was_empty = waiting.is_empty();
        let header = offload.to_bytes(0);
        counters.drops.queue_full += waiting.push_over(overflow, [&header, frame], frame.len());
        if was_empty {
            self.drain(waiting, counters)?; // Buffers may have come before we asked to be told.
        }
        Ok(())
    }

    /// Gives the guest what waits, as far as there are buffers, and asks to be told when there are more.
    pub(super) fn drain(
        &mut self,
        waiting: &mut Waiting,
        counters: &mut Counters,
    ) -> Result<(), Error> {
        if !self.is_ready() {
            // What waited was for a driver that is gone.
            let lost = waiting.pop_frames(waiting.len()).frames;
            counters.drops.no_peer += lost;
            return Ok(());
        }
        let mut tries = 0;
        while let Some(pieces) = waiting.front() {
            let (offload, frame) = unpack(pieces);
            let len = frame[0].len() + frame[1].len();
            let given = match self.filling()? {
                Some(mut filling) => filling.put(&offload, len, |sink| {
                    sink.put(frame[0]);
                    sink.put(frame[1]);
                })?,
                None => Given::Nobody,
            };
            if given != Given::Full {
                waiting.pop_frames(1);
                count(counters, given, len);
            } else if self.rest_receiving()? {
                return self.tell();
            } else if tries == TRIES_MAX {
                return Err(Error::Guest("its buffers come and go"));
            } else {
                tries += 1;
            }
        }
        self.set_receiving_silent()?;
        self.tell()
    }

    fn is_ready(&mut self) -> bool {
        let rings = self.connection.parts().rings;
        rings.get(RECEIVE).is_some_and(|ring| ring.is_running())
    }

    /// Asks to be woken when there are more buffers than were seen. False if there are already.
    fn rest_receiving(&mut self) -> Result<bool, Error> {
        let Parts { memory, rings, .. } = self.connection.parts();
        let Some(ring) = rings.get_mut(RECEIVE) else {
            return Ok(true);
        };
        // The queue asks to be woken from where it is on, but the buffers that are too few lie behind that.
        let queue = ring.queue();
        let start = queue.next_avail();
        queue.set_next_avail(self.seen);
        let has_more = queue.enable_notification(&**memory);
        queue.set_next_avail(start);
        Ok(!has_more?)
    }

    /// Asks not to be woken for buffers: as long as nothing waits, they are looked for when a frame comes.
    fn set_receiving_silent(&mut self) -> Result<(), Error> {
        let Parts { memory, rings, .. } = self.connection.parts();
        match rings.get_mut(RECEIVE).filter(|ring| ring.is_running()) {
            Some(ring) => Ok(ring.queue().disable_notification(&**memory)?),
            None => Ok(()),
        }
    }

    fn fail(&mut self, fault: Error) -> Link {
        self.fault = Some(fault);
        Link::Down
    }
}

/// Counts a frame for a guest. One that waits is counted when it goes.
fn count(counters: &mut Counters, given: Given, len: usize) {
    match given {
        Given::Done => {
            counters.frames_out += 1;
            counters.bytes_out += len as u64;
        }
        Given::Full => {}
        Given::TooLong => counters.drops.oversized += 1,
        Given::Nobody => counters.drops.no_peer += 1,
    }
}

/// Parts a frame that waited from the header in front of it. Either may go over the end of the ring.
fn unpack(pieces: [&[u8]; 2]) -> (Offload, [&[u8]; 2]) {
    let [first, second] = pieces;
    let mut header = [0; HEADER_LEN];
    let in_first = first.len().min(HEADER_LEN);
    let in_second = second.len().min(HEADER_LEN - in_first);
    header[..in_first].copy_from_slice(&first[..in_first]);
    header[in_first..in_first + in_second].copy_from_slice(&second[..in_second]);
    let frame = [&first[in_first..], &second[in_second..]];
    let short = header.first_chunk().copied().unwrap_or_default();
    // It is one of ours.
    let offload = Offload::parse(&short, frame[0].len() + frame[1].len()).unwrap_or_default();
    (offload, frame)
}
