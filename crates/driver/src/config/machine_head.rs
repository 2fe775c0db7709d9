//! One `[machines.NAME]` table of the head.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::DeValue;

use super::clones;
use super::fields::{Fields, Source, integer, list, nearest};
use super::{
    Error, FileSpec, Hot, ImageKind, ImageMachine, LogConsole, MACHINES_MAX, MachineConfig,
    MachineKind, Net, names,
};

/// MiB of memory that a machine may have.
const MEMORY: Range<u64> = 32..(1 << 22) + 1;
/// The most virtual processors: what q35 takes without an interrupt-remapping unit.
const CPUS_MAX: i64 = 255;
/// The most VLANs of one machine: each card takes one of the bus's 32 slots.
const VLANS_MAX: usize = 24;
/// The mode of a file that does not say.
const FILE_MODE: u32 = 0o644;
/// The most characters of a unit's name, as systemd has it.
const UNIT_MAX: usize = 255;
/// What `hot` can be.
const HOT: &str = "true, false or a unit such as \"unit:nginx.service\"";
/// What `net` can be.
const NET: &str = "\"stream\" or \"vhost-user\"";
/// The images by name.
const IMAGES: [&str; 2] = ["micro", "debian"];

/// Reads the table of machine `name`, or of its clones; their numbers come later. `hot` is what holds when the table does not
/// say.
pub(super) fn parse(
    tables: &Fields<'_>,
    name: &str,
    hot: Option<&Hot>,
) -> Result<Vec<MachineConfig>, Error> {
    let Some(value) = tables.value(name) else {
        return Err(tables.error(0..0, format!("no table `{name}`")));
    };
    let Some(table) = value.get_ref().as_table() else {
        return Err(tables.error(
            value.span(),
            format!("`{name}` must be a table: write `# [machines.{name}]`"),
        ));
    };
    let mut fields = Fields::new(tables.source, &format!("machines.{name}"), table);
    let image = image(&mut fields)?;
    let machine = ImageMachine {
        image,
        packages: fields.strings("packages")?,
        files: files(&mut fields)?,
        run: fields.strings("run")?,
        memory: memory(&mut fields)?,
        cpus: fields
            .number("cpus", 1..CPUS_MAX + 1)?
            .and_then(|cpus| u32::try_from(cpus).ok())
            .unwrap_or(1),
        kernel: fields.string("kernel")?.map(|kernel| {
            tables
                .source
                .file
                .parent()
                .unwrap_or(tables.source.file.as_ref())
                .join(kernel)
        }),
        qemu_args: fields.strings("qemu_args")?,
        log: fields
            .read("log", "\"virtio\" or \"uart\"", |value| {
                match value.as_str()? {
                    "virtio" => Some(LogConsole::Virtio),
                    "uart" => Some(LogConsole::Uart),
                    _ => None,
                }
            })?
            .unwrap_or_default(),
        hot: fields.read("hot", HOT, read_hot)?.or_else(|| hot.cloned()),
        net: fields.read("net", NET, read_net)?.unwrap_or_default(),
    };
    let vlans = vlans(&mut fields)?;
    let agent = fields.read("agent", "true or false", DeValue::as_bool)?;
    let count = fields.number("count", 1..MACHINES_MAX as i64 + 1)?;
    if image == ImageKind::Micro {
        refuse_builds_of_micro(&fields, &machine)?;
    }
    fields.finish()?;
    let config = MachineConfig {
        name: name.to_owned(),
        number: 0,
        vlans,
        kind: MachineKind::Image(Box::new(machine)),
        agent: agent.unwrap_or(true),
        clone_of: None,
    };
    let machines = match count {
        None => vec![config],
        Some(count) => clones::make(&config, count),
    };
    match machines
        .iter()
        .find_map(|machine| names::check(&machine.name).err())
    {
        Some(message) => Err(tables.error(value.span(), message)),
        None => Ok(machines),
    }
}

