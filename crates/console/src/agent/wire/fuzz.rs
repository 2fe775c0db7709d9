//! The bodies of the fuzz targets.

use super::{Decoder, Event, Item, Request, WireError, encode_frame, encode_preamble};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// Gives an agent's decoder bytes that a host might send. See [`fuzz_events`].
///
/// # Panics
///
/// When the pieces make a difference, or a message is another one after it was sent on.
pub fn fuzz_requests(data: &[u8]) {
    fuzz::<Request>(data);
}

/// Gives a host's decoder bytes that a guest might send, in the pieces that they ask for themselves, and once more in one: it
/// must find the same.
///
/// # Panics
///
/// When the pieces make a difference, or a message is another one after it was sent on.
pub fn fuzz_events(data: &[u8]) {
    fuzz::<Event>(data);
}

fn fuzz<M: Serialize + DeserializeOwned + Debug + PartialEq>(data: &[u8]) {
    let (sizes, bytes) = data.split_at(data.len().min(4));
    let whole = found::<M>(bytes, &mut std::iter::once(bytes.len()));
    let mut sizes = sizes.iter().map(|size| usize::from(*size) + 1).cycle();
    assert_eq!(
        found::<M>(bytes, &mut sizes),
        whole,
        "the pieces made a difference"
    );
    for item in whole {
        if let Found::Message(message, payload) = item {
            let mut again = Vec::new();
            encode_preamble(1, &mut again);
            encode_frame(&message, &payload, &mut again).expect("what was a frame can be one");
            let expected = [Found::Preamble(1), Found::Message(message, payload)];
            let again = found::<M>(&again, &mut std::iter::empty());
            assert_eq!(again, expected, "a message did not survive");
        }
    }
}

#[derive(Debug, PartialEq)]
enum Found<M> {
    Preamble(u64),
    Message(M, Vec<u8>),
    Error(WireError),
}

fn found<M: DeserializeOwned>(
    mut bytes: &[u8],
    sizes: &mut dyn Iterator<Item = usize>,
) -> Vec<Found<M>> {
    let mut decoder = Decoder::new();
    let mut all = Vec::new();
    // An error ends it: where the next preamble is looked for depends on what was read by then.
    while !bytes.is_empty() && !matches!(all.last(), Some(Found::Error(_))) {
        let size = sizes.next().unwrap_or(bytes.len()).clamp(1, bytes.len());
        let len = decoder.feed(&bytes[..size]);
        assert!(len > 0, "there is no room, and nothing to take out");
        bytes = &bytes[len..];
        loop {
            all.push(match decoder.poll::<M>() {
                Ok(None) => break,
                Ok(Some(Item::Preamble { session })) => Found::Preamble(session),
                Ok(Some(Item::Message { message, payload })) => {
                    Found::Message(message, payload.to_vec())
                }
                Err(WireError::NotAFrame(_)) => Found::Error(WireError::NotAFrame(Vec::new())),
                Err(error) => Found::Error(error),
            });
            if matches!(all.last(), Some(Found::Error(_))) {
                break;
            }
        }
    }
    all
}
