//! What travels between the host and the agent: frames, and the messages in them.
//!
//! A session begins with a preamble from each side: [`PREAMBLE`], then eight bytes with the session's number, which the
//! host draws and the agent repeats. Number 0 is no session: an agent that begins says by it that it knows of none.
//! Frames follow:
//!
//! ```text
//! bytes  0..4   MAGIC
//!        4..8   length of the header, u32, little endian, at most HEADER_MAX
//!        8..12  length of the payload, u32, little endian, at most PAYLOAD_MAX
//!        12..   header: a Request or an Event, in postcard's encoding; then the payload, raw
//! ```
//!
//! What a command writes and what is in a file is always payload: it is never looked at, escaped or copied through an
//! encoder. Before a preamble any bytes may come (the end of an earlier session, cut off in the middle): they are skipped.
//! A new preamble may stand where a frame may stand, and ends the session that was.

use serde::{Deserialize, Serialize};

mod frame;
mod fuzz;
#[cfg(test)]
mod tests;
mod wait;

pub use frame::{Decoder, Item, OpenFrame, WireError, encode_frame, encode_preamble};
pub use fuzz::{fuzz_events, fuzz_requests};
pub use wait::{BootPhase, Process, Wait};

/// The version of the protocol. Both sides must have the same.
pub const VERSION: u16 = 2;

/// What a session begins with. It holds bytes that no text has.
pub const PREAMBLE: [u8; 16] = *b"\0\x01hotbed-agent\xff\n";

/// What a frame begins with.
pub const MAGIC: [u8; 4] = *b"\xf5hB1";

/// The longest header, in bytes.
pub const HEADER_MAX: usize = 64 << 10;

/// The longest payload, in bytes.
pub const PAYLOAD_MAX: usize = 256 << 10;

/// How many bytes of a stream may be on their way before the receiver gave leave for more, in each direction of each
/// operation. The receiver gives leave with `Credit` as its consumer takes them.
pub const WINDOW: u32 = 1 << 20;

/// The name of the virtio port that the agent speaks on: `/dev/virtio-ports/…` in the guest.
pub const PORT_NAME: &str = "org.hotbed.agent";

/// An operation: the host draws it, and may draw it again once the operation has ended.
pub type Id = u32;

/// What the host says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// The first frame of a session.
    Hello {
        /// [`VERSION`].
        version: u16,
    },
    /// Answered with [`Event::Done`] at once.
    Ping {
        /// The operation.
        id: Id,
    },
    /// Starts a command. The payload is the script when [`Program::Script`] asks for one, else empty.
    ///
    /// Answers: [`Event::Started`], any [`Event::Output`], then [`Event::Exited`] or [`Event::Failed`].
    Start {
        /// The operation.
        id: Id,
        /// What to run, and how.
        command: Command,
    },
    /// The payload is more of the operation's input: of a command's standard input, or of a put. Needs [`Event::Credit`].
    Input {
        /// The operation.
        id: Id,
        /// Where in the file the payload goes, for a put of a file (what is left out is a hole); else not used.
        offset: u64,
        /// Nothing follows.
        end: bool,
    },
    /// Gives leave to send more output.
    Credit {
        /// The operation.
        id: Id,
        /// How many more bytes.
        bytes: u32,
    },
    /// Sends a signal to a command.
    Signal {
        /// The operation.
        id: Id,
        /// Its number.
        signal: i32,
        /// To every process that the command has started, also those that left its process group.
        tree: bool,
    },
    /// Sets the size of a command's terminal.
    Resize {
        /// The operation.
        id: Id,
        /// The new size.
        size: Size,
    },
    /// Waits for something to happen. Answers: [`Event::Done`], or [`Event::Failed`].
    Wait {
        /// The operation.
        id: Id,
        /// For what.
        wait: Wait,
        /// How long at most, in milliseconds; then the answer is [`FailureKind::TimedOut`].
        timeout_ms: Option<u64>,
    },
    /// Writes a file or, from a tar stream, a folder. Its bytes follow with [`Request::Input`]. Answers: [`Event::Done`] when all is
    /// written, or [`Event::Failed`].
    Put {
        /// The operation.
        id: Id,
        /// What is to be written.
        put: Put,
    },
    /// Reads a file or a folder. Answers: [`Event::Entry`], [`Event::Output`] with its bytes, then [`Event::Done`], or
    /// [`Event::Failed`].
    Get {
        /// The operation.
        id: Id,
        /// The path.
        path: String,
    },
    /// Does something to the guest itself. Answers: [`Event::Done`], or [`Event::Failed`].
    System {
        /// The operation.
        id: Id,
        /// What.
        action: System,
    },
    /// Ends an operation: a command with its whole tree, a wait, a put, a get. Answer: the operation's usual end, or
    /// [`FailureKind::Cancelled`].
    Cancel {
        /// The operation.
        id: Id,
    },
}

