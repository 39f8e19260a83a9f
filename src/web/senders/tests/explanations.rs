//! What operators are told of refused requests.

use super::{World, draft};
use crate::model::refusal::Reason;
use crate::model::variable::SecretName;
use crate::web::senders::Presented;
use crate::web::senders::explain::{Hints, explain, other_urls};
use crate::web::senders::presented::Reread;
use crate::web::senders::sign::{Draft, sign};
use crate::web::senders::verify::{Context, Outcome, verify};

fn explained(world: &World, request: &Draft) -> Option<String> {
    let secret = |name: &SecretName| {
        world.secrets.get(name.as_str()).cloned().ok_or("there is no file".to_owned())
    };
    let url = request.full_url();
    let context = Context { now: world.now, url: &url, secret: &secret };
    let body: &dyn Reread = &request.body;
    let presented = Presented { query: &request.query, headers: &request.headers, body };
    let Outcome::Refused(failure) = verify(&world.verification, &presented, &context) else {
        panic!("refused")
    };
    let others = || {
        let others = world.secrets.iter().filter(|(name, _)| **name != "S");
        others.map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    };
    let urls = other_urls(&url, &["internal:9000"]);
    let hints = Hints { other_secrets: &others, urls: &urls };
    explain(&failure, &world.verification, &presented, &context, &hints)
}

