//! The test driver's Python side: the interpreter and the script's symbols.
//!
//! A front: it turns the script's arguments into the driver's, and the driver's errors into exceptions. One call goes
//!
//! - [`interpreter`]: CPython, started once in this process, with the user's environment.
//! - [`script`]: a test file, compiled before anything boots.
//! - [`run`](mod@run): the script against a [`Testbed`](hotbed_driver::Testbed), and how it ended.
//! - `symbols` and `modules`: what the script finds defined, and what it can import.
//! - `machine`, `driver`, `vlan`, `log`, `qmp`, `retry`: the classes, one method of the driver each.
//! - `polling`, `debug`: conditions that must hold all the time, and breakpoints.
//! - `call`: the way into the driver, without the GIL, with signals.
//!
//! Invariant: no frame of Hotbed is in a traceback, and no call holds the GIL while it waits.

mod call;
mod clock;
mod debug;
mod driver;
mod duration;
mod error;
mod exceptions;
mod failure;
pub mod interpreter;
mod json;
mod log;
mod machine;
mod modules;
mod polling;
mod qmp;
mod retry;
pub mod run;
pub mod script;
pub mod signals;
mod symbols;
#[expect(
    unsafe_code,
    reason = "starting CPython with a configuration has no safe form"
)]
mod sys;
mod testbed;
mod vlan;

pub use call::{Signals, wait_for_signal};
pub use error::Error;
pub use interpreter::{Interpreter, flush};
pub use run::{Outcome, RunRequest, out_of_time, run};
pub use script::Script;
pub use signals::Signal;

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
