//! The body of the fuzz target.

use super::{BLOCK_MAX, Event, INPUT_MAX, Parser, TEXT_MAX};

/// Gives a parser bytes in the pieces that they ask for themselves, and once more in one: it must find the same.
///
/// # Panics
///
/// When the pieces make a difference, or too much is kept.
pub fn fuzz_answers(data: &[u8]) {
    let (sizes, bytes) = data.split_at(data.len().min(4));
    let whole = events(bytes, &mut std::iter::once(bytes.len()));
    let mut sizes = sizes.iter().map(|size| usize::from(*size) + 1).cycle();
    assert_eq!(
        events(bytes, &mut sizes),
        whole,
        "the pieces made a difference"
    );
}

/// Finds what a session called `s` with command 1 finds in these bytes, with adjacent pieces of output joined.
fn events(mut bytes: &[u8], sizes: &mut dyn Iterator<Item = usize>) -> Vec<Event> {
    let mut parser = Parser::new("s");
    parser.want(Some(1));
    let mut found: Vec<Event> = Vec::new();
    while !bytes.is_empty() {
        let size = sizes
            .next()
            .unwrap_or(INPUT_MAX)
            .clamp(1, INPUT_MAX)
            .min(bytes.len());
        let (piece, rest) = bytes.split_at(size);
        bytes = rest;
        parser.handle_input(piece);
        while let Some(event) = parser.poll_event() {
            match (found.last_mut(), event) {
                (Some(Event::Output(output)), Event::Output(more)) => output.extend(more),
                (_, event) => found.push(event),
            }
        }
        assert!(
            parser.buffer.len() <= TEXT_MAX + BLOCK_MAX + 128,
            "{} bytes are undecided",
            parser.buffer.len()
        );
    }
    found
}
