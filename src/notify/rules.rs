//! Where notifications may go: what the operator's settings allow. The notifier asks before every
//! delivery; the API warns when a fleet is applied; doctor reports.

use ureq::http::Uri;

use super::chat;
use crate::config::{HttpUrl, Settings};
use crate::model::fleet::FleetDefinition;
use crate::model::notification::{EmailNotifications, Format, Target};
use crate::model::variable::FixedValue;

/// Why no e-mail is sent.
pub(super) const NO_MAIL: &str = "no mail server is configured; set `smtp` and `smtp_from`";

/// Checks that the operator allows `command` (`notify_commands`).
///
/// # Errors
/// Why not, for a person.
pub(super) fn check_command(settings: &Settings, command: &[String]) -> Result<(), String> {
    let program = command.first().map(String::as_str).unwrap_or_default();
    if settings.notify_commands.iter().any(|allowed| allowed == program) {
        return Ok(());
    }
    Err(format!("the command {program} is not in the setting `notify_commands`"))
}

/// Checks that the operator allows the host of `url` (`notify_hosts`), and returns the URL. An entry
/// without a port allows the usual port of the URL's scheme. Only the name counts, not the address
/// that it resolves to.
///
/// # Errors
/// Why not, for a person.
pub(super) fn check_url(settings: &Settings, url: &str) -> Result<Uri, String> {
    let malformed = "the URL is neither http nor https, or malformed";
    let parts: HttpUrl = url.parse().map_err(|_| malformed.to_owned())?;
    let uri: Uri = url.parse().map_err(|_| malformed.to_owned())?;
    let host = uri.host().unwrap_or_default();
    let usual_port = if parts.is_https { 443 } else { 80 };
    let port = parts.port.unwrap_or(usual_port);
    let with_port = format!("{host}:{port}");
    let allows = |allowed: &String| {
        allowed.eq_ignore_ascii_case(&with_port)
            || port == usual_port && allowed.eq_ignore_ascii_case(host)
    };
    if settings.notify_hosts.iter().any(allows) {
        return Ok(uri);
    }
    let shown = if port == usual_port { host } else { &with_port };
    Err(format!("the host {shown} is not in the setting `notify_hosts`"))
}

/// The notifications of `fleet` that will not be sent, each with the reason.
pub fn warnings(settings: &Settings, fleet: &FleetDefinition) -> Vec<String> {
    let entries = fleet.notify.iter().enumerate().filter_map(|(index, entry)| {
        let refused = match &entry.target {
            Target::Command(command) => check_command(settings, command).err(),
            Target::Url { url: FixedValue::Literal(url), format, .. } => {
                check_url(settings, url).and_then(|uri| check_format(&uri, *format)).err()
            }
            // The secret is read when the notification is sent.
            Target::Url { .. } => None,
        };
        refused.map(|why| format!("notify[{index}] will not be sent: {why}"))
    });
    let mut warnings: Vec<String> = entries.collect();
    let asks = |it: &Option<EmailNotifications>| {
        it.as_ref()
            .is_some_and(|it| !it.emails.is_empty() && (it.after_error || it.after_on_demand))
    };
    let wants_mail =
        asks(&fleet.notifications) || fleet.vessels.iter().any(|it| asks(&it.notifications));
    if wants_mail && settings.mail.is_none() {
        warnings.push(format!("notifications will not be sent: {NO_MAIL}"));
    }
    warnings
}

/// Checks `format` where the host of `uri` is a chat service that takes only its own.
fn check_format(uri: &Uri, format: Format) -> Result<(), String> {
    let host = uri.host().unwrap_or_default();
    match chat::format_of_host(host) {
        Some(taken) if taken != format => {
            let (taken, format) = (taken.word(), format.word());
            Err(format!("{host} does not take `format: {format}`; write `format: {taken}`"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_is_sent_no_format_that_it_does_not_take() {
        let check = |url: &str, format| check_format(&url.parse().unwrap(), format);
        let slack = "https://hooks.slack.com/services/T/B/x";
        let refused = check(slack, Format::Json).unwrap_err();
        assert!(refused.contains("format: slack") && !refused.contains("services"), "{refused}");
        assert!(check(slack, Format::Discord).is_err());
        assert_eq!(check(slack, Format::Slack), Ok(()));
        assert_eq!(check("https://chat.example.com/hooks/x", Format::Slack), Ok(()));
    }

    #[test]
    fn only_listed_hosts_and_programs_are_allowed() {
        let none = Settings::defaults("/data".into());
        let settings = Settings {
            notify_hosts: ["Hooks.example.com", "[::1]:8080", "127.0.0.1:9"].map(Into::into).into(),
            notify_commands: vec!["/usr/local/bin/tell".into()],
            ..none.clone()
        };
        for url in [
            "https://hooks.example.com/x?token=1",
            "http://HOOKS.example.com",
            "https://hooks.example.com:443/",
            "http://[::1]:8080/",
            "http://127.0.0.1:9/x",
        ] {
            assert!(check_url(&settings, url).is_ok(), "{url}");
        }
        for url in [
            "https://hooks.example.com:8443/",
            "https://hooks.example.com.evil.example/",
            "https://evil.example/hooks.example.com",
            "http://[::1]/",
            "http://127.0.0.1:10/",
            "http://127.0.0.1/",
            "http://2130706433:9/",
            "https://hooks.example.com:85218/",
            "ftp://hooks.example.com/",
            "/x",
        ] {
            let refused = check_url(&settings, url).unwrap_err();
            assert!(!refused.contains("token"), "{refused}");
        }
        assert!(check_command(&settings, &["/usr/local/bin/tell".into(), "x".into()]).is_ok());
        for program in ["/usr/local/bin/tell2", "tell", "/usr/local/bin/../bin/tell", ""] {
            assert!(check_command(&settings, &[program.into()]).is_err(), "{program}");
        }
        assert!(check_url(&none, "https://hooks.example.com/").is_err());
    }
}
