//! Typed access to the head's tables, with errors that name the line of the test file.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Error, duration};

/// The text of a head, and where it is.
pub(super) struct Source {
    /// The test file.
    pub(super) file: PathBuf,
    /// The line of the file with the head's first line of TOML.
    pub(super) first_line: usize,
    /// The head without its comment signs; line by line as in the file.
    pub(super) toml: String,
}

impl Source {
    pub(super) fn parse(&self) -> Result<DeTable<'_>, Error> {
        let table = DeTable::parse(&self.toml).map_err(|error| {
            let mut message = error.message().trim_end().replace('\n', ", ");
            if message.contains("duplicate key") {
                message.push_str(": each machine and each key is written once");
            }
            self.error(self.line_of(error.span().unwrap_or_default()), message)
        })?;
        Ok(table.into_inner())
    }

    /// The line of the file on which a piece of the TOML begins.
    pub(super) fn line_of(&self, span: Range<usize>) -> usize {
        let before = self.toml.as_bytes().get(..span.start).unwrap_or_default();
        self.first_line + before.iter().filter(|&&byte| byte == b'\n').count()
    }

    pub(super) fn error(&self, line: usize, message: impl Into<String>) -> Error {
        Error {
            file: self.file.clone(),
            line: Some(line),
            place: None,
            message: message.into(),
        }
    }
}

/// One table of the head: gives out its fields by type, and at the end names those that nobody asked for.
pub(super) struct Fields<'s> {
    pub(super) source: &'s Source,
    place: String,
    table: &'s DeTable<'s>,
    known: Vec<&'static str>,
}

impl<'s> Fields<'s> {
    pub(super) fn new(source: &'s Source, place: &str, table: &'s DeTable<'s>) -> Self {
        Self {
            source,
            place: place.to_owned(),
            table,
            known: Vec::new(),
        }
    }

    /// The keys with their lines, sorted.
    pub(super) fn names(&self) -> impl Iterator<Item = (&'s str, usize)> {
        self.table
            .keys()
            .map(|key| (key.get_ref().as_ref(), self.source.line_of(key.span())))
    }

    pub(super) fn error(&self, span: Range<usize>, message: impl Into<String>) -> Error {
        Error {
            place: Some(self.place.clone()).filter(|place| !place.is_empty()),
            ..self.source.error(self.source.line_of(span), message)
        }
    }

    /// The value of `key`, whatever it is.
    pub(super) fn value(&self, key: &str) -> Option<&'s Spanned<DeValue<'s>>> {
        self.table.get(key)
    }

    fn known(&mut self, key: &'static str) -> Option<&'s Spanned<DeValue<'s>>> {
        self.known.push(key);
        self.value(key)
    }

    fn wrong(&self, key: &str, expected: &str, value: &Spanned<DeValue<'_>>) -> Error {
        self.error(
            value.span(),
            format!(
                "`{key}` must be {expected}, not {}",
                describe(value.get_ref())
            ),
        )
    }

    /// Takes the value of `key` with `read`, which says what it expects when it gives `None`.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        read: impl FnOnce(&'s DeValue<'s>) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.known(key) else {
            return Ok(None);
        };
        read(value.get_ref())
            .map(Some)
            .ok_or_else(|| self.wrong(key, expected, value))
    }

    pub(super) fn string(&mut self, key: &'static str) -> Result<Option<&'s str>, Error> {
        self.read(key, "a string", DeValue::as_str)
    }

    pub(super) fn table(&mut self, key: &'static str) -> Result<Option<&'s DeTable<'s>>, Error> {
        self.read(key, "a table", DeValue::as_table)
    }

    pub(super) fn strings(&mut self, key: &'static str) -> Result<Vec<String>, Error> {
        let list = self.read(key, "a list of strings", |value| {
            value
                .as_array()?
                .iter()
                .map(|item| item.get_ref().as_str().map(str::to_owned))
                .collect()
        })?;
        Ok(list.unwrap_or_default())
    }

    pub(super) fn duration(&mut self, key: &'static str) -> Result<Option<Duration>, Error> {
        self.read(key, duration::EXPECTED, |value| match value {
            DeValue::String(text) => duration::from_text(text),
            DeValue::Float(number) => duration::from_seconds(number.as_str().parse().ok()?),
            value => duration::from_seconds(f64::from(u32::try_from(integer(value)?).ok()?)),
        })
    }

    /// A whole number from `range`.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        range: Range<i64>,
    ) -> Result<Option<i64>, Error> {
        let expected = format!("a whole number from {} to {}", range.start, range.end - 1);
        self.read(key, &expected, |value| {
            integer(value).filter(|number| range.contains(number))
        })
    }

    /// Fails on the first field that nobody asked for.
    pub(super) fn finish(self) -> Result<(), Error> {
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if !self.known.contains(&name) {
                let hint = nearest(name, self.known.iter().copied()).map_or_else(
                    || format!("known are {}", list(&self.known)),
                    |near| format!("did you mean `{near}`?"),
                );
                return Err(self.error(key.span(), format!("unknown key `{name}`: {hint}")));
            }
        }
        Ok(())
    }
}

/// The value as a whole number.
pub(super) fn integer(value: &DeValue<'_>) -> Option<i64> {
    let number = value.as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// Names in backquotes, for a message.
pub(super) fn list(names: &[&str]) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// The name that was probably meant.
pub(super) fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let lower = name.to_lowercase();
    known
        .map(|candidate| (strsim::damerau_levenshtein(&lower, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate)
}

/// What a value is, for a message; numbers as they are written.
fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Integer(number) => number.as_str().to_owned(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::String(text) if text.len() <= 40 => format!("{text:?}"),
        DeValue::Boolean(value) => value.to_string(),
        other => format!("a {}", other.type_str()),
    }
}
