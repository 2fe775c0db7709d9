//! Takes out of a guest's line what would steer a terminal.

/// The line without escape sequences and control characters (a tab stays), and cut after about `max` bytes.
pub(super) fn without_controls(line: &str, max: usize) -> String {
    let mut text = String::with_capacity(line.len().min(max));
    let mut state = State::Text;
    for c in line.chars() {
        if text.len() >= max {
            text.push('…');
            break;
        }
        state = match (state, c) {
            // A control character ends every sequence but a string, which has an end of its own.
            (State::Text | State::Escape | State::Sequence, '\x1b') => State::Escape,
            (State::String, '\x1b') => State::StringEscape,
            (State::Escape, '[') => State::Sequence,
            (State::Escape, ']' | 'P' | 'X' | '^' | '_') => State::String,
            // Intermediate characters, such as those of `ESC ( B`.
            (State::Escape, ' '..='/') => State::Escape,
            (State::Sequence, ' '..='?') => State::Sequence,
            (State::Escape, '0'..='~')
            | (State::Sequence, '@'..='~')
            | (State::String, '\x07')
            | (State::StringEscape, _) => State::Text,
            (State::String, _) => State::String,
            (_, c) => {
                if c == '\t' || !is_control(c) {
                    text.push(c);
                }
                State::Text
            }
        };
    }
    text
}

/// Control characters, and the marks that turn text around.
fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Where in an escape sequence the scan is.
#[derive(Clone, Copy)]
enum State {
    Text,
    /// After ESC.
    Escape,
    /// After ESC `[`.
    Sequence,
    /// In a string such as a window title, up to BEL or ESC `\`.
    String,
    /// After ESC in a string.
    StringEscape,
}