/// The value of `hot`.
fn read_hot(value: &DeValue<'_>) -> Option<Hot> {
    match value {
        DeValue::Boolean(true) => Some(Hot::Booted),
        DeValue::Boolean(false) => Some(Hot::Never),
        value => {
            let unit = value.as_str()?.strip_prefix("unit:")?;
            let letters = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
            let fits = !unit.is_empty() && unit.len() <= UNIT_MAX && unit.chars().all(letters);
            fits.then(|| Hot::Unit(unit.to_owned()))
        }
    }
}

/// The value of `net`.
fn read_net(value: &DeValue<'_>) -> Option<Net> {
    match value.as_str()? {
        "stream" => Some(Net::Stream),
        "vhost-user" => Some(Net::VhostUser),
        _ => None,
    }
}

/// Fails when two machines would be the same in the script or in `/etc/hosts`. `machines` are sorted.
pub(super) fn check_names(
    source: &Source,
    machines: &[(MachineConfig, usize)],
) -> Result<(), Error> {
    let mut identifiers = BTreeMap::new();
    let mut hosts = BTreeMap::new();
    for (machine, line) in machines {
        let name = &machine.name;
        if machines
            .iter()
            .any(|(other, _)| other.clone_of.as_ref() == Some(name))
        {
            return Err(source.error(
                *line,
                format!(
                    "machine `{name}` has the name of the clones `{name}1` and so on: rename one"
                ),
            ));
        }
        if let Some(other) = identifiers.insert(machine.identifier(), name) {
            return Err(source.error(
                *line,
                format!(
                    "machines `{other}` and `{name}` would both be `{}` in the script: rename one",
                    machine.identifier()
                ),
            ));
        }
        let host = names::host_name(name);
        if let Some(other) = hosts.insert(host.to_lowercase(), name) {
            return Err(source.error(*line, format!("machines `{other}` and `{name}` would both have the host name `{host}`: rename one")));
        }
    }
    Ok(())
}

fn image(fields: &mut Fields<'_>) -> Result<ImageKind, Error> {
    let span = fields
        .value("image")
        .map(toml::Spanned::span)
        .unwrap_or_default();
    match fields.string("image")? {
        None | Some("micro") => Ok(ImageKind::Micro),
        Some("debian") => Ok(ImageKind::Debian),
        Some(other) => {
            let hint = nearest(other, IMAGES.into_iter()).map_or_else(
                || format!("there are {}", list(&IMAGES)),
                |near| format!("did you mean `{near}`?"),
            );
            Err(fields.error(span, format!("unknown image `{other}`: {hint}")))
        }
    }
}

/// MiB as a number, or a text such as `512M` or `1G`.
fn memory(fields: &mut Fields<'_>) -> Result<Option<u32>, Error> {
    let expected = format!(
        "MiB (such as 512) or a size (such as \"1G\"), from {} MiB to {} GiB",
        MEMORY.start,
        MEMORY.end / 1024
    );
    fields.read("memory", &expected, |value| {
        let mebibytes = match value {
            DeValue::String(text) => {
                let (digits, factor) = match text.strip_suffix(['G', 'g']) {
                    Some(digits) => (digits, 1024),
                    None => (text.strip_suffix(['M', 'm'])?, 1),
                };
                digits
                    .bytes()
                    .all(|byte| byte.is_ascii_digit())
                    .then(|| digits.parse::<u64>().ok())
                    .flatten()?
                    .checked_mul(factor)?
            }
            value => u64::try_from(integer(value)?).ok()?,
        };
        MEMORY
            .contains(&mebibytes)
            .then_some(u32::try_from(mebibytes).ok())
            .flatten()
    })
}

