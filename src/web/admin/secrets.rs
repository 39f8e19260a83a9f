//! Secrets: which there are, and which fleets use them. No answer has a value.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{AdminHandler, Call, Outcome, Reply};
use crate::config::secrets::{KeepError, KeptSecret};
use crate::engine::Reach;
use crate::model::clock::Timestamp;
use crate::model::ids::FleetId;
use crate::model::refusal::{Reason, Refusal};
use crate::model::variable::SecretName;
use crate::web::query::Query;

/// The setting that names a secret.
const MAIL_SETTING: &str = "smtp_secret";

#[derive(Serialize)]
struct SecretJson<'a> {
    name: &'a str,
    /// `None`: it is missing.
    set_at: Option<Timestamp>,
    /// Whether the server cannot change it.
    read_only: bool,
    #[serde(flatten)]
    users: &'a Users,
}

/// What needs a secret.
#[derive(Default, Serialize)]
struct Users {
    fleets: Vec<FleetJson>,
    settings: Vec<&'static str>,
}

#[derive(Serialize)]
struct FleetJson {
    id: FleetId,
    name: String,
    project_name: String,
}

impl Users {
    /// The fleets and settings, for a sentence.
    fn names(&self) -> String {
        let fleets =
            self.fleets.iter().map(|fleet| format!("{}/{}", fleet.project_name, fleet.name));
        let settings = self.settings.iter().map(|setting| format!("the setting {setting}"));
        fleets.chain(settings).collect::<Vec<_>>().join(", ")
    }

    fn is_empty(&self) -> bool {
        self.fleets.is_empty() && self.settings.is_empty()
    }
}

/// Secrets by name; with `missing=true` those that are needed and that have no value.
pub(super) fn list(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let query = &call.query;
    query.allow_only(&["limit", "before", "missing"])?;
    let store = admin.secrets.store();
    let mut kept = kept_secrets(admin)?;
    let (users, nobody) = (users(admin, &call.reach), Users::default());
    // A limited token sees the secrets of its fleets.
    kept.retain(|secret| call.reach.is_everything() || users.contains_key(&secret.name));
    let is_writable = store.is_writable();
    let shown: Vec<SecretJson<'_>> = if query.flag("missing")? {
        let names: BTreeSet<&SecretName> = kept.iter().map(|secret| &secret.name).collect();
        let missing = users.iter().filter(|(name, _)| !names.contains(name));
        missing.map(|(name, users)| missing_json(name, users)).collect()
    } else {
        let users = |secret: &KeptSecret| users.get(&secret.name).unwrap_or(&nobody);
        kept.iter().map(|secret| json(secret, is_writable, users(secret))).collect()
    };
    page(query, shown)
}

/// Sets a secret to the bytes of the body.
pub(super) fn set(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let name = name(call)?;
    let content = call
        .request
        .body_bytes()
        .map_err(|error| Refusal::failed(format!("the body cannot be read: {error}")))?;
    admin.secrets.set(&name, &content)?;
    log::info!(secret = name.as_str(); "set a secret");
    let kept = kept_secrets(admin)?;
    let users = users(admin, &call.reach).remove(&name).unwrap_or_default();
    match kept.iter().find(|secret| secret.name == name) {
        Some(secret) => Reply::ok(&json(secret, true, &users)),
        None => Err(Refusal::failed("the secret was removed at the same time")),
    }
}

/// Removes a secret, unless something needs it and `force` is not given.
pub(super) fn remove(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    call.query.allow_only(&["force"])?;
    let is_forced = call.query.flag("force")?;
    let absent = || Refusal::not_found(format!("there is no secret {:?}", call.segment(0)));
    let name = SecretName::try_from(call.segment(0).to_owned()).map_err(|_| absent())?;
    let kept = kept_secrets(admin)?;
    if !kept.iter().any(|secret| secret.name == name) {
        return Err(absent());
    }
    if let Some(users) =
        users(admin, &call.reach).get(&name).filter(|users| !users.is_empty() && !is_forced)
    {
        return Err(Refusal::new(
            Reason::Conflict,
            format!(
                "`{}` is in use by {}; take it out there first, or force the removal \
                 (?force=true, --force)",
                name.as_str(),
                users.names()
            ),
        ));
    }
    admin.secrets.remove(&name)?;
    log::info!(secret = name.as_str(); "removed a secret");
    Reply::gone()
}

