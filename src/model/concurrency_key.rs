//! The value that a fleet's `concurrency_key` has for a run.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::delivery::KEY_FAILED;
use crate::model::event::{Note, bounded_id};
use crate::model::expression::{Expression, Variables};

/// Runs of a fleet with the same key share its `concurrency`, `overlap` and `debounce`. At most 200
/// bytes on one line; a longer value keeps its beginning and a hash, so that different values stay
/// different.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConcurrencyKey(Box<str>);

impl ConcurrencyKey {
    /// The key of this value.
    pub fn new(value: &str) -> Self {
        Self(bounded_id(value).into_boxed_str())
    }

    /// The key that `expression` gives for a request; `None` when the request has nothing of the kind.
    ///
    /// # Errors
    /// A note for the operator when the expression fails otherwise. The run then has no key.
    pub fn of(expression: &Expression, variables: &Variables<'_>) -> Result<Option<Self>, Note> {
        match expression.present_value(variables) {
            Ok(value) => Ok(value.map(|value| Self::new(&value))),
            Err(why) => Err(Note::new(KEY_FAILED, &format!("`{}`: {why}", expression.text()))),
        }
    }

    /// The value, shortened as [`ConcurrencyKey`] says.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ConcurrencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
