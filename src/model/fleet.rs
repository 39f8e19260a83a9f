//! Fleets as they are defined: vessels, paths between them, and the versions of a fleet.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::clock::Timestamp;
use crate::model::computed::Argument;
use crate::model::confinement::Confinement;
use crate::model::debounce::Debounce;
use crate::model::defaults::is_default;
use crate::model::expression::Expression;
use crate::model::graph::Path;
use crate::model::guardrails::Guardrails;
use crate::model::ids::{FleetId, OrganizationId, ProjectId, VesselId};
use crate::model::name::{composed, find_by_name, name_key};
use crate::model::notification::{EmailNotifications, Notify, Recipient};
use crate::model::overlap::Overlap;
use crate::model::respond::Respond;
use crate::model::retention::Retention;
use crate::model::run::{RunRecord, Status};
use crate::model::runner::RunnerChoice;
use crate::model::schedule::Schedule;
use crate::model::sender::Verification;
use crate::model::source::Code;
use crate::model::suggest::closest;
use crate::model::variable::{FixedValue, SecretName, VariableValue};
use crate::model::webhook::WebhookSettings;

/// The project of a fleet that names none.
pub const DEFAULT_PROJECT: &str = "default";

/// The organization that owns an installation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Organization {
    pub id: OrganizationId,
    pub name: String,
}

/// A project groups fleets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    pub id: ProjectId,
    pub name: String,
    /// IANA name of the zone that vessels get as `TZ`.
    pub time_zone: String,
    pub created_at: Timestamp,
}

/// A fleet's identity and which of its versions is current.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    pub id: FleetId,
    pub project_id: ProjectId,
    pub name: String,
    /// The current version; the first is 1.
    pub version: u32,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Hash of the text that the author of the current version wrote, if that text is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<TextHash>,
}

/// SHA-256 of the text of a fleet file. Encodings of one text (NFC, NFD) have one hash, as names are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextHash([u8; 32]);

impl TextHash {
    /// The hash of `text`.
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(composed(text).as_bytes()).into())
    }
}

/// One saved version of a fleet. Never changes; a run keeps the version that it was accepted with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetVersion {
    pub fleet_id: FleetId,
    pub project_id: ProjectId,
    pub version: u32,
    pub created_at: Timestamp,
    pub definition: FleetDefinition,
}

/// The content of a fleet file. Names of vessels are unique; `paths` refer to `vessels` by index and form
/// no cycle (see [`crate::model::graph::Graph::new`]).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetDefinition {
    pub name: String,
    pub vessels: Vec<VesselDefinition>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<Path>,
    /// Runs of this fleet at a time; `None`: no limit but the workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// `concurrency`, `overlap` and `debounce` hold for each value of it; `None`: for the fleet as a
    /// whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_key: Option<Expression>,
    /// The fate of runs beyond `concurrency`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub overlap: Overlap,
    /// How long requests wait for more of their key; `None`: their runs start at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debounce: Option<Debounce>,
    /// Vessels of fleets with a higher priority start first.
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: i8,
    #[serde(default)]
    pub delivery: Delivery,
    /// The name of the user that its vessels run as; `None`: the server's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// By which engine its vessels run; `None`: as the settings say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner: Option<RunnerChoice>,
    /// Recipients of e-mail about ended runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notifications: Option<EmailNotifications>,
    /// Commands and POSTs about ended runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<Notify>,
    /// When it runs by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedules: Vec<Schedule>,
    /// Which ended runs are kept; `None`: according to the server's setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_runs: Option<Retention>,
    /// Which requests its webhook takes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub webhook: WebhookSettings,
}

/// One program of a fleet and how to run it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VesselDefinition {
    pub id: VesselId,
    pub name: String,
    pub program: Program,
    /// Where the program starts; `None`: the run's own work directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<String>,
    /// In the order in which they were written; names are unique.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<(String, VariableValue)>,
    #[serde(default)]
    pub guardrails: Guardrails,
    #[serde(default, skip_serializing_if = "is_default")]
    pub confinement: Confinement,
    /// By which engine it runs; `None`: as its fleet says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner: Option<RunnerChoice>,
    /// Recipients of e-mail about this vessel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notifications: Option<EmailNotifications>,
}

/// The program of a vessel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// An argument vector, the program first. A bare name is looked up in the vessel's `PATH`; one
    /// with a slash is taken from its working directory. Never empty, and the program is literal.
    Command(Vec<Argument>),
    /// A script for `/bin/sh -c`.
    Script(String),
    /// A file or a repository for the interpreter of its language: the hosted system's CODE.
    Code(Box<Code>),
}

