//! Which program goes into guests as their agent.

use std::path::{Path, PathBuf};

use hotbed_image::Agent;

use crate::Error;

/// Names the program; empty: there is to be no agent.
const VARIABLE: &str = "HOTBED_AGENT";
/// What it is called where it is looked for.
const PROGRAM: &str = "hotbed-agent";
/// Where it is looked for, from the folder of the running program: beside a program, as packages and as cargo have it, and
/// from the folder that cargo keeps tests in.
const PLACES: [&str; 5] = [
    ".",
    "..",
    "../libexec/hotbed",
    "../../libexec/hotbed",
    "../lib/hotbed",
];

/// Which agent there is for guests.
#[derive(Debug, Clone)]
pub enum AgentProgram {
    /// None is wanted: guests are not even asked for one.
    Off,
    /// None was found; guests that have one of their own are listened to.
    Missing,
    /// This one.
    Found(Agent),
}

impl AgentProgram {
    /// Takes the program that was `given` (none if the path is empty), else the one that `$HOTBED_AGENT` names, else the first that
    /// a guest can run beside the running program, in its parent folder or in `../libexec/hotbed`.
    ///
    /// # Errors
    ///
    /// When a program was named and a guest cannot run it.
    pub fn find(given: Option<&Path>) -> Result<Self, Error> {
        let named = given
            .map(Path::to_owned)
            .or_else(|| std::env::var_os(VARIABLE).map(PathBuf::from));
        match named {
            Some(path) if path.as_os_str().is_empty() => Ok(Self::Off),
            Some(path) => match Agent::read(&path) {
                Ok(agent) => Ok(Self::Found(agent)),
                Err(source) => Err(Error::Agent(source)),
            },
            None => Ok(Self::beside_program().map_or(Self::Missing, Self::Found)),
        }
    }

    /// Whether guests are listened to.
    pub(crate) fn is_wanted(&self) -> bool {
        !matches!(self, Self::Off)
    }

    fn beside_program() -> Option<Agent> {
        let program = std::env::current_exe().ok()?;
        let folder = program.parent()?;
        let places = PLACES.iter().map(|place| folder.join(place).join(PROGRAM));
        // Cargo puts an agent for the host beside its programs: that one cannot be read as one.
        places.filter_map(|path| Agent::read(&path).ok()).next()
    }
}
