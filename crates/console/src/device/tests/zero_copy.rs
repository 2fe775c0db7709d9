//! Nothing is copied on our side: guest memory that counts who asks for it, and the addresses of what is handed out.
//!
//! All access to guest memory, by whichever helper, goes through [`GuestMemory::get_slices`]. If each byte of data is asked
//! for exactly once, and what is handed out is the guest's memory itself, then there is no copy besides. That is counted with
//! memory whose addresses may be translated; of plain memory, whole regions are asked for, seldom.

use std::cell::RefCell;
use std::ops::Range;

use vm_memory::bitmap::{BS, BitmapSlice};
use vm_memory::guest_memory::GuestMemorySliceIterator;
use vm_memory::{
    Bytes, GuestAddress, GuestMemory, GuestMemoryBackend, GuestMemoryResult, Permissions,
    VolatileSlice,
};

use super::*;

/// Guest memory that counts how often each byte of the data was asked for.
struct Counted {
    memory: GuestMemoryMmap<()>,
    is_plain: bool,
    asked: RefCell<Vec<(Range<u64>, Permissions)>>,
}

impl GuestMemory for Counted {
    type PhysicalMemory = GuestMemoryMmap<()>;
    type Bitmap = ();

    fn check_range(&self, address: GuestAddress, count: usize, _: Permissions) -> bool {
        GuestMemoryBackend::check_range(&self.memory, address, count)
    }

    fn get_slices<'a>(
        &'a self,
        address: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> GuestMemoryResult<impl GuestMemorySliceIterator<'a, BS<'a, ()>>> {
        let range = address.0..address.0 + count as u64;
        self.asked.borrow_mut().push((range, access));
        Ok(GuestMemoryBackend::get_slices(&self.memory, address, count))
    }

    fn physical_memory(&self) -> Option<&Self::PhysicalMemory> {
        self.is_plain.then_some(&self.memory)
    }
}

impl Counted {
    fn new() -> Counted {
        Counted {
            memory: memory(),
            is_plain: false,
            asked: RefCell::default(),
        }
    }

    /// The same, but it says that no address is translated on the way.
    fn plain() -> Counted {
        Counted {
            is_plain: true,
            ..Counted::new()
        }
    }

    /// How many bytes of the data were asked for since the last time, to be read and to be written; the rings are not data.
    fn bytes_asked(&self) -> (u64, u64) {
        let mut bytes = (0, 0);
        for (range, access) in self.asked.take() {
            if range.start >= DATA {
                match access {
                    Permissions::Read => bytes.0 += range.end - range.start,
                    _ => bytes.1 += range.end - range.start,
                }
            }
        }
        bytes
    }

    /// Where the guest's memory lies in ours.
    fn host_address(&self, address: u64) -> *const u8 {
        let address = self.memory.get_host_address(GuestAddress(address));
        address.unwrap().cast_const()
    }
}

const LEN: u32 = 0x8_0000;

#[test]
fn received_data_are_the_guests_own_memory() {
    let memory = Counted::new();
    let (mut guest, mut queue) = Guest::new(&memory, 0, 8);
    let mut console = plain_console();
    // The second buffer lies across the seam of two regions, so it is two slices.
    guest.offer(0, &[(DATA, LEN), (SEAM - 16, LEN)], 0);
    memory.bytes_asked();
    let received = console.receive(0, &memory, &mut queue).unwrap().unwrap();
    let slices: Vec<_> = received.slices().iter().map(place).collect();
    let expected = [
        (memory.host_address(DATA), LEN as usize),
        (memory.host_address(SEAM - 16), 16),
        (memory.host_address(SEAM), LEN as usize - 16),
    ];
    assert_eq!(slices, expected);
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let mut received = received;
    let written = received.write_to(&theirs).unwrap();
    assert!(written > 0);
    received.keep_after(usize::MAX);
    drop(received);
    ours.read_exact(&mut vec![0; written]).unwrap();
    assert_eq!(memory.bytes_asked(), (2 * u64::from(LEN), 0));
    assert_eq!(guest.all_used(), [(0, 0)]);
}

