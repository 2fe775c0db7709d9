//! What runs in the guest: 107 bytes of machine code that do what a script in its memory says, and the making of such scripts.

/// Where the guest's program begins.
pub(crate) const PROGRAM: u64 = 0x1000;

/// Where the guest goes when it is interrupted.
pub(crate) const INTERRUPTED: u64 = PROGRAM + 0x4e;

/// A guest that waits gives up when this is not zero.
pub(crate) const GIVE_UP: u64 = 0x700;

/// Where the script is, and how long it may be.
pub(crate) const SCRIPT: u64 = 0x10_0000;
pub(crate) const SCRIPT_MAX: usize = 0x8_0000;

/// Where the guest says that it came to the end of the script; and that something was not as the script says.
pub(crate) const ENDED: u16 = 0xf4;
pub(crate) const FAILED: u16 = 0xf5;

/// 32-bit code without paging. `esi` is where the script goes on; each of its steps is four words: what, `edi`, `ebx`, `ecx`.
#[rustfmt::skip]
pub(crate) const CODE: [u8; 107] = [
    // next:
    0x8b, 0x06,                               // 00  mov  eax, [esi]
    0x8b, 0x7e, 0x04,                         // 02  mov  edi, [esi + 4]
    0x8b, 0x5e, 0x08,                         // 05  mov  ebx, [esi + 8]
    0x8b, 0x4e, 0x0c,                         // 08  mov  ecx, [esi + 12]
    0x83, 0xc6, 0x10,                         // 0b  add  esi, 16
    0x48, 0x74, 0x17,                         // 0e  dec  eax; je store32
    0x48, 0x74, 0x18,                         // 11  dec  eax; je store16
    0x48, 0x74, 0x24,                         // 14  dec  eax; je await
    0x48, 0x74, 0x17,                         // 17  dec  eax; je expect
    0x48, 0x74, 0x38,                         // 1a  dec  eax; je copy
    0x48, 0x74, 0x3f,                         // 1d  dec  eax; je compare
    0x89, 0xf0,                               // 20  mov  eax, esi
    0xe7, 0xf4,                               // 22  out  ENDED, eax
    // fail:
    0x89, 0xf0,                               // 24  mov  eax, esi
    0xe7, 0xf5,                               // 26  out  FAILED, eax
    // store32:
    0x89, 0x1f,                               // 28  mov  [edi], ebx
    0xeb, 0xd4,                               // 2a  jmp  next
    // store16:
    0x66, 0x89, 0x1f,                         // 2c  mov  [edi], bx
    0xeb, 0xcf,                               // 2f  jmp  next
    // expect:
    0x8b, 0x07,                               // 31  mov  eax, [edi]
    0x21, 0xc8,                               // 33  and  eax, ecx
    0x39, 0xd8,                               // 35  cmp  eax, ebx
    0x75, 0xeb,                               // 37  jne  fail
    0xeb, 0xc5,                               // 39  jmp  next
    // await:
    0x83, 0x3d, 0x00, 0x07, 0x00, 0x00, 0x00, // 3b  cmp  dword [GIVE_UP], 0
    0x75, 0xe0,                               // 42  jne  fail
    0x8b, 0x07,                               // 44  mov  eax, [edi]
    0x21, 0xc8,                               // 46  and  eax, ecx
    0x39, 0xd8,                               // 48  cmp  eax, ebx
    0x74, 0xb4,                               // 4a  je   next
    0xfb, 0xf4,                               // 4c  sti; hlt
    // interrupt: (there is one place to come from, and it is left for good)
    0xbc, 0x00, 0x90, 0x00, 0x00,             // 4e  mov  esp, 0x9000
    0xeb, 0xe6,                               // 53  jmp  await
    // copy:
    0x89, 0xf2,                               // 55  mov  edx, esi
    0x89, 0xde,                               // 57  mov  esi, ebx
    0xf3, 0xa4,                               // 59  rep  movsb
    0x89, 0xd6,                               // 5b  mov  esi, edx
    0xeb, 0xa1,                               // 5d  jmp  next
    // compare:
    0x89, 0xf2,                               // 5f  mov  edx, esi
    0x89, 0xde,                               // 61  mov  esi, ebx
    0xf3, 0xa6,                               // 63  repe cmpsb
    0x89, 0xd6,                               // 65  mov  esi, edx
    0x75, 0xbb,                               // 67  jne  fail
    0xeb, 0x95,                               // 69  jmp  next
];

