//! The JSON file of the NixOS test framework: unknown keys are ignored, missing ones named.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

use super::{BOOT_TIMEOUT, Error, MACHINES_MAX, MachineConfig, MachineKind, TestConfig, duration};

/// The most bytes of a machine's name: it becomes part of file names.
const NAME_MAX: usize = 200;

pub(super) fn parse(path: &Path, text: &str) -> Result<TestConfig, Error> {
    let value: Value = serde_json::from_str(text).map_err(|error| Error {
        file: path.to_owned(),
        line: Some(error.line()).filter(|&line| line > 0),
        place: None,
        message: format!("not JSON: {error}"),
    })?;
    let top = Object::new(path, String::new(), &value)?;
    if !top.object("containers")?.fields.is_empty() {
        return Err(top.error(
            "containers",
            "containers are not supported yet: move the machines to `vms`",
        ));
    }
    let vms = top.object("vms")?;
    if vms.fields.len() > MACHINES_MAX {
        return Err(top.error(
            "vms",
            &format!(
                "{} machines are too many: a test has at most {MACHINES_MAX}",
                vms.fields.len()
            ),
        ));
    }
    let mut names: Vec<&String> = vms.fields.keys().collect();
    names.sort();
    let machines = names
        .into_iter()
        .zip(1_u8..)
        .map(|(name, number)| machine(&vms, name, number))
        .collect::<Result<_, _>>()?;
    Ok(TestConfig {
        machines,
        vlans: vlans(&top)?,
        global_timeout: Some(timeout(&top)?),
        boot_timeout: BOOT_TIMEOUT,
        script: PathBuf::from(top.string("test_script")?),
        ssh_backdoor: top.boolean("enable_ssh_backdoor")?,
    })
}

fn machine(vms: &Object<'_>, name: &str, number: u8) -> Result<MachineConfig, Error> {
    let usable = !name.is_empty()
        && name.len() <= NAME_MAX
        && name != "."
        && name != ".."
        && !name.contains(|c: char| c == '/' || c.is_control());
    if !usable {
        return Err(vms.error(
            name,
            "this cannot be the name of a machine: it becomes part of file names",
        ));
    }
    let vm = vms.object(name)?;
    vm.string("name")?;
    let start_script = vm.string("start_script")?;
    if start_script.is_empty() {
        return Err(vm.error(
            "start_script",
            "must be the path of the script that starts the machine, not an empty text",
        ));
    }
    let command = crate::machine::quoting::quote(start_script);
    Ok(MachineConfig {
        clone_of: None,
        name: name.to_owned(),
        number,
        vlans: Vec::new(),
        kind: MachineKind::StartScript(command),
        agent: true,
    })
}

fn vlans(top: &Object<'_>) -> Result<Vec<u8>, Error> {
    let value = top.field("vlans")?;
    let list = value
        .as_array()
        .ok_or_else(|| top.wrong("vlans", "a list of numbers", value))?;
    let mut vlans = Vec::new();
    for (place, item) in list.iter().enumerate() {
        let number = item
            .as_u64()
            .and_then(|number| u8::try_from(number).ok())
            .filter(|&number| number > 0);
        vlans.push(number.ok_or_else(|| {
            top.wrong(
                &format!("vlans[{place}]"),
                "a VLAN number from 1 to 255",
                item,
            )
        })?);
    }
    vlans.sort_unstable();
    vlans.dedup();
    Ok(vlans)
}

fn timeout(top: &Object<'_>) -> Result<Duration, Error> {
    let value = top.field("global_timeout")?;
    let duration = match value {
        Value::Number(number) => number.as_f64().and_then(duration::from_seconds),
        Value::String(text) => duration::from_text(text),
        _ => None,
    };
    duration.ok_or_else(|| top.wrong("global_timeout", duration::EXPECTED, value))
}

/// One object of the file, with the place where it is.
struct Object<'v> {
    file: &'v Path,
    place: String,
    fields: &'v Map<String, Value>,
}

impl<'v> Object<'v> {
    fn new(file: &'v Path, place: String, value: &'v Value) -> Result<Self, Error> {
        let message = || format!("must be an object, not {}", describe(value));
        let fields = value.as_object().ok_or_else(|| Error {
            file: file.to_owned(),
            line: None,
            place: Some(place.clone()).filter(|place| !place.is_empty()),
            message: message(),
        })?;
        Ok(Self {
            file,
            place,
            fields,
        })
    }

    fn place_of(&self, key: &str) -> String {
        if self.place.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.place)
        }
    }

    fn error(&self, key: &str, message: &str) -> Error {
        Error {
            file: self.file.to_owned(),
            line: None,
            place: Some(self.place_of(key)),
            message: message.to_owned(),
        }
    }

    fn wrong(&self, key: &str, expected: &str, value: &Value) -> Error {
        self.error(key, &format!("must be {expected}, not {}", describe(value)))
    }

    fn field(&self, key: &str) -> Result<&'v Value, Error> {
        self.fields
            .get(key)
            .ok_or_else(|| self.error(key, "is missing"))
    }

    fn object(&self, key: &str) -> Result<Object<'v>, Error> {
        Object::new(self.file, self.place_of(key), self.field(key)?)
    }

    fn string(&self, key: &str) -> Result<&'v str, Error> {
        let value = self.field(key)?;
        value
            .as_str()
            .ok_or_else(|| self.wrong(key, "a text", value))
    }

    fn boolean(&self, key: &str) -> Result<bool, Error> {
        let value = self.field(key)?;
        value
            .as_bool()
            .ok_or_else(|| self.wrong(key, "true or false", value))
    }
}

/// What a value is, for a message.
fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) if text.len() <= 40 => format!("{text:?}"),
        Value::String(_) => "a text".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}
