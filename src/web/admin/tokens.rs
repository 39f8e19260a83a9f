//! The named tokens: making, listing and revoking them. A secret is in one answer only, the one that makes
//! it. An admin whose token is limited sees and makes tokens within its own limit.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{AdminHandler, Call, Outcome, Reply};
use crate::engine::NewAccessToken;
use crate::model::access::{AccessToken, Principal, Role, Scope};
use crate::model::clock::Timestamp;
use crate::model::ids::{FleetId, ProjectId, TokenId};
use crate::model::refusal::{Reason, Refusal};
use crate::web::query::Position;

/// What a new token is to be.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTokenBody {
    name: String,
    role: String,
    #[serde(default)]
    project_id: Option<ProjectId>,
    #[serde(default)]
    fleet_id: Option<FleetId>,
    #[serde(default)]
    expires_in_seconds: Option<u64>,
}

#[derive(Serialize)]
struct TokenJson {
    id: TokenId,
    name: String,
    role: Role,
    #[serde(flatten)]
    limit: LimitJson,
    created_at: Timestamp,
    created_by: String,
    expires_at: Option<Timestamp>,
    is_expired: bool,
    last_used_at: Option<Timestamp>,
    /// The secret; only in the answer that makes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

/// What a token is limited to. Names are absent of what is gone.
#[derive(Default, Serialize)]
pub(super) struct LimitJson {
    project_id: Option<ProjectId>,
    project_name: Option<String>,
    fleet_id: Option<FleetId>,
    fleet_name: Option<String>,
}

impl LimitJson {
    pub(super) fn new(admin: &AdminHandler, scope: Scope) -> Self {
        match scope {
            Scope::Everything => Self::default(),
            Scope::Project(id) => Self {
                project_id: Some(id),
                project_name: admin.engine.project(id).ok().map(|project| project.name),
                ..Self::default()
            },
            Scope::Fleet(id) => {
                let view = admin.engine.fleet(id).ok();
                let (fleet_name, project_name) =
                    view.map(|view| (view.fleet.name, view.project_name)).unzip();
                Self { project_name, fleet_id: Some(id), fleet_name, ..Self::default() }
            }
        }
    }
}

impl TokenJson {
    fn new(admin: &AdminHandler, token: AccessToken) -> Self {
        Self {
            is_expired: token.is_expired(admin.engine.now()),
            id: token.id,
            name: token.name,
            role: token.role,
            limit: LimitJson::new(admin, token.scope),
            created_at: token.created_at,
            created_by: token.created_by,
            expires_at: token.expires_at,
            last_used_at: token.last_used_at,
            token: None,
        }
    }
}

pub(super) fn list(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let mut tokens = admin.engine.access_tokens();
    tokens.retain(|token| call.reach.has_scope(token.scope));
    let position = |token: &AccessToken| Position::new(&token.name, token.id);
    let page = call.query.page(tokens, position)?;
    let shown: Vec<_> = page.items.into_iter().map(|token| TokenJson::new(admin, token)).collect();
    Reply::page(&shown, page.next)
}

pub(super) fn create(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let body: NewTokenBody = call
        .json()?
        .ok_or_else(|| Refusal::invalid(r#"say which: {"name": "ci", "role": "operator"}"#))?;
    let role = body.role.parse().map_err(|error| Refusal::invalid(format!("role: {error}")))?;
    let scope = match (body.project_id, body.fleet_id) {
        (None, None) => Scope::Everything,
        (Some(project), None) => Scope::Project(project),
        (None, Some(fleet)) => Scope::Fleet(fleet),
        (Some(_), Some(_)) => {
            return Err(Refusal::invalid("limit a token to a project or to a fleet, not to both"));
        }
    };
    if !call.reach.has_scope(scope) {
        return Err(Refusal::new(
            Reason::Forbidden,
            "your token is limited: a token that it makes has the same limit, or a narrower one",
        ));
    }
    let created_by = admin.name_of(&call.principal()?);
    let expires_in = body.expires_in_seconds.map(Duration::from_secs);
    let new = NewAccessToken { name: body.name, role, scope, expires_in, created_by };
    let (token, secret) = admin.engine.create_access_token(new)?;
    call.object.clone_from(&token.name);
    log::info!(token = token.name.as_str(), role = role.word(); "made a token");
    let shown = TokenJson::new(admin, token);
    Reply::created(&TokenJson { token: Some(secret.reveal().to_owned()), ..shown })
}

/// Revokes a token, and ends the sessions that it opened.
pub(super) fn revoke(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let id: TokenId = call.id(0, "token")?;
    let token = admin.engine.access_token(id).filter(|it| call.reach.has_scope(it.scope));
    if token.is_none() {
        return Err(Refusal::not_found(format!("there is no token {id} any more")));
    }
    let token = admin.engine.revoke_access_token(id)?;
    admin.sessions.end_those_of(id);
    log::info!(token = token.name.as_str(); "revoked a token");
    Reply::gone()
}

/// Who asks, and what the token may do: for the pages and for scripts.
#[derive(Serialize)]
pub(super) struct PrincipalJson {
    name: String,
    role: Role,
    #[serde(flatten)]
    limit: LimitJson,
    expires_at: Option<Timestamp>,
}

impl PrincipalJson {
    pub(super) fn new(admin: &AdminHandler, principal: &Principal) -> Self {
        let token = principal.token.and_then(|id| admin.engine.access_token(id));
        Self {
            name: admin.name_of(principal),
            role: principal.role,
            limit: LimitJson::new(admin, principal.scope),
            expires_at: token.and_then(|token| token.expires_at),
        }
    }
}
