//! Every preset that can be signed with its secret, in every way in which a request can be right or wrong.

use std::time::Duration;

use super::{World, draft};
use crate::model::clock::Timestamp;
use crate::model::refusal::Reason;
use crate::model::sender::preset::{Credential, Rule};
use crate::model::sender::table::PRESETS;
use crate::model::sender::{Preset, PresetOption, Scheme, TimestampPlace};
use crate::web::senders::sign::{Draft, sign, written};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn verify(preset: &Preset, secret: &str) -> String {
    let name = match preset.options.contains(&PresetOption::Name) {
        true => r#""name":"X-Secret","#,
        false => "",
    };
    format!(r#"{{"preset":"{}",{name}"secret":{secret}}}"#, preset.name)
}

/// The request that `world` accepts of the sender that has `secret`.
fn signed(world: &World, secret: &str) -> Draft {
    let millis = written(world.now, crate::model::sender::Unit::Millis);
    let body = format!(
        r#"{{"id":"e","type":"t","webhookTimestamp":{millis},"value":[{{"clientState":"{{clientState}}"}}]}}"#
    );
    let mut request = draft(
        &[("webhook-id", "m1"), ("svix-id", "m1"), ("Twitch-Eventsub-Message-Id", "m1")],
        body,
    );
    sign(&world.verification.checks()[0], secret, world.now, &mut request).unwrap();
    request
}

fn worlds() -> impl Iterator<Item = (&'static Preset, World)> {
    PRESETS
        .iter()
        .filter(|preset| preset.has_secret() && !["discord", "sendgrid"].contains(&preset.name))
        .map(|preset| (preset, World::new(&verify(preset, "\"S\""), SECRET)))
}

/// The scheme of the first rule, for presets that sign.
fn scheme(preset: &Preset) -> Option<Scheme<'static>> {
    preset.rules.iter().find_map(|rule| match rule {
        Rule::Signature(scheme) => Some(*scheme),
        _ => None,
    })
}

/// Presets whose request holds a signature; the others show the secret itself.
fn signing() -> impl Iterator<Item = (&'static Preset, World, Scheme<'static>)> {
    worlds().filter_map(|(preset, world)| {
        let Rule::Signature(scheme) = preset.rules[0] else { return None };
        Some((preset, world, scheme))
    })
}

fn header<'a>(request: &'a mut Draft, name: &str) -> &'a mut Vec<u8> {
    let mut headers = request.headers.iter_mut();
    &mut headers.find(|(given, _)| given.eq_ignore_ascii_case(name)).unwrap().1
}

#[test]
fn a_right_request_is_verified_and_a_flipped_byte_is_refused() {
    assert_eq!((worlds().count(), signing().count()), (34, 27));
    for (preset, world) in worlds() {
        let right = signed(&world, SECRET);
        assert_eq!(world.judge(&right), Ok(()), "{}", preset.name);
        world.judge(&signed(&world, OTHER)).unwrap_err();
        let Some(scheme) = scheme(preset).filter(|_| matches!(preset.rules[0], Rule::Signature(_)))
        else {
            continue;
        };
        for index in 0..right.body.len() {
            let mut wrong = right.clone();
            wrong.body[index] ^= 1;
            world.judge(&wrong).unwrap_err();
        }
        let length = header(&mut right.clone(), scheme.header).len();
        for (index, bit) in (0..length).flat_map(|index| [(index, 1), (index, 0x20)]) {
            let mut wrong = right.clone();
            header(&mut wrong, scheme.header)[index] ^= bit;
            assert!(world.judge(&wrong).is_err(), "{} {index} {bit}", preset.name);
        }
    }
}

#[test]
fn what_is_missing_empty_twice_or_too_long_is_refused() {
    for (preset, world, scheme) in signing() {
        let right = signed(&world, SECRET);
        let alter = |change: &dyn Fn(&mut Draft)| {
            let mut wrong = right.clone();
            change(&mut wrong);
            wrong
        };
        let missing =
            alter(&|it| it.headers.retain(|(name, _)| !name.eq_ignore_ascii_case(scheme.header)));
        world.refuses(&missing, Reason::SignatureMissing);
        world.refuses(&alter(&|it| header(it, scheme.header).clear()), Reason::SignatureMissing);
        let twice = alter(&|it| {
            let value = header(it, scheme.header).clone();
            it.headers.push((scheme.header.to_uppercase(), value));
        });
        world.refuses(&twice, Reason::SignatureMalformed);
        let long = alter(&|it| header(it, scheme.header).extend([b'a'; 8 * 1024]));
        world.refuses(&long, Reason::SignatureMalformed);
        for text in
            [&b"\xff\xfe"[..], b"0", b"=", b",", b";", b"sha256=", b"v1=", b"v1,", b"t=1,v1=*"]
        {
            let odd = alter(&|it| *header(it, scheme.header) = text.to_vec());
            assert!(world.judge(&odd).is_err(), "{} {text:?}", preset.name);
        }
        if let Some(id) = scheme.id {
            world.refuses(
                &alter(&|it| it.headers.retain(|(name, _)| !name.eq_ignore_ascii_case(id))),
                Reason::SignatureMalformed,
            );
            world.refuses(&alter(&|it| header(it, id).push(b'x')), Reason::SignatureMismatch);
        }
    }
}