/// Where the device's registers are: no memory is there.
pub(crate) const DEVICE: u32 = 0xd000_0000;

/// Registers of virtio-mmio, version 2.
pub(crate) mod register {
    pub(crate) const MAGIC: u32 = 0x000;
    pub(crate) const VERSION: u32 = 0x004;
    pub(crate) const DEVICE_ID: u32 = 0x008;
    pub(crate) const DEVICE_FEATURES: u32 = 0x010;
    pub(crate) const DEVICE_FEATURES_SEL: u32 = 0x014;
    pub(crate) const DRIVER_FEATURES: u32 = 0x020;
    pub(crate) const DRIVER_FEATURES_SEL: u32 = 0x024;
    pub(crate) const QUEUE_SEL: u32 = 0x030;
    pub(crate) const QUEUE_NUM_MAX: u32 = 0x034;
    pub(crate) const QUEUE_NUM: u32 = 0x038;
    pub(crate) const QUEUE_READY: u32 = 0x044;
    pub(crate) const QUEUE_NOTIFY: u32 = 0x050;
    pub(crate) const INTERRUPT_STATUS: u32 = 0x060;
    pub(crate) const INTERRUPT_ACK: u32 = 0x064;
    pub(crate) const STATUS: u32 = 0x070;
    pub(crate) const QUEUE_DESC: u32 = 0x080;
    pub(crate) const QUEUE_DRIVER: u32 = 0x090;
    pub(crate) const QUEUE_DEVICE: u32 = 0x0a0;
    pub(crate) const CONFIG: u32 = 0x100;
}

/// Flags of a descriptor.
pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;

/// How many descriptors a queue has here.
pub(crate) const QUEUE_SIZE: u16 = 64;

/// What the guest is to do, step by step, and where its queues are by then.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) words: Vec<[u32; 4]>,
    queues: Vec<Ring>,
    event_idx: bool,
}

#[derive(Clone, Copy, Default)]
struct Ring {
    offered: u16,
    taken: u16,
}

impl Script {
    pub(crate) fn store32(&mut self, address: u32, value: u32) {
        self.words.push([1, address, value, 0]);
    }

    pub(crate) fn store16(&mut self, address: u32, value: u16) {
        self.words.push([2, address, value.into(), 0]);
    }

    /// Waits, halted, until these bits of the word have this value.
    pub(crate) fn wait_for(&mut self, address: u32, value: u32, mask: u32) {
        self.words.push([3, address, value, mask]);
    }

    pub(crate) fn expect(&mut self, address: u32, value: u32, mask: u32) {
        self.words.push([4, address, value, mask]);
    }

    pub(crate) fn copy(&mut self, to: u32, from: u32, len: u32) {
        self.words.push([5, to, from, len]);
    }

    pub(crate) fn compare(&mut self, one: u32, other: u32, len: u32) {
        self.words.push([6, one, other, len]);
    }

    pub(crate) fn end(&mut self) {
        self.words.push([7, 0, 0, 0]);
    }

    fn set(&mut self, register: u32, value: u32) {
        self.store32(DEVICE + register, value);
    }

