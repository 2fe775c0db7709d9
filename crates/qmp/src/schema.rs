//! What a QEMU says about itself: which commands it knows, with which arguments.
//!
//! A caller that can do a thing in two ways asks here which of them this QEMU has; this crate's tests hold
//! [`crate::commands`] against it.

use std::collections::HashMap;

use serde::Deserialize;

/// The answer to `query-qmp-schema`.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "Vec<Entity>")]
pub struct Schema {
    entities: HashMap<String, Entity>,
}

/// A command, event or type of the schema.
#[derive(Debug, Clone, Deserialize)]
struct Entity {
    name: String,
    #[serde(flatten)]
    kind: Kind,
}

/// What an entity is.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "meta-type", rename_all = "lowercase")]
enum Kind {
    Command {
        #[serde(rename = "arg-type")]
        arguments: String,
        #[serde(rename = "allow-oob", default)]
        out_of_band: bool,
    },
    Event,
    Object {
        members: Vec<Member>,
        #[serde(default)]
        variants: Vec<Variant>,
    },
    Array {
        #[serde(rename = "element-type")]
        element: String,
    },
    Enum {
        values: Vec<String>,
    },
    #[serde(other)]
    Other,
}

/// One member of an object type.
#[derive(Debug, Clone, Deserialize)]
struct Member {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    /// Present, and null, if the member may be left out.
    #[serde(default, deserialize_with = "present")]
    default: bool,
}

/// The further members that an object type has in one case.
#[derive(Debug, Clone, Deserialize)]
struct Variant {
    #[serde(rename = "type")]
    kind: String,
}

/// Reads a field whose presence alone means something.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    serde::de::IgnoredAny::deserialize(deserializer).map(|_| true)
}

impl From<Vec<Entity>> for Schema {
    fn from(entities: Vec<Entity>) -> Schema {
        Schema {
            entities: entities
                .into_iter()
                .map(|entity| (entity.name.clone(), entity))
                .collect(),
        }
    }
}

impl Schema {
    /// Says whether this QEMU knows a command.
    #[must_use]
    pub fn has_command(&self, command: &str) -> bool {
        matches!(self.kind(command), Some(Kind::Command { .. }))
    }

    /// Says whether this QEMU sends an event.
    #[must_use]
    pub fn has_event(&self, event: &str) -> bool {
        matches!(self.kind(event), Some(Kind::Event))
    }

    /// Says whether a command may run out of band.
    #[must_use]
    pub fn is_out_of_band(&self, command: &str) -> bool {
        matches!(
            self.kind(command),
            Some(Kind::Command {
                out_of_band: true,
                ..
            })
        )
    }

    /// Says whether a command takes an argument; `a.b` is the member `b` of the argument `a`.
    ///
    /// ```
    /// # let schema: hotbed_qmp::schema::Schema = serde_json::from_str(r#"[
    /// #   {"name": "migrate", "meta-type": "command", "arg-type": "1", "ret-type": "0"},
    /// #   {"name": "1", "meta-type": "object", "members": [{"name": "uri", "type": "str"}]}
    /// # ]"#).unwrap();
    /// assert!(schema.has_argument("migrate", "uri"));
    /// assert!(!schema.has_argument("migrate", "channels.addr"));
    /// ```
    #[must_use]
    pub fn has_argument(&self, command: &str, path: &str) -> bool {
        !self.types_at(command, path).is_empty()
    }

    /// Gives the names of the arguments that a command cannot do without.
    #[must_use]
    pub fn required_arguments(&self, command: &str) -> Vec<&str> {
        match self
            .arguments(command)
            .and_then(|arguments| self.kind(arguments))
        {
            Some(Kind::Object { members, .. }) => members
                .iter()
                .filter(|member| !member.default)
                .map(|member| member.name.as_str())
                .collect(),
            _ => Vec::new(),
        }
    }

    /// Gives the values that an argument may have, if it is one of an enumeration; `a.b` as in
    /// [`has_argument`](Schema::has_argument).
    #[must_use]
    pub fn values(&self, command: &str, path: &str) -> Option<&[String]> {
        self.types_at(command, path)
            .into_iter()
            .find_map(|kind| match self.kind(kind)? {
                Kind::Enum { values } => Some(values.as_slice()),
                _ => None,
            })
    }

    /// Gives the types that an argument may have: several, if commands of several kinds share its name.
    fn types_at(&self, command: &str, path: &str) -> Vec<&str> {
        let mut types: Vec<&str> = self.arguments(command).into_iter().collect();
        for name in path.split('.') {
            types = types
                .into_iter()
                .flat_map(|kind| self.member_types(kind, name))
                .collect();
        }
        types
    }

    fn kind(&self, name: &str) -> Option<&Kind> {
        self.entities.get(name).map(|entity| &entity.kind)
    }

    fn arguments(&self, command: &str) -> Option<&str> {
        match self.kind(command)? {
            Kind::Command { arguments, .. } => Some(arguments),
            _ => None,
        }
    }

    /// Gives the types that a member has in an object type, in its variants, or in an array's elements.
    ///
    /// One step into the variants is enough: QEMU's schema has no variants of variants.
    fn member_types(&self, kind: &str, name: &str) -> Vec<&str> {
        let object = match self.kind(kind) {
            Some(Kind::Array { element }) => self.kind(element),
            other => other,
        };
        let Some(Kind::Object { members, variants }) = object else {
            return Vec::new();
        };
        let in_variants = variants
            .iter()
            .filter_map(|variant| match self.kind(&variant.kind) {
                Some(Kind::Object { members, .. }) => Some(members),
                _ => None,
            });
        let all = members.iter().chain(in_variants.flatten());
        all.filter(|member| member.name == name)
            .map(|member| member.kind.as_str())
            .collect()
    }
}
