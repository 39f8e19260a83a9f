//! Samples of events: small requests of the shape that providers send, for an owner to try a fleet with.

use serde_json::{Map, Value};

use super::sign::{Draft, written};
use crate::model::clock::Timestamp;
use crate::model::sender::{Check, Place, Preset, Rule, TimestampPlace, TimestampRule};

/// The type and the body of a preset's sample.
struct Sample {
    preset: &'static str,
    event: &'static str,
    /// JSON, but where [`Sample::is_form`]. Id, type and timestamp are put where the preset has them.
    body: &'static str,
}

/// The sample of all presets that have none of their own.
const GENERIC: Sample =
    Sample { preset: "", event: "sample", body: r#"{"message": "A sample event from Boathook"}"# };

const PUSH: &str = r#"{"ref": "refs/heads/main", "before": "0000000000000000000000000000000000000000",
    "after": "1111111111111111111111111111111111111111", "repository": {"name": "sample",
    "full_name": "sample/sample"}, "pusher": {"name": "sample"},
    "head_commit": {"id": "1111111111111111111111111111111111111111", "message": "A sample commit"}}"#;

const SAMPLES: &[Sample] = &[
    Sample { preset: "github", event: "push", body: PUSH },
    Sample { preset: "gitea", event: "push", body: PUSH },
    Sample { preset: "forgejo", event: "push", body: PUSH },
    Sample {
        preset: "gitlab",
        event: "Push Hook",
        body: r#"{"object_kind": "push", "ref": "refs/heads/main", "user_name": "sample",
            "checkout_sha": "1111111111111111111111111111111111111111",
            "project": {"path_with_namespace": "sample/sample"}}"#,
    },
    Sample {
        preset: "bitbucket",
        event: "repo:push",
        body: r#"{"repository": {"full_name": "sample/sample"},
            "push": {"changes": [{"new": {"type": "branch", "name": "main"}}]}}"#,
    },
    Sample {
        preset: "stripe",
        event: "invoice.paid",
        body: r#"{"object": "event", "livemode": false,
            "data": {"object": {"id": "in_sample", "amount_paid": 1200, "currency": "eur"}}}"#,
    },
    Sample {
        preset: "slack",
        event: "app_mention",
        body: r#"{"type": "event_callback", "team_id": "T0000000",
            "event": {"user": "U0000000", "channel": "C0000000", "text": "A sample mention"}}"#,
    },
    Sample {
        preset: "shopify",
        event: "orders/create",
        body: r#"{"id": 1, "name": "A sample order", "total_price": "12.00", "currency": "EUR"}"#,
    },
    Sample {
        preset: "woocommerce",
        event: "order.created",
        body: r#"{"id": 1, "status": "processing", "total": "12.00", "currency": "EUR"}"#,
    },
    Sample {
        preset: "microsoft-graph",
        event: "created",
        body: r#"{"value": [{"clientState": "{clientState}", "changeType": "created",
            "resource": "users/sample/messages/1"}]}"#,
    },
    Sample { preset: "twilio", event: "", body: "From=%2B15550100&To=%2B15550101&Body=A+sample" },
    Sample { preset: "zoom", event: "meeting.started", body: r#"{"payload": {"object": {}}}"# },
    Sample { preset: "linear", event: "Issue", body: r#"{"action": "create", "type": "Issue"}"# },
    Sample { preset: "grafana", event: "", body: r#"{"status": "firing", "alerts": []}"# },
];

impl Sample {
    fn of(preset: Option<&Preset>) -> &'static Self {
        let named = |preset: &Preset| SAMPLES.iter().find(|sample| sample.preset == preset.name);
        preset.and_then(named).unwrap_or(&GENERIC)
    }

    fn is_form(&self) -> bool {
        self.preset == "twilio"
    }
}

/// What an owner may say of a sample.
pub struct Wanted<'a> {
    pub preset: Option<&'static Preset>,
    /// The type of the event; may be empty.
    pub event: &'a str,
    /// Instead of the sample's own.
    pub body: Option<Vec<u8>>,
    pub id: &'a str,
    pub now: Timestamp,
}

/// The type of the event that a sample of `preset` is.
pub fn usual_event(preset: Option<&Preset>) -> &'static str {
    Sample::of(preset).event
}