#[test]
fn source_writes_to_the_guests_own_memory() {
    /// Looks where it is to write, and writes nothing.
    struct Looking(Vec<(*const u8, usize)>);
    impl Source for Looking {
        fn fill<B: BitmapSlice>(
            &mut self,
            buffers: &[VolatileSlice<'_, B>],
        ) -> std::io::Result<usize> {
            self.0 = buffers.iter().map(place).collect();
            Ok(2 * LEN as usize)
        }
    }
    let memory = Counted::new();
    let (mut guest, mut queue) = Guest::new(&memory, 0, 8);
    let mut console = plain_console();
    guest.offer(0, &[(DATA, LEN), (SEAM - 16, LEN)], WRITE);
    memory
        .write_slice(&[0xee; LEN as usize], GuestAddress(DATA))
        .unwrap();
    memory.bytes_asked();
    let mut source = Looking(Vec::new());
    let sent = console.send_from(0, &memory, &mut queue, &mut source);
    let expected = [
        (memory.host_address(DATA), LEN as usize),
        (memory.host_address(SEAM - 16), 16),
        (memory.host_address(SEAM), LEN as usize - 16),
    ];
    assert_eq!(source.0, expected);
    assert_eq!(sent.unwrap().bytes, 2 * LEN as usize);
    assert_eq!(memory.bytes_asked(), (0, 2 * u64::from(LEN)));
    assert_eq!(guest.all_used(), [(0, 2 * LEN)]);
    assert_eq!(guest.read(DATA, 2), [0xee; 2], "nobody else wrote there");
}

#[test]
fn every_source_asks_for_the_buffers_once() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(&[7; 1000]).unwrap();
    let pieces: [&[u8]; 2] = [&[7; 300], &[7; 700]];
    let bytes = [7; 1000];
    for source in 0..3 {
        let memory = Counted::new();
        let (mut guest, mut queue) = Guest::new(&memory, 0, 8);
        let mut console = plain_console();
        guest.offer(0, &[(DATA, 600), (DATA + 0x1000, 600)], WRITE);
        memory.bytes_asked();
        let sent = match source {
            0 => console.send_from(0, &memory, &mut queue, &mut &bytes[..]),
            1 => console.send_from(0, &memory, &mut queue, &mut Slices::new(&pieces)),
            _ => console.send_from(0, &memory, &mut queue, &mut Descriptor::new(&ours)),
        };
        assert_eq!(sent.unwrap().bytes, 1000);
        assert_eq!(memory.bytes_asked(), (0, 1200), "source {source}");
        assert_eq!(guest.read(DATA, 600), [7; 600]);
        assert_eq!(guest.read(DATA + 0x1000, 401)[399..], [7, 0]);
    }
}

/// To look memory up is what a descriptor costs most, so it is done for a batch, whatever that holds.
#[test]
fn plain_memory_is_looked_up_a_few_times_for_any_number_of_buffers() {
    for (chains, links) in [(1, 1), (1, 256), (256, 1), (64, 4)] {
        let memory = Counted::plain();
        let (mut guest, mut queue) = Guest::new(&memory, 0, 256);
        let mut console = plain_console();
        let buffers: Vec<_> = (0..links).map(|at| (DATA + 0x100 * at, 4)).collect();
        let mut first = 0;
        for _ in 0..chains {
            first = guest.offer(first, &buffers, 0);
        }
        memory.asked.take();
        let received = console.receive(0, &memory, &mut queue).unwrap().unwrap();
        let slices = received.slices();
        assert_eq!(slices.len(), chains * buffers.len());
        for (slice, (address, len)) in slices.iter().zip(buffers.iter().cycle()) {
            let expected = (memory.host_address(*address), *len as usize);
            assert_eq!(place(slice), expected);
        }
        received.finish().unwrap();
        let asked = memory.asked.take().len();
        assert!(asked <= 6, "{asked} times for {chains} chains of {links}");
        assert_eq!(guest.all_used().len(), chains);
    }
}

fn place<B: BitmapSlice>(slice: &VolatileSlice<'_, B>) -> (*const u8, usize) {
    (slice.ptr_guard().as_ptr(), slice.len())
}
