//! D-Bus messages: bytes to values and back.
//!
//! Only what the waits need: calls whose arguments are strings, and the reading of whatever comes, in the byte order of this
//! machine. Whoever is on the other side, nothing here panics, and no length is believed before it is checked.

#[cfg(test)]
pub(in crate::wait) mod fake;
#[cfg(test)]
mod tests;

/// The longest message that is read, in bytes. A longer one is skipped: it is not about what we asked.
pub(in crate::wait) const MESSAGE_MAX: usize = 1 << 20;

/// The longest message that there may be, in bytes: the protocol's own bound.
const PROTOCOL_MAX: usize = 128 << 20;

/// How deep values may lie in each other: the protocol's own bound, for arrays and structs together.
const DEPTH_MAX: usize = 64;

/// The length of the part of the header that every message has.
const FIXED_LEN: usize = 16;

const BYTE_ORDER: u8 = if cfg!(target_endian = "big") {
    b'B'
} else {
    b'l'
};

/// Bytes that are no message, or a value of another type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::wait) struct Garbled;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::wait) enum Kind {
    Call,
    Return,
    Error,
    Signal,
    Other,
}

/// A message that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::wait) struct Message {
    pub(in crate::wait) kind: Kind,
    pub(in crate::wait) serial: u32,
    pub(in crate::wait) reply_to: u32,
    pub(in crate::wait) path: String,
    pub(in crate::wait) interface: String,
    pub(in crate::wait) member: String,
    pub(in crate::wait) error: String,
    pub(in crate::wait) signature: String,
    body: Vec<u8>,
}

/// A call to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::wait) struct Call<'a> {
    pub(in crate::wait) destination: &'a str,
    pub(in crate::wait) path: &'a str,
    pub(in crate::wait) interface: &'a str,
    pub(in crate::wait) member: &'a str,
    pub(in crate::wait) arguments: &'a [&'a str],
}

/// A value out of a message, as far as anybody asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::wait) enum Value {
    Text(String),
    Number(u64),
    /// Of a type that nobody asks for.
    Other,
}

impl Call<'_> {
    /// The call in bytes.
    pub(in crate::wait) fn encode(&self, serial: u32) -> Vec<u8> {
        let mut body = Vec::new();
        for argument in self.arguments {
            put_text(&mut body, argument);
        }
        let signature = "s".repeat(self.arguments.len());
        let mut bytes = vec![BYTE_ORDER, 1, 0, 1];
        put_number(&mut bytes, length(body.len()));
        put_number(&mut bytes, serial);
        put_number(&mut bytes, 0); // The length of the fields, below.
        let mut field = |code: u8, signature: u8, text: &str| {
            align(&mut bytes, 8);
            bytes.extend([code, 1, signature, 0]);
            if signature == b'g' {
                bytes.push(u8::try_from(text.len()).expect("a short signature"));
                bytes.extend(text.as_bytes());
                bytes.push(0);
            } else {
                put_text(&mut bytes, text);
            }
        };
        field(1, b'o', self.path);
        field(2, b's', self.interface);
        field(3, b's', self.member);
        if !self.destination.is_empty() {
            field(6, b's', self.destination);
        }
        if !signature.is_empty() {
            field(8, b'g', &signature);
        }
        let fields = length(bytes.len() - FIXED_LEN);
        bytes[12..16].copy_from_slice(&fields.to_ne_bytes());
        align(&mut bytes, 8);
        bytes.extend(body);
        bytes
    }
}

fn length(len: usize) -> u32 {
    u32::try_from(len).expect("what we send is short")
}

