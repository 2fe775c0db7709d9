//! What is shown while images are built: a line that moves on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anstream::eprintln;
use hotbed_image::Progress;
use indicatif::{ProgressBar, ProgressStyle};

/// How often the line on a terminal moves.
const TICK: Duration = Duration::from_millis(100);
/// How long a step may go on without a word where there is no terminal.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How much of a tool's line is shown, in characters.
const LINE_MAX: usize = 100;

/// Runs `work` and shows what it reports.
pub(crate) fn show<T>(work: impl FnOnce(&dyn Progress) -> T) -> T {
    if std::io::stderr().is_terminal() {
        let moving = Moving::new();
        let value = work(&moving);
        moving.bar.finish_and_clear();
        return value;
    }
    let plain = Plain::default();
    let (done, is_done) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let speaker = &plain;
        scope.spawn(move || speaker.speak_up_until(&is_done));
        let value = work(&plain);
        drop(done);
        value
    })
}

/// One line that is written over again and again.
struct Moving {
    bar: ProgressBar,
    step: Mutex<String>,
}

impl Moving {
    fn new() -> Self {
        let style = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed:>5}");
        let bar = ProgressBar::new_spinner()
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.enable_steady_tick(TICK);
        Self {
            bar,
            step: Mutex::default(),
        }
    }
}

impl Progress for Moving {
    fn step(&self, message: &str) {
        message.clone_into(&mut self.step.lock().unwrap_or_else(PoisonError::into_inner));
        self.bar.reset_elapsed();
        self.bar.set_message(message.to_owned());
    }

    fn line(&self, text: &str) {
        let step = self.step.lock().unwrap_or_else(PoisonError::into_inner);
        self.bar.set_message(format!("{step}: {}", shorten(text)));
    }
}

/// A line for each step, and one now and then while a step goes on.
#[derive(Default)]
struct Plain {
    state: Mutex<Spoken>,
}

#[derive(Default)]
struct Spoken {
    step: String,
    last_line: String,
    seconds_in_step: u64,
}

impl Plain {
    fn speak_up_until(&self, done: &mpsc::Receiver<()>) {
        while done.recv_timeout(SILENCE_MAX) == Err(RecvTimeoutError::Timeout) {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.seconds_in_step += SILENCE_MAX.as_secs();
            if !state.step.is_empty() {
                let Spoken {
                    step,
                    last_line,
                    seconds_in_step,
                } = &*state;
                eprintln!("{step} … {seconds_in_step} s {}", shorten(last_line));
            }
        }
    }
}

impl Progress for Plain {
    fn step(&self, message: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = Spoken {
            step: message.to_owned(),
            ..Spoken::default()
        };
        eprintln!("{message}");
    }

    fn line(&self, text: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        text.clone_into(&mut state.last_line);
    }
}

/// The start of a line, without control characters that would garble the terminal.
fn shorten(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(LINE_MAX)
        .collect()
}
