//! Notifications as e-mail through the operator's mail server. The only module that knows lettre.

use std::error::Error;

use lettre::message::Mailbox;
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue, MIME_VERSION_1_0};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Message, SmtpTransport, Transport};

use super::{Failed, text};
use crate::engine::RunView;
use crate::model::mail::{MailServer, Security};
use crate::notify::NOTIFICATION_TIMEOUT;
use crate::os::tls_roots::tls_cause;

mod hello;

/// One message.
pub(super) struct Letter<'a> {
    pub id: &'a str,
    pub to: &'a str,
    pub run: &'a RunView,
    /// The vessel that ended; `None`: the run as a whole.
    pub vessel: Option<usize>,
}

/// Hands `letter` to the mail server.
pub(super) fn send(
    server: &MailServer,
    password: Option<String>,
    letter: &Letter<'_>,
) -> Result<(), Failed> {
    let tls = match server.security {
        Security::Plain => Tls::None,
        security => {
            let parameters = TlsParameters::new(server.host.clone())
                .map_err(|error| Failed::for_now(format!("TLS: {error}")))?;
            match security {
                Security::Tls => Tls::Wrapper(parameters),
                _ => Tls::Required(parameters),
            }
        }
    };
    let mut transport = SmtpTransport::builder_dangerous(&server.host)
        .port(server.port)
        .tls(tls)
        .timeout(Some(NOTIFICATION_TIMEOUT));
    if let (Some(user), Some(password)) = (&server.user, password) {
        transport = transport.credentials(Credentials::new(user.clone(), password));
    }
    let hello = hello::client_id(server);
    let message = message(server, &hello, letter).map_err(Failed::for_good)?;
    let sent = transport.hello_name(hello).build().send(&message);
    sent.map(drop).map_err(|error| {
        let cause = tls_cause(&error).unwrap_or_else(|| error.to_string());
        Failed::for_now(format!("{}: {cause}", server.host))
    })
}

/// Whether e-mail can come from this address: `a@example.com` or `Name <a@example.com>`.
///
/// # Errors
/// Why not, for a person.
pub(super) fn check_sender(from: &str) -> Result<(), String> {
    from.parse::<Mailbox>().map(drop).map_err(|error| error.to_string())
}

fn message(server: &MailServer, hello: &ClientId, letter: &Letter<'_>) -> Result<Message, String> {
    let address = |text: &str| text.parse().map_err(|error| format!("{text}: {error}"));
    let from: Mailbox = address(&server.from)?;
    let domain = match hello {
        ClientId::Domain(name) => name.clone(),
        // A Message-ID needs a domain (RFC 5322 3.6.4).
        _ => from.email.domain().to_owned(),
    };
    Message::builder()
        .from(from)
        .to(address(letter.to)?)
        .subject(format!("[boathook] {}", text::subject(letter.run, letter.vessel)))
        .date_now()
        .message_id(Some(format!("<{}@{domain}>", letter.id)))
        .header(MIME_VERSION_1_0)
        .header(AutoSubmitted)
        .header(ContentType::TEXT_PLAIN)
        .body(text::body(letter.run))
        .map_err(|error| error.to_string())
}

/// Suppresses automatic replies, such as vacation notices (RFC 3834 5).
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_has_one_address() {
        for from in ["a@example.com", "Größte Flotte <a@example.com>"] {
            assert_eq!(check_sender(from), Ok(()), "{from}");
        }
        for from in ["", "a", "a@", "a@example.com, b@example.com", "A <a@example.com"] {
            assert!(check_sender(from).is_err(), "{from}");
        }
    }
}
