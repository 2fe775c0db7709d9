//! One session with a monitor: numbers commands, matches answers to them, keeps events.
//!
//! No sockets, no clock, no threads: a front moves the bytes, waits, and asks.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::{Error, ErrorClass};
use crate::wire::{Execution, Greeting, MESSAGE_MAX, Malformed, Message, Splitter, encode_command};

mod history;
mod negotiation;
mod queue;
#[cfg(test)]
mod tests;

pub use history::{EVENT_BYTES_MAX, EVENTS_MAX, History};
pub use negotiation::GREETINGS_MAX;
use negotiation::Negotiation;
use queue::Queue;
pub use queue::{FILES_MAX, IN_BAND_MAX, QUEUE_BYTES_MAX, Transmit};

/// How many commands may be without an answer, those included whose callers gave up. More are refused.
pub const COMMANDS_MAX: usize = 1024;

/// The command that ends negotiation.
const NEGOTIATION: &str = "qmp_capabilities";

/// Names one command of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommandId(u64);

/// A session with a monitor.
///
/// ```
/// use hotbed_qmp::state::Session;
///
/// let mut session = Session::new("example");
/// session.handle_bytes(br#"{"QMP": {"version": {"qemu": {"major": 9, "minor": 0, "micro": 0}}}}"#);
/// let negotiation = session.poll_transmit().expect("the session answers the greeting");
/// assert!(negotiation.bytes.starts_with(br#"{"execute":"qmp_capabilities""#));
/// session.handle_bytes(br#"{"return": {}, "id": "example-0"}"#);
/// assert!(session.is_ready());
/// ```
#[derive(Debug)]
pub struct Session {
    /// Begins the number of each command, so that an answer to someone else's command is not taken for ours.
    tag: String,
    splitter: Splitter,
    negotiation: Negotiation,
    next: CommandId,
    /// What was submitted and not taken yet.
    commands: BTreeMap<CommandId, Waiting>,
    queue: Queue,
    history: History,
    strays: u64,
    over: Option<Over>,
}

/// A command without an answer, or with one that was not taken yet.
#[derive(Debug)]
struct Waiting {
    kind: Kind,
    is_abandoned: bool,
    answer: Option<Answer>,
}

/// Who asked for it, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The session itself.
    Negotiation,
    /// A caller.
    Command(Execution),
}

#[derive(Debug)]
enum Answer {
    Return(Box<RawValue>),
    Error { class: String, description: String },
}

/// Why a session is over.
#[derive(Debug, Clone)]
pub enum Over {
    /// QEMU closed it.
    Closed,
    /// QEMU broke the protocol.
    Malformed(Malformed),
    /// The socket failed.
    Socket(Arc<io::Error>),
}

impl Over {
    fn error(&self, command: &str) -> Error {
        match self {
            Over::Closed => Error::Closed {
                command: command.to_owned(),
            },
            Over::Malformed(Malformed { reason, excerpt }) => Error::Malformed {
                reason: reason.clone(),
                excerpt: excerpt.clone(),
            },
            Over::Socket(error) => Error::Socket(io::Error::new(error.kind(), Arc::clone(error))),
        }
    }
}

impl Session {
    /// Begins a session whose commands are numbered `TAG-0`, `TAG-1`, ….
    ///
    /// QEMU may send a new session the answer to a command of the session before it: a tag that is another each time
    /// tells them apart.
    #[must_use]
    pub fn new(tag: &str) -> Session {
        Session {
            tag: tag.to_owned(),
            splitter: Splitter::default(),
            negotiation: Negotiation::default(),
            next: CommandId(0),
            commands: BTreeMap::new(),
            queue: Queue::default(),
            history: History::default(),
            strays: 0,
            over: None,
        }
    }

