//! Bytes to [`Message`], and commands to bytes.
//!
//! A message is a JSON object. [`Splitter`] finds where each ends by counting brackets, not by looking for ends of
//! lines: a monitor with `pretty=on` spreads a message over many lines, and a message may come in any number of
//! pieces. It looks at each byte once, whatever the pieces, and holds no more than [`MESSAGE_MAX`].
//!
//! Answers stay JSON text ([`RawValue`]) until someone wants them as values, so that an answer which cannot be
//! read only fails the command that asked for it.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

mod fuzz;
mod split;
#[cfg(test)]
mod tests;

pub use fuzz::fuzz_messages;
pub use split::Splitter;

/// The longest message, in bytes, that is read from QEMU or written to it. QEMU's own limit on what it reads is the
/// same; what it writes has none.
pub const MESSAGE_MAX: usize = 64 << 20;

/// How much of what is not QMP an error shows, in bytes.
pub const EXCERPT_MAX: usize = 200;

/// Why bytes are not QMP.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not QMP: {reason}: {excerpt:?}")]
pub struct Malformed {
    /// What is wrong with them.
    pub reason: String,
    /// How they begin.
    pub excerpt: String,
}

impl Malformed {
    pub(crate) fn new(reason: impl Into<String>, bytes: &[u8]) -> Malformed {
        let shown = &bytes[..bytes.len().min(EXCERPT_MAX)];
        Malformed {
            reason: reason.into(),
            excerpt: String::from_utf8_lossy(shown).into_owned(),
        }
    }
}

/// What QEMU says of itself when a session begins.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Greeting {
    /// Which QEMU this is.
    pub version: Version,
    /// What the session may switch on.
    #[serde(default)]
    pub capabilities: Vec<Value>,
}

impl Greeting {
    /// Says whether commands may be run out of band.
    #[must_use]
    pub fn offers_out_of_band(&self) -> bool {
        self.capabilities
            .iter()
            .any(|capability| capability == "oob")
    }
}

/// Which QEMU this is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Version {
    /// The version's three numbers.
    pub qemu: VersionTriple,
    /// The distribution's name for its build; often empty.
    #[serde(default)]
    pub package: String,
}

/// The three numbers of a version of QEMU; they compare as versions do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct VersionTriple {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
    /// The third number.
    pub micro: u32,
}

impl fmt::Display for VersionTriple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

/// When QEMU says that something happened, by the host's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Timestamp {
    /// Seconds since 1970; -1 if QEMU could not tell.
    pub seconds: i64,
    /// Microseconds since that second.
    pub microseconds: i64,
}

/// Something that happened in QEMU or its guest.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// QEMU's name for it, such as `SHUTDOWN`.
    pub name: String,
    /// What QEMU says about it; `Null` if nothing.
    pub data: Value,
    /// When it happened, if QEMU says.
    pub timestamp: Option<Timestamp>,
    /// Its place among the events of the session, from 0 on, without gaps.
    pub sequence: u64,
}

/// One message from QEMU.
#[derive(Debug, Clone)]
pub enum Message {
    /// The first one of a session.
    Greeting(Greeting),
    /// A command was carried out.
    Return {
        /// The command's number, as it was sent.
        id: Option<Value>,
        /// The answer.
        value: Box<RawValue>,
    },
    /// A command failed.
    Error {
        /// The command's number, as it was sent; none if QEMU could not read that far.
        id: Option<Value>,
        /// What kind of error.
        class: String,
        /// QEMU's words.
        description: String,
    },
    /// Something happened.
    Event {
        /// QEMU's name for it.
        name: String,
        /// What QEMU says about it.
        data: Value,
        /// When it happened.
        timestamp: Option<Timestamp>,
    },
}

/// All fields that a message may have; which ones it has says what it is.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(rename = "QMP")]
    greeting: Option<Greeting>,
    #[serde(rename = "return", borrow, default, deserialize_with = "even_null")]
    answer: Option<&'a RawValue>,
    error: Option<ErrorFields>,
    event: Option<String>,
    data: Option<Value>,
    timestamp: Option<Timestamp>,
    id: Option<Value>,
}

#[derive(Deserialize)]
struct ErrorFields {
    class: String,
    desc: String,
}

/// Reads a field whose value may be null, which an `Option` alone would take for its absence.
fn even_null<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl Message {
    /// Reads one message, whole and alone.
    ///
    /// # Errors
    ///
    /// If it is not JSON, or none of the four kinds of message.
    pub fn parse(bytes: &[u8]) -> Result<Message, Malformed> {
        let fields: Fields<'_> = serde_json::from_slice(bytes)
            .map_err(|error| Malformed::new(error.to_string(), bytes))?;
        match fields {
            Fields {
                greeting: Some(greeting),
                answer: None,
                error: None,
                event: None,
                ..
            } => Ok(Message::Greeting(greeting)),
            Fields {
                answer: Some(value),
                greeting: None,
                error: None,
                event: None,
                id,
                ..
            } => Ok(Message::Return {
                id,
                value: value.to_owned(),
            }),
            Fields {
                error: Some(error),
                greeting: None,
                answer: None,
                event: None,
                id,
                ..
            } => Ok(Message::Error {
                id,
                class: error.class,
                description: error.desc,
            }),
            Fields {
                event: Some(name),
                greeting: None,
                answer: None,
                error: None,
                data,
                timestamp,
                ..
            } => Ok(Message::Event {
                name,
                data: data.unwrap_or(Value::Null),
                timestamp,
            }),
            _ => Err(Malformed::new(
                "neither greeting, answer, error nor event",
                bytes,
            )),
        }
    }
}

/// How a command is to be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Execution {
    /// After those sent before it.
    InBand,
    /// At once, whatever else waits.
    OutOfBand,
}

/// Writes a command as QEMU reads it.
///
/// # Errors
///
/// If the arguments cannot be JSON, such as a map whose keys are not strings.
pub fn encode_command<A: Serialize + ?Sized>(
    execution: Execution,
    command: &str,
    arguments: Option<&A>,
    id: &str,
) -> Result<Vec<u8>, serde_json::Error> {
    #[derive(Serialize)]
    struct Fields<'a, A: ?Sized> {
        #[serde(skip_serializing_if = "Option::is_none")]
        execute: Option<&'a str>,
        #[serde(rename = "exec-oob", skip_serializing_if = "Option::is_none")]
        out_of_band: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        arguments: Option<&'a A>,
        id: &'a str,
    }
    let (execute, out_of_band) = match execution {
        Execution::InBand => (Some(command), None),
        Execution::OutOfBand => (None, Some(command)),
    };
    let mut bytes = serde_json::to_vec(&Fields {
        execute,
        out_of_band,
        arguments,
        id,
    })?;
    bytes.extend_from_slice(b"\r\n");
    Ok(bytes)
}
