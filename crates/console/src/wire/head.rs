//! What stands before and after the output in an answer.

use super::TEXT_MAX;

/// Heads and tails are shorter than this.
const LEN_MAX: usize = 64;

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
    Plain,
    /// The text is all, and has another byte for newline.
    Lines,
    /// Base64 follows.
    More,
    /// A NUL and base64 follow.
    Nul,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Status(u8),
    Discard,
    Unable(String),
}

/// Reads what follows `<NAME.`.
pub(super) fn frame(bytes: &[u8]) -> Parsed<Frame> {
    let (fields, len) = match fields(bytes, b":>") {
        Parsed::Value(fields, len) => (fields, len),
        Parsed::Partial => return Parsed::Partial,
        Parsed::Wrong => return Parsed::Wrong,
    };
    let closed = bytes.get(len - 1) == Some(&b'>');
    let frame = match (fields.as_slice(), closed) {
        ([number, "go"], true) => number.parse().ok().map(Frame::Go),
        ([number, "stop"], true) => number.parse().ok().map(Frame::Stop),
        ([number, len, kind], false) => answer(number, len, kind).map(Frame::Answer),
        _ => None,
    };
    frame.map_or(Parsed::Wrong, |frame| Parsed::Value(frame, len))
}

fn answer(number: &str, len: &str, kind: &str) -> Option<Head> {
    let kind = match kind {
        "=" => Kind::Plain,
        "~" => Kind::Lines,
        "+" => Kind::More,
        "0" => Kind::Nul,
        _ => return None,
    };
    let len = len.parse().ok().filter(|len| *len <= TEXT_MAX)?;
    Some(Head {
        number: number.parse().ok()?,
        len,
        kind,
    })
}

/// Reads what follows `|NAME.`: a number and what became of it.
pub(super) fn tail(bytes: &[u8]) -> Parsed<(u64, Verdict)> {
    let (fields, len) = match fields(bytes, b">") {
        Parsed::Value(fields, len) => (fields, len),
        Parsed::Partial => return Parsed::Partial,
        Parsed::Wrong => return Parsed::Wrong,
    };
    let [number, verdict] = fields.as_slice() else {
        return Parsed::Wrong;
    };
    let verdict = match verdict.strip_prefix('?') {
        Some(what) => Some(Verdict::Unable(what.to_owned())),
        None if *verdict == "!" => Some(Verdict::Discard),
        None => verdict.parse().ok().map(Verdict::Status),
    };
    match (number.parse(), verdict) {
        (Ok(number), Some(verdict)) => Parsed::Value((number, verdict), len),
        _ => Parsed::Wrong,
    }
}

/// Reads words up to one of these bytes, which counts too.
fn fields<'a>(bytes: &'a [u8], ends: &[u8]) -> Parsed<Vec<&'a str>> {
    let seen = &bytes[..bytes.len().min(LEN_MAX)];
    match seen
        .iter()
        .position(|byte| ends.contains(byte) || !byte.is_ascii_graphic() && *byte != b' ')
    {
        Some(end) if ends.contains(&seen[end]) => match std::str::from_utf8(&seen[..end]) {
            Ok(text) => Parsed::Value(text.split(' ').collect(), end + 1),
            Err(_) => Parsed::Wrong,
        },
        None if seen.len() < LEN_MAX => Parsed::Partial,
        Some(_) | None => Parsed::Wrong,
    }
}
