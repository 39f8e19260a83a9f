//! The key `respond` of a fleet's `webhook`: what the sender of an accepted request is answered.

use serde_json::{Value, json};

use super::{duration, verify};
use crate::fleet_file::FleetFileError;
use crate::fleet_file::cursor::{Cursor, Fields};
use crate::model::duration::format_duration;
use crate::model::respond::{
    CONTENT_TYPE_BYTES_MAX, FIXED_BODY_BYTES_MAX, FixedAnswer, Respond, STATUSES, WAIT_MAX, Wait,
    is_without_body,
};

/// A fixed answer, or a wait; `None` where nothing is written.
pub fn respond(cursor: &Cursor<'_>) -> Result<Option<Respond>, FleetFileError> {
    if cursor.is_null() {
        return Ok(None);
    }
    let fields = cursor.fields(&["status", "content_type", "body", "wait", "vessel"])?;
    if fields.get("wait").is_none() && fields.get("vessel").is_none() {
        return fixed(cursor, &fields).map(|answer| Some(Respond::Fixed(answer)));
    }
    if let Some(key) = ["status", "content_type", "body"].iter().find_map(|key| fields.get(key)) {
        let message = "is for an answer that is always the same; with `wait` the vessel answers";
        return Err(key.invalid_key(message));
    }
    let Some(wait) = fields.get("wait") else {
        return Err(cursor.missing("wait", "missing; say how long senders wait, as in `wait: 25s`"));
    };
    let answer = Wait {
        wait: duration(wait, WAIT_MAX)?,
        vessel: fields.get("vessel").map(|name| name.text().map(str::to_owned)).transpose()?,
    };
    match answer.wait.is_zero() {
        true => Err(wait.invalid("no time at all; without `respond`, senders get the ids at once")),
        false => Ok(Some(Respond::Wait(answer))),
    }
}

fn fixed(cursor: &Cursor<'_>, fields: &Fields<'_>) -> Result<FixedAnswer, FleetFileError> {
    let mut answer = FixedAnswer::default();
    if let Some(status) = fields.get("status") {
        let number = status.number(u32::from(*STATUSES.start())..=u32::from(*STATUSES.end()))?;
        answer.status = u16::try_from(number).unwrap_or(answer.status);
    }
    if let Some(content_type) = fields.get("content_type") {
        answer.content_type = media_type(content_type)?;
    }
    if let Some(body) = fields.get("body") {
        let text = if body.is_null() { "" } else { body.text()? };
        if text.len() > FIXED_BODY_BYTES_MAX {
            let message = format!("{} bytes; at most {FIXED_BODY_BYTES_MAX}", text.len());
            return Err(body.invalid(message));
        }
        if !text.is_empty() && is_without_body(answer.status) {
            return Err(body.invalid(format!("an answer {} has no body", answer.status)));
        }
        text.clone_into(&mut answer.body);
    }
    match fields.is_empty() {
        true => {
            Err(cursor.invalid("says nothing; write {status: 200, body: thanks} or {wait: 25s}"))
        }
        false => Ok(answer),
    }
}

/// A Content-Type, which goes into a header as it is.
fn media_type(cursor: &Cursor<'_>) -> Result<String, FleetFileError> {
    let text = cursor.text()?;
    let is_plain = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    let (kind, subtype) = text.split_once('/').unwrap_or_default();
    if !is_plain || kind.is_empty() || subtype.is_empty() || text.len() > CONTENT_TYPE_BYTES_MAX {
        return Err(cursor.invalid("no type of content; write one such as text/plain"));
    }
    Ok(text.to_owned())
}

/// The same as the API shows it.
pub fn to_json(respond: &Respond) -> Value {
    match respond {
        Respond::Fixed(FixedAnswer { status, content_type, body }) => {
            json!({"status": status, "content_type": content_type, "body": body})
        }
        Respond::Wait(Wait { wait, vessel: None }) => json!({"wait": format_duration(*wait)}),
        Respond::Wait(Wait { wait, vessel }) => {
            json!({"wait": format_duration(*wait), "vessel": vessel})
        }
    }
}

/// The same in YAML, on one line.
pub fn yaml(respond: &Respond) -> String {
    verify::flow(&to_json(respond))
}
