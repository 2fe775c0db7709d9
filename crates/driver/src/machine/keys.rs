//! Which key types a character, on a US keyboard.

use std::borrow::Cow;

/// QEMU's name of the key for a character; anything else is taken to be a key's name already.
pub(crate) fn key_name(key: &str) -> Cow<'_, str> {
    let mut characters = key.chars();
    match (characters.next(), characters.next()) {
        (Some(character), None) => key_of(character).map_or(Cow::Borrowed(key), Cow::Owned),
        _ => Cow::Borrowed(key),
    }
}

/// How long after a key the next one may follow.
pub(crate) const DELAY: std::time::Duration = std::time::Duration::from_millis(10);

/// Scan codes of the keys that have no name in QEMU: plain character, shifted character, code.
const SCAN_CODES: [(char, char, u8); 12] = [
    ('-', '_', 0x0c),
    ('=', '+', 0x0d),
    ('[', '{', 0x1a),
    (']', '}', 0x1b),
    (';', ':', 0x27),
    ('\'', '"', 0x28),
    ('`', '~', 0x29),
    ('\\', '|', 0x2b),
    (',', '<', 0x33),
    ('.', '>', 0x34),
    ('/', '?', 0x35),
    (' ', ' ', 0x39),
];

/// The shifted digits, from the key `1` on (scan code 2).
const SHIFTED_DIGITS: &str = "!@#$%^&*()";

fn key_of(character: char) -> Option<String> {
    match character {
        ' ' => return Some("spc".to_owned()),
        '\n' => return Some("ret".to_owned()),
        'A'..='Z' => return Some(format!("shift-{}", character.to_ascii_lowercase())),
        _ => {}
    }
    if let Some((_, code)) = SHIFTED_DIGITS
        .chars()
        .zip(0x02_u8..)
        .find(|&(digit, _)| digit == character)
    {
        return Some(format!("shift-0x{code:02X}"));
    }
    let &(plain, _, code) = SCAN_CODES
        .iter()
        .find(|(plain, shifted, _)| *plain == character || *shifted == character)?;
    let shift = if plain == character { "" } else { "shift-" };
    Some(format!("{shift}0x{code:02X}"))
}
