//! The exchange that opens a session: a greeting, and what the session switches on.
//!
//! QEMU may greet twice: if a client connects while it starts, the thread that accepts and the thread that sets the
//! monitor up both announce the session. The second greeting may reset what the first negotiation reached, or
//! come before QEMU saw that. So each greeting gets its negotiation, and one that was granted is enough.

use serde_json::{Value, json};

use crate::wire::{Greeting, Malformed};

/// How many greetings a session may begin with.
pub const GREETINGS_MAX: u32 = 4;

/// How far a session is with its beginning.
#[derive(Debug, Default)]
pub(super) struct Negotiation {
    greeting: Option<Greeting>,
    greetings: u32,
    /// How many negotiations QEMU did not answer yet.
    unanswered: u32,
    is_granted: bool,
}

impl Negotiation {
    /// Takes a greeting, and gives the arguments of the negotiation that it asks for.
    pub(super) fn handle_greeting(&mut self, greeting: Greeting) -> Result<Value, Malformed> {
        self.greetings += 1;
        if self.greetings > GREETINGS_MAX {
            return Err(Malformed::new("one greeting after the other", b""));
        }
        self.unanswered += 1;
        let enable: &[&str] = if greeting.offers_out_of_band() {
            &["oob"]
        } else {
            &[]
        };
        self.greeting = Some(greeting);
        Ok(json!({ "enable": enable }))
    }

    /// Takes the answer to a negotiation: whether it was granted, or how it was refused.
    pub(super) fn handle_answer(&mut self, refusal: Option<&str>) -> Result<(), Malformed> {
        self.unanswered = self.unanswered.saturating_sub(1);
        self.is_granted |= refusal.is_none();
        match refusal {
            Some(words) if self.unanswered == 0 && !self.is_granted => Err(Malformed::new(
                "the negotiation that it asked for was refused",
                words.as_bytes(),
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn greeting(&self) -> Option<&Greeting> {
        self.greeting.as_ref()
    }

    /// Says whether QEMU takes commands.
    pub(super) fn is_over(&self) -> bool {
        self.is_granted && self.unanswered == 0
    }

    /// Says whether QEMU runs commands out of band, at least as soon as it takes commands.
    pub(super) fn grants_out_of_band(&self) -> bool {
        self.is_granted
            && self
                .greeting
                .as_ref()
                .is_some_and(Greeting::offers_out_of_band)
    }
}
