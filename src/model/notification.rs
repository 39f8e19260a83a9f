//! Notifications of the ends of runs: the recipients that a fleet names, and the records of undelivered
//! ones. `notify` decides about content and delivery.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::clock::Timestamp;
use crate::model::defaults::is_default;
use crate::model::ids::RunId;
use crate::model::run::{Status, Trigger};
use crate::model::variable::{FixedValue, SecretName};

/// The `notifications` of a fleet or of one vessel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmailNotifications {
    /// In the order in which they were written; none comes twice.
    pub emails: Vec<String>,
    /// After an end as Errored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub after_error: bool,
    /// After every end of a run that was started on demand.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub after_on_demand: bool,
}

/// An entry of a fleet's `notify`: a receiver of notifications of ended runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notify {
    /// The statuses that it is notified of; never empty.
    pub on: Vec<Status>,
    pub target: Target,
}

/// Where a notification goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A program of this machine and its arguments. Never empty; begins with an absolute path.
    Command(Vec<String>),
    /// A POST.
    Url {
        /// The address, or the secret that holds it: the URL of a chat is a password.
        url: FixedValue,
        /// The secret that signs the POST according to Standard Webhooks (standardwebhooks.com). A POST of
        /// [`Format::Json`] always has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        secret: Option<SecretName>,
        #[serde(default, skip_serializing_if = "is_default")]
        format: Format,
    },
}

/// The content of a POST.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// The run as the API shows it.
    #[default]
    Json,
    /// A message for an incoming webhook of Slack, or of a chat that takes the same, such as Mattermost.
    Slack,
    /// A webhook of a Discord channel.
    Discord,
    /// A workflow of Microsoft Teams that takes webhook requests.
    Teams,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Json, Self::Slack, Self::Discord, Self::Teams];

    /// Its name in a fleet file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Slack => "slack",
            Self::Discord => "discord",
            Self::Teams => "teams",
        }
    }
}

impl Target {
    /// The secrets that are needed to deliver.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretName> {
        let (url, signing) = match self {
            Self::Command(_) => (None, None),
            Self::Url { url: FixedValue::Secret { secret: url }, secret, .. } => {
                (Some(url), secret.as_ref())
            }
            Self::Url { secret, .. } => (None, secret.as_ref()),
        };
        url.into_iter().chain(signing)
    }
}

/// Whether and when a delivery that has failed is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    Never,
    /// After the usual wait.
    Usual,
    /// After the time that the receiver has asked for, at least.
    After(Duration),
}

/// A notification that is due or was given up: a row of `notifications` or of `undelivered`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationRecord {
    pub run: RunId,
    /// Its number among those of its run.
    pub number: u32,
    pub recipient: Recipient,
    /// Attempts to deliver it so far.
    #[serde(default)]
    pub attempts: u32,
    /// When it is tried next.
    pub due_at: Timestamp,
    /// The wait until then, in seconds, where it is not the usual one after so many attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_seconds: Option<u64>,
    /// No attempt follows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub given_up: bool,
    /// Why the last attempt failed, for a person; at most
    /// [`REASON_BYTES_MAX`](super::run::REASON_BYTES_MAX) bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl NotificationRecord {
    /// The id under which the receiver gets the notification, the same at every attempt.
    pub fn message_id(&self) -> String {
        format!("msg_{}_{}", self.run.to_string().replace('-', ""), self.number)
    }
}

/// The recipient of a notification, by its place in the fleet version of its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recipient {
    /// An entry of `notify`.
    Entry(u16),
    /// An address in the fleet's `notifications`.
    FleetEmail(u16),
    /// An address in a vessel's `notifications`.
    VesselEmail { vessel: u16, email: u16 },
}

impl EmailNotifications {
    /// Whether its addresses are told of an end as `status` in a run that `trigger` started.
    pub fn asks_for(&self, status: Option<Status>, trigger: Trigger) -> bool {
        self.after_error && status == Some(Status::Errored)
            || self.after_on_demand && trigger == Trigger::OnDemand
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_runs_that_a_person_starts_are_on_demand() {
        let emails = vec!["a@example.com".to_owned()];
        let asks = EmailNotifications { emails, after_error: false, after_on_demand: true };
        for trigger in Trigger::ALL {
            let expected = trigger == Trigger::OnDemand;
            assert_eq!(asks.asks_for(Some(Status::Errored), trigger), expected, "{trigger}");
        }
        let errors = EmailNotifications { after_error: true, after_on_demand: false, ..asks };
        assert!(errors.asks_for(Some(Status::Errored), Trigger::Schedule));
        assert!(!errors.asks_for(Some(Status::Success), Trigger::OnDemand));
    }
}
