//! Notifications as signed POSTs: Standard Webhooks (standardwebhooks.com, version 1) in terms of
//! ureq. Goes to the host of the URL and nowhere else: no redirects, no proxies.

use std::io::Read;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::BASE64;
use ureq::Body;
use ureq::http::{Response, Uri};

use super::Failed;
use super::NOTIFICATION_TIMEOUT;
use crate::model::mac;
use crate::model::notification::Retry;
use crate::os::outbound;

/// What secrets begin with; the rest is the key in base64.
const SECRET_PREFIX: &str = "whsec_";
/// Bytes that a key may have.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Bytes of a refusal that are read, and letters of it that are told: its first sentence.
const ANSWER_BYTES_READ: u64 = 4096;
const ANSWER_LETTERS_MAX: usize = 200;
/// A part of a URL that is as long may be a secret; a shorter one is a word.
const SECRET_PART_MIN: usize = 8;

/// What is sent.
pub(super) struct Message<'a> {
    pub id: &'a str,
    pub body: &'a str,
}

/// POSTs `message` to `uri`, signed with `secret` where there is one.
pub(super) fn send(uri: &Uri, secret: Option<&str>, message: &Message<'_>) -> Result<(), Failed> {
    let key = secret.map(checked_key).transpose()?;
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs());
    let agent = outbound::agent(NOTIFICATION_TIMEOUT);
    let mut request = agent.post(uri).header("Content-Type", "application/json");
    if let Some(key) = key {
        request = request
            .header("webhook-id", message.id)
            .header("webhook-timestamp", seconds.to_string())
            .header("webhook-signature", signature(&key, message, seconds));
    }
    let host = uri.host().unwrap_or_default();
    match request.send(message.body) {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(refused(uri, answer, seconds)),
        Err(error) => {
            let why = outbound::told(&error, NOTIFICATION_TIMEOUT);
            Err(Failed::for_now(format!("{host}: {why}")))
        }
    }
}

/// What an answer other than 2xx says and asks for; `seconds` is the time now.
fn refused(uri: &Uri, mut answer: Response<Body>, seconds: u64) -> Failed {
    let (host, status) = (uri.host().unwrap_or_default(), answer.status().as_u16());
    let mut said = match status {
        410 => format!("{host} answers 410: it wants no more of this"),
        300..=399 => format!("{host} answers {status}, and redirects are not followed"),
        _ => format!("{host} answers {status}"),
    };
    let retry_after = answer.headers().get("Retry-After").and_then(|value| value.to_str().ok());
    let asked = retry_after.and_then(|value| wait_asked_for(value, seconds));
    let mut start = Vec::new();
    // An answer that breaks off has said what it has said.
    let _ = answer.body_mut().as_reader().take(ANSWER_BYTES_READ).read_to_end(&mut start);
    let start = first_words(&start, uri);
    if !start.is_empty() {
        said = format!("{said}: {start}");
    }
    match (status, asked) {
        (410, _) => Failed::for_good(said),
        (_, Some(wait)) => Failed { why: said, retry: Retry::After(wait) },
        (_, None) => Failed::for_now(said),
    }
}

/// The wait that a Retry-After asks for: seconds, or a date (RFC 9110 10.2.3).
fn wait_asked_for(value: &str, seconds: u64) -> Option<Duration> {
    if let Ok(wait) = value.trim().parse() {
        return Some(Duration::from_secs(wait));
    }
    let at = jiff::fmt::rfc2822::parse(value.trim()).ok()?.timestamp().as_second();
    Some(Duration::from_secs(u64::try_from(at).ok()?.saturating_sub(seconds)))
}

/// The start of an answer in one line of printable letters. The path and the query of the URL, which
/// may be a secret, are not repeated.
fn first_words(answer: &[u8], uri: &Uri) -> String {
    let text = String::from_utf8_lossy(answer);
    let mut text = text
        .split(|letter: char| letter.is_whitespace() || letter.is_control())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    let of_query = uri.query().unwrap_or_default().split(['&', '=']);
    let parts = uri.path().split('/').chain(of_query);
    for part in parts.filter(|part| part.len() >= SECRET_PART_MIN) {
        text = text.replace(part, "…");
    }
    let is_shown = |letter: &char| !is_invisible(*letter) && *letter != char::REPLACEMENT_CHARACTER;
    let mut letters = text.chars().filter(is_shown);
    let start: String = letters.by_ref().take(ANSWER_LETTERS_MAX).collect();
    if letters.next().is_some() { format!("{}…", start.trim_end()) } else { start }
}

/// Letters that change how others are shown, and are not seen themselves.
fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn checked_key(secret: &str) -> Result<Vec<u8>, Failed> {
    key(secret).ok_or_else(|| {
        Failed::for_now(format!(
            "the secret is not of the form {SECRET_PREFIX} and the base64 of {} to {} bytes",
            KEY_BYTES.start(),
            KEY_BYTES.end()
        ))
    })
}

fn key(secret: &str) -> Option<Vec<u8>> {
    let key = BASE64.decode(secret.trim().strip_prefix(SECRET_PREFIX)?.as_bytes()).ok()?;
    KEY_BYTES.contains(&key.len()).then_some(key)
}

fn signature(key: &[u8], message: &Message<'_>, seconds: u64) -> String {
    let head = format!("{}.{seconds}.", message.id);
    let code = mac::code(key, &[head.as_bytes(), message.body.as_bytes()]);
    format!("v1,{}", BASE64.encode(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_an_answer_is_one_printable_line_without_the_secret_of_the_url() {
        let uri: Uri =
            "https://chat.example.com/services/T0/SECRETSECRET?token=abcdefgh".parse().unwrap();
        let of = |answer: &[u8]| first_words(answer, &uri);
        assert_eq!(of(b"invalid_payload\n"), "invalid_payload");
        assert_eq!(of(b"<html>\r\n  no \x1b]52;c;x\x07 such"), "<html> no ]52;c;x such");
        assert_eq!(of(b"no SECRETSECRET with token=abcdefgh"), "no … with token=…");
        assert_eq!(of("x\u{202e}y".as_bytes()), "xy");
        let long = of("é".repeat(3000).as_bytes());
        assert_eq!(long.chars().count(), ANSWER_LETTERS_MAX + 1);
        // Cut inside a letter, as the limit of bytes may.
        assert_eq!(of(&"é".as_bytes()[..1]), "");
    }

    #[test]
    fn a_wait_is_asked_for_in_seconds_or_by_a_date() {
        let now = 1_445_412_400;
        for (value, expected) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(80)),
            ("Wed, 21 Oct 2015 07:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ] {
            assert_eq!(wait_asked_for(value, now), expected.map(Duration::from_secs), "{value}");
        }
    }

    /// The example of the specification's reference libraries.
    #[test]
    fn signatures_are_those_of_the_specification() {
        let key = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let message =
            Message { id: "msg_p5jXN8AQM9LWM0D4loKWxJek", body: r#"{"test": 2432232314}"# };
        let signed = signature(&key, &message, 1_614_265_330);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        for secret in ["", "whsec_", "whsec_AAAA", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_é"] {
            assert!(super::key(secret).is_none(), "{secret}");
        }
    }
}
