//! Decides where a frame goes.

use std::fmt;

/// Names a port of one switch.
///
/// A number is given again only after 65,535 ports at the same place have come and gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(u32);

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0 & 0xffff)
    }
}
