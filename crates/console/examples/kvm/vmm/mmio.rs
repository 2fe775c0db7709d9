//! The registers of virtio-mmio, version 2, for a console: before the driver is ready they collect, then the service works.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hotbed_console::device::in_process::{Interrupt, Kicked, Ports, STATUS_CONFIG, Service};
use hotbed_console::device::{Config, Console, Error, wire};
use virtio_queue::{Queue, QueueT};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

use super::guest::{QUEUE_SIZE, register};
use super::sys;

const NEEDS_RESET: u32 = 0x40;
const DRIVER_OK: u32 = 4;

/// A console's registers.
pub(crate) struct Mmio<P> {
    pub(crate) state: State<P>,
    /// Why the device did not go on, each time.
    pub(crate) errors: Vec<Error>,
    memory: Arc<GuestMemoryMmap<()>>,
    config: Config,
    kicks: Vec<EventFd>,
    interrupt: EventFd,
    interrupt_status: Arc<std::sync::atomic::AtomicU32>,
    status: u32,
    device_features_sel: u32,
    driver_features_sel: u32,
    driver_features: u64,
    queue_sel: usize,
}

/// Who has the device.
pub(crate) enum State<P> {
    /// The registers: the driver is not ready.
    Idle(Console, Vec<Queue>, Option<P>),
    /// The service.
    Working(Service<Arc<GuestMemoryMmap<()>>, P>),
    /// Nobody: the machine ends.
    Stopped,
}

impl<P: Ports> Mmio<P> {
    pub(crate) fn new(
        config: Config,
        memory: Arc<GuestMemoryMmap<()>>,
        kicks: Vec<EventFd>,
        interrupt: EventFd,
        ports: P,
    ) -> Result<Mmio<P>, Error> {
        let console = Console::new(config.clone())?;
        let queues = new_queues(console.queue_count());
        Ok(Mmio {
            state: State::Idle(console, queues, Some(ports)),
            errors: Vec::new(),
            memory,
            config,
            kicks,
            interrupt,
            interrupt_status: Arc::default(),
            status: 0,
            device_features_sel: 0,
            driver_features_sel: 0,
            driver_features: 0,
            queue_sel: 0,
        })
    }

    /// What the guest reads from a register.
    pub(crate) fn read(&mut self, offset: u32, data: &mut [u8]) {
        use register::*;
        data.fill(0);
        if offset >= CONFIG {
            if let Some(console) = self.console() {
                console.read_config((offset - CONFIG).into(), data);
            }
            return;
        }
        let value = match offset {
            MAGIC => 0x7472_6976,
            VERSION => 2,
            DEVICE_ID => wire::DEVICE_ID,
            DEVICE_FEATURES => match self.device_features_sel {
                0 => self.features() as u32,
                1 => (self.features() >> 32) as u32,
                _ => 0,
            },
            QUEUE_NUM_MAX if self.queue_sel < self.kicks.len() => QUEUE_SIZE.into(),
            INTERRUPT_STATUS => self.interrupt_status.load(Ordering::SeqCst),
            STATUS => self.status,
            _ => 0,
        };
        if let Ok(data) = <&mut [u8; 4]>::try_from(data) {
            *data = value.to_le_bytes();
        }
    }

    /// What the guest writes to a register; the notify register is an ioeventfd and does not come here.
    pub(crate) fn write(&mut self, offset: u32, data: &[u8]) -> Result<(), Error> {
        use register::*;
        if offset >= CONFIG {
            if let Some(console) = self.console() {
                console.write_config((offset - CONFIG).into(), data);
            }
            return Ok(());
        }
        let Ok(value) = <[u8; 4]>::try_from(data).map(u32::from_le_bytes) else {
            return Ok(());
        };
        match offset {
            DEVICE_FEATURES_SEL => self.device_features_sel = value,
            DRIVER_FEATURES_SEL => self.driver_features_sel = value,
            DRIVER_FEATURES if self.driver_features_sel < 2 => {
                let shift = 32 * self.driver_features_sel;
                self.driver_features &= !(u64::from(u32::MAX) << shift);
                self.driver_features |= u64::from(value) << shift;
            }
            QUEUE_SEL => self.queue_sel = value as usize,
            INTERRUPT_ACK => {
                self.interrupt_status.fetch_and(!value, Ordering::SeqCst);
            }
            STATUS => return self.set_status(value),
            _ => self.write_queue(offset, value),
        }
        Ok(())
    }