fn align(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

fn put_number(bytes: &mut Vec<u8>, number: u32) {
    align(bytes, 4);
    bytes.extend(number.to_ne_bytes());
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_number(bytes, length(text.len()));
    bytes.extend(text.as_bytes());
    bytes.push(0);
}

/// The length of the message at the begin of the bytes, once there are enough of them to know it.
///
/// # Errors
///
/// [`Garbled`] if it is no message.
pub(in crate::wait) fn message_len(bytes: &[u8]) -> Result<Option<usize>, Garbled> {
    if bytes.first().is_some_and(|&order| order != BYTE_ORDER)
        || bytes.get(3).is_some_and(|&version| version != 1)
    {
        return Err(Garbled);
    }
    if bytes.len() < FIXED_LEN {
        return Ok(None);
    }
    let mut reader = Reader::new(&bytes[4..FIXED_LEN]);
    let body = reader.size()?;
    reader.number()?;
    let fields = reader.size()?;
    let head = FIXED_LEN + fields.next_multiple_of(8);
    match head + body {
        len if len > PROTOCOL_MAX => Err(Garbled),
        len => Ok(Some(len)),
    }
}

impl Message {
    /// Reads a whole message.
    ///
    /// # Errors
    ///
    /// [`Garbled`] if it is none.
    pub(in crate::wait) fn parse(bytes: &[u8]) -> Result<Self, Garbled> {
        if message_len(bytes)? != Some(bytes.len()) {
            return Err(Garbled);
        }
        let mut message = Self {
            kind: match bytes[1] {
                1 => Kind::Call,
                2 => Kind::Return,
                3 => Kind::Error,
                4 => Kind::Signal,
                _ => Kind::Other,
            },
            serial: 0,
            reply_to: 0,
            path: String::new(),
            interface: String::new(),
            member: String::new(),
            error: String::new(),
            signature: String::new(),
            body: Vec::new(),
        };
        let mut reader = Reader::new(bytes);
        reader.take(8)?;
        message.serial = reader.number()?;
        let fields = reader.size()?;
        let end = FIXED_LEN + fields;
        while reader.at < end {
            reader.align(8)?;
            let code = reader.byte()?;
            let signature = reader.signature()?;
            match (code, signature) {
                (1, "o") => message.path = reader.text()?.to_owned(),
                (2, "s") => message.interface = reader.text()?.to_owned(),
                (3, "s") => message.member = reader.text()?.to_owned(),
                (4, "s") => message.error = reader.text()?.to_owned(),
                (5, "u") => message.reply_to = reader.number()?,
                (8, "g") => message.signature = reader.signature()?.to_owned(),
                (_, other) => reader.skip_one(other)?,
            }
        }
        if reader.at != end {
            return Err(Garbled);
        }
        reader.align(8)?;
        message.body = bytes[reader.at..].to_owned();
        Ok(message)
    }

    /// The message's arguments.
    pub(in crate::wait) fn arguments(&self) -> Reader<'_> {
        Reader::new(&self.body)
    }
}

