//! Signing in and out of the pages: with a token, or by a one-time link. A session may do what the token
//! may that opened it.

use std::net::IpAddr;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::tokens::PrincipalJson;
use super::{AdminHandler, Call, Outcome, Reply};
use crate::model::access::Role;
use crate::model::clock::Timestamp;
use crate::model::ids::SessionId;
use crate::model::refusal::{Reason, Refusal};
use crate::model::webhook::Token;
use crate::os::logging;
use crate::web::origin;
use crate::web::session::{Opened, SESSION_AGE_MAX, SIGN_IN_LINK_AGE_MAX};

/// What one signs in with: one of the two.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SignInBody {
    token: Option<String>,
    /// The secret of a link.
    link: Option<String>,
}

#[derive(Serialize)]
struct SessionJson<'a> {
    /// What the pages send in the header X-Boathook-Session.
    key: &'a str,
    #[serde(flatten)]
    principal: PrincipalJson,
}

/// An open session.
#[derive(Serialize)]
struct OpenSessionJson {
    id: SessionId,
    /// Of the token that opened it.
    name: String,
    role: Role,
    opened_at: Timestamp,
    last_used_at: Timestamp,
    /// Whether it is that of the request.
    is_own: bool,
}

#[derive(Serialize)]
struct LinkJson {
    /// To follow below the address by which one's browser reaches the admin listener. The secret
    /// is in the fragment, which browsers keep to themselves.
    path: String,
    expires_in_seconds: u64,
}

/// Opens a session. The one endpoint that needs no authorisation; that it is a page of ours that
/// asks was checked by the listener.
pub(super) fn open(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let is_secure = origin::is_secure(call.request.header("Origin"));
    let address = call.request.remote_addr.ip();
    let now = Instant::now();
    let body: SignInBody = call.json()?.unwrap_or_default();
    let principal = match (&body.token, &body.link) {
        (Some(token), None) => admin.holder_of(token.trim().as_bytes()),
        (None, Some(link)) => {
            let owner = admin.sessions.redeem_link(link, now);
            owner.and_then(|owner| admin.holder_by_id(owner))
        }
        _ => return Err(Refusal::invalid("give a token or the secret of a link")),
    };
    let Some(principal) = principal else {
        return Err(refusal(admin, address, body.link.is_some(), now));
    };
    call.principal = Some(principal.in_session());
    let opened = admin.sessions.open(principal.token, now);
    let Opened { cookie, key } = opened.map_err(no_randomness)?;
    let shown = PrincipalJson::new(admin, &principal);
    let reply = Reply::created(&SessionJson { key: key.reveal(), principal: shown })?;
    Ok(reply.with_header("Set-Cookie", admin.cookie(Some(&cookie), is_secure)))
}

/// The answer to a wrong token or link. Only these are slowed down: a right one from the same address
/// never gets here.
fn refusal(admin: &AdminHandler, address: IpAddr, is_link: bool, now: Instant) -> Refusal {
    if let Some(wait) = admin.sessions.wait_of(address, now) {
        let seconds = wait.as_secs() + 1;
        let message =
            format!("too many wrong tokens from your address; try again in {seconds} seconds");
        return Refusal::new(Reason::TooManyRequests, message).retry_after(seconds);
    }
    if is_link {
        // A browser that opens its last pages again follows it twice. Only wrong tokens count.
        let message = "this link has been used or is too old; `boathook open` makes another";
        return Refusal::new(Reason::Forbidden, message);
    }
    // The brake bounds these lines as well.
    log::warn!(target: logging::OF_CLIENTS, remote_addr:% = address; "failed sign-in");
    admin.sessions.note_failure(address, now);
    let message = "this is not a token of this server, or it has expired or was revoked";
    Refusal::new(Reason::Forbidden, message)
}

/// Ends the session that the request came with.
pub(super) fn close(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    if let Some(secret) = origin::cookie(call.request.header("Cookie"), &admin.cookie_name) {
        admin.sessions.close(secret);
    }
    let is_secure = origin::is_secure(call.request.header("Origin"));
    Ok(Reply::gone()?.with_header("Set-Cookie", admin.cookie(None, is_secure)))
}

/// Who asks, and what the token may do.
pub(super) fn get(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let principal = call.principal()?;
    Reply::ok(&PrincipalJson::new(admin, &principal))
}

/// The open sessions, the latest first.
pub(super) fn list(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    call.query.allow_only(&[])?;
    let cookie = origin::cookie(call.request.header("Cookie"), &admin.cookie_name);
    let open = admin.sessions.list(cookie, Instant::now()).into_iter();
    let now = admin.engine.now();
    let shown = open.filter_map(|session| {
        // The token may have expired.
        let holder = admin.holder_by_id(session.owner)?;
        Some(OpenSessionJson {
            id: session.id,
            name: admin.name_of(&holder),
            role: holder.role,
            opened_at: now.minus(session.age),
            last_used_at: now.minus(session.idle),
            is_own: session.is_own,
        })
    });
    Reply::ok(&shown.collect::<Vec<_>>())
}

/// Ends a session: its pages ask for a token.
pub(super) fn end(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let id: SessionId = call.id(0, "session")?;
    let owner = admin.sessions.end(id);
    let owner = owner.ok_or_else(|| Refusal::not_found(format!("there is no session {id}")))?;
    if let Some(holder) = admin.holder_by_id(owner) {
        call.object = format!("of {}", admin.name_of(&holder));
    }
    Reply::gone()
}

/// Makes a link that signs in once, as the token that asks.
pub(super) fn link(admin: &AdminHandler, call: &mut Call<'_>) -> Outcome {
    let owner = call.principal()?.token;
    let secret = admin.sessions.make_link(owner, Instant::now()).map_err(no_randomness)?;
    Reply::created(&LinkJson {
        path: format!("/sign-in#link={}", secret.reveal()),
        expires_in_seconds: SIGN_IN_LINK_AGE_MAX.as_secs(),
    })
}

fn no_randomness(error: getrandom::Error) -> Refusal {
    Refusal::new(Reason::Unavailable, format!("the system has no randomness for a secret: {error}"))
}

impl AdminHandler {
    /// The Set-Cookie of a session's `secret`, or of its end. The port is in the name because
    /// cookies know no ports: servers on one machine would overwrite each other's.
    fn cookie(&self, secret: Option<&Token>, is_secure: bool) -> String {
        let (value, age) = match secret {
            Some(secret) => (secret.reveal(), SESSION_AGE_MAX.as_secs()),
            None => ("", 0),
        };
        let secure = if is_secure { "; Secure" } else { "" };
        let name = &self.cookie_name;
        let path = match self.settings.admin_base_path.as_str() {
            "" => "/",
            base => base,
        };
        format!("{name}={value}; Path={path}; Max-Age={age}; HttpOnly; SameSite=Strict{secure}")
    }
}