impl Program {
    /// A command of these words.
    pub fn command<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        Self::Command(words.into_iter().map(Argument::from).collect())
    }
}

/// The fate of a run that a crash interrupts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// It goes on: a vessel may start more than once.
    #[default]
    AtLeastOnce,
    /// It ends as Errored: no vessel ever starts twice. Requires `retry_count` 0 throughout.
    AtMostOnce,
}

impl Delivery {
    /// The word of fleet files.
    pub fn word(self) -> &'static str {
        match self {
            Delivery::AtLeastOnce => "at_least_once",
            Delivery::AtMostOnce => "at_most_once",
        }
    }
}

/// A place in a fleet that names a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretUse<'a> {
    pub secret: Cow<'a, SecretName>,
    /// The name of a vessel, or the key of another part of the fleet file.
    pub part: &'a str,
    /// The variable that gets the value; empty where none does.
    pub variable: &'a str,
}

impl FleetDefinition {
    /// Each place that names a secret.
    pub fn secret_uses(&self) -> impl Iterator<Item = SecretUse<'_>> {
        let of_part =
            |part| move |secret| SecretUse { secret: Cow::Borrowed(secret), part, variable: "" };
        let variables = self.vessels.iter().flat_map(|vessel| {
            vessel.environment.iter().filter_map(|(variable, value)| match value {
                VariableValue::Fixed(FixedValue::Secret { secret }) => {
                    let secret = Cow::Borrowed(secret);
                    Some(SecretUse { secret, part: &vessel.name, variable })
                }
                _ => None,
            })
        });
        let referred = self.vessels.iter().flat_map(|vessel| {
            let secrets = match &vessel.program {
                Program::Code(code) => code.secrets(),
                Program::Command(_) | Program::Script(_) => BTreeSet::new(),
            };
            secrets.into_iter().map(|secret| SecretUse {
                secret: Cow::Owned(secret),
                part: &vessel.name,
                variable: "",
            })
        });
        let notified = self.notify.iter().flat_map(|entry| entry.target.secrets());
        let verified = self.webhook.verify.iter().flat_map(Verification::secrets);
        let others = notified.map(of_part("notify")).chain(verified.map(of_part("webhook")));
        variables.chain(referred).chain(others)
    }

    /// The runners that it asks for, each with the key that does.
    pub fn runner_choices(&self) -> impl Iterator<Item = (String, &RunnerChoice)> {
        let of_fleet = self.runner.iter().map(|choice| ("runner".to_owned(), choice));
        let of_vessels = self.vessels.iter().filter_map(|vessel| {
            Some((format!("vessels.{}.runner", vessel.name), vessel.runner.as_ref()?))
        });
        of_fleet.chain(of_vessels)
    }

    /// The position of the vessel called `name`.
    pub fn vessel_index(&self, name: &str) -> Option<usize> {
        let vessels = self.vessels.iter().enumerate();
        find_by_name(vessels, name, |(_, vessel)| &vessel.name).map(|(index, _)| index)
    }

    /// The name of the vessel that `webhook.respond` has answer, if it names one.
    fn answering_vessel(&self) -> Option<&str> {
        match &self.webhook.respond {
            Some(Respond::Wait(wait)) => wait.vessel.as_deref(),
            Some(Respond::Fixed(_)) | None => None,
        }
    }

    /// Whether the vessel at `index` may answer the senders of requests.
    pub fn may_answer(&self, index: usize) -> bool {
        let waits = matches!(&self.webhook.respond, Some(Respond::Wait(_)));
        waits && self.answering_vessel().is_none_or(|name| self.vessel_index(name) == Some(index))
    }

    /// Whether the vessel that is to answer exists.
    ///
    /// # Errors
    /// What is wrong with `webhook.respond.vessel`.
    pub fn check_answering_vessel(&self) -> Result<(), String> {
        let names = || self.vessels.iter().map(|vessel| vessel.name.as_str());
        match self.answering_vessel() {
            Some(name) if self.vessel_index(name).is_none() => Err(match closest(name, names()) {
                Some(meant) => format!("there is no vessel {name:?}; did you mean {meant:?}?"),
                None => format!(
                    "there is no vessel {name:?}; there are {}",
                    names().collect::<Vec<_>>().join(", ")
                ),
            }),
            _ => Ok(()),
        }
    }

    /// The recipients of the notifications that `run` has ended. `ended` gives the status that the vessel
    /// at an index has ended with. An address that is told of the fleet is not told of its vessels as well.
    pub fn recipients(
        &self,
        run: &RunRecord,
        ended: impl Fn(usize) -> Option<Status>,
    ) -> Vec<Recipient> {
        let number = |index: usize| u16::try_from(index).unwrap_or(u16::MAX);
        let emails = |notifications: &Option<EmailNotifications>, status: Option<Status>| {
            let told = notifications.as_ref().filter(|it| it.asks_for(status, run.trigger));
            0..told.map_or(0, |notifications| number(notifications.emails.len()))
        };
        let entries = self.notify.iter().enumerate();
        let entries = entries.filter(|(_, entry)| entry.on.contains(&run.status));
        let mut recipients: Vec<_> =
            entries.map(|(index, _)| Recipient::Entry(number(index))).collect();
        let asked = emails(&self.notifications, Some(run.status));
        let own = self.notifications.iter().flat_map(|it| &it.emails);
        let of_fleet: BTreeSet<&String> =
            asked.clone().zip(own).map(|(_, address)| address).collect();
        recipients.extend(asked.map(Recipient::FleetEmail));
        for (index, vessel) in self.vessels.iter().enumerate() {
            let asked = emails(&vessel.notifications, ended(index));
            let own = vessel.notifications.iter().flat_map(|it| &it.emails);
            let told = asked.zip(own).filter(|(_, address)| !of_fleet.contains(address));
            let vessel = number(index);
            recipients.extend(told.map(|(email, _)| Recipient::VesselEmail { vessel, email }));
        }
        recipients
    }

    /// Gives each vessel the id that the vessel of the same name has in `previous`. A vessel that
    /// is new by its name and asks for one of these gets another.
    pub fn keep_vessel_ids(&mut self, previous: &FleetDefinition) {
        let ids: BTreeMap<Cow<'_, str>, VesselId> =
            previous.vessels.iter().map(|vessel| (name_key(&vessel.name), vessel.id)).collect();
        let mut taken = BTreeSet::new();
        for vessel in &mut self.vessels {
            if let Some(id) = ids.get(&name_key(&vessel.name)) {
                vessel.id = *id;
                taken.insert(*id);
            }
        }
        for vessel in &mut self.vessels {
            if !ids.contains_key(&name_key(&vessel.name)) && taken.contains(&vessel.id) {
                vessel.id = VesselId::random();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vessels_name_decides_its_id() {
        let fleet = |vessels: &[(&str, u8)]| FleetDefinition {
            name: "n".into(),
            vessels: vessels
                .iter()
                .map(|(name, id)| VesselDefinition {
                    id: VesselId::from_slice(&[*id; 16]).unwrap(),
                    name: (*name).into(),
                    program: Program::Script("x".into()),
                    working_directory: None,
                    environment: Vec::new(),
                    guardrails: Guardrails::default(),
                    confinement: Confinement::default(),
                    runner: None,
                    notifications: None,
                })
                .collect(),
            paths: Vec::new(),
            concurrency: None,
            concurrency_key: None,
            overlap: Overlap::Queue,
            debounce: None,
            priority: 0,
            delivery: Delivery::default(),
            user: None,
            runner: None,
            notifications: None,
            notify: Vec::new(),
            schedules: Vec::new(),
            keep_runs: None,
            webhook: WebhookSettings::default(),
        };
        let previous = fleet(&[("a", 1), ("b", 2)]);
        let ids = |vessels: &[(&str, u8)]| {
            let mut fleet = fleet(vessels);
            fleet.keep_vessel_ids(&previous);
            fleet.vessels.iter().map(|vessel| vessel.id).collect::<Vec<_>>()
        };
        let id = |id: u8| VesselId::from_slice(&[id; 16]).unwrap();
        assert_eq!(ids(&[("b", 7), ("a", 8)]), [id(2), id(1)]);
        assert_eq!(ids(&[("a", 2), ("b", 1)]), [id(1), id(2)]);
        // Renamed by its id, and its old name is gone.
        assert_eq!(ids(&[("c", 1), ("b", 2)]), [id(1), id(2)]);
        let renamed = ids(&[("c", 1), ("a", 9)]);
        assert_eq!(renamed[1], id(1));
        assert_ne!(renamed[0], id(1));
    }
}