/// Reads values one after the other.
#[derive(Debug, Clone)]
pub(in crate::wait) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Garbled> {
        let rest = self.bytes.get(self.at..).ok_or(Garbled)?;
        let taken = rest.get(..len).ok_or(Garbled)?;
        self.at += len;
        Ok(taken)
    }

    fn align(&mut self, to: usize) -> Result<(), Garbled> {
        self.take(self.at.next_multiple_of(to) - self.at)?;
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, Garbled> {
        Ok(self.take(1)?[0])
    }

    /// An `u`, an `i`, or a `b`.
    pub(in crate::wait) fn number(&mut self) -> Result<u32, Garbled> {
        self.align(4)?;
        let bytes = self.take(4)?;
        Ok(u32::from_ne_bytes(bytes.try_into().map_err(|_| Garbled)?))
    }

    fn long(&mut self) -> Result<u64, Garbled> {
        self.align(8)?;
        let bytes = self.take(8)?;
        Ok(u64::from_ne_bytes(bytes.try_into().map_err(|_| Garbled)?))
    }

    fn size(&mut self) -> Result<usize, Garbled> {
        let size = usize::try_from(self.number()?).map_err(|_| Garbled)?;
        if size > PROTOCOL_MAX {
            return Err(Garbled);
        }
        Ok(size)
    }

    /// An `s` or an `o`.
    pub(in crate::wait) fn text(&mut self) -> Result<&'a str, Garbled> {
        let len = self.size()?;
        let bytes = self.take(len)?;
        match self.byte()? {
            0 => std::str::from_utf8(bytes).map_err(|_| Garbled),
            _ => Err(Garbled),
        }
    }

    fn signature(&mut self) -> Result<&'a str, Garbled> {
        let len = usize::from(self.byte()?);
        let bytes = self.take(len)?;
        match self.byte()? {
            0 => std::str::from_utf8(bytes).map_err(|_| Garbled),
            _ => Err(Garbled),
        }
    }

    /// A `v`.
    pub(in crate::wait) fn variant(&mut self) -> Result<Value, Garbled> {
        let signature = self.signature()?;
        Ok(match signature {
            "s" | "o" => Value::Text(self.text()?.to_owned()),
            "b" | "u" => Value::Number(u64::from(self.number()?)),
            "t" => Value::Number(self.long()?),
            other => {
                self.skip_one(other)?;
                Value::Other
            }
        })
    }

    /// An array: hands over the reader for each of its items, which begin at a multiple of `alignment`.
    ///
    /// # Errors
    ///
    /// [`Garbled`] if it does not end where it says; what `item` says.
    pub(in crate::wait) fn array(
        &mut self,
        alignment: usize,
        item: &mut dyn FnMut(&mut Self) -> Result<(), Garbled>,
    ) -> Result<(), Garbled> {
        let len = self.size()?;
        self.align(alignment)?;
        let end = self.at + len;
        if end > self.bytes.len() {
            return Err(Garbled);
        }
        while self.at < end {
            self.align(alignment)?;
            item(self)?;
        }
        if self.at == end { Ok(()) } else { Err(Garbled) }
    }

    /// An `a{sv}`: hands over each entry.
    pub(in crate::wait) fn properties(
        &mut self,
        property: &mut dyn FnMut(&str, Value),
    ) -> Result<(), Garbled> {
        self.array(8, &mut |reader| {
            let name = reader.text()?;
            property(name, reader.variant()?);
            Ok(())
        })
    }

    fn skip_one(&mut self, signature: &str) -> Result<(), Garbled> {
        match self.skip(signature.as_bytes(), 0)? {
            [] => Ok(()),
            _ => Err(Garbled),
        }
    }

    /// Skips one value of the first type of a signature, and gives the rest of the signature.
    fn skip<'s>(&mut self, signature: &'s [u8], depth: usize) -> Result<&'s [u8], Garbled> {
        if depth > DEPTH_MAX {
            return Err(Garbled);
        }
        let (&first, rest) = signature.split_first().ok_or(Garbled)?;
        match first {
            b'y' => drop(self.byte()?),
            b'n' | b'q' => {
                self.align(2)?;
                self.take(2)?;
            }
            b'b' | b'i' | b'u' | b'h' => drop(self.number()?),
            b'x' | b't' | b'd' => drop(self.long()?),
            b's' | b'o' => drop(self.text()?),
            b'g' => drop(self.signature()?),
            b'v' => {
                let inner = self.signature()?;
                if !self.skip(inner.as_bytes(), depth + 1)?.is_empty() {
                    return Err(Garbled);
                }
            }
            b'a' => {
                let len = self.size()?;
                self.align(alignment(rest)?)?;
                self.take(len)?;
                return Ok(&rest[type_len(rest, 0)?..]);
            }
            b'(' | b'{' => {
                self.align(8)?;
                let mut rest = rest;
                while !matches!(rest.first(), Some(b')' | b'}')) {
                    rest = self.skip(rest, depth + 1)?;
                }
                return Ok(&rest[1..]);
            }
            _ => return Err(Garbled),
        }
        Ok(rest)
    }
}

/// What a value of a type begins at a multiple of.
fn alignment(signature: &[u8]) -> Result<usize, Garbled> {
    Ok(match signature.first().ok_or(Garbled)? {
        b'y' | b'g' | b'v' => 1,
        b'n' | b'q' => 2,
        b'b' | b'i' | b'u' | b'h' | b's' | b'o' | b'a' => 4,
        b'x' | b't' | b'd' | b'(' | b'{' => 8,
        _ => return Err(Garbled),
    })
}

/// The length of a signature's first type.
fn type_len(signature: &[u8], depth: usize) -> Result<usize, Garbled> {
    if depth > DEPTH_MAX {
        return Err(Garbled);
    }
    match signature.first().ok_or(Garbled)? {
        b'a' => Ok(1 + type_len(&signature[1..], depth + 1)?),
        b'(' | b'{' => {
            let mut at = 1;
            while !matches!(signature.get(at).ok_or(Garbled)?, b')' | b'}') {
                at += type_len(&signature[at..], depth + 1)?;
            }
            Ok(at + 1)
        }
        _ => {
            alignment(signature)?;
            Ok(1)
        }
    }
}
