//! Names of machines: which are allowed, and what they become elsewhere.

/// The variable that a script knows a machine by: every character that an identifier cannot hold becomes `_`.
#[must_use]
pub fn python_identifier(name: &str) -> String {
    name.chars()
        .enumerate()
        .map(|(place, c)| match c {
            'a'..='z' | 'A'..='Z' | '_' => c,
            '0'..='9' if place > 0 => c,
            _ => '_',
        })
        .collect()
}

/// The host name of a machine: its name without underscores.
#[must_use]
pub fn host_name(name: &str) -> String {
    name.replace('_', "")
}
