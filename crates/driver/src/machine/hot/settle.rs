//! What a guest is told right after it was restored: what time it is, and random numbers that no other guest has.

use std::io::Read as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hotbed_console::agent::wire::System;
use hotbed_console::agent::{Agent, Error as AgentError};
use hotbed_console::{Command, Shell};

use super::deadline;
use crate::call::now;
use crate::machine::Machine;
use crate::machine::run::Run;
use crate::{Call, Error};

/// How long the agent may take to answer; the shell does without it after that.
const AGENT: Duration = Duration::from_secs(5);
/// How long the shell may take.
const SHELL: Duration = Duration::from_secs(30);
/// Bytes of new entropy: twice what the kernel's generator holds.
const ENTROPY: usize = 64;

impl Machine {
    /// Gives the guest the host's time and new random numbers.
    pub(super) fn settle(
        &self,
        run: &Run,
        shell: &mut Shell,
        has_agent: bool,
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let entropy = entropy()?;
        let patience = deadline(AGENT);
        while has_agent && run.agent.is_open() && now() < patience {
            let slice = call.slice(&|| format!("the agent of {} answers", self.name()))?;
            if let Some((agent, _)) = run.agent.poll_ready(slice.min(patience)) {
                if by_agent(&agent, &entropy, call)? {
                    return Ok(());
                }
                break;
            }
        }
        self.settle_by_shell(shell, &entropy, call)
    }

    fn settle_by_shell(
        &self,
        shell: &mut Shell,
        entropy: &[u8],
        call: &Call<'_>,
    ) -> Result<(), Error> {
        let script = script(since_1970(), entropy);
        match self.run_in_shell(shell, &Command::new(&script), SHELL, call)? {
            0 => Ok(()),
            status => Err(Error::Machine(format!(
                "the guest cannot be given the time and new random numbers (status {status})"
            ))),
        }
    }
}

/// Has the agent do it; `false` when it is one that cannot.
fn by_agent(agent: &Agent, entropy: &[u8], call: &Call<'_>) -> Result<bool, Error> {
    let nanos = u64::try_from(since_1970().as_nanos()).unwrap_or(u64::MAX);
    let begun = [
        agent.system(System::SetClock { nanos }, &[]),
        agent.system(System::AddEntropy, entropy),
    ];
    let patience = deadline(AGENT);
    for waiting in begun {
        let waiting = match waiting {
            Ok(waiting) => waiting,
            Err(_) => return Ok(false),
        };
        loop {
            let slice = call.slice(&|| "an agent takes the time".to_owned())?;
            match waiting.poll(slice.min(patience)) {
                Ok(Some(_)) => break,
                Ok(None) if now() >= patience => return Ok(false),
                Ok(None) => {}
                Err(AgentError::Failed { .. }) => return Ok(false),
                Err(error) => return Err(Error::Machine(error.to_string())),
            }
        }
    }
    Ok(true)
}

/// What the shell does: the `date` of `micro` takes whole seconds only; what is written to `/dev/urandom` counts when the kernel seeds its
/// numbers anew, which `micro` has a program for, and Debian has Perl.
fn script(time: Duration, entropy: &[u8]) -> String {
    let bytes: String = entropy
        .iter()
        .map(|byte| format!("\\x{byte:02x}"))
        .collect();
    let nearest = time + Duration::from_millis(500);
    format!(
        "printf '{bytes}' >/dev/urandom || exit 4\n\
         if [ -x /hotbed-reseed ]; then date -s @{} >/dev/null && /hotbed-reseed </dev/urandom\n\
         else date -s @{}.{:09} >/dev/null && perl -e 'ioctl(STDIN, 0x5207, 0) or exit 1' </dev/urandom; fi || exit 5",
        nearest.as_secs(),
        time.as_secs(),
        time.subsec_nanos(),
    )
}

/// The host's time.
#[expect(clippy::disallowed_methods, reason = "the guest gets the host's time")]
fn since_1970() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

#[expect(clippy::disallowed_types, reason = "the I/O shell")]
fn entropy() -> Result<[u8; ENTROPY], Error> {
    let mut bytes = [0; ENTROPY];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(Error::host("the host gives no random numbers"))?;
    Ok(bytes)
}
