//! The agent: it runs in a guest, does what the host asks for over a virtio port, and turns waits into events.
//!
//! - [`core`]: the loop of the service; [`port`]: what it speaks over.
//! - [`job`]: commands; [`zygote`]: shells that wait for scripts; [`tree`]: how everything that a command started ends.
//! - [`wait`]: what can be waited for.
//! - [`files`], [`system`], [`users`]: files and folders, the guest itself, who commands run as.
//! - [`init`]: PID 1 of a small guest.
//!
//! Invariant: the loop never blocks on the host, on a command, or on what is waited for.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the program in the guest does little but I/O; what decides is in console's wire and state"
)]

use std::path::Path;
use std::process::ExitCode;

mod core;
mod environment;
mod failure;
mod files;
mod init;
mod job;
mod netlink;
mod port;
#[expect(unsafe_code, reason = "pre_exec and two ioctls have no safe wrapper")]
mod sys;
mod system;
mod tree;
mod users;
mod wait;
mod zygote;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["init"] => init::run(),
        ["pack", path] => files::folder::pack(Path::new(path), std::io::stdout().lock()),
        ["unpack", path, owner @ ..] => unpack(path, owner),
        words => match options(words) {
            Some(options) => core::Core::new(options).and_then(|mut core| core.run()),
            None => {
                tree::complain(
                    "usage: hotbed-agent [init | [--port PATH] [--log PATH] [--no-cgroups]]",
                );
                return ExitCode::from(2);
            }
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tree::complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn options(mut words: &[&str]) -> Option<core::Options> {
    let mut options = core::Options::default();
    loop {
        words = match words {
            [] => return Some(options),
            ["--port", path, rest @ ..] => {
                options.port = Some(path.into());
                rest
            }
            ["--log", path, rest @ ..] => {
                options.log = Some(path.into());
                rest
            }
            ["--no-cgroups", rest @ ..] => {
                options.groups = tree::Wanted::No;
                rest
            }
            ["--mount-cgroups", rest @ ..] => {
                options.groups = tree::Wanted::Mounted;
                rest
            }
            _ => return None,
        };
    }
}

fn unpack(path: &str, owner: &[&str]) -> std::io::Result<()> {
    let invalid = || std::io::Error::from(std::io::ErrorKind::InvalidInput);
    let owner = match owner {
        [] => None,
        [user, group] => Some((
            user.parse().map_err(|_| invalid())?,
            group.parse().map_err(|_| invalid())?,
        )),
        _ => return Err(invalid()),
    };
    files::folder::unpack(Path::new(path), owner, std::io::stdin().lock())
}
