//! Names of machines: which are allowed, and what they become elsewhere.

/// The most characters of a name: those of a host name.
const NAME_MAX: usize = 63;

/// Words that a script cannot use for a machine: Python's keywords, and the symbols that every script has.
const RESERVED: [&str; 60] = [
    "False",
    "None",
    "True",
    "and",
    "as",
    "assert",
    "async",
    "await",
    "break",
    "class",
    "continue",
    "def",
    "del",
    "elif",
    "else",
    "except",
    "finally",
    "for",
    "from",
    "global",
    "if",
    "import",
    "in",
    "is",
    "lambda",
    "nonlocal",
    "not",
    "or",
    "pass",
    "raise",
    "return",
    "try",
    "while",
    "with",
    "yield",
    "start_all",
    "test_script",
    "run_tests",
    "join_all",
    "machines",
    "machines_qemu",
    "machines_nspawn",
    "vlans",
    "driver",
    "log",
    "os",
    "create_machine",
    "subtest",
    "retry",
    "polling_condition",
    "serial_stdout_off",
    "serial_stdout_on",
    "Machine",
    "BaseMachine",
    "QemuMachine",
    "NspawnMachine",
    "t",
    "debug",
    "dump_machine_ssh",
    "localhost",
];

/// Says what is wrong with a machine's name in the head of a test, if anything is.
///
/// # Errors
///
/// When the name cannot be a host name, or the script could not use it.
pub fn check(name: &str) -> Result<(), String> {
    let letters = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let fits = name.len() <= NAME_MAX
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.ends_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(letters);
    if !fits {
        return Err(format!(
            "invalid machine name {name:?}: it must begin with a letter, hold letters, digits, `-` and `_`, end with a letter or digit, and have at most {NAME_MAX} characters"
        ));
    }
    let identifier = python_identifier(name);
    let is_vlan = identifier
        .strip_prefix("vlan")
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()));
    if is_vlan || RESERVED.contains(&identifier.as_str()) {
        return Err(format!(
            "invalid machine name {name:?}: `{identifier}` means something else in a test script; choose another"
        ));
    }
    Ok(())
}

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
