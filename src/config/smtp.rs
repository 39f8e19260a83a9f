//! The mail server of a configuration: `smtps://mail.example.com`.

use std::net::IpAddr;
use std::str::FromStr;

use super::ConfigError;
use super::url::{HttpUrl, Reach};
use crate::model::mail::{MailServer, Security};
use crate::model::variable::SecretName;

/// How to reach a mail server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpUrl {
    pub security: Security,
    pub host: String,
    pub port: u16,
    /// Whether only this machine can be meant.
    pub is_local: bool,
}

impl FromStr for SmtpUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let malformed = || {
            "write smtps://HOST, smtp+starttls://HOST or smtp://HOST (no encryption), with :PORT \
             where it is not the usual one"
                .to_owned()
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(malformed)?;
        let (security, usual_port) = match scheme {
            "smtps" => (Security::Tls, 465),
            "smtp+starttls" => (Security::StartTls, 587),
            "smtp" => (Security::Plain, 25),
            _ => return Err(malformed()),
        };
        // The same host and port that every URL has.
        let url: HttpUrl = format!("http://{rest}")
            .parse()
            .map_err(|error: String| format!("{error}; {}", malformed()))?;
        if !url.path.is_empty() || url.host.is_empty() {
            return Err(malformed());
        }
        let is_local = url.reach() == Reach::Machine;
        Ok(Self { security, host: url.host, port: url.port.unwrap_or(usual_port), is_local })
    }
}

/// The settings about e-mail, as they were written.
pub(super) struct MailSettings {
    pub url: Option<SmtpUrl>,
    pub from: Option<String>,
    pub user: Option<String>,
    pub secret: Option<String>,
    pub hello: Option<String>,
}

/// The mail server, when there is one.
pub(super) fn mail_server(given: MailSettings) -> Result<Option<MailServer>, ConfigError> {
    let MailSettings { url, from, user, secret, hello } = given;
    let refused = |key, message: &str| ConfigError::Value { key, message: message.to_owned() };
    let Some(url) = url else {
        let others = [
            ("smtp_from", &from),
            ("smtp_user", &user),
            ("smtp_secret", &secret),
            ("smtp_hello", &hello),
        ];
        return match others.into_iter().find(|(_, value)| value.is_some()) {
            Some((key, _)) => Err(refused(key, "set smtp, too; it names the mail server")),
            None => Ok(None),
        };
    };
    let from = from.ok_or_else(|| refused("smtp_from", "missing; e-mail needs a sender"))?;
    if user.as_ref().is_some_and(|user| user.is_empty() || user.contains('\0')) {
        return Err(refused("smtp_user", "empty, or with a NUL in it; name the user"));
    }
    if user.is_some() != secret.is_some() {
        return Err(refused("smtp_user", "set both smtp_user and smtp_secret, or neither"));
    }
    if user.is_some() && url.security == Security::Plain && !url.is_local {
        let message = "a password is not sent without encryption; use smtps:// or smtp+starttls://";
        return Err(refused("smtp", message));
    }
    let secret = secret.map(SecretName::try_from).transpose();
    let secret = secret.map_err(|error| refused("smtp_secret", &error.to_string()))?;
    if hello.as_deref().is_some_and(|hello| !is_hello(hello)) {
        let message = "write a name with its domain, such as mail.example.com, or an address in \
                       brackets: [192.0.2.7]";
        return Err(refused("smtp_hello", message));
    }
    let SmtpUrl { security, host, port, .. } = url;
    Ok(Some(MailServer { security, host, port, hello, from, user, secret }))
}

/// Whether EHLO takes `hello`: a name, or an address in brackets (RFC 5321 4.1.3).
fn is_hello(hello: &str) -> bool {
    if let Some(address) = hello.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
        return address.strip_prefix("IPv6:").unwrap_or(address).parse::<IpAddr>().is_ok();
    }
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    hello.split('.').all(|label| !label.is_empty() && label.bytes().all(is_letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_is_a_name_or_an_address_in_brackets() {
        for hello in ["mail.example.com", "box", "[192.0.2.7]", "[IPv6:2001:db8::1]"] {
            assert!(is_hello(hello), "{hello}");
        }
        for hello in ["", "a b", "a..b", "x\r\nMAIL", "[x]", "[192.0.2.7", "mail.example.com."] {
            assert!(!is_hello(hello), "{hello}");
        }
    }

    #[test]
    fn the_scheme_says_how_the_connection_is_protected() {
        for (text, security, host, port) in [
            ("smtps://mail.example.com", Security::Tls, "mail.example.com", 465),
            ("smtp+starttls://mail.example.com:25", Security::StartTls, "mail.example.com", 25),
            ("smtp://[::1]:2525", Security::Plain, "::1", 2525),
        ] {
            let url: SmtpUrl = text.parse().unwrap();
            assert_eq!((url.security, url.host.as_str(), url.port), (security, host, port));
        }
        for text in ["mail.example.com", "http://mail", "smtp://", "smtp://u:p@mail", "smtp://m/x"]
        {
            let refused = text.parse::<SmtpUrl>().unwrap_err();
            assert!(!refused.contains("u:p"), "{refused}");
        }
    }
}