/// An unsigned sample to `url`. `check` is what the fleet asks of the sender.
pub fn draft(url: &str, wanted: Wanted<'_>, check: Option<&Check>) -> Draft {
    let sample = Sample::of(wanted.preset);
    let content_type = match sample.is_form() {
        true => "application/x-www-form-urlencoded",
        false => "application/json",
    };
    let headers = vec![("Content-Type".to_owned(), content_type.into())];
    let mut draft = Draft { url: url.to_owned(), query: String::new(), headers, body: Vec::new() };
    let (ids, kinds) = match (check, wanted.preset) {
        (Some(check), _) => (check.event_id(), check.event_type()),
        (None, Some(preset)) => (preset.event_id.to_vec(), preset.event_type.to_vec()),
        (None, None) => Default::default(),
    };
    let mut body = serde_json::from_str(sample.body).unwrap_or(Value::Null);
    // Two samples are two events, also where the body counts because the signature leaves out the id.
    put(&mut body, "sample", wanted.id.into());
    let places = [(ids.first(), wanted.id), (kinds.first(), wanted.event)];
    for (place, text) in places.into_iter().filter(|(_, text)| !text.is_empty()) {
        match place {
            Some(Place::Header(name)) => draft.set_header(name, text),
            Some(Place::Body(path)) => put(&mut body, path, text.into()),
            None => {}
        }
    }
    for rule in check.into_iter().flat_map(Check::rules) {
        if let Rule::Signature(scheme) = rule
            && let Some(TimestampRule { place: TimestampPlace::Body(path), unit, .. }) =
                scheme.timestamp
        {
            let text = written(wanted.now, unit);
            put(&mut body, path, text.parse::<i64>().map_or_else(|_| text.into(), Value::from));
        }
    }
    draft.body = match wanted.body {
        Some(body) => body,
        None if sample.is_form() => format!("{}&Sample={}", sample.body, wanted.id).into_bytes(),
        None => body.to_string().into_bytes(),
    };
    draft
}

/// Puts `new` at `path`, keys with dots between them, of the object `value`.
fn put(value: &mut Value, path: &str, new: Value) {
    let (key, rest) = path.split_once('.').map_or((path, None), |(key, rest)| (key, Some(rest)));
    let Value::Object(fields) = value else { return };
    match rest {
        None => drop(fields.insert(key.to_owned(), new)),
        Some(rest) => {
            let inner = fields.entry(key).or_insert_with(|| Value::Object(Map::new()));
            put(inner, rest, new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sender::table::{PRESETS, preset};

    fn wanted(preset: &'static Preset) -> Wanted<'static> {
        let now = Timestamp::from_millis(1_700_000_000_000);
        Wanted {
            preset: Some(preset),
            event: usual_event(Some(preset)),
            body: None,
            id: "id-1",
            now,
        }
    }

    #[test]
    fn samples_are_of_presets_and_hold_what_their_events_are_known_by() {
        for sample in SAMPLES {
            let preset = preset(sample.preset).unwrap();
            let is_json = serde_json::from_str::<Value>(sample.body).is_ok_and(|it| it.is_object());
            assert_eq!(is_json, !sample.is_form(), "{}", preset.name);
        }
        for preset in PRESETS {
            let draft = draft("http://x/hooks/t", wanted(preset), None);
            let body = String::from_utf8_lossy(&draft.body);
            assert!(body.contains("id-1"), "two samples of {} are one event: {body}", preset.name);
            let is_there = |place: &Place<'_>, text: &str| match place {
                Place::Header(name) => draft.header(name) == text,
                Place::Body(path) => {
                    let pointer = format!("/{}", path.replace('.', "/"));
                    let body: Value = serde_json::from_slice(&draft.body).unwrap();
                    body.pointer(&pointer).and_then(Value::as_str) == Some(text)
                }
            };
            if let Some(place) = preset.event_id.first() {
                assert!(is_there(place, "id-1"), "{}", preset.name);
            }
            if let Some(place) = preset.event_type.first() {
                assert!(is_there(place, Sample::of(Some(preset)).event), "{}", preset.name);
            }
        }
    }
}
