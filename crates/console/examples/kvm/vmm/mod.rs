//! A VMM of one vCPU and one console on virtio-mmio.
//!
//! The guest is a few bytes of code ([`guest`]) that do what a script says. Its kicks are an ioeventfd, its interrupts an
//! irqfd; one thread runs the vCPU, another one serves the device.

use std::error::Error;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hotbed_console::device::Config;
use hotbed_console::device::in_process::Ports;
use kvm_bindings::{KVM_IRQCHIP_PIC_MASTER, kvm_irqchip, kvm_regs, kvm_segment};
use kvm_ioctls::{IoEventAddress, Kvm, VcpuExit, VcpuFd, VmFd};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;

pub(crate) mod guest;
pub(crate) mod mmio;
#[expect(unsafe_code, reason = "KVM shares memory with a guest")]
mod sys;

use guest::{
    CODE, DEVICE, ENDED, FAILED, GIVE_UP, INTERRUPTED, PROGRAM, SCRIPT, SCRIPT_MAX, Script,
};
use mmio::{Mmio, State};

/// How much memory the guest has.
pub(crate) const MEMORY: usize = 32 << 20;

/// The line that the device interrupts by.
const LINE: u32 = 5;

/// The guest's first interrupt vector.
const VECTORS: u64 = 0x20;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// A machine at work.
pub(crate) struct Vmm<P> {
    pub(crate) memory: Arc<GuestMemoryMmap<()>>,
    device: Arc<Mutex<Mmio<P>>>,
    interrupt: EventFd,
    ended: mpsc::Receiver<Result<u64>>,
    /// Wakes the thread that serves the device.
    wake: OwnedFd,
    threads: Vec<JoinHandle<()>>,
}

/// What became of a machine.
#[derive(Debug)]
pub(crate) struct Report {
    /// How often the vCPU stopped for us.
    pub(crate) exits: u64,
    /// Why the device did not go on, each time.
    pub(crate) errors: Vec<String>,
}

impl<P: Ports + Send + 'static> Vmm<P> {
    /// Starts a machine whose memory is as `prepare` leaves it.
    pub(crate) fn start(
        config: Config,
        ports: P,
        script: &Script,
        prepare: impl FnOnce(&GuestMemoryMmap<()>),
    ) -> Result<Vmm<P>> {
        let vm = Kvm::new()?.create_vm()?;
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)])?;
        let memory = Arc::new(memory);
        sys::map(&vm, &memory)?;
        load(&memory, script)?;
        prepare(&memory);
        let interrupt = interrupts(&vm)?;
        let vcpu = vcpu(&vm)?;
        let queues = 2 + 2 * config.ports.len();
        let kicks = kicks(&vm, queues)?;
        let line = interrupt.try_clone()?;
        let device = Mmio::new(config, Arc::clone(&memory), kicks, line, ports)?;
        let device = Arc::new(Mutex::new(device));
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (sender, ended) = mpsc::channel();
        let serving = {
            let (device, wake) = (Arc::clone(&device), wake.try_clone()?);
            thread::spawn(move || serve(&device, &wake))
        };
        let running = {
            let (device, wake) = (Arc::clone(&device), wake.try_clone()?);
            let (memory, words) = (Arc::clone(&memory), script.words.clone());
            thread::spawn(move || {
                // The guest's memory and its VM live as long as its vCPU runs.
                let _kept = (memory, vm);
                let _ = sender.send(run(vcpu, &device, &wake, &words));
            })
        };
        Ok(Vmm {
            memory,
            device,
            interrupt,
            ended,
            wake,
            threads: vec![running, serving],
        })
    }

    /// The device's registers and what is behind them.
    pub(crate) fn device(&self) -> MutexGuard<'_, Mmio<P>> {
        lock(&self.device)
    }

    /// Waits until the guest came to the end of its script.
    pub(crate) fn wait(self, patience: Duration) -> Result<Report> {
        let ended = match self.ended.recv_timeout(patience) {
            Ok(ended) => ended,
            Err(RecvTimeoutError::Timeout) => {
                self.memory.write_obj(1_u32, GuestAddress(GIVE_UP))?;
                self.interrupt.write(1)?;
                self.ended
                    .recv()?
                    .and(Err("the guest took too long".into()))
            }
            Err(error) => Err(error.into()),
        };
        let errors = {
            let device = &mut self.device();
            device.state = State::Stopped;
            device.errors.iter().map(ToString::to_string).collect()
        };
        rustix::io::write(&self.wake, &1_u64.to_ne_bytes())?;
        for thread in self.threads {
            thread
                .join()
                .map_err(|_| "a thread of the machine panicked")?;
        }
        match ended {
            Ok(exits) => Ok(Report { exits, errors }),
            Err(error) => Err(format!("{error}; the device: {errors:?}").into()),
        }
    }
}

