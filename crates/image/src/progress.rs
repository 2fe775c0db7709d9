//! How a build tells what it is doing.

/// Hears what a build is doing, on the thread that builds.
pub trait Progress: Sync {
    /// Takes the name of the step that begins.
    fn step(&self, message: &str);

    /// Takes one line that a tool has written.
    fn line(&self, text: &str);

    /// Says whether to give up; asked every 50 ms or so while a tool runs.
    fn is_interrupted(&self) -> bool {
        false
    }
}

/// Says nothing and never gives up.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn step(&self, _message: &str) {}
    fn line(&self, _text: &str) {}
}