/// What the agent says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The first frame of a session.
    Hello {
        /// [`VERSION`].
        version: u16,
        /// What the agent can do, by name, such as `"systemd"` or `"pid1"`. An unknown name means nothing.
        capabilities: Vec<String>,
        /// The kernel's `boot_id`: another one means that the guest has rebooted.
        boot_id: String,
    },
    /// A command runs.
    Started {
        /// The operation.
        id: Id,
        /// Its process.
        pid: u32,
    },
    /// The payload is more of what a command wrote, or of what is in a file. Never more than was given leave for.
    Output {
        /// The operation.
        id: Id,
        /// Which stream of a command; [`Stream::Stdout`] for files.
        stream: Stream,
        /// Where in the file the payload lies, for a get of a file (what is left out is a hole); else zero.
        offset: u64,
    },
    /// What a repeated command wrote so far does not count: another attempt follows.
    Discard {
        /// The operation.
        id: Id,
    },
    /// Gives leave to send more input.
    Credit {
        /// The operation.
        id: Id,
        /// How many more bytes.
        bytes: u32,
    },
    /// A command has ended, and all of its output was sent.
    Exited {
        /// The operation.
        id: Id,
        /// How it ended.
        exit: Exit,
        /// How long it ran, in microseconds.
        micros: u64,
        /// Its deadline came, and its tree was killed.
        timed_out: bool,
    },
    /// What a get will give.
    Entry {
        /// The operation.
        id: Id,
        /// What is at the path.
        entry: Entry,
    },
    /// The operation has ended as was wanted.
    Done {
        /// The operation.
        id: Id,
        /// What was found, where there is something to say: the line of the journal that matched, the state of a unit.
        found: String,
    },
    /// The operation has ended otherwise.
    Failed {
        /// The operation.
        id: Id,
        /// In what way.
        kind: FailureKind,
        /// What was tried, on what, and why it failed.
        message: String,
    },
}

/// What to run, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// What.
    pub program: Program,
    /// The folder to run in; the agent's own (`/tmp`) if there is none.
    pub directory: Option<String>,
    /// Variables to set (or, without a value, to unset) in the agent's environment.
    pub environment: Vec<(String, Option<String>)>,
    /// The user to run as, by name or number; the agent's own (root) if there is none.
    pub user: Option<String>,
    /// A terminal of this size is stdin, stdout and stderr (all output is [`Stream::Stdout`] then).
    pub terminal: Option<Size>,
    /// Whether input will come; else standard input is `/dev/null`.
    pub stdin: bool,
    /// What becomes of standard error.
    pub stderr: Stderr,
    /// After how many milliseconds the command's tree is killed.
    pub timeout_ms: Option<u64>,
    /// To be run again and again until it ends as wanted.
    pub repeat: Option<Repeat>,
    /// Not to be waited for: the answer to the start ends the operation, and neither a cancel nor the session's end ends the command.
    pub detached: bool,
}

/// What a command runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Program {
    /// The payload, as `bash -c 'set -euo pipefail; …'` runs it.
    Script {
        /// In a bash of its own; else in a fork of a clean one, which only a script that asks for its own pid and the like can
        /// tell from that.
        own_bash: bool,
    },
    /// A program (found by `PATH`) and its arguments.
    Arguments(Vec<String>),
}

/// What becomes of a command's standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stderr {
    /// It goes to the guest's log, as the backdoor shell's does.
    Log,
    /// It comes as [`Stream::Stderr`].
    Apart,
    /// It comes as [`Stream::Stdout`], in the order written.
    WithStdout,
}

/// A command that is run again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeat {
    /// Until it succeeds; else until it fails.
    pub until_success: bool,
    /// The pause between two attempts, in milliseconds.
    pub interval_ms: u64,
}

/// A stream of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stream {
    /// Standard output, or a file.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// With an exit status.
    Code(u8),
    /// By a signal. Of a script in a shared shell that is not known: it is `Code(128 + its number)` then, as shells have it.
    Signal(u8),
}

