//! What stands before, between and after the output in an answer.

use super::{BASE64_BLOCK, BLOCK_MAX, TEXT_MAX};

/// Heads and marks are shorter than this.
pub(super) const LEN_MAX: usize = 64;

/// A value at the start of some bytes.
#[derive(Debug)]
pub(super) enum Parsed<T> {
    /// It may be one when more bytes come.
    Partial,
    /// It is none.
    Wrong,
    /// It is this, and so long.
    Value(T, usize),
}

/// What the guest says, by its head.
#[derive(Clone, Copy, Debug)]
pub(super) enum Frame {
    Go(u64),
    Stop(u64),
    Answer(Head),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) number: u64,
    /// Of the text, in bytes; no more than [`TEXT_MAX`].
    pub(super) len: usize,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The text is all.
    Whole,
    /// Blocks follow.
    More,
    /// A NUL and blocks follow.
    Nul,
}

/// What stands after output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// So many bytes before this are output; `None`: less than a full block, from a guest that does not count it.
    Raw(Option<usize>),
    /// So many bytes before this are output in base64.
    Base64(usize),
    /// The answer is complete.
    End(Verdict),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Status(u8),
    Discard,
    Unable(String),
}

/// Reads what follows `<NAME.`.
pub(super) fn frame(bytes: &[u8]) -> Parsed<Frame> {
    words(bytes, b":>", |words, end| match (words, end) {
        ([number, "go"], b'>') => number.parse().ok().map(Frame::Go),
        ([number, "stop"], b'>') => number.parse().ok().map(Frame::Stop),
        ([number, len, kind], b':') => answer(number, len, kind).map(Frame::Answer),
        _ => None,
    })
}

fn answer(number: &str, len: &str, kind: &str) -> Option<Head> {
    let kind = match kind {
        "=" => Kind::Whole,
        "+" => Kind::More,
        "0" => Kind::Nul,
        _ => return None,
    };
    Some(Head {
        number: number.parse().ok()?,
        len: len.parse().ok().filter(|len| *len <= TEXT_MAX)?,
        kind,
    })
}

/// Reads what follows `|NAME.`.
pub(super) fn mark(bytes: &[u8]) -> Parsed<(u64, Mark)> {
    words(bytes, b">", |words, _| {
        let [number, what] = words else { return None };
        let mark = match what.split_at_checked(1)? {
            ("#", "-") => Mark::Raw(None),
            ("#", len) => Mark::Raw(Some(len.parse().ok().filter(|len| *len <= BLOCK_MAX)?)),
            ("%", len) => Mark::Base64(len.parse().ok().filter(|len| *len <= BASE64_BLOCK)?),
            ("!", "") => Mark::End(Verdict::Discard),
            ("?", what) => Mark::End(Verdict::Unable(what.to_owned())),
            _ => Mark::End(Verdict::Status(what.parse().ok()?)),
        };
        Some((number.parse().ok()?, mark))
    })
}

/// Reads words up to one of these bytes, which counts too, and what they mean.
fn words<T>(
    bytes: &[u8],
    ends: &[u8],
    meaning: impl FnOnce(&[&str], u8) -> Option<T>,
) -> Parsed<T> {
    let seen = &bytes[..bytes.len().min(LEN_MAX)];
    let stop = |byte: &u8| ends.contains(byte) || !byte.is_ascii_graphic() && *byte != b' ';
    match seen.iter().position(stop) {
        None if seen.len() < LEN_MAX => Parsed::Partial,
        None => Parsed::Wrong,
        Some(end) if !ends.contains(&seen[end]) => Parsed::Wrong,
        Some(end) => {
            let text = std::str::from_utf8(&seen[..end]).unwrap_or_default();
            let words: Vec<&str> = text.split(' ').collect();
            meaning(&words, seen[end])
                .map_or(Parsed::Wrong, |meaning| Parsed::Value(meaning, end + 1))
        }
    }
}
