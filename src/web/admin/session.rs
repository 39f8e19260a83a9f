//! Signing in and out of the pages: with the admin token, or by a one-time link.

use std::net::IpAddr;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{AdminHandler, Call, Outcome, Reply};
use crate::model::refusal::{Reason, Refusal};
use crate::model::webhook::Token;
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
    let is_known = match (&body.token, &body.link) {
        (Some(token), None) => admin.token.is(token.trim()),
        (None, Some(link)) => admin.sessions.redeem_link(link, now),
        _ => return Err(Refusal::invalid("give a token or the secret of a link")),
    };
    if !is_known {
        return Err(refusal(admin, address, body.link.is_some(), now));
    }
    let Opened { cookie, key } = admin.sessions.open(now).map_err(no_randomness)?;
    let reply = Reply::created(&SessionJson { key: key.reveal() })?;
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
    admin.sessions.note_failure(address, now);
    log::warn!(remote_addr:% = address; "failed sign-in");
    let message = match is_link {
        true => "this link has been used or is too old; `boathook open` makes another",
        false => "this is not the admin token",
    };
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

/// Makes a link that signs in once.
pub(super) fn link(admin: &AdminHandler, _: &mut Call<'_>) -> Outcome {
    let secret = admin.sessions.make_link(Instant::now()).map_err(no_randomness)?;
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
        format!("{name}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{secure}")
    }
}