#[test]
fn several_signatures_pass_when_one_is_right() {
    for (preset, world, scheme) in signing() {
        let crate::model::sender::Form::Parts { separator, divider, key } = scheme.form else {
            continue;
        };
        let mut request = signed(&world, SECRET);
        let zeros = crate::web::senders::crypto::encode(scheme.encoding, &[0; 32]);
        let more = format!("{separator}{key}{divider}{zeros}");
        header(&mut request, scheme.header).extend(more.as_bytes());
        assert_eq!(world.judge(&request), Ok(()), "{}", preset.name);
        header(&mut request, scheme.header).extend(more.repeat(16).as_bytes());
        world.refuses(&request, Reason::SignatureMalformed);
    }
}

#[test]
fn old_and_future_requests_are_refused_at_the_tolerance() {
    let mut checked = 0;
    for (_, mut world, scheme) in signing() {
        let Some(tolerance) = scheme.timestamp.and_then(|it| it.tolerance) else { continue };
        let (request, now) = (signed(&world, SECRET), world.now);
        let second = Duration::from_secs(1);
        for (moment, expected) in [
            (now.plus(tolerance), None),
            (now.minus(tolerance), None),
            (now.plus(tolerance + second), Some(Reason::TimestampTooOld)),
            (now.minus(tolerance + second), Some(Reason::TimestampInFuture)),
            (now.plus(Duration::from_secs(300_000_000)), Some(Reason::TimestampTooOld)),
        ] {
            world.now = moment;
            match expected {
                None => assert_eq!(world.judge(&request), Ok(())),
                Some(reason) => world.refuses(&request, reason),
            }
        }
        checked += 1;
    }
    assert_eq!(checked, 7);
}

#[test]
fn odd_timestamps_are_refused_without_a_panic() {
    for (_, world, scheme) in signing() {
        let Some(rule) = scheme.timestamp else { continue };
        for text in ["", "x", "-1700000000", "1700000000000", "884541351600", "+1", "1e3", "\u{7f}"]
        {
            let mut request = signed(&world, SECRET);
            match rule.place {
                TimestampPlace::Header(name) => *header(&mut request, name) = text.into(),
                TimestampPlace::Part(part) => {
                    let value = header(&mut request, scheme.header);
                    let changed = String::from_utf8(value.clone())
                        .unwrap()
                        .replace(&format!("{part}=1700000000"), &format!("{part}={text}"));
                    *value = changed.into_bytes();
                }
                TimestampPlace::Body(path) => {
                    let body = String::from_utf8(request.body.clone()).unwrap();
                    let field = format!("\"{path}\":1700000000000");
                    let other = format!("\"{path}\":\"{text}\"");
                    request.body = body.replace(&field, &other).into_bytes();
                }
            }
            assert!(world.judge(&request).is_err(), "{text}");
        }
    }
}

