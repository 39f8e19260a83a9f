//! The findings of `boathook doctor`: one sentence on each matter, and the remedy.

use serde::{Deserialize, Serialize};

/// The result of one check. Holds names and paths, never the value of a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The check, in one word that scripts may rely on.
    pub check: String,
    pub level: Level,
    /// The state that was found, for a person.
    pub what: String,
    /// The remedy, if there is one. A person copies lines after the first as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Ok,
    /// It works, but not as one might think, or not for ever.
    Warning,
    /// Something does not work, is not safe or is lost.
    Problem,
}

impl Finding {
    /// All is well.
    pub fn ok(check: &str, what: impl Into<String>) -> Self {
        Self { check: check.to_owned(), level: Level::Ok, what: what.into(), remedy: None }
    }

    /// Something to look at.
    pub fn warning(check: &str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = Some(remedy.into()).filter(|remedy| !remedy.is_empty());
        Self { level: Level::Warning, remedy, ..Self::ok(check, what) }
    }

    /// Something to be put right.
    pub fn problem(check: &str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Problem, ..Self::warning(check, what, remedy) }
    }
}
