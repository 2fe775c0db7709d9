//! The head of a test file: TOML in comments, in the style of PEP 723.
//!
//! ```text
//! # /// hotbed
//! # [machines.server]
//! # image = "debian"
//! # ///
//! ```

use std::path::Path;

use super::clones;
use super::fields::{Fields, Source};
use super::machine_head;
use super::{BOOT_TIMEOUT, Error, GLOBAL_TIMEOUT, Hot, MACHINES_MAX, TestConfig};

/// The line that opens the head.
const OPEN: &str = "# /// hotbed";
/// The line that closes it.
const CLOSE: &str = "# ///";
/// The most bytes of a head: files of the test belong beside it, not in it.
const HEAD_MAX: usize = 1 << 20;

pub(super) fn parse(path: &Path, text: &str) -> Result<TestConfig, Error> {
    let source = find(path, text)?;
    let table = source.parse()?;
    let mut top = Fields::new(&source, "", &table);
    let global_timeout = top.duration("timeout")?.unwrap_or(GLOBAL_TIMEOUT);
    let boot_timeout = top.duration("boot_timeout")?.unwrap_or(BOOT_TIMEOUT);
    let hot = top.read("hot", "true or false", |value| match value.as_bool()? {
        true => Some(Hot::Booted),
        false => Some(Hot::Never),
    })?;
    let mut machines = Vec::new();
    if let Some(table) = top.table("machines")? {
        let tables = Fields::new(&source, "machines", table);
        for (name, line) in tables.names() {
            let several = machine_head::parse(&tables, name, hot.as_ref())?;
            machines.extend(several.into_iter().map(|machine| (machine, line)));
            if machines.len() > MACHINES_MAX {
                break;
            }
        }
    }
    top.finish()?;
    let line = source.first_line.saturating_sub(1);
    if machines.is_empty() {
        return Err(source.error(
            line,
            "the head names no machine: add a line such as `# [machines.machine]`",
        ));
    }
    if machines.len() > MACHINES_MAX {
        let count = machines.len();
        return Err(source.error(line, format!("{count} machines or more are too many: a test has at most {MACHINES_MAX}, the numbers of their addresses")));
    }
    // Clones came in the order of their numbers, and stay in it.
    machines.sort_by(|(a, _), (b, _)| clones::place(a).cmp(clones::place(b)));
    machine_head::check_names(&source, &machines)?;
    let mut number = 0_u8;
    let machines: Vec<_> = machines
        .into_iter()
        .map(|(mut machine, _)| {
            number = number.saturating_add(1);
            machine.number = number;
            machine
        })
        .collect();
    let mut vlans: Vec<u8> = machines
        .iter()
        .flat_map(|machine| machine.vlans.iter().copied())
        .collect();
    vlans.sort_unstable();
    vlans.dedup();
    Ok(TestConfig {
        machines,
        vlans,
        global_timeout: Some(global_timeout),
        boot_timeout,
        script: path.to_owned(),
        ssh_backdoor: false,
    })
}

/// Finds the head and takes the comment signs off its lines.
fn find(path: &Path, text: &str) -> Result<Source, Error> {
    let error = |line, message: &str| Error {
        file: path.to_owned(),
        line,
        place: None,
        message: message.to_owned(),
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = || text.lines().zip(1_usize..);
    let mut heads = lines().filter(|(line, _)| line.trim_end() == OPEN);
    let Some((_, open)) = heads.next() else {
        if let Some((_, line)) = lines().find(|(line, _)| is_nearly_open(line)) {
            return Err(error(
                Some(line),
                "this looks like a head: write it exactly as `# /// hotbed`, from the first column",
            ));
        }
        return Err(error(
            None,
            "no head: say which machines the test has, in comments at its top:\n  # /// hotbed\n  # [machines.machine]\n  # ///",
        ));
    };
    if let Some((_, second)) = heads.next() {
        return Err(error(
            Some(second),
            &format!("a second head: put everything in the one that begins on line {open}"),
        ));
    }
    let mut toml = String::new();
    for (line, number) in lines().skip(open) {
        let line = line.trim_end();
        if line == CLOSE {
            return Ok(Source {
                file: path.to_owned(),
                first_line: open + 1,
                toml,
            });
        }
        let Some(content) = line
            .strip_prefix("# ")
            .or_else(|| (line == "#").then_some(""))
        else {
            return Err(error(Some(number), &not_a_head_line(line, open)));
        };
        toml.push_str(content);
        toml.push('\n');
        if toml.len() > HEAD_MAX {
            return Err(error(
                Some(number),
                &format!(
                    "the head is larger than {HEAD_MAX} bytes: keep large files beside the test"
                ),
            ));
        }
    }
    Err(error(
        Some(open),
        "the head is not closed: end it with the line `# ///`",
    ))
}

fn is_nearly_open(line: &str) -> bool {
    let words: String = line.chars().filter(|c| !c.is_whitespace()).collect();
    words.eq_ignore_ascii_case("#///hotbed")
}

fn not_a_head_line(line: &str, open: usize) -> String {
    if line.starts_with('#') {
        "a line of the head begins with `# `: put a space after the `#`".to_owned()
    } else {
        format!("the head that begins on line {open} is not closed: end it with the line `# ///`")
    }
}
