//! A switch to test, clients for it, and frames.

use std::io;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hotbed_switch::wire::vde::{REPLY_LEN, Request, parse_reply};
use hotbed_switch::wire::{FRAME_MAX, MacAddr};
use hotbed_switch::{Config, Counters, Switch};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tempfile::TempDir;

/// How long anything may take that should happen at once; only a failing test waits for it.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) const A: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0xa]);
pub(crate) const B: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0xb]);
pub(crate) const C: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0xc]);
pub(crate) const ALL: MacAddr = MacAddr([0xff; 6]);

/// A switch that takes VDE clients in a folder of its own.
pub(crate) struct Lan {
    pub(crate) switch: Switch,
    pub(crate) dir: TempDir,
}

impl Lan {
    pub(crate) fn start() -> Lan {
        Lan::with(Config::default())
    }

    pub(crate) fn with(config: Config) -> Lan {
        let dir = tempfile::tempdir().unwrap();
        let switch = Switch::start(config).unwrap();
        switch.listen_vde(&dir.path().join("vde.ctl")).unwrap();
        Lan { switch, dir }
    }

    pub(crate) fn vde_dir(&self) -> PathBuf {
        self.dir.path().join("vde.ctl")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn client(&self, description: &str) -> VdeClient {
        VdeClient::connect(&self.vde_dir(), description, None).unwrap()
    }

    /// Gives the counters of the port with this name.
    pub(crate) fn counters(&self, name: &str) -> Counters {
        self.switch
            .ports()
            .into_iter()
            .find(|port| port.name == name)
            .expect("such a port")
            .counters
    }

    /// Waits until there are so many ports.
    pub(crate) fn await_ports(&self, count: usize) {
        eventually("the number of ports", || self.switch.ports().len() == count);
    }
}

/// What libvdeplug does, without libvdeplug.
pub(crate) struct VdeClient {
    pub(crate) control: UnixStream,
    pub(crate) data: UnixDatagram,
    /// Where the switch receives.
    pub(crate) port_path: PathBuf,
    path: PathBuf,
}

static NEXT_CLIENT: AtomicU32 = AtomicU32::new(0);

impl VdeClient {
    pub(crate) fn connect(
        dir: &Path,
        description: &str,
        port: Option<u32>,
    ) -> io::Result<VdeClient> {
        let mut control = UnixStream::connect(dir.join("ctl"))?;
        control.set_read_timeout(Some(SOON))?;
        let number = NEXT_CLIENT.fetch_add(1, Ordering::Relaxed);
        let path = dir
            .canonicalize()?
            .join(format!(".{:05}-{number:05}", std::process::id()));
        let data = UnixDatagram::bind(&path)?;
        data.set_read_timeout(Some(SOON))?;
        data.set_write_timeout(Some(SOON))?;
        let request = Request {
            port,
            path: &path,
            description: description.as_bytes(),
        };
        io::Write::write_all(&mut control, &request.to_bytes())?;
        let mut reply = [0; REPLY_LEN];
        if let Err(error) = control.read_exact(&mut reply) {
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        let port_path = parse_reply(&reply)
            .expect("a path in the answer")
            .to_owned();
        data.connect(&port_path)?;
        Ok(VdeClient {
            control,
            data,
            port_path,
            path,
        })
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        assert_eq!(self.data.send(frame).unwrap(), frame.len());
    }

    pub(crate) fn recv(&self) -> Vec<u8> {
        recv_datagram(&self.data)
    }
}

impl Drop for VdeClient {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

pub(crate) fn recv_datagram(socket: &UnixDatagram) -> Vec<u8> {
    let mut buffer = vec![0; FRAME_MAX];
    let len = loop {
        match socket.recv(&mut buffer) {
            // A wait with a timeout is not taken up again after the process was stopped or frozen.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            received => break received.expect("a frame, soon"),
        }
    };
    buffer.truncate(len);
    buffer
}

/// A frame of the experimental type 0x88b5, 60 bytes or more.
pub(crate) fn frame(target: MacAddr, source: MacAddr, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&target.0[..], &source.0, &[0x88, 0xb5], payload].concat();
    frame.resize(frame.len().max(60), 0);
    frame
}

/// Waits for something that nobody tells about.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::yield_now();
    }
}

/// A process that ends with the test.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Running {
        Running(
            command
                .spawn()
                .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}")),
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Tells whether a program can be started; if not, says that the test is skipped.
pub(crate) fn have(program: &str, argument: &str) -> bool {
    let found = Command::new(program)
        .arg(argument)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if !found {
        println!("SKIPPED: `{program}` is not installed");
    }
    found
}

/// Binds a datagram socket that will be connected later.
pub(crate) fn bound_datagram(path: &Path) -> UnixDatagram {
    let flags = SocketFlags::CLOEXEC;
    let socket: OwnedFd =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None).unwrap();
    rustix::net::bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    let socket = UnixDatagram::from(socket);
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}
