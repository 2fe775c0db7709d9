//! The other side of a bus: messages that a test sends.

use super::*;

/// A value to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::wait) enum Item {
    Text(String),
    Number(u32),
    /// A variant.
    Variant(Value),
    /// An `a{sv}`.
    Properties(Vec<(String, Value)>),
    /// An `as`.
    Texts(Vec<String>),
}

impl Item {
    pub(in crate::wait) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    fn signature(&self) -> &'static str {
        match self {
            Self::Text(_) => "s",
            Self::Number(_) => "u",
            Self::Variant(_) => "v",
            Self::Properties(_) => "a{sv}",
            Self::Texts(_) => "as",
        }
    }

    fn put(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Text(text) => put_text(bytes, text),
            Self::Number(number) => put_number(bytes, *number),
            Self::Variant(value) => put_variant(bytes, value),
            Self::Properties(properties) => put_array(bytes, 8, &mut |bytes| {
                for (name, value) in properties {
                    align(bytes, 8);
                    put_text(bytes, name);
                    put_variant(bytes, value);
                }
            }),
            Self::Texts(texts) => put_array(bytes, 4, &mut |bytes| {
                for text in texts {
                    put_text(bytes, text);
                }
            }),
        }
    }
}

fn put_array(bytes: &mut Vec<u8>, alignment: usize, items: &mut dyn FnMut(&mut Vec<u8>)) {
    put_number(bytes, 0);
    let at = bytes.len();
    align(bytes, alignment);
    let begin = bytes.len();
    items(bytes);
    let len = length(bytes.len() - begin);
    bytes[at - 4..at].copy_from_slice(&len.to_ne_bytes());
}

fn put_variant(bytes: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Text(text) => {
            bytes.extend(b"\x01s\0");
            put_text(bytes, text);
        }
        Value::Number(number) => {
            bytes.extend(b"\x01t\0");
            align(bytes, 8);
            bytes.extend(number.to_ne_bytes());
        }
        // `a(say)`, with one item: it is to be skipped.
        Value::Other => {
            bytes.extend(b"\x06a(say)\0");
            put_array(bytes, 8, &mut |bytes| {
                put_text(bytes, "name");
                put_number(bytes, 3);
                bytes.extend([1, 2, 3]);
            });
        }
    }
}

/// A message as somebody else sends it.
pub(in crate::wait) fn encode(
    kind: Kind,
    reply_to: u32,
    head: [&str; 3],
    items: &[Item],
) -> Vec<u8> {
    let mut body = Vec::new();
    let mut signature = String::new();
    for item in items {
        signature.push_str(item.signature());
        item.put(&mut body);
    }
    let number = match kind {
        Kind::Call => 1,
        Kind::Return => 2,
        Kind::Error => 3,
        Kind::Signal => 4,
        Kind::Other => 9,
    };
    let mut bytes = vec![BYTE_ORDER, number, 0, 1];
    put_number(&mut bytes, length(body.len()));
    put_number(&mut bytes, 1);
    let [path, interface, member] = head;
    let member_code = if kind == Kind::Error { 4 } else { 3 };
    put_array(&mut bytes, 8, &mut |bytes| {
        let texts = [
            (1, b'o', path),
            (2, b's', interface),
            (member_code, b's', member),
        ];
        for (code, kind, text) in texts.into_iter().filter(|(_, _, text)| !text.is_empty()) {
            align(bytes, 8);
            bytes.extend([code, 1, kind, 0]);
            put_text(bytes, text);
        }
        if reply_to != 0 {
            align(bytes, 8);
            bytes.extend([5, 1, b'u', 0]);
            put_number(bytes, reply_to);
        }
        if !signature.is_empty() {
            align(bytes, 8);
            bytes.extend([8, 1, b'g', 0, u8::try_from(signature.len()).unwrap()]);
            bytes.extend(signature.as_bytes());
            bytes.push(0);
        }
        // A field that only others know: whom it is from.
        align(bytes, 8);
        bytes.extend([7, 1, b's', 0]);
        put_text(bytes, ":1.2");
    });
    align(&mut bytes, 8);
    bytes.extend(body);
    bytes
}

/// The same, as it is read.
pub(in crate::wait) fn message(
    kind: Kind,
    reply_to: u32,
    head: [&str; 3],
    items: &[Item],
) -> Message {
    Message::parse(&encode(kind, reply_to, head, items)).expect("a message")
}
