//! How a build tells what it is doing.

/// Hears what a build is doing; called from the building thread and from those that read its tools.
pub trait Progress: Sync {
    /// Takes the name of the step that begins.
    fn step(&self, message: &str);
    /// Takes one line that a tool has written.
    fn line(&self, text: &str);
}

/// Says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn step(&self, _message: &str) {}
    fn line(&self, _text: &str) {}
}