    /// Takes the next bytes from QEMU.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        if self.over.is_some() {
            return;
        }
        self.splitter.handle_bytes(bytes);
        loop {
            let parsed = match self.splitter.poll_message() {
                Ok(None) => return,
                Ok(Some(message)) => Message::parse(message).map(|parsed| (message.len(), parsed)),
                Err(broken) => Err(broken),
            };
            let handled = parsed.and_then(|(size, message)| self.handle_message(size, message));
            if let Err(broken) = handled {
                return self.handle_end(Over::Malformed(broken));
            }
        }
    }

    /// Takes the news that no more bytes will come, or go. Answers and events that came before stay.
    pub fn handle_end(&mut self, why: Over) {
        if self.over.is_none() {
            self.over = Some(why);
            self.queue = Queue::default();
        }
    }

    /// Puts a command in the queue.
    ///
    /// # Errors
    ///
    /// If the session is over, too much is waiting, the command is too long or its arguments are not JSON, or if it
    /// is to run out of band and the monitor did not offer that or it has files, for which it might have to wait.
    pub fn submit<A: Serialize + ?Sized>(
        &mut self,
        execution: Execution,
        command: &str,
        arguments: Option<&A>,
        files: Vec<OwnedFd>,
    ) -> Result<CommandId, Error> {
        if let Some(over) = &self.over {
            return Err(over.error(command));
        }
        if execution == Execution::OutOfBand && !self.runs_out_of_band() {
            return Err(Error::NoOutOfBand {
                command: command.to_owned(),
            });
        }
        let limit = if execution == Execution::InBand {
            FILES_MAX
        } else {
            0
        };
        if files.len() > limit {
            return Err(Error::TooManyFiles {
                command: command.to_owned(),
                files: files.len(),
                limit,
            });
        }
        let bytes = encode_command(execution, command, arguments, &self.wire_id(self.next))
            .map_err(|source| Error::Arguments {
                command: command.to_owned(),
                source,
            })?;
        if bytes.len() > MESSAGE_MAX {
            return Err(Error::TooLong {
                command: command.to_owned(),
                size: bytes.len(),
            });
        }
        if self.commands.len() >= COMMANDS_MAX || !self.queue.has_room_for(bytes.len()) {
            return Err(Error::Busy {
                command: command.to_owned(),
            });
        }
        Ok(self.enqueue(execution, Transmit { bytes, files }))
    }

    /// Puts a command in the queue, in band and without files, with arguments that are JSON values.
    ///
    /// # Errors
    ///
    /// As [`submit`](Session::submit).
    pub fn submit_json(
        &mut self,
        command: &str,
        arguments: Option<&Value>,
    ) -> Result<CommandId, Error> {
        self.submit(Execution::InBand, command, arguments, Vec::new())
    }

    /// Gives what is to be written next, or none for now.
    ///
    /// None may turn to some after [`handle_bytes`](Session::handle_bytes): QEMU is given no more than
    /// [`IN_BAND_MAX`] commands at once, a command with files only when it has no other, and no other until it has
    /// answered that.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.queue.poll(self.negotiation.is_over())
    }

    /// Gives the answer to a command, once; none if it did not come yet.
    ///
    /// # Errors
    ///
    /// If QEMU refused the command, if the answer was taken before, or if the session ended without one.
    pub fn poll_answer(
        &mut self,
        id: CommandId,
        command: &str,
    ) -> Result<Option<Box<RawValue>>, Error> {
        let Some(waiting) = self.commands.get_mut(&id) else {
            return Err(Error::Answered {
                command: command.to_owned(),
            });
        };
        let Some(answer) = waiting.answer.take() else {
            return match &self.over {
                Some(over) => Err(over.error(command)),
                None => Ok(None),
            };
        };
        self.commands.remove(&id);
        match answer {
            Answer::Return(value) => Ok(Some(value)),
            Answer::Error { class, description } => {
                let class = ErrorClass::from_name(&class);
                Err(Error::Command {
                    command: command.to_owned(),
                    class,
                    description,
                })
            }
        }
    }

    /// Lets an answer go that nobody will take. A command that was not sent yet is sent all the same.
    pub fn abandon(&mut self, id: CommandId) {
        if let Some(waiting) = self.commands.get_mut(&id) {
            waiting.is_abandoned = true;
            if waiting.answer.is_some() {
                self.commands.remove(&id);
            }
        }
    }

    /// Gives the events that are kept.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Gives what QEMU said when the session began.
    #[must_use]
    pub fn greeting(&self) -> Option<&Greeting> {
        self.negotiation.greeting()
    }

    /// Says whether negotiation is over, so that commands go out.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.negotiation.is_over()
    }

    /// Says whether commands may run out of band.
    #[must_use]
    pub fn runs_out_of_band(&self) -> bool {
        self.negotiation.grants_out_of_band()
    }

    /// Gives the error of something that waits for a session which is over; none while it is not.
    #[must_use]
    pub fn end(&self, waiting_for: &str) -> Option<Error> {
        self.over.as_ref().map(|over| over.error(waiting_for))
    }

    /// Gives how many answers came to commands that this session did not send. They are passed over.
    #[must_use]
    pub fn strays(&self) -> u64 {
        self.strays
    }
}