/// A request that `as_preset` would sign with `secret`.
fn made(as_preset: &str, secret: &str, mut request: Draft) -> Draft {
    let world = World::new(&format!(r#"{{"preset":"{as_preset}","secret":"S"}}"#), secret);
    sign(&world.verification.checks()[0], secret, world.now, &mut request).unwrap();
    request
}

fn world(preset: &str, secret: &str) -> World {
    World::new(&format!(r#"{{"preset":"{preset}","secret":"S"}}"#), secret)
}

#[test]
fn wrong_secrets_are_recognised() {
    let github = |secret| made("github", secret, draft(&[], "{}"));
    for (stored, used, expected) in [
        (" key ", "key", "matches without the blanks around the secret"),
        ("key", "key\n", "matches with a line end after the secret"),
        ("key", "key\r\n", "matches with a CRLF after the secret"),
        ("a2V5", "key", "matches with the secret decoded from base64"),
        ("6b6579", "key", "matches with the secret decoded from hex"),
    ] {
        assert_eq!(explained(&world("github", stored), &github(used)).as_deref(), Some(expected));
    }
    let mut others = world("github", "key");
    others.secrets.insert("OTHER", "another".into());
    let found = explained(&others, &github("another"));
    assert_eq!(found.as_deref(), Some("matches another secret: OTHER"));
    assert_eq!(explained(&others, &github("a third")), None);
    let mut bearer = world("bearer", "key ");
    bearer.secrets.insert("OTHER", "another".into());
    for (shown, expected) in [
        ("Bearer key", "matches without the blanks around it"),
        ("Bearer another", "matches another secret: OTHER"),
    ] {
        let request = draft(&[("Authorization", shown)], "");
        assert_eq!(explained(&bearer, &request).as_deref(), Some(expected));
    }
}

#[test]
fn wrong_urls_are_recognised() {
    let at = |url: &str, query: &str| Draft {
        url: url.to_owned(),
        query: query.to_owned(),
        ..draft(&[], "{}")
    };
    let square = world("square", "key");
    for (signed, seen, expected) in [
        ("http://a.example/hooks/t", "https://a.example/hooks/t", Some("http://a.example")),
        (
            "https://internal:9000/hooks/t",
            "https://a.example/hooks/t",
            Some("https://internal:9000"),
        ),
        ("https://a.example/hooks/t/", "https://a.example/hooks/t", None),
    ] {
        let mut request = made("square", "key", at(signed, "a=b"));
        seen.clone_into(&mut request.url);
        let found = explained(&square, &request).unwrap();
        let expected = match expected {
            Some(origin) => {
                format!("matches with {origin}: set `public_url` to what the provider calls")
            }
            None => "matches with another spelling of the path or query".to_owned(),
        };
        assert_eq!(found, expected);
        assert!(!found.contains("/hooks/t"), "the path is secret");
    }
}

#[test]
fn re_encoded_bodies_are_recognised() {
    let github = world("github", "key");
    for (signed, received, expected) in [
        ("{}\n", "{}", "with a line end after the body"),
        ("{}\r\n", "{}", "with a CRLF after the body"),
        ("{}", "{}\n", "without the line end after the body"),
        ("{\r\n}", "{\n}", "with CRLF line ends in the body"),
        ("{\n}", "{\r\n}", "with LF line ends in the body"),
        (r#"{"a":" \" "}"#, r#"{ "a" : " \" " }"#, "with the JSON of the body written compactly"),
    ] {
        let mut request = made("github", "key", draft(&[], signed));
        request.body = received.into();
        let expected = format!("matches {expected}: the body was re-encoded on the way");
        assert_eq!(explained(&github, &request), Some(expected));
    }
}

#[test]
fn other_schemes_and_presets_are_named() {
    let mut stripe = made("stripe", "key", draft(&[], "{}"));
    let bare = made("github", "key", draft(&[], "{}"));
    let text = String::from_utf8(bare.headers[0].1.clone())
        .unwrap()
        .replace("sha256=", "t=1700000000,v1=");
    stripe.headers[0].1 = text.into_bytes();
    let mut rotating = world("stripe", "key");
    rotating.verification =
        serde_json::from_str(r#"{"preset":"stripe","secret":["NEW","S"]}"#).unwrap();
    rotating.secrets.insert("NEW", "new".into());
    let found = explained(&rotating, &stripe);
    assert_eq!(found.as_deref(), Some("matches secret 2 of 2 without the timestamp"));

    let github = made("github", "key", draft(&[("X-GitHub-Event", "push")], "{}"));
    let found = explained(&world("stripe", "key"), &github);
    assert_eq!(
        found.as_deref(),
        Some("the request has X-Hub-Signature-256, as of the preset `github`")
    );
    let meta = made("github", "key", draft(&[], "{}"));
    let found = explained(&world("stripe", "key"), &meta);
    assert_eq!(
        found.as_deref(),
        Some("the request has X-Hub-Signature-256, as of the preset `github` or `meta`")
    );
    let gitlab = made("gitlab", "key", draft(&[], "{}"));
    let found = explained(&world("github", "key"), &gitlab);
    assert_eq!(found.as_deref(), Some("the request has X-Gitlab-Token, as of the preset `gitlab`"));
}

#[test]
fn another_encoding_is_recognised() {
    let scheme = |encoding: &str| {
        format!(
            r#"{{"header":"X-Signature","signed":"{{body}}","encoding":"{encoding}","secret":"S"}}"#
        )
    };
    for (sent, asked) in [("hex", "base64"), ("base64", "hex")] {
        let (sender, fleet) = (World::new(&scheme(sent), "key"), World::new(&scheme(asked), "key"));
        let mut request = draft(&[], "{}");
        sign(&sender.verification.checks()[0], "key", sender.now, &mut request).unwrap();
        let expected = format!("it is in {sent}: a scheme of your own says `encoding: {sent}`");
        assert_eq!(explained(&fleet, &request), Some(expected));
    }
}

#[test]
fn milliseconds_are_recognised() {
    let slack = world("slack", "key");
    let verify = r#"{"header":"X-Slack-Signature","prefix":"v0=","signed":"v0:{ts}:{body}","secret":"S",
        "timestamp":{"header":"X-Slack-Request-Timestamp","unit":"ms","tolerance":"5m"}}"#;
    let millis = World::new(verify, "key");
    let mut request = draft(&[], "{}");
    sign(&millis.verification.checks()[0], "key", millis.now, &mut request).unwrap();
    slack.refuses(&request, Reason::TimestampInFuture);
    let found = explained(&slack, &request);
    assert_eq!(
        found.as_deref(),
        Some("the timestamp looks like milliseconds where seconds are meant")
    );
}
