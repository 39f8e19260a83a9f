//! Notifications as signed POSTs: Standard Webhooks (standardwebhooks.com, version 1) in terms of
//! ureq. Goes to the host of the URL and nowhere else: no redirects, no proxies.

use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::BASE64;
use ureq::http::Uri;

use super::Failed;
use crate::domain::mac;
use crate::limits::NOTIFICATION_TIMEOUT;
use crate::trust::tls_config;

/// What secrets begin with; the rest is the key in base64.
const SECRET_PREFIX: &str = "whsec_";
/// Bytes that a key may have.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// What is sent.
pub(super) struct Message<'a> {
    pub id: &'a str,
    pub body: &'a str,
}

/// POSTs `message` to `uri`, signed with `secret`.
pub(super) fn send(uri: &Uri, secret: &str, message: &Message<'_>) -> Result<(), Failed> {
    let key = key(secret).ok_or_else(|| {
        Failed::for_now(format!(
            "the secret is not of the form {SECRET_PREFIX} and the base64 of {} to {} bytes",
            KEY_BYTES.start(),
            KEY_BYTES.end()
        ))
    })?;
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs());
    let signature = signature(&key, message, seconds);
    let agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .timeout_global(Some(NOTIFICATION_TIMEOUT))
        // Nothing is sent often enough to keep a connection for.
        .max_idle_connections(0)
        .user_agent(concat!("boathook/", env!("CARGO_PKG_VERSION")))
        .tls_config(tls_config())
        .build()
        .new_agent();
    let sent = agent
        .post(uri)
        .header("Content-Type", "application/json")
        .header("webhook-id", message.id)
        .header("webhook-timestamp", seconds.to_string())
        .header("webhook-signature", signature)
        .send(message.body);
    let host = uri.host().unwrap_or_default();
    match sent.map(|answer| answer.status().as_u16()) {
        Ok(200..=299) => Ok(()),
        Ok(410) => Err(Failed::for_good(format!("{host} answers 410: it wants no more of this"))),
        Ok(status @ 300..=399) => {
            Err(Failed::for_now(format!("{host} answers {status}, and redirects are not followed")))
        }
        Ok(status) => Err(Failed::for_now(format!("{host} answers {status}"))),
        Err(error) => Err(Failed::for_now(format!("{host}: {}", told(&error)))),
    }
}

/// What went wrong, without anything of the request.
fn told(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::Timeout(_) => {
            format!("no answer within {} s", NOTIFICATION_TIMEOUT.as_secs())
        }
        ureq::Error::HostNotFound => "there is no such host".to_owned(),
        ureq::Error::ConnectionFailed => "no connection".to_owned(),
        ureq::Error::Tls(what) => (*what).to_owned(),
        ureq::Error::Rustls(error) => error.to_string(),
        _ => "the request failed".to_owned(),
    }
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
