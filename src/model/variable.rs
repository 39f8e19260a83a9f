//! Values of a vessel's variables: literal text, the name of a secret, or an expression.

use serde::{Deserialize, Serialize};

use crate::model::computed::ComputedValue;

/// Bytes of the name of a secret that a fleet may name: what systemd takes for a credential.
pub const SECRET_NAME_BYTES_MAX: usize = 255;
/// Bytes of the name of a secret that the server keeps.
pub const KEPT_SECRET_NAME_BYTES_MAX: usize = 64;
/// The directory of these secrets, within the data directory.
pub const SECRETS_DIRECTORY: &str = "secrets";

/// The value of a vessel's variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum VariableValue {
    Fixed(FixedValue),
    /// What an expression gives at each start of the vessel.
    Computed(ComputedValue),
}

/// A value that no request decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FixedValue {
    Literal(String),
    /// The value of a secret, read when it is needed.
    Secret {
        secret: SecretName,
    },
}

/// The name of a secret, which is also its file name. Never empty, never a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct SecretName(String);

/// Why a text cannot be the name of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a secret's name has letters, digits, `_`, `-` and `.`, and is at most \
     {KEPT_SECRET_NAME_BYTES_MAX} bytes long; it is the name of its file"
)]
pub struct SecretNameError;

impl SecretName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the server keeps secrets of this name.
    pub fn is_kept(&self) -> bool {
        self.0.len() <= KEPT_SECRET_NAME_BYTES_MAX
    }
}

impl TryFrom<String> for SecretName {
    type Error = SecretNameError;

    fn try_from(name: String) -> Result<Self, SecretNameError> {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        let is_valid = name.len() <= SECRET_NAME_BYTES_MAX
            && !matches!(name.as_str(), "" | "." | "..")
            && name.bytes().all(inner);
        if is_valid { Ok(Self(name)) } else { Err(SecretNameError) }
    }
}

impl From<SecretName> for FixedValue {
    fn from(secret: SecretName) -> Self {
        Self::Secret { secret }
    }
}

impl From<&str> for FixedValue {
    fn from(text: &str) -> Self {
        Self::Literal(text.to_owned())
    }
}

impl<T: Into<FixedValue>> From<T> for VariableValue {
    fn from(value: T) -> Self {
        Self::Fixed(value.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secrets_name_never_leads_out_of_its_directory() {
        for name in ["API_KEY", "db.password", "a", "0-1", ".hidden", "-x", "...", "a.."] {
            assert_eq!(SecretName::try_from(name.to_owned()).unwrap().as_str(), name);
        }
        let long = "x".repeat(SECRET_NAME_BYTES_MAX + 1);
        for name in ["", ".", "..", "../x", "a/b", "/a", "a b", "a\0", "a~new", "ä", &long] {
            assert_eq!(SecretName::try_from(name.to_owned()), Err(SecretNameError), "{name:?}");
        }
    }

    #[test]
    fn stored_values_are_texts_or_name_their_secret() {
        for (json, value) in [
            (r#""text""#, VariableValue::from("text")),
            (r#"{"secret":"KEY"}"#, VariableValue::from(SecretName("KEY".to_owned()))),
        ] {
            assert_eq!(serde_json::to_string(&value).unwrap(), json);
            assert_eq!(serde_json::from_str::<VariableValue>(json).unwrap(), value);
        }
        assert!(serde_json::from_str::<VariableValue>(r#"{"secret":"../KEY"}"#).is_err());
    }
}