impl Session {
    fn handle_message(&mut self, size: usize, message: Message) -> Result<(), Malformed> {
        match message {
            Message::Greeting(greeting) => self.handle_greeting(greeting),
            Message::Event {
                name,
                data,
                timestamp,
            } => {
                self.history.push(size, name, data, timestamp);
                Ok(())
            }
            Message::Return { id, value } => self.handle_answer(id, Answer::Return(value)),
            Message::Error {
                id,
                class,
                description,
            } => self.handle_answer(id, Answer::Error { class, description }),
        }
    }

    fn handle_greeting(&mut self, greeting: Greeting) -> Result<(), Malformed> {
        let arguments = self.negotiation.handle_greeting(greeting)?;
        let id = self.take_id(Kind::Negotiation);
        let wire_id = self.wire_id(id);
        let bytes = encode_command(Execution::InBand, NEGOTIATION, Some(&arguments), &wire_id)
            .map_err(|error| Malformed::new(error.to_string(), b""))?;
        self.queue.push_negotiation(id, bytes);
        Ok(())
    }

    fn handle_answer(&mut self, id: Option<Value>, answer: Answer) -> Result<(), Malformed> {
        let id = id
            .as_ref()
            .and_then(Value::as_str)
            .and_then(|id| self.own_id(id));
        let Some((id, waiting)) = id.and_then(|id| Some((id, self.commands.get_mut(&id)?))) else {
            self.strays += 1;
            return Ok(());
        };
        if waiting.answer.is_some() {
            self.strays += 1;
            return Ok(());
        }
        let kind = waiting.kind;
        if kind == Kind::Negotiation || waiting.is_abandoned {
            self.commands.remove(&id);
        }
        match (kind, &answer) {
            (Kind::Command(execution), _) => self.queue.handle_answered(id, execution),
            (Kind::Negotiation, Answer::Return(_)) => self.negotiation.handle_answer(None)?,
            (Kind::Negotiation, Answer::Error { description, .. }) => {
                self.negotiation.handle_answer(Some(description))?;
            }
        }
        if let Some(waiting) = self.commands.get_mut(&id) {
            waiting.answer = Some(answer);
        }
        Ok(())
    }

    fn enqueue(&mut self, execution: Execution, transmit: Transmit) -> CommandId {
        let id = self.take_id(Kind::Command(execution));
        self.queue.push(id, execution, transmit);
        id
    }

    /// Numbers a command, and waits for its answer.
    fn take_id(&mut self, kind: Kind) -> CommandId {
        let id = self.next;
        self.next = CommandId(id.0 + 1);
        let waiting = Waiting {
            kind,
            is_abandoned: false,
            answer: None,
        };
        self.commands.insert(id, waiting);
        id
    }

    fn wire_id(&self, id: CommandId) -> String {
        format!("{}-{}", self.tag, id.0)
    }

    fn own_id(&self, id: &str) -> Option<CommandId> {
        let number = id.strip_prefix(&self.tag)?.strip_prefix('-')?;
        number.parse().ok().map(CommandId)
    }
}
