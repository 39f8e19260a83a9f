//! Who may do what with the admin API: tokens with a role and a scope, what a route needs, and the
//! principal that a request carries once it is authenticated.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::clock::Timestamp;
use crate::model::ids::{FleetId, ProjectId, TokenId};

/// What the holder of a token may do. From the operator on, a role includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Starts fleets and sees the status of their runs; nothing else.
    Trigger,
    /// Sees everything but the URLs of webhooks.
    Reader,
    /// Also starts, stops and replays runs.
    Operator,
    /// Also changes fleets, webhooks, secrets and projects, and sees the URLs of webhooks.
    Author,
    /// Does everything.
    Admin,
}

impl Role {
    /// Every role, the least first.
    pub const ALL: [Self; 5] =
        [Self::Trigger, Self::Reader, Self::Operator, Self::Author, Self::Admin];

    /// The word of the command line and of the API.
    pub fn word(self) -> &'static str {
        match self {
            Self::Trigger => "trigger",
            Self::Reader => "reader",
            Self::Operator => "operator",
            Self::Author => "author",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|role| role.word() == text).ok_or_else(|| {
            let words: Vec<_> = Self::ALL.iter().map(|role| role.word()).collect();
            format!("no such role: {text:?}; one of {}", words.join(", "))
        })
    }
}

/// What a token is limited to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Nothing.
    #[default]
    Everything,
    /// The fleets of this project.
    Project(ProjectId),
    Fleet(FleetId),
}

/// The least that a role has to allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Any token will do.
    AnyToken,
    /// Starting a fleet: every role but the reader's.
    Start,
    /// This role, or one that includes it.
    AtLeast(Role),
}

impl Need {
    /// Whether `role` is enough.
    pub fn is_met_by(self, role: Role) -> bool {
        match self {
            Self::AnyToken => true,
            Self::Start => role != Role::Reader,
            Self::AtLeast(least) => role >= least,
        }
    }

    /// The role that is missing, for a sentence.
    pub fn words(self) -> &'static str {
        match self {
            Self::AnyToken | Self::Start => "trigger or operator",
            Self::AtLeast(role) => role.word(),
        }
    }
}

/// A token of the admin API with a name: a row of `tokens`, by the hash of the secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessToken {
    pub id: TokenId,
    /// Unique.
    pub name: String,
    pub role: Role,
    #[serde(default)]
    pub scope: Scope,
    pub created_at: Timestamp,
    /// The name of the token that made it.
    pub created_by: String,
    /// From then on it opens nothing; `None`: it does not expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// To within a minute after a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
}

impl AccessToken {
    /// Whether it has expired at `now`.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|expires_at| now >= expires_at)
    }
}

/// Whose request it is and what it may do: of a request from its authentication to its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The token that was shown, or that opened the session; `None`: the one in `admin.token`.
    pub token: Option<TokenId>,
    pub role: Role,
    pub scope: Scope,
    /// Whether a page sent it, in a session.
    pub is_session: bool,
}

impl Principal {
    /// The holder of the token in `admin.token`.
    pub const OWNER: Self =
        Self { token: None, role: Role::Admin, scope: Scope::Everything, is_session: false };

    /// The same, in a session of the pages.
    pub fn in_session(self) -> Self {
        Self { is_session: true, ..self }
    }

    /// Whether it sees the URLs of webhooks, which are secrets.
    pub fn sees_webhook_urls(&self) -> bool {
        self.role >= Role::Author
    }

    /// Whether it may give a run variables that its fleet does not declare. `BASH_ENV` or
    /// `GIT_SSH_COMMAND` start programs, and only authors choose these.
    pub fn may_add_variables(&self) -> bool {
        self.role >= Role::Author
    }

    /// Whether it sees of runs and fleets no more than it takes to start them and to wait for their end.
    pub fn sees_status_only(&self) -> bool {
        self.role == Role::Trigger
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_include_those_before_them_but_readers_start_nothing() {
        use Role::{Admin, Author, Operator, Reader, Trigger};
        for (need, expected) in [
            (Need::AnyToken, &[Trigger, Reader, Operator, Author, Admin][..]),
            (Need::Start, &[Trigger, Operator, Author, Admin]),
            (Need::AtLeast(Reader), &[Reader, Operator, Author, Admin]),
            (Need::AtLeast(Operator), &[Operator, Author, Admin]),
            (Need::AtLeast(Author), &[Author, Admin]),
            (Need::AtLeast(Admin), &[Admin]),
        ] {
            let met: Vec<_> = Role::ALL.into_iter().filter(|role| need.is_met_by(*role)).collect();
            assert_eq!(met, expected, "{need:?}");
        }
    }

    #[test]
    fn roles_go_by_their_words() {
        for role in Role::ALL {
            assert_eq!(role.word().parse(), Ok(role));
            assert_eq!(serde_json::to_value(role).unwrap(), role.word());
        }
        assert!("root".parse::<Role>().unwrap_err().contains("trigger, reader, operator"));
    }
}