    fn write_queue(&mut self, offset: u32, value: u32) {
        use register::*;
        let (queues, selected) = match &mut self.state {
            State::Idle(_, queues, _) => (queues, self.queue_sel),
            State::Working(_) | State::Stopped => return,
        };
        let Some(queue) = queues.get_mut(selected) else {
            return;
        };
        match offset {
            QUEUE_NUM => queue.set_size(u16::try_from(value).unwrap_or(0)),
            QUEUE_READY => queue.set_ready(value == 1),
            QUEUE_DESC => queue.set_desc_table_address(Some(value), None),
            QUEUE_DRIVER => queue.set_avail_ring_address(Some(value), None),
            QUEUE_DEVICE => queue.set_used_ring_address(Some(value), None),
            _ if offset == QUEUE_DESC + 4 => queue.set_desc_table_address(None, Some(value)),
            _ if offset == QUEUE_DRIVER + 4 => queue.set_avail_ring_address(None, Some(value)),
            _ if offset == QUEUE_DEVICE + 4 => queue.set_used_ring_address(None, Some(value)),
            _ => {}
        }
    }

    fn set_status(&mut self, value: u32) -> Result<(), Error> {
        if value == 0 {
            return self.reset();
        }
        let begins = value & !self.status & DRIVER_OK != 0;
        self.status = value | self.status & NEEDS_RESET;
        match begins {
            true => self.begin(),
            false => Ok(()),
        }
    }

    /// The driver is ready: the service takes over.
    fn begin(&mut self) -> Result<(), Error> {
        let State::Idle(console, queues, ports) = &mut self.state else {
            return Ok(());
        };
        let Some(ports) = ports.take() else {
            return Ok(());
        };
        let mut console = std::mem::replace(console, Console::new(self.config.clone())?);
        console.set_driver_features(self.driver_features);
        let queues = std::mem::take(queues).into_iter().zip(&self.kicks);
        let queues = queues
            .map(|(queue, kick)| {
                let kick = duplicate(kick)?;
                Ok(Kicked { queue, kick })
            })
            .collect::<Result<_, Error>>()?;
        let interrupt = Interrupt::line(duplicate(&self.interrupt)?);
        self.interrupt_status = interrupt.status();
        let memory = Arc::clone(&self.memory);
        self.state = State::Working(Service::new(console, memory, queues, interrupt, ports)?);
        Ok(())
    }

    fn reset(&mut self) -> Result<(), Error> {
        (self.status, self.driver_features) = (0, 0);
        let stopped = std::mem::replace(&mut self.state, State::Stopped);
        let (mut console, ports) = match stopped {
            State::Idle(console, _, ports) => (console, ports),
            State::Working(service) => {
                let (console, _, ports) = service.into_parts();
                (console, Some(ports))
            }
            State::Stopped => return Ok(()),
        };
        console.reset();
        let queues = new_queues(console.queue_count());
        self.state = State::Idle(console, queues, ports);
        Ok(())
    }

    /// Has the service do what it can. When the guest broke its device, the device says so.
    pub(crate) fn handle_ready(&mut self) {
        let State::Working(service) = &mut self.state else {
            return;
        };
        if self.status & NEEDS_RESET != 0 {
            return;
        }
        if let Err(error) = service.handle_ready() {
            self.errors.push(error);
            self.status |= NEEDS_RESET;
            self.interrupt_status
                .fetch_or(STATUS_CONFIG, Ordering::SeqCst);
            let _ = self.interrupt.write(1);
        }
    }

    fn console(&mut self) -> Option<&mut Console> {
        match &mut self.state {
            State::Idle(console, ..) => Some(console),
            State::Working(service) => Some(service.console_mut()),
            State::Stopped => None,
        }
    }

    fn features(&mut self) -> u64 {
        self.console().map_or(0, |console| console.features())
    }
}

fn new_queues(count: usize) -> Vec<Queue> {
    let queue = || Queue::new(QUEUE_SIZE).expect("a power of two");
    std::iter::repeat_with(queue).take(count).collect()
}

fn duplicate(event: &EventFd) -> Result<OwnedFd, Error> {
    let event = event.try_clone().map_err(Error::Descriptor)?;
    Ok(sys::owned(event))
}
