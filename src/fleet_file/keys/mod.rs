//! The keys of a fleet file, each said once: its name, the form and bounds of its value, and the field
//! that holds it. The reader, the writer and the view of the API follow the tables. A test holds
//! `openapi.json` and `boathook help fleet-file` to them.

mod respond;
pub mod runner;
mod tables;
mod values;
mod verify;

use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::FleetFileError;
use super::cursor::{Cursor, Fields};
use crate::model::confinement::Confinement;
use crate::model::duration::{format_duration, parse_duration};
use crate::model::fleet::FleetDefinition;
use crate::model::guardrails::Guardrails;
use crate::model::schedule::Schedule;
use crate::model::size::{format_size, parse_size};
use crate::model::suggest::closest;
use crate::model::webhook::WebhookSettings;

#[cfg(test)]
pub use tables::PRIORITY_MAX;
pub use tables::{FLEET, GUARDRAILS, LIMITS, SCHEDULE, VESSEL, WEBHOOK};

/// A key of a block that describes a `T`.
pub struct Key<T: 'static> {
    pub name: &'static str,
    pub kind: Kind<T>,
}

/// Words, and the function that sets the field for each.
type Words<T> = &'static [(&'static str, fn(&mut T))];

/// The form of a key's value, and the access to the field that holds it.
pub enum Kind<T: 'static> {
    /// A whole number.
    Number { min: u32, max: u32, get: fn(&T) -> Option<u64>, set: fn(&mut T, u32) },
    /// A whole number from `-max` to `max`.
    Signed { max: i8, get: fn(&T) -> i8, set: fn(&mut T, i8) },
    /// A duration. The API shows milliseconds, under the name with `_ms`.
    Duration { max: Duration, get: fn(&T) -> Duration, set: fn(&mut T, Duration) },
    /// A duration of whole seconds, at least one.
    Seconds { get: fn(&T) -> Option<u64>, set: fn(&mut T, u64) },
    /// A number of bytes.
    Size { min: u64, get: fn(&T) -> Option<u64>, set: fn(&mut T, u64) },
    /// One of some words, each of which sets the field.
    Word { words: Words<T>, get: fn(&T) -> &'static str },
    /// A form of its own (`values`).
    Special {
        read: fn(&Cursor<'_>, &mut T) -> Result<(), FleetFileError>,
        /// The value as YAML on one line; `None`: it is not set.
        yaml: fn(&T) -> Option<String>,
        /// The value as the API shows it.
        json: fn(&T) -> Value,
    },
    /// The code of its block reads, writes and shows it.
    ByHand,
}

impl<T> Key<T> {
    /// Reads the value into its field of `block`.
    fn read(&self, value: &Cursor<'_>, block: &mut T) -> Result<(), FleetFileError> {
        match &self.kind {
            Kind::Number { min, max, set, .. } => set(block, value.number(*min..=*max)?),
            Kind::Signed { max, set, .. } => set(block, value.signed_number(*max)?),
            Kind::Duration { max, set, .. } => set(block, duration(value, *max)?),
            Kind::Seconds { set, .. } => set(block, seconds(value)?),
            Kind::Size { min, set, .. } => set(block, size(value, *min)?),
            Kind::Word { words, .. } => word(value, words)?(block),
            Kind::Special { read, .. } => read(value, block)?,
            Kind::ByHand => {}
        }
        Ok(())
    }

    /// The value as YAML on one line; `None`: it is not set, or written by hand.
    pub fn yaml(&self, block: &T) -> Option<String> {
        match &self.kind {
            Kind::Number { get, .. } => get(block).map(|number| number.to_string()),
            Kind::Signed { get, .. } => Some(get(block).to_string()),
            Kind::Duration { get, .. } => Some(format_duration(get(block))),
            Kind::Seconds { get, .. } => {
                get(block).map(|seconds| format_duration(Duration::from_secs(seconds)))
            }
            Kind::Size { get, .. } => get(block).map(format_size),
            Kind::Word { get, .. } => Some(get(block).to_owned()),
            Kind::Special { yaml, .. } => yaml(block),
            Kind::ByHand => None,
        }
    }

    /// The name and the value that the API shows; `None`: the code of its block shows it.
    fn json(&self, block: &T) -> Option<(String, Value)> {
        let value = match &self.kind {
            Kind::Number { get, .. } | Kind::Seconds { get, .. } | Kind::Size { get, .. } => {
                get(block).into()
            }
            Kind::Signed { get, .. } => get(block).into(),
            Kind::Duration { get, .. } => {
                let millis = u64::try_from(get(block).as_millis()).unwrap_or(u64::MAX);
                return Some((format!("{}_ms", self.name), millis.into()));
            }
            Kind::Word { get, .. } => get(block).into(),
            Kind::Special { json, .. } => json(block),
            Kind::ByHand => return None,
        };
        Some((self.name.to_owned(), value))
    }
}

/// The names of the keys in `table`.
pub fn names<T>(table: &[Key<T>]) -> Vec<&'static str> {
    table.iter().map(|key| key.name).collect()
}