fn vlans(fields: &mut Fields<'_>) -> Result<Vec<u8>, Error> {
    let expected = "a list of VLAN numbers from 1 to 255, such as [1]";
    let span = fields
        .value("vlans")
        .map(toml::Spanned::span)
        .unwrap_or_default();
    let Some(list) = fields.read("vlans", expected, DeValue::as_array)? else {
        return Ok(vec![1]);
    };
    let mut vlans = Vec::new();
    for item in list {
        let number = integer(item.get_ref())
            .ok_or_else(|| fields.error(item.span(), format!("`vlans` must be {expected}")))?;
        let Some(number) = u8::try_from(number).ok().filter(|&number| number > 0) else {
            return Err(fields.error(
                item.span(),
                format!("VLAN {number} is not from 1 to 255, the numbers that fit an address"),
            ));
        };
        if vlans.contains(&number) {
            return Err(fields.error(
                item.span(),
                format!("VLAN {number} is there twice: a machine has one card on a VLAN"),
            ));
        }
        vlans.push(number);
    }
    if vlans.len() > VLANS_MAX {
        return Err(fields.error(
            span,
            format!(
                "{} VLANs are too many for one machine: at most {VLANS_MAX}",
                vlans.len()
            ),
        ));
    }
    Ok(vlans)
}

fn files(fields: &mut Fields<'_>) -> Result<BTreeMap<String, FileSpec>, Error> {
    let Some(table) = fields.table("files")? else {
        return Ok(BTreeMap::new());
    };
    let tables = Fields::new(fields.source, "files", table);
    let mut files = BTreeMap::new();
    for (path, _) in tables.names() {
        let Some(value) = tables.value(path) else {
            continue;
        };
        if !path.starts_with('/')
            || path.ends_with('/')
            || path.split('/').any(|part| part == "..")
            || path.contains('\0')
        {
            return Err(tables.error(
                value.span(),
                format!("`{path}` is not the absolute path of a file, such as \"/etc/motd\""),
            ));
        }
        let file = match value.get_ref() {
            DeValue::String(content) => FileSpec {
                content: content.clone().into_owned(),
                mode: FILE_MODE,
            },
            DeValue::Table(table) => {
                let mut file = Fields::new(fields.source, &format!("files.\"{path}\""), table);
                let content = file.string("content")?;
                let mode = mode(&mut file)?;
                let missing = file.error(
                    value.span(),
                    "`content` is missing: write what is in the file",
                );
                file.finish()?;
                FileSpec {
                    content: content.ok_or(missing)?.to_owned(),
                    mode: mode.unwrap_or(FILE_MODE),
                }
            }
            _ => {
                return Err(tables.error(
                    value.span(),
                    format!("`{path}` must be a string, or a table with `content` and `mode`"),
                ));
            }
        };
        files.insert(path.to_owned(), file);
    }
    Ok(files)
}

fn mode(file: &mut Fields<'_>) -> Result<Option<u32>, Error> {
    file.read("mode", "an octal mode such as \"0755\"", |value| {
        let mode = match value.as_str() {
            Some(text) => u32::from_str_radix(text.strip_prefix("0o").unwrap_or(text), 8).ok()?,
            None if value.as_integer()?.radix() == 8 => u32::try_from(integer(value)?).ok()?,
            None => return None,
        };
        (mode <= 0o7777).then_some(mode)
    })
}

fn refuse_builds_of_micro(fields: &Fields<'_>, machine: &ImageMachine) -> Result<(), Error> {
    let asked = [
        ("packages", machine.packages.is_empty()),
        ("files", machine.files.is_empty()),
        ("run", machine.run.is_empty()),
    ];
    if let Some(Hot::Unit(unit)) = &machine.hot {
        let span = fields
            .value("hot")
            .map(toml::Spanned::span)
            .unwrap_or_default();
        return Err(fields.error(
            span,
            format!("there is no systemd that could start `{unit}`: add `image = \"debian\"`"),
        ));
    }
    let Some((key, _)) = asked.into_iter().find(|(_, empty)| !empty) else {
        return Ok(());
    };
    let span = fields
        .value(key)
        .map(toml::Spanned::span)
        .unwrap_or_default();
    Err(fields.error(
        span,
        format!(
            "`{key}` needs an image to build into: add `image = \"debian\"` (`micro` takes none)"
        ),
    ))
}