/// The secrets that are kept.
fn kept_secrets(admin: &AdminHandler) -> Result<Vec<KeptSecret>, Refusal> {
    let store = admin.secrets.store();
    let failed = |error| {
        let directory = store.directory().display();
        Refusal::failed(format!("the secrets cannot be listed: {directory}: {error}"))
    };
    store.list().map_err(failed)
}

fn name(call: &Call<'_>) -> Result<SecretName, Refusal> {
    SecretName::try_from(call.segment(0).to_owned())
        .map_err(|error| Refusal::invalid(error.to_string()))
}

/// By secret: what needs it within `reach`.
fn users(admin: &AdminHandler, reach: &Reach) -> BTreeMap<SecretName, Users> {
    let mut users: BTreeMap<SecretName, Users> = BTreeMap::new();
    let fleets = admin.engine.fleets().into_iter();
    for fleet in fleets.filter(|view| reach.has_fleet(view.fleet.id, None)) {
        let uses = fleet.current.definition.secret_uses();
        let named: BTreeSet<SecretName> = uses.map(|used| used.secret.into_owned()).collect();
        for name in named {
            users.entry(name).or_default().fleets.push(FleetJson {
                id: fleet.fleet.id,
                name: fleet.fleet.name.clone(),
                project_name: fleet.project_name.clone(),
            });
        }
    }
    let of_mail = admin.settings.mail.as_ref().and_then(|mail| mail.secret.as_ref());
    if let Some(name) = of_mail.filter(|_| reach.is_everything()) {
        users.entry(name.clone()).or_default().settings.push(MAIL_SETTING);
    }
    users
}

fn json<'a>(secret: &'a KeptSecret, is_writable: bool, users: &'a Users) -> SecretJson<'a> {
    SecretJson {
        name: secret.name.as_str(),
        set_at: Some(secret.set_at),
        read_only: secret.is_credential || !is_writable,
        users,
    }
}

fn missing_json<'a>(name: &'a SecretName, users: &'a Users) -> SecretJson<'a> {
    SecretJson { name: name.as_str(), set_at: None, read_only: false, users }
}

/// The part that `limit` and `before`, a name, ask for.
fn page(query: &Query, secrets: Vec<SecretJson<'_>>) -> Outcome {
    let (limit, before) = (query.limit()?, query.get("before").unwrap_or_default());
    let is_name =
        matches!(before, "" | "." | "..") || SecretName::try_from(before.to_owned()).is_ok();
    if !is_name {
        let message = "query parameter \"before\": the name of a secret";
        return Err(Refusal::bad_request(message));
    }
    let rest: Vec<_> = secrets.into_iter().filter(|secret| secret.name > before).collect();
    let page = rest.get(..limit).unwrap_or(&rest);
    let last = page.last().filter(|_| page.len() < rest.len());
    let next = last.map(|secret| secret.name.to_owned());
    Reply::page(page, next)
}

impl From<KeepError> for Refusal {
    fn from(error: KeepError) -> Self {
        let reason = match error {
            KeepError::Name(_) | KeepError::AdminToken | KeepError::Value(_) => Reason::Invalid,
            KeepError::Missing(_) => Reason::NotFound,
            KeepError::Credential(_) | KeepError::TooMany | KeepError::ReadOnly { .. } => {
                Reason::Conflict
            }
            KeepError::File { .. } => Reason::Failed,
        };
        Self::new(reason, error.to_string())
    }
}
