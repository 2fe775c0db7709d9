//! What the user sees while something runs: a spinner on a terminal, plain lines elsewhere.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How this process talks to its user.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ui {
    terminal: bool,
}

/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// How wide a spinner's last line of output may be.
const TAIL_WIDTH: usize = 60;

impl Ui {
    /// Looks at standard error: spinners only go to a terminal.
    pub(crate) fn for_this_process() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal() && std::io::stdout().is_terminal(),
        }
    }

    /// Whether every line of an activity is printed: where there is no terminal.
    pub(crate) fn shows_lines(self) -> bool {
        !self.terminal
    }

    /// Begins to show one activity.
    pub(crate) fn begin(self, label: &str) -> Activity {
        let bar = self.terminal.then(|| {
            let style = ProgressStyle::with_template("{spinner} {prefix} ({elapsed}) {msg:.dim}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            let bar = ProgressBar::new_spinner()
                .with_style(style)
                .with_prefix(label.to_owned());
            bar.enable_steady_tick(TICK);
            bar
        });
        if bar.is_none() {
            println!("{label}");
        }
        Activity {
            bar,
            label: label.to_owned(),
        }
    }
}

/// One activity on show; it vanishes from a terminal when dropped.
#[derive(Debug)]
pub(crate) struct Activity {
    bar: Option<ProgressBar>,
    label: String,
}

impl Activity {
    /// Shows a line that the activity's program printed.
    pub(crate) fn line(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(line.trim().chars().take(TAIL_WIDTH).collect::<String>()),
            None => println!("    {line}"),
        }
    }

    /// Shows that the activity goes on although its program says nothing.
    pub(crate) fn still(&self, elapsed: Duration) {
        if self.bar.is_none() {
            println!("    … {}: {}", self.label, seconds(elapsed));
        }
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Writes a time as people say it.
pub(crate) fn seconds(elapsed: Duration) -> String {
    let all = elapsed.as_secs();
    if all < 60 {
        format!("{:.1} s", elapsed.as_secs_f64())
    } else {
        format!("{} min {:02} s", all / 60, all % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_people_say_them() {
        assert_eq!(seconds(Duration::from_millis(250)), "0.2 s");
        assert_eq!(seconds(Duration::from_secs(61)), "1 min 01 s");
    }
}
