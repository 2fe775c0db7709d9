//! The key of a cache entry: a digest over everything that goes in.

use sha2::{Digest, Sha256};

/// Collects named inputs; each is framed by its length, so that no two lists of inputs give the same bytes.
#[derive(Debug, Clone)]
pub struct KeyBuilder {
    hasher: Sha256,
}

impl KeyBuilder {
    /// Starts the key of an entry of this kind; `FORMAT` covers what no other input shows.
    #[must_use]
    pub fn new(kind: &str) -> Self {
        let builder = Self {
            hasher: Sha256::new(),
        };
        builder
            .input("kind", kind)
            .input("format", FORMAT.to_le_bytes())
    }

    /// Takes one input.
    #[must_use]
    pub fn input(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        for part in [name.as_bytes(), value.as_ref()] {
            self.hasher.update((part.len() as u64).to_le_bytes());
            self.hasher.update(part);
        }
        self
    }

    /// Takes many inputs of one name, with their number.
    #[must_use]
    pub fn inputs<T: AsRef<[u8]>>(
        self,
        name: &str,
        values: impl ExactSizeIterator<Item = T>,
    ) -> Self {
        let counted = self.input(name, (values.len() as u64).to_le_bytes());
        values.fold(counted, |builder, value| builder.input(name, value))
    }

    /// The key, in hexadecimal.
    #[must_use]
    pub fn finish(self) -> String {
        hex(&self.hasher.finalize())
    }
}

/// The SHA-256 of `bytes`, in hexadecimal.
pub(crate) fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// `bytes` as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Goes up when the same inputs would be built into something else.
const FORMAT: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moving_a_byte_from_one_input_to_the_next_changes_the_key() {
        let key = |first: &str, second: &str| {
            KeyBuilder::new("x")
                .input("", first)
                .input("", second)
                .finish()
        };
        assert_ne!(key("ab", "c"), key("a", "bc"));
        assert_ne!(key("", "abc"), key("abc", ""));
        assert_eq!(key("ab", "c"), key("ab", "c"));
    }

    #[test]
    fn a_value_is_not_taken_for_a_name_or_for_two_values() {
        let one = KeyBuilder::new("x")
            .inputs("run", ["a", "b"].iter())
            .finish();
        let other = KeyBuilder::new("x").inputs("run", ["ab"].iter()).finish();
        let named = KeyBuilder::new("x")
            .inputs("files", ["a", "b"].iter())
            .finish();
        assert_ne!(one, other);
        assert_ne!(one, named);
        assert_ne!(KeyBuilder::new("x").finish(), KeyBuilder::new("y").finish());
    }
}
