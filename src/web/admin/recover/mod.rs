//! Missed deliveries: GitHub never delivers again by itself. Asks it which deliveries of a fleet's webhook
//! have failed, and lets it deliver these once more.

mod github;

use std::collections::HashSet;
use std::sync::{Mutex, TryLockError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::fleets::fleet_id;
use super::{AdminHandler, Call, Outcome, Reply};
use crate::config::secrets::Secret;
use crate::model::clock::Timestamp;
use crate::model::limits::LIST_MAX;
use crate::model::refusal::{Reason, Refusal};
use crate::model::variable::SecretName;
use crate::model::webhook::{Token, Webhook};
use github::{Attempt, Client, Owner};

/// Pages of the list of deliveries that are read: 5,000 attempts.
const PAGES_MAX: usize = 50;
/// Time after which no further request to GitHub begins.
const TIME_MAX: Duration = Duration::from_secs(60);

/// One recovery at a time: each holds a handler thread and a part of GitHub's rate limit.
pub(super) type Turn = Mutex<()>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecoverBody {
    /// `owner/name`. Either this or `organization`.
    repository: Option<String>,
    organization: Option<String>,
    /// The name of the secret that holds the token.
    token: SecretName,
    /// Only deliveries since then; all that GitHub still has by default.
    since: Option<Timestamp>,
    /// The ids of what a dry run has found, to be delivered again.
    deliveries: Option<Vec<u64>>,
    /// The webhook that a dry run has found.
    hook: Option<u64>,
    /// Whether only to tell what has failed.
    #[serde(default)]
    dry_run: bool,
}

#[derive(Default, Serialize)]
struct Recovered {
    /// The id of the webhook at GitHub.
    hook: u64,
    /// Attempts that were looked at.
    attempts: usize,
    /// What has failed; empty when the request names what is to be delivered again.
    deliveries: Vec<Missed>,
    /// The attempts that GitHub delivers again.
    redelivered: Vec<u64>,
    failed: Vec<NotAsked>,
    /// Why the rest was left undone.
    ended_early: Option<String>,
}

/// A delivery of which no attempt has succeeded: the latest attempt.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Missed {
    id: u64,
    guid: String,
    event: String,
    delivered_at: Timestamp,
    /// Of the answer that GitHub got; 0: none.
    status: u16,
}

#[derive(Serialize)]
struct NotAsked {
    id: u64,
    reason: String,
}