#[test]
fn a_rotation_takes_both_secrets_and_a_missing_one_only_matters_alone() {
    for (preset, mut world) in worlds() {
        world.verification = serde_json::from_str(&verify(preset, r#"["NEW","S"]"#)).unwrap();
        let by_old = signed(&world, SECRET);
        assert_eq!(world.judge(&by_old), Ok(()), "the new one is not there yet");
        let by_new = signed(&world, OTHER);
        let why = world.judge(&by_new).unwrap_err();
        assert!(why.starts_with("no secret NEW: "), "{} {why}", preset.name);
        world.secrets.insert("NEW", OTHER.to_owned());
        assert_eq!((world.judge(&by_old), world.judge(&by_new)), (Ok(()), Ok(())));
        world.secrets.remove("S");
        assert!(world.judge(&by_old).is_err_and(|why| why.starts_with("no secret S: ")));
        world.secrets.insert("S", String::new());
        assert_eq!(world.judge(&by_old), Err("no secret S: it is empty".to_owned()));
    }
}

#[test]
fn secrets_that_can_be_no_key_are_told_as_such() {
    let (hex, base64) = ("0".repeat(128), "AAAA");
    let (now, signature) = ("1700000000", format!("v1,{base64}"));
    for (name, headers, why) in [
        (
            "standard-webhooks",
            vec![
                ("webhook-id", "1"),
                ("webhook-timestamp", now),
                ("webhook-signature", &signature),
            ],
            "its value is not base64",
        ),
        (
            "discord",
            vec![("X-Signature-Timestamp", now), ("X-Signature-Ed25519", &hex)],
            "its value is no Ed25519 public key",
        ),
        (
            "sendgrid",
            vec![
                ("X-Twilio-Email-Event-Webhook-Timestamp", now),
                ("X-Twilio-Email-Event-Webhook-Signature", base64),
            ],
            "its value is no P-256 public key",
        ),
    ] {
        let world = World::new(&format!(r#"{{"preset":"{name}","secret":"S"}}"#), "!");
        let found = world.judge(&draft(&headers, "")).unwrap_err();
        assert!(found.starts_with(&format!("no secret S: {why}")), "{found}");
    }
    // GitLab's token may be any text, which then is no key of Standard Webhooks.
    let gitlab = World::new(r#"{"preset":"gitlab","secret":"S"}"#, "any text!");
    assert_eq!(gitlab.judge(&draft(&[("x-gitlab-token", "any text!")], "")), Ok(()));
    gitlab.refuses(&draft(&[("x-gitlab-token", "any text")], ""), Reason::CredentialsMismatch);
    gitlab.refuses(&draft(&[], ""), Reason::CredentialsMissing);
}

#[test]
fn one_of_several_checks_must_hold() {
    let mut world = World::new(
        r#"[{"preset":"github","secret":"S"},{"preset":"bearer","secret":"T"}]"#,
        SECRET,
    );
    world.secrets.insert("T", "token".into());
    assert_eq!(world.judge(&signed(&world, SECRET)), Ok(()));
    for (authorization, expected) in [
        ("Bearer token", true),
        ("bearer token", true),
        ("Bearer  token ", true),
        ("Bearer toke", false),
        ("Bearertoken", false),
        ("Bearer", false),
        ("Basic token", false),
    ] {
        let request = draft(&[("authorization", authorization)], "");
        assert_eq!(world.judge(&request).is_ok(), expected, "{authorization}");
    }
    // The closest failure is told.
    let request = draft(
        &[
            ("X-Hub-Signature-256", &format!("sha256={}", "00".repeat(32))),
            ("Authorization", "Bearer x"),
        ],
        "",
    );
    world.refuses(&request, Reason::SignatureMismatch);
}

#[test]
fn the_secret_url_alone_is_enough_for_senders_that_sign_nothing() {
    for name in ["monday", "mailchimp"] {
        let world = World::new(&format!(r#"{{"preset":"{name}"}}"#), "");
        assert_eq!(world.judge(&draft(&[], "")), Ok(()));
    }
}

#[test]
fn options_change_headers_and_tolerances() {
    let verify = r#"{"preset":"grafana","header":"X-Sig","timestamp_header":"X-Time","tolerance":"1m","secret":"S"}"#;
    let mut world = World::new(verify, SECRET);
    let request = signed(&world, SECRET);
    assert!(request.headers.iter().any(|(name, _)| name == "X-Sig"));
    assert!(request.headers.contains(&("X-Time".into(), b"1700000000".to_vec())));
    assert_eq!(world.judge(&request), Ok(()));
    world.now = Timestamp::from_millis(1_700_000_061_000);
    world.refuses(&request, Reason::TimestampTooOld);
    let credential = World::new(r#"{"preset":"query","name":"a b","secret":"S"}"#, "s&1");
    let check = &credential.verification.checks()[0];
    assert_eq!(check.rules(), [Rule::Credential(Credential::Query("a b"))]);
    let request = signed(&credential, "s&1");
    assert_eq!(request.query, "a%20b=s%261");
    assert_eq!(credential.judge(&request), Ok(()));
    let twice = Draft { query: format!("{0}&{0}", request.query), ..request };
    credential.refuses(&twice, Reason::CredentialsMissing);
}

#[test]
fn a_request_that_shows_nothing_is_refused_also_while_a_secret_is_missing() {
    let unsigned = draft(&[], "{}");
    for verify in [
        r#"{"preset": "github", "secret": ["S", "MISSING"]}"#,
        r#"{"preset": "github", "secret": "MISSING"}"#,
    ] {
        World::new(verify, "s3cret").refuses(&unsigned, Reason::SignatureMissing);
    }
    let shown = draft(&[("X-Hub-Signature-256", &format!("sha256={}", "0".repeat(64)))], "{}");
    let world = World::new(r#"{"preset": "github", "secret": ["S", "MISSING"]}"#, "s3cret");
    assert_eq!(world.judge(&shown), Err("no secret MISSING: there is no file".to_owned()));
}