    /// Finds the device, agrees on features and sets up all queues, as virtio 1.2 says in section 3.1.1.
    pub(crate) fn set_up(&mut self, features: u64, queues: u32) {
        use register::*;
        self.event_idx = features & (1 << 29) != 0;
        self.queues = vec![Ring::default(); queues as usize];
        self.set(STATUS, 0);
        for (register, value) in [(MAGIC, 0x7472_6976), (VERSION, 2), (DEVICE_ID, 3)] {
            self.expect(DEVICE + register, value, u32::MAX);
        }
        self.set(STATUS, 3); // ACKNOWLEDGE, DRIVER
        for (half, bits) in [(0, features as u32), (1, (features >> 32) as u32)] {
            self.set(DEVICE_FEATURES_SEL, half);
            self.expect(DEVICE + DEVICE_FEATURES, bits, bits);
            self.set(DRIVER_FEATURES_SEL, half);
            self.set(DRIVER_FEATURES, bits);
        }
        self.set(STATUS, 0xb); // and FEATURES_OK
        self.expect(DEVICE + STATUS, 0xb, u32::MAX);
        for queue in 0..queues {
            self.set(QUEUE_SEL, queue);
            self.expect(DEVICE + QUEUE_NUM_MAX, QUEUE_SIZE.into(), u32::MAX);
            self.set(QUEUE_NUM, QUEUE_SIZE.into());
            self.store32(avail(queue), 0);
            self.store32(used(queue), 0);
            self.set(QUEUE_DESC, table(queue));
            self.set(QUEUE_DRIVER, avail(queue));
            self.set(QUEUE_DEVICE, used(queue));
            self.set(QUEUE_READY, 1);
        }
        self.set(STATUS, 0xf); // and DRIVER_OK
    }

    pub(crate) fn describe(
        &mut self,
        queue: u32,
        index: u16,
        buffer: (u32, u32),
        flags: u16,
        next: u16,
    ) {
        let address = table(queue) + 16 * u32::from(index);
        self.store32(address, buffer.0);
        self.store32(address + 4, 0);
        self.store32(address + 8, buffer.1);
        self.store32(address + 12, u32::from(flags) | u32::from(next) << 16);
    }

    /// Makes a chain available, without a kick.
    pub(crate) fn publish(&mut self, queue: u32, head: u16) {
        self.publish_all(queue, &[head]);
    }

    /// Makes chains available at one instant, without a kick: a device that looks meanwhile sees none of them or all.
    pub(crate) fn publish_all(&mut self, queue: u32, heads: &[u16]) {
        let mut offered = self.queues[queue as usize].offered;
        for &head in heads {
            let slot = u32::from(offered % QUEUE_SIZE);
            self.store16(avail(queue) + 4 + 2 * slot, head);
            offered = offered.wrapping_add(1);
        }
        self.queues[queue as usize].offered = offered;
        self.store16(avail(queue) + 2, offered);
    }

    /// Makes one buffer available in the descriptor with this index, without a kick.
    pub(crate) fn offer(&mut self, queue: u32, index: u16, buffer: (u32, u32), flags: u16) {
        self.describe(queue, index, buffer, flags, 0);
        self.publish(queue, index);
    }

    pub(crate) fn kick(&mut self, queue: u32) {
        self.set(register::QUEUE_NOTIFY, queue);
    }

    /// Waits until the device has used so many more chains. The last one must have this head and length.
    pub(crate) fn wait_used(&mut self, queue: u32, count: u16, head: u16, len: u32) {
        let ring = &mut self.queues[queue as usize];
        ring.taken = ring.taken.wrapping_add(count);
        let taken = ring.taken;
        if self.event_idx {
            let event = avail(queue) + 4 + 2 * u32::from(QUEUE_SIZE);
            self.store16(event, taken.wrapping_sub(1));
        }
        self.wait_for(used(queue), u32::from(taken) << 16, 0xffff_0000);
        let slot = u32::from(taken.wrapping_sub(1) % QUEUE_SIZE);
        self.expect(used(queue) + 4 + 8 * slot, head.into(), u32::MAX);
        self.expect(used(queue) + 8 + 8 * slot, len, u32::MAX);
    }

    /// Waits for an interrupt and says that it was seen. With event index there may be none: what it is for was seen already.
    pub(crate) fn acknowledge(&mut self) {
        if !self.event_idx {
            self.wait_for(DEVICE + register::INTERRUPT_STATUS, 1, 1);
        }
        self.set(register::INTERRUPT_ACK, 1);
    }
}

/// Where a queue's descriptors are, and its rings.
fn table(queue: u32) -> u32 {
    0x1_0000 + 0x2000 * queue
}

fn avail(queue: u32) -> u32 {
    table(queue) + 0x1000
}

fn used(queue: u32) -> u32 {
    table(queue) + 0x1800
}