/// What is to be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    /// The path; missing folders above it are made.
    pub path: String,
    /// What the input is.
    pub kind: PutKind,
    /// Who is to own it, by number; root, or for a folder what the stream says, if there is none.
    pub owner: Option<(u32, u32)>,
}

/// What the input of a put is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PutKind {
    /// The bytes of a file. It appears under its name when it is whole.
    File {
        /// Its permission bits.
        mode: u32,
        /// Its length; what the input leaves out is a hole.
        len: u64,
    },
    /// A tar stream with what is in a folder, which need not be there.
    Folder,
}

/// What a get found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What it is.
    pub kind: EntryKind,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner and group.
    pub owner: (u32, u32),
}

/// What a get will send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// The bytes of a file, without its holes.
    File {
        /// Its length; zero for what has none, such as a file of `/proc`: its bytes come all the same.
        len: u64,
    },
    /// A tar stream with what is in the folder.
    Folder,
}

/// Something done to the guest itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum System {
    /// Sets the wall clock to these nanoseconds since 1970.
    SetClock {
        /// Nanoseconds.
        nanos: u64,
    },
    /// Mixes the payload into the kernel's random numbers, credits it, and has them seeded anew.
    AddEntropy,
    /// Gives the machine another name and other addresses.
    SetIdentity {
        /// The host name.
        hostname: String,
        /// Interfaces by name, each with its MAC address and its addresses, as `address/prefix length`.
        interfaces: Vec<(String, [u8; 6], Vec<String>)>,
        /// The text of `/etc/hosts`.
        hosts: String,
        /// The text of `/etc/machine-id`; that stays as it is, if it is empty or cannot be written.
        machine_id: String,
    },
    /// Powers the machine off, by its init where it has one.
    PowerOff,
    /// Reboots it.
    Reboot,
}

/// In what way an operation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// The request's time was over.
    TimedOut,
    /// The host cancelled it.
    Cancelled,
    /// It can not happen any more: the unit that is waited for has failed.
    Hopeless,
    /// There is no such file, user, program, unit.
    NotFound,
    /// The agent has not what it takes, such as systemd or bash.
    Unsupported,
    /// The request makes no sense.
    Invalid,
    /// A system call failed.
    Os,
}

impl Command {
    /// Makes a command that runs this once as the agent's own user, without input, a terminal or a timeout.
    #[must_use]
    pub fn new(program: Program) -> Self {
        Self {
            program,
            directory: None,
            environment: Vec::new(),
            user: None,
            terminal: None,
            stdin: false,
            stderr: Stderr::Log,
            timeout_ms: None,
            repeat: None,
            detached: false,
        }
    }

    /// Makes one for this script, which goes with the start as its payload. See [`crate::script::needs_own_bash`].
    #[must_use]
    pub fn script(script: &str) -> Self {
        Self::new(Program::Script {
            own_bash: crate::script::needs_own_bash(script),
        })
    }
}

impl Request {
    /// The operation that it is about; none for the hello.
    #[must_use]
    pub fn id(&self) -> Option<Id> {
        match self {
            Self::Hello { .. } => None,
            Self::Ping { id }
            | Self::Start { id, .. }
            | Self::Input { id, .. }
            | Self::Credit { id, .. }
            | Self::Signal { id, .. }
            | Self::Resize { id, .. }
            | Self::Wait { id, .. }
            | Self::Put { id, .. }
            | Self::Get { id, .. }
            | Self::System { id, .. }
            | Self::Cancel { id } => Some(*id),
        }
    }
}

impl Event {
    /// The operation that it is about; none for the hello.
    #[must_use]
    pub fn id(&self) -> Option<Id> {
        match self {
            Self::Hello { .. } => None,
            Self::Started { id, .. }
            | Self::Output { id, .. }
            | Self::Discard { id }
            | Self::Credit { id, .. }
            | Self::Exited { id, .. }
            | Self::Entry { id, .. }
            | Self::Done { id, .. }
            | Self::Failed { id, .. } => Some(*id),
        }
    }

    /// Whether it is the operation's last. A detached command ends with its start.
    #[must_use]
    pub fn is_last(&self) -> bool {
        matches!(
            self,
            Self::Exited { .. } | Self::Done { .. } | Self::Failed { .. }
        )
    }
}