fn lock<P>(device: &Mutex<Mmio<P>>) -> MutexGuard<'_, Mmio<P>> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts code, tables and script where the guest expects them.
fn load(memory: &GuestMemoryMmap<()>, script: &Script) -> Result<()> {
    let descriptors: [u64; 3] = [0, 0x00cf_9b00_0000_ffff, 0x00cf_9300_0000_ffff];
    for (index, descriptor) in (0..).zip(descriptors) {
        memory.write_obj(descriptor, GuestAddress(0x500 + 8 * index))?;
    }
    let gate = INTERRUPTED & 0xffff | 8 << 16 | 0x8e00 << 32 | (INTERRUPTED >> 16) << 48;
    for vector in VECTORS..VECTORS + 16 {
        memory.write_obj(gate, GuestAddress(0x800 + 8 * vector))?;
    }
    memory.write_slice(&CODE, GuestAddress(PROGRAM))?;
    let words = script.words.iter().flatten();
    let bytes: Vec<u8> = words.flat_map(|word| word.to_le_bytes()).collect();
    if bytes.len() > SCRIPT_MAX {
        return Err("the script is too long".into());
    }
    memory.write_slice(&bytes, GuestAddress(SCRIPT))?;
    Ok(())
}

/// Makes an interrupt controller that needs no driver, and the eventfd that raises the device's line.
fn interrupts(vm: &VmFd) -> Result<EventFd> {
    vm.create_irq_chip()?;
    let mut chip = kvm_irqchip {
        chip_id: KVM_IRQCHIP_PIC_MASTER,
        ..Default::default()
    };
    vm.get_irqchip(&mut chip)?;
    sys::open_controller(&mut chip, u8::try_from(VECTORS)?);
    vm.set_irqchip(&chip)?;
    let interrupt = EventFd::new(libc_nonblocking())?;
    vm.register_irqfd(&interrupt, LINE)?;
    Ok(interrupt)
}

/// One eventfd for each value of the notify register.
fn kicks(vm: &VmFd, queues: usize) -> Result<Vec<EventFd>> {
    let notify = IoEventAddress::Mmio(u64::from(DEVICE + guest::register::QUEUE_NOTIFY));
    let kick = |queue: u32| {
        let kick = EventFd::new(libc_nonblocking())?;
        vm.register_ioevent(&kick, &notify, queue)?;
        Ok(kick)
    };
    (0..u32::try_from(queues)?).map(kick).collect()
}

/// A vCPU that will run the program: 32-bit, flat, without paging.
fn vcpu(vm: &VmFd) -> Result<VcpuFd> {
    let vcpu = vm.create_vcpu(0)?;
    let mut special = vcpu.get_sregs()?;
    let flat = |type_, selector| kvm_segment {
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..Default::default()
    };
    let data = flat(3, 16);
    special.cs = flat(11, 8);
    (special.ds, special.es, special.fs) = (data, data, data);
    (special.gs, special.ss) = (data, data);
    special.cr0 |= 1;
    (special.gdt.base, special.gdt.limit) = (0x500, 23);
    (special.idt.base, special.idt.limit) = (0x800, 0x17f);
    vcpu.set_sregs(&special)?;
    vcpu.set_regs(&kvm_regs {
        rip: PROGRAM,
        rsp: 0x9000,
        rsi: SCRIPT,
        rflags: 2,
        ..Default::default()
    })?;
    Ok(vcpu)
}

/// Runs the vCPU to the end of its script, and says how often it stopped.
fn run<P: Ports>(
    mut vcpu: VcpuFd,
    device: &Mutex<Mmio<P>>,
    wake: &OwnedFd,
    script: &[[u32; 4]],
) -> Result<u64> {
    let offset = |address: u64| {
        let offset = address.checked_sub(DEVICE.into());
        offset.and_then(|offset| u32::try_from(offset).ok())
    };
    let mut exits = 0;
    loop {
        exits += 1;
        match vcpu.run()? {
            VcpuExit::MmioRead(address, data) => match offset(address) {
                Some(offset) => lock(device).read(offset, data),
                None => return Err(format!("the guest reads {address:#x}").into()),
            },
            VcpuExit::MmioWrite(address, data) => {
                let offset = offset(address).ok_or("the guest writes outside")?;
                lock(device).write(offset, data)?;
                // The device may have begun to work.
                rustix::io::write(wake, &1_u64.to_ne_bytes())?;
            }
            VcpuExit::IoOut(ENDED, _) => return Ok(exits),
            VcpuExit::IoOut(FAILED, data) => {
                let next = data
                    .first_chunk()
                    .map_or(0, |word| u32::from_le_bytes(*word));
                let step = (u64::from(next).saturating_sub(SCRIPT) / 16).saturating_sub(1);
                let words = script.get(usize::try_from(step)?);
                return Err(format!("the guest failed at step {step}: {words:x?}").into());
            }
            other => return Err(format!("the vCPU stopped: {other:?}").into()),
        }
    }
}

/// Serves the device whenever there is something to do, until it is stopped.
fn serve<P: Ports>(device: &Mutex<Mmio<P>>, wake: &OwnedFd) {
    loop {
        let service = match &lock(device).state {
            State::Working(service) => service.as_fd().try_clone_to_owned().ok(),
            State::Idle(..) => None,
            State::Stopped => return,
        };
        let mut events = vec![PollFd::new(wake, PollFlags::IN)];
        events.extend(service.iter().map(|it| PollFd::new(it, PollFlags::IN)));
        if poll(&mut events, None).is_err() {
            return;
        }
        let _ = rustix::io::read(wake, &mut [0; 8]);
        lock(device).handle_ready();
    }
}

fn libc_nonblocking() -> i32 {
    i32::try_from(EventfdFlags::NONBLOCK.bits()).expect("a flag")
}
