//! Proves to a client that this server holds the token that the client is about to send: the admin token,
//! or the one that the client's hint names. The endpoint needs no token. The connection's thread answers
//! it: it costs one hash, takes no body and keeps nothing. A token has 256 bits, so answers to chosen
//! nonces do not help to guess it.

use super::AdminHandler;
use crate::listener::Head;
use crate::listener::Response;
use crate::model::ids::RequestId;
use crate::model::refusal::{Reason, Refusal};
use crate::model::server_proof::{Nonce, Proof, TokenHint};
use crate::web::query::Query;
use crate::web::respond;

const METHODS: [&str; 2] = ["GET", "HEAD"];

/// The answer to a request with this head.
pub(super) fn answer(admin: &AdminHandler, head: &Head) -> Response {
    let id = RequestId::random();
    match proof(admin, head).and_then(|proof| {
        serde_json::to_string(&proof).map_err(|error| Refusal::failed(error.to_string()))
    }) {
        Ok(data) => respond::data(id, 200, &data),
        Err(refusal) => respond::error(id, refusal),
    }
}

fn proof(admin: &AdminHandler, head: &Head) -> Result<Proof, Refusal> {
    if !METHODS.contains(&head.method.as_str()) {
        return Err(Refusal::method_not_allowed(&METHODS));
    }
    let query = Query::parse(&head.query)?;
    query.allow_only(&["nonce", "hint"])?;
    let nonce = query.get("nonce").and_then(Nonce::parse);
    let nonce =
        nonce.ok_or_else(|| Refusal::bad_request("give a nonce of 64 hexadecimal digits"))?;
    let address = admin.settings.admin_listen;
    let Some(hint) = query.get("hint") else { return Ok(admin.token.prove(nonce, address)) };
    let hint = TokenHint::parse(hint)
        .ok_or_else(|| Refusal::bad_request("give a hint of 16 hexadecimal digits"))?;
    if admin.token.has_hint(hint) {
        return Ok(admin.token.prove(nonce, address));
    }
    let hash = admin.engine.hinted_token(hint).ok_or_else(|| {
        Refusal::new(Reason::Forbidden, "no token has this hint: revoked, expired, or never made")
    })?;
    Ok(Proof::new(hash.as_bytes(), nonce, address))
}
