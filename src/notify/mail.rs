//! Notifications as e-mail, through the operator's own mail server, in terms of lettre.

use std::fmt::Write;

use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{Message, SmtpTransport, Transport};

use super::Failed;
use crate::domain::mail::{MailServer, Security};
use crate::engine::RunView;
use crate::limits::NOTIFICATION_TIMEOUT;

/// What is sent.
pub(super) struct Letter<'a> {
    pub id: &'a str,
    pub to: &'a str,
    pub run: &'a RunView,
    /// The vessel that it is about; `None`: the run as a whole.
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
    let message = message(server, letter).map_err(Failed::for_good)?;
    let sent = transport.build().send(&message);
    sent.map(drop).map_err(|error| Failed::for_now(format!("{}: {error}", server.host)))
}

/// Whether e-mail can come from this address: `a@example.com` or `Name <a@example.com>`.
///
/// # Errors
/// Why not, for a person.
pub(super) fn check_sender(from: &str) -> Result<(), String> {
    from.parse::<Mailbox>().map(drop).map_err(|error| error.to_string())
}

fn message(server: &MailServer, letter: &Letter<'_>) -> Result<Message, String> {
    let address = |text: &str| text.parse().map_err(|error| format!("{text}: {error}"));
    let (subject, body) = (subject(letter), body(letter));
    Message::builder()
        .from(address(&server.from)?)
        .to(address(letter.to)?)
        .subject(subject)
        .date_now()
        .message_id(Some(format!("<{}@boathook.invalid>", letter.id)))
        .header(ContentType::TEXT_PLAIN)
        .body(body)
        .map_err(|error| error.to_string())
}

fn subject(letter: &Letter<'_>) -> String {
    let run = &letter.run.run;
    match letter.vessel.and_then(|vessel| letter.run.vessels.get(vessel)) {
        Some(vessel) => {
            format!("[boathook] {}, {}: {}", run.fleet_name, vessel.vessel_name, vessel.status)
        }
        None => format!("[boathook] {}: {}", run.fleet_name, run.status),
    }
}

fn body(letter: &Letter<'_>) -> String {
    let RunView { run, vessels } = letter.run;
    let mut body = format!("The run {} of the fleet {} ended.\n\n", run.id, run.fleet_name);
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(body, "{name:<10}{value}");
    };
    line("status", &run.status.to_string());
    if let Some(reason) = &run.reason {
        line("reason", reason);
    }
    line("trigger", run.trigger.word());
    line("queued", &run.queued_at.to_string());
    for (name, time) in [("started", run.started_at), ("ended", run.ended_at)] {
        if let Some(time) = time {
            line(name, &time.to_string());
        }
    }
    body.push_str("\nIts vessels:\n\n");
    for vessel in vessels {
        let _ = write!(body, "{:<12}{}", vessel.status.to_string(), vessel.vessel_name);
        if let Some(reason) = &vessel.reason {
            let _ = write!(body, ": {reason}");
        }
        body.push('\n');
    }
    let _ = write!(body, "\nboathook runs logs {} shows what they wrote.\n", run.id);
    body
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
