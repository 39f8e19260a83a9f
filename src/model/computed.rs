//! Values that a request decides: an argument or a variable of a vessel that an expression gives at
//! each start.

use serde::{Deserialize, Serialize};

use crate::model::defaults::is_default;
use crate::model::expression::{EvaluationError, Expression, Variables};
use crate::model::limits::ARGUMENT_BYTES_MAX;

/// One argument of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Argument {
    Literal(String),
    Computed(ComputedValue),
}

/// A value that an expression gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComputedValue {
    pub expr: Expression,
    /// The value when the request has nothing of the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// Whether an argument may begin with `-`, and so be an option of the program.
    #[serde(default, skip_serializing_if = "is_default")]
    pub allow_dash: bool,
}

impl Argument {
    /// The text, unless a request decides it.
    pub fn literal(&self) -> Option<&str> {
        match self {
            Self::Literal(text) => Some(text),
            Self::Computed(_) => None,
        }
    }

    /// The text for a request.
    ///
    /// # Errors
    /// A message for the vessel's log.
    pub fn text_for(&self, variables: &Variables<'_>) -> Result<String, String> {
        match self {
            Self::Literal(text) => Ok(text.clone()),
            Self::Computed(value) => value.argument_for(variables),
        }
    }
}

impl ComputedValue {
    /// The value as an argument.
    ///
    /// # Errors
    /// A message for the vessel's log: there is no value, or it cannot be this argument.
    fn argument_for(&self, variables: &Variables<'_>) -> Result<String, String> {
        match self.evaluate(variables)? {
            Some(value) if value.starts_with('-') && !self.allow_dash => Err(self.refuse(
                "gives an argument that begins with `-`, which the program may take for an option; \
                 `allow_dash: true` allows it",
            )),
            Some(value) => Ok(value),
            None => self
                .default
                .clone()
                .ok_or_else(|| self.refuse("has no value for this request; give it a `default`")),
        }
    }

    /// The value as a variable; `None` when the request has nothing of the kind and there is no
    /// default.
    ///
    /// # Errors
    /// A message for the vessel's log: the expression fails, or its value fits into no variable.
    pub fn value_for(&self, variables: &Variables<'_>) -> Result<Option<String>, String> {
        Ok(self.evaluate(variables)?.or_else(|| self.default.clone()))
    }

    fn evaluate(&self, variables: &Variables<'_>) -> Result<Option<String>, String> {
        let value = match self.expr.text_value(variables) {
            Ok(value) => value,
            Err(EvaluationError::Missing(_)) => return Ok(None),
            Err(error) => return Err(self.refuse(&format!("fails: {error}"))),
        };
        if value.contains('\0') {
            return Err(self.refuse("gives a text with a NUL, which no program can be given"));
        }
        if value.len() > ARGUMENT_BYTES_MAX {
            return Err(self.refuse(&format!(
                "gives {} bytes, more than the {ARGUMENT_BYTES_MAX} that Linux passes to a program",
                value.len()
            )));
        }
        Ok(Some(value))
    }

    fn refuse(&self, why: &str) -> String {
        format!("the expression `{}` {why}", self.expr.text())
    }
}

impl From<String> for Argument {
    fn from(text: String) -> Self {
        Self::Literal(text)
    }
}

impl From<&str> for Argument {
    fn from(text: &str) -> Self {
        Self::Literal(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::Event;
    use crate::model::expression::Payload;

    fn value(json: &str, body: &str) -> Result<String, String> {
        let argument: Argument = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&argument).unwrap(), json);
        let payload = Payload::parse(body.as_bytes(), None);
        argument.text_for(&Variables::new(payload, [], "", &Event::default()))
    }

    #[test]
    fn an_argument_is_text_or_what_an_expression_gives() {
        let body = r#"{"ref": "main", "n": 5, "dash": "-rf", "nul": "\u0000"}"#;
        for (json, expected) in [
            (r#""text""#, "text"),
            (r#"{"expr":"body.ref"}"#, "main"),
            (r#"{"expr":"body.n"}"#, "5"),
            (r#"{"expr":"body.nope","default":"-d"}"#, "-d"),
            (r#"{"expr":"body.dash","allow_dash":true}"#, "-rf"),
        ] {
            assert_eq!(value(json, body), Ok(expected.to_owned()), "{json}");
        }
        for (json, expected) in [
            (r#"{"expr":"body.nope"}"#, "has no value for this request; give it a `default`"),
            (r#"{"expr":"body.dash"}"#, "begins with `-`"),
            (r#"{"expr":"body.nul"}"#, "NUL"),
            (r#"{"expr":"body.ref + 1","default":"x"}"#, "fails: "),
        ] {
            let error = value(json, body).expect_err(json);
            assert!(error.contains(expected) && error.contains("`body."), "{json}: {error}");
        }
        assert!(serde_json::from_str::<Argument>(r#"{"expr":"nope"}"#).is_err());
        assert!(serde_json::from_str::<Argument>(r#"{"expr":"body","other":1}"#).is_err());
    }
}
