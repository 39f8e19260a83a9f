//! Why a vessel does not start, and what to do about it.

use std::fmt;

/// See the module. Shown as one line, for the vessel's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    pub what: String,
    /// May be empty.
    pub remedy: String,
}

impl Reason {
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.remedy.is_empty() { "" } else { ": " };
        write!(f, "{}{separator}{}", self.what, self.remedy)
    }
}

impl From<Reason> for String {
    fn from(reason: Reason) -> Self {
        reason.to_string()
    }
}
