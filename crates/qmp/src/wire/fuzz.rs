//! What must hold for any bytes.

use super::{Message, Splitter};
use crate::state::Session;

/// How many commands the session sends, so that the stream may answer some.
const COMMANDS: usize = 16;

/// Checks that the parser and a session take any bytes, in any pieces, and come to the same end.
///
/// The first byte says how large the pieces are; the rest is what QEMU sends.
///
/// # Panics
///
/// If the messages depend on how the bytes were cut, which would be a bug in the parser.
pub fn fuzz_messages(data: &[u8]) {
    let Some((&size, stream)) = data.split_first() else {
        return;
    };
    let size = usize::from(size).max(1);

    let whole = messages([stream]);
    let pieces = messages(stream.chunks(size));
    assert_eq!(
        whole, pieces,
        "the messages depend on how the stream was cut into pieces of {size}"
    );
    for message in &whole.0 {
        drop(Message::parse(message));
    }

    let mut session = Session::new("f");
    let mut commands = 0..COMMANDS;
    for piece in stream.chunks(size) {
        session.handle_bytes(piece);
        while session.poll_transmit().is_some() {}
        if session.is_ready() && commands.next().is_some() {
            drop(session.submit_json("query-status", None));
        }
    }
}

/// Gives the messages of a stream that comes in pieces, and how it broke if it did.
fn messages<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Option<String>) {
    let (mut splitter, mut found) = (Splitter::default(), Vec::new());
    for piece in pieces {
        splitter.handle_bytes(piece);
        loop {
            match splitter.poll_message() {
                Ok(Some(message)) => found.push(message.to_vec()),
                Ok(None) => break,
                Err(broken) => return (found, Some(broken.reason)),
            }
        }
    }
    (found, None)
}