pub(super) fn recover(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let fleet = fleet_id(call)?;
    let body: RecoverBody = call.json()?.ok_or_else(|| {
        Refusal::bad_request(r#"send {"repository": "owner/name", "token": "SECRET"}"#)
    })?;
    let owner = owner(&body)?;
    if body.deliveries.as_ref().is_some_and(|ids| ids.len() > LIST_MAX) {
        return Err(Refusal::invalid(format!("`deliveries`: at most {LIST_MAX} at a time")));
    }
    let view = admin.engine.webhook(fleet)?;
    let webhook =
        view.ok_or_else(|| Refusal::not_found("this fleet has no webhook; add one first"))?.webhook;
    let _turn = match admin.recovery.try_lock() {
        Err(TryLockError::WouldBlock) => {
            let message = "another recovery is under way; try again when it is over";
            return Err(Refusal::new(Reason::Unavailable, message));
        }
        Ok(turn) => turn,
        // It guards nothing that could be half done.
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
    };
    let token = token(admin, &body.token)?;
    let client = Client::new(admin.settings.github_api_url.as_str(), owner, token);
    let until = Instant::now() + TIME_MAX;
    let hook = match body.hook {
        Some(hook) => hook,
        None => own_hook(&client, &webhook)?,
    };
    let mut recovered = Recovered { hook, ..Recovered::default() };
    let ids = match body.deliveries {
        Some(ids) => ids,
        None => {
            recovered.look(&client, body.since, until)?;
            if body.dry_run {
                return Reply::ok(&recovered);
            }
            recovered.deliveries.iter().map(|missed| missed.id).collect()
        }
    };
    recovered.redeliver(&client, &ids, until)?;
    Reply::ok(&recovered)
}

fn owner(body: &RecoverBody) -> Result<Owner, Refusal> {
    let owner = match (&body.repository, &body.organization) {
        (Some(repository), None) => Owner::repository(repository),
        (None, Some(organization)) => Owner::organization(organization),
        _ => return Err(Refusal::invalid("give either `repository` or `organization`")),
    };
    owner.ok_or_else(|| {
        Refusal::invalid("`repository` is owner/name, `organization` a name, as GitHub spells them")
    })
}

fn token(admin: &AdminHandler, name: &SecretName) -> Result<Secret, Refusal> {
    admin.secrets.store().current(name).map_err(|error| {
        let name = name.as_str();
        Refusal::invalid(format!("the secret `{name}` with the token has no value: {error}"))
    })
}

/// The webhook at GitHub with the URL of `webhook`. Its host may be another one meanwhile.
fn own_hook(client: &Client<'_>, webhook: &Webhook) -> Result<u64, Refusal> {
    let previous = webhook.previous.as_ref().map(|previous| previous.token.hash());
    let is_own = |url: &str| {
        let mut segments = url.split(['/', '?', '#']);
        segments.any(|segment| {
            let shown = Token::parse(segment).map(|token| token.hash());
            shown.is_some_and(|shown| shown == webhook.token.hash() || Some(shown) == previous)
        })
    };
    let hooks = client.hooks()?;
    let found = hooks.iter().find(|hook| hook.config.url.as_deref().is_some_and(is_own));
    found.map(|hook| hook.id).ok_or_else(|| {
        Refusal::new(
            Reason::Conflict,
            format!(
                "none of the {} webhooks of {} at GitHub has the URL of this fleet's webhook; \
                 `boathook webhook show` prints it",
                hooks.len(),
                client.owner()
            ),
        )
    })
}

impl Recovered {
    /// Finds the deliveries since `since` that have failed.
    fn look(
        &mut self,
        client: &Client<'_>,
        since: Option<Timestamp>,
        until: Instant,
    ) -> Result<(), Refusal> {
        let mut attempts: Vec<Attempt> = Vec::new();
        let mut next = None;
        for page in 1.. {
            let (found, following) = client.attempts(self.hook, next.as_deref())?;
            let older =
                found.iter().position(|it| since.is_some_and(|since| it.delivered_at < since));
            attempts.extend(found.into_iter().take(older.unwrap_or(usize::MAX)));
            next = following.filter(|_| older.is_none());
            if next.is_none() {
                break;
            }
            if page == PAGES_MAX || Instant::now() >= until {
                let oldest = attempts.last().map(|it| it.delivered_at.to_string());
                self.ended_early = Some(format!(
                    "looked at the latest {} attempts only, back to {}; run it again afterwards",
                    attempts.len(),
                    oldest.unwrap_or_default()
                ));
                break;
            }
        }
        self.attempts = attempts.len();
        self.deliveries = missed(attempts);
        Ok(())
    }

    /// Lets GitHub deliver `ids` once more.
    fn redeliver(
        &mut self,
        client: &Client<'_>,
        ids: &[u64],
        until: Instant,
    ) -> Result<(), Refusal> {
        for id in ids {
            if Instant::now() >= until {
                self.ended_early = Some("GitHub takes too long; go on with the rest".to_owned());
                break;
            }
            match client.redeliver(self.hook, *id) {
                Ok(()) => self.redelivered.push(*id),
                Err(error) if error.ends_all() && self.redelivered.is_empty() => {
                    return Err(error.into());
                }
                Err(error) if error.ends_all() => {
                    self.ended_early = Some(error.to_string());
                    break;
                }
                Err(error) => self.failed.push(NotAsked { id: *id, reason: error.to_string() }),
            }
        }
        Ok(())
    }
}

/// The deliveries of which no attempt has succeeded, the oldest first, each once: by its latest attempt.
/// `attempts`: the latest first.
fn missed(attempts: Vec<Attempt>) -> Vec<Missed> {
    let over = attempts.iter().filter(|it| !it.has_failed()).map(|it| it.guid.clone());
    let over: HashSet<String> = over.collect();
    let mut seen = HashSet::new();
    let mut missed: Vec<Missed> = Vec::new();
    for attempt in attempts {
        if !over.contains(&attempt.guid) && seen.insert(attempt.guid.clone()) {
            missed.push(Missed {
                id: attempt.id,
                guid: attempt.guid,
                event: attempt.event,
                delivered_at: attempt.delivered_at,
                status: attempt.status_code.unwrap_or(0),
            });
        }
    }
    missed.reverse();
    missed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(id: u64, guid: &str, status_code: Option<u16>) -> Attempt {
        Attempt {
            id,
            guid: guid.to_owned(),
            delivered_at: Timestamp::from_millis(i64::try_from(id).unwrap()),
            status_code,
            event: "push".to_owned(),
        }
    }

    #[test]
    fn each_delivery_without_a_success_is_missed_once() {
        // The latest first.
        let attempts = vec![
            attempt(9, "failed twice", Some(502)),
            attempt(8, "recovered", Some(201)),
            attempt(7, "under way", None),
            attempt(6, "refused after a success", Some(401)),
            attempt(5, "refused after a success", Some(200)),
            attempt(4, "no connection", Some(0)),
            attempt(3, "failed twice", Some(0)),
            attempt(2, "recovered", Some(503)),
            attempt(1, "under way", Some(503)),
        ];
        let ids: Vec<u64> = missed(attempts).iter().map(|missed| missed.id).collect();
        assert_eq!(ids, [4, 9]);
        assert_eq!(missed(Vec::new()), []);
    }
}
