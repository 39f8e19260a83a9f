//! The secrets that stand in a file of hooks. They leave it for the server's own.

use super::super::node::Position;
use super::template::{Action, Templates};
use crate::model::variable::{KEPT_SECRET_NAME_BYTES_MAX, SecretName};

/// A secret of the file under the name that the fleets give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundSecret {
    pub name: SecretName,
    pub line: usize,
    pub source: SecretSource,
}

/// Where its value comes from. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// The file itself.
    Literal(String),
    /// A variable of the environment, with its value where that is set.
    Variable(String, Option<String>),
    /// A file below `/run/secrets`.
    File(String),
}

impl std::fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretSource(…)")
    }
}

/// The secrets found so far. Equal values have one name.
#[derive(Debug, Default)]
pub(super) struct FoundSecrets(Vec<FoundSecret>);

impl FoundSecrets {
    /// The name of a secret of the hook `id`.
    pub fn name(
        &mut self,
        id: &str,
        text: &str,
        position: Position,
        templates: &Templates,
    ) -> Result<SecretName, String> {
        let (wanted, source) = match templates.action(text) {
            Some(Action::Variable { name, value }) => {
                (name.clone(), SecretSource::Variable(name.clone(), value.clone()))
            }
            Some(Action::File(name)) => (name.clone(), SecretSource::File(name.clone())),
            None => {
                let value = templates.resolve(text)?;
                (format!("{id}_SECRET"), SecretSource::Literal(value))
            }
        };
        if let Some(known) = self.0.iter().find(|known| known.source == source) {
            return Ok(known.name.clone());
        }
        let name = self.free_name(&wanted);
        self.0.push(FoundSecret { name: name.clone(), line: position.line, source });
        Ok(name)
    }

    pub fn into_found(self) -> Vec<FoundSecret> {
        self.0
    }

    fn free_name(&self, wanted: &str) -> SecretName {
        let letter = |letter: char| match letter.is_ascii_alphanumeric() {
            true => letter.to_ascii_uppercase(),
            false => '_',
        };
        // Room for a number behind it.
        let plain: String =
            wanted.chars().map(letter).take(KEPT_SECRET_NAME_BYTES_MAX - 6).collect();
        let numbered = (1..).map(|number| match number {
            1 => plain.clone(),
            _ => format!("{plain}_{number}"),
        });
        let names = numbered.filter_map(|name| SecretName::try_from(name).ok());
        let mut free = names.filter(|name| self.0.iter().all(|known| known.name != *name));
        // Letters, digits and underscores are always a name, and numbers do not end.
        free.next().unwrap_or_else(|| unreachable!("no name for {wanted}"))
    }
}
