//! HTTP requests that the server sends of its own accord, in terms of ureq. They go to the host of the URL and
//! nowhere else: no redirects, no proxies.

use std::time::Duration;

use ureq::Agent;

use super::tls_roots::{tls_cause_of_request, tls_config};

/// A client whose requests take up to `timeout`.
pub fn agent(timeout: Duration) -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .timeout_global(Some(timeout))
        // Nothing is sent often enough to keep a connection for.
        .max_idle_connections(0)
        .user_agent(concat!("boathook/", env!("CARGO_PKG_VERSION")))
        .tls_config(tls_config())
        .build()
        .new_agent()
}

/// What went wrong with a request of such a client, without anything of the request: its URL may be a
/// secret.
pub fn told(error: &ureq::Error, timeout: Duration) -> String {
    if let Some(cause) = tls_cause_of_request(error) {
        return cause;
    }
    match error {
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::Timeout(_) => format!("no answer within {} s", timeout.as_secs()),
        ureq::Error::HostNotFound => "there is no such host".to_owned(),
        ureq::Error::ConnectionFailed => "no connection".to_owned(),
        _ => "the request failed".to_owned(),
    }
}
