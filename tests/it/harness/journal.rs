//! A file outside the server's reach to which vessels append lines: what really happened.

use std::fs;
use std::path::{Path, PathBuf};

use super::wait_for;

/// Lines that vessels left, in the order in which they wrote them.
#[derive(Clone)]
pub struct Journal(PathBuf);

impl Journal {
    /// A journal at `path`, where there is none yet.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The complete lines so far.
    pub fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        let complete = text.rfind('\n').map_or(0, |end| end + 1);
        text[..complete].lines().map(str::to_owned).collect()
    }

    /// Waits until `line` is there.
    pub fn wait_for_line(&self, line: &str) {
        let found = wait_for(|| self.lines().iter().any(|have| have == line).then_some(()));
        assert!(found.is_some(), "waited in vain for the line {line:?}; have {:?}", self.lines());
    }
}

impl std::fmt::Display for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.display())
    }
}