/// Reads the values that `fields` has for the keys in `table`, but for those that are read by hand.
pub fn read<T>(table: &[Key<T>], fields: &Fields<'_>, block: &mut T) -> Result<(), FleetFileError> {
    for key in table {
        if let Some(value) = fields.get(key.name) {
            key.read(value, block)?;
        }
    }
    Ok(())
}

/// The keys of a block with their values, as the API shows them.
pub struct Shown<'a, T: 'static> {
    table: &'static [Key<T>],
    block: &'a T,
}

impl<'a> From<&'a FleetDefinition> for Shown<'a, FleetDefinition> {
    fn from(block: &'a FleetDefinition) -> Self {
        Self { table: FLEET, block }
    }
}

impl<'a> From<&'a Confinement> for Shown<'a, Confinement> {
    fn from(block: &'a Confinement) -> Self {
        Self { table: VESSEL, block }
    }
}

impl<'a> From<&'a Guardrails> for Shown<'a, Guardrails> {
    fn from(block: &'a Guardrails) -> Self {
        Self { table: GUARDRAILS, block }
    }
}

impl<'a> From<&'a Schedule> for Shown<'a, Schedule> {
    fn from(block: &'a Schedule) -> Self {
        Self { table: SCHEDULE, block }
    }
}

impl<'a> From<&'a WebhookSettings> for Shown<'a, WebhookSettings> {
    fn from(block: &'a WebhookSettings) -> Self {
        Self { table: WEBHOOK, block }
    }
}

impl<T> Serialize for Shown<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.table.iter().filter_map(|key| key.json(self.block)))
    }
}

/// The entry of `known` whose word `cursor` holds.
pub fn word<V: Copy>(
    cursor: &Cursor<'_>,
    known: &[(&'static str, V)],
) -> Result<V, FleetFileError> {
    let found = cursor.text()?;
    let entry = known.iter().find(|(word, _)| *word == found);
    entry.map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<_> = known.iter().map(|(word, _)| *word).collect();
        cursor.invalid(expected_word(found, &words))
    })
}

/// The message for a value that is none of the `known` words.
pub fn expected_word(found: &str, known: &[&str]) -> String {
    let expected = format!("expected one of {}", known.join(", "));
    match closest(found, known.iter().copied()) {
        Some(meant) => format!("{expected}; did you mean {meant}?"),
        None => expected,
    }
}

pub fn duration(cursor: &Cursor<'_>, max: Duration) -> Result<Duration, FleetFileError> {
    let duration = parse_duration(cursor.text()?).map_err(|message| cursor.invalid(message))?;
    if duration > max {
        return Err(cursor.invalid(format!("longer than {}", format_duration(max))));
    }
    Ok(duration)
}

/// A duration of whole seconds, which is what the kernel counts.
fn seconds(cursor: &Cursor<'_>) -> Result<u64, FleetFileError> {
    let duration = parse_duration(cursor.text()?).map_err(|message| cursor.invalid(message))?;
    if duration.as_secs() == 0 || duration.subsec_millis() > 0 {
        return Err(cursor.invalid("expected a duration of whole seconds, at least 1s"));
    }
    Ok(duration.as_secs())
}

fn size(cursor: &Cursor<'_>, min: u64) -> Result<u64, FleetFileError> {
    let bytes = parse_size(cursor.text()?).map_err(|message| cursor.invalid(message))?;
    if bytes < min {
        return Err(cursor.invalid(format!("less than {min} bytes, with which no program starts")));
    }
    Ok(bytes)
}
