//! Handshakes as providers send them.

use super::draft;
use crate::listener::{Response, ResponseBody};
use crate::model::sender::{Check, Verification};
use crate::model::variable::SecretName;
use crate::web::senders::Presented;
use crate::web::senders::handshake::{Step, signed, unsigned};
use crate::web::senders::presented::Reread;
use crate::web::senders::sign::Draft;

fn check(verify: &str) -> Check {
    serde_json::from_str::<Verification>(verify).unwrap().checks()[0].clone()
}

fn secret(name: &SecretName) -> Result<String, String> {
    match name.as_str() {
        "T" => Ok("chosen".to_owned()),
        _ => Err("there is no file".to_owned()),
    }
}

fn ask(preset: &str, method: &str, request: &Draft) -> Option<Step> {
    let check = check(&format!(r#"{{"preset":"{preset}","secret":"S","verify_token":"T"}}"#));
    let body: &dyn Reread = &request.body;
    let presented = Presented { query: &request.query, headers: &request.headers, body };
    unsigned(&check, method, &presented, &secret).or_else(|| {
        signed(&check, &presented, || "the secret".to_owned()).filter(|_| method == "POST")
    })
}

fn with_query(query: &str) -> Draft {
    Draft { query: query.to_owned(), ..draft(&[], "") }
}

#[track_caller]
fn answers(step: Option<Step>, status: u16, content_type: Option<&str>, expected: &str) {
    let Some(Step::Answer(Response { status: found, headers, body })) = step else {
        panic!("no answer")
    };
    let ResponseBody::Bytes(bytes) = body else { panic!("a stream") };
    let given = headers.iter().find(|(name, _)| *name == "Content-Type");
    assert_eq!((found, given.map(|(_, value)| value.as_str())), (status, content_type));
    assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    let is_text =
        content_type.is_some_and(|it| it.starts_with("text/plain")) && !expected.is_empty();
    assert_eq!(headers.iter().any(|(_, value)| value == "nosniff"), is_text);
}

const JSON: Option<&str> = Some("application/json");
const TEXT: Option<&str> = Some("text/plain; charset=utf-8");

#[test]
fn signed_handshakes_are_answered() {
    let slack = draft(&[], r#"{"token":"t","challenge":"3eZbrw1a","type":"url_verification"}"#);
    answers(ask("slack", "POST", &slack), 200, JSON, r#"{"challenge":"3eZbrw1a"}"#);
    let zoom = draft(
        &[],
        r#"{"payload":{"plainToken":"qgg8vlvZRS6UYooatFL8Aw"},"event_ts":1654503849680,"event":"endpoint.url_validation"}"#,
    );
    // python3: hmac.new(b"the secret", b"qgg8vlvZRS6UYooatFL8Aw", "sha256").hexdigest()
    let encrypted = r#"{"encryptedToken":"79c3f17ec911f219b93a6a545d3493260e4584189b885d00af4534fe867e5ec3","plainToken":"qgg8vlvZRS6UYooatFL8Aw"}"#;
    answers(ask("zoom", "POST", &zoom), 200, JSON, encrypted);
    answers(ask("discord", "POST", &draft(&[], r#"{"type":1}"#)), 200, JSON, r#"{"type":1}"#);
    answers(ask("discord", "POST", &draft(&[], r#"{"version":1,"type":0}"#)), 204, None, "");
    assert!(ask("discord", "POST", &draft(&[], r#"{"type":1,"event":{"type":"X"}}"#)).is_none());
    let kind = "Twitch-Eventsub-Message-Type";
    let body = r#"{"challenge":"pogchamp-kappa-360noscope-vohiyo","subscription":{}}"#;
    let twitch = draft(&[(kind, "webhook_callback_verification")], body);
    answers(ask("twitch", "POST", &twitch), 200, TEXT, "pogchamp-kappa-360noscope-vohiyo");
    answers(ask("twitch", "POST", &draft(&[(kind, "revocation")], "{}")), 204, None, "");
    assert!(ask("twitch", "POST", &draft(&[(kind, "notification")], body)).is_none());
}

#[test]
fn unsigned_handshakes_are_answered() {
    let meta = "hub.mode=subscribe&hub.verify_token=chosen&hub.challenge=1158201444";
    answers(ask("meta", "GET", &with_query(meta)), 200, TEXT, "1158201444");
    let wrong = ask("meta", "GET", &with_query(&meta.replace("chosen", "other")));
    assert!(matches!(wrong, Some(Step::Refuse(_))));
    let bare = ask("meta", "GET", &with_query("hub.mode=subscribe&hub.challenge=1"));
    assert!(matches!(bare, Some(Step::Refuse(_))));
    let graph = with_query("validationToken=Validation%3A+Testing%20client%20%2F%3C");
    answers(ask("microsoft-graph", "POST", &graph), 200, TEXT, "Validation: Testing client /<");
    answers(ask("dropbox", "GET", &with_query("challenge=abc")), 200, TEXT, "abc");
    answers(
        ask("monday", "POST", &draft(&[], r#"{"challenge": "3eZbrw1aBm2rZgRNFdxV"}"#)),
        200,
        JSON,
        r#"{"challenge":"3eZbrw1aBm2rZgRNFdxV"}"#,
    );
    let okta = draft(&[("x-okta-verification-challenge", "My verification challenge")], "");
    let verification = r#"{"verification":"My verification challenge"}"#;
    answers(ask("okta", "GET", &okta), 200, JSON, verification);
    for preset in ["trello", "mailchimp"] {
        for method in ["GET", "HEAD"] {
            answers(ask(preset, method, &draft(&[], "")), 200, TEXT, "");
        }
    }
    let asana = draft(&[("X-Hook-Secret", "b537207f20cbfa02357cf448134da559")], "");
    let step = ask("asana", "POST", &asana);
    assert!(matches!(step, Some(Step::Store(_, it)) if it == "b537207f20cbfa02357cf448134da559"));
}

#[test]
fn events_and_malformed_handshakes_are_no_handshakes() {
    let long = format!(r#"{{"challenge":"{}"}}"#, "x".repeat(5000));
    let huge = format!(r#"{{"challenge":"x","pad":"{}"}}"#, "x".repeat(20_000));
    for (preset, method, request) in [
        ("slack", "POST", draft(&[], r#"{"type":"event_callback","challenge":"x"}"#)),
        ("slack", "POST", draft(&[], r#"{"type":"url_verification"}"#)),
        ("slack", "POST", draft(&[], r#"{"type":"url_verification","challenge":7}"#)),
        ("slack", "GET", draft(&[], r#"{"type":"url_verification","challenge":"x"}"#)),
        ("slack", "POST", draft(&[], "")),
        ("zoom", "POST", draft(&[], r#"{"event":"endpoint.url_validation"}"#)),
        ("discord", "POST", draft(&[], r#"{"type":2}"#)),
        ("monday", "POST", draft(&[], r#"{"challenge":"x","event":{}}"#)),
        ("monday", "POST", draft(&[], r#"{"challenge":"a\nb"}"#)),
        ("monday", "POST", draft(&[], long)),
        ("monday", "POST", draft(&[], huge)),
        ("monday", "GET", draft(&[], r#"{"challenge":"x"}"#)),
        ("meta", "GET", with_query("hub.mode=unsubscribe&hub.challenge=1&hub.verify_token=chosen")),
        ("meta", "POST", with_query("hub.mode=subscribe&hub.challenge=1&hub.verify_token=chosen")),
        ("dropbox", "GET", with_query("")),
        ("dropbox", "GET", with_query("challenge=")),
        ("dropbox", "GET", with_query("challenge=a&challenge=b")),
        ("dropbox", "GET", with_query("challenge=%FF")),
        ("dropbox", "HEAD", with_query("challenge=a")),
        ("dropbox", "POST", with_query("challenge=a")),
        ("microsoft-graph", "POST", draft(&[], r#"{"value":[]}"#)),
        ("okta", "GET", draft(&[], "")),
        ("okta", "POST", draft(&[("x-okta-verification-challenge", "x")], "")),
        ("trello", "POST", draft(&[], "{}")),
        ("asana", "POST", draft(&[("X-Hook-Secret", "x")], "{}")),
        ("github", "GET", draft(&[], "")),
    ] {
        assert!(ask(preset, method, &request).is_none(), "{preset} {method} {request:?}");
    }
}
