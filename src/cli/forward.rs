//! `boathook forward`: a vessel's command. Sends the request that started its run to another URL, such as
//! the webhook of a Boathook on another machine. A run that is repeated sends the same key, by which the
//! other side can tell.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use ureq::http::{HeaderName, HeaderValue, Response, Uri};
use ureq::{AsSendBody, Body, SendBody};

use super::Outcome;
use super::output::{fail, print};
use crate::config::{HttpUrl, Period};
use crate::model::ids::RunId;
use crate::model::request::HOP_BY_HOP_HEADERS;
use crate::os::outbound;

/// How long a request may take, the largest body over a slow line included.
const TIMEOUT: Duration = Duration::from_secs(300);
/// Bytes of the headers file: what the listener takes of a request's head, as JSON.
const HEADERS_FILE_BYTES_MAX: u64 = 1 << 20;
/// Headers that this request has its own of, beside those of the connection.
const NOT_FORWARDED: [&str; 5] =
    ["content-length", "expect", "host", "http2-settings", "idempotency-key"];

/// Arguments of `forward`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit status: 0 when the other side took it (2xx), 1 when it refused it, 111 when another try may
succeed (no connection, no answer in time, 408, 425, 429, 5xx):
    guardrails: {retry_count: 24, retry_wait: 1m, retry_on_exit_codes: [111]}")]
pub struct ForwardArgs {
    /// Where to send it. Every user of this machine can see an argument; the variable is for URLs that
    /// are secrets
    #[arg(env = "FORWARD_URL", hide_env_values = true, value_name = "URL", value_parser = checked_url)]
    url: String,
    /// How long the other side may take [default: 5m]
    #[arg(long, value_name = "DURATION")]
    timeout: Option<Period>,
}

/// The names of headers, each with its values.
type Headers = BTreeMap<String, Vec<String>>;

/// What became of a request that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    Taken,
    Refused,
    /// Another try may succeed.
    Failed,
}

impl Forwarded {
    fn of_status(status: u16) -> Self {
        match status {
            200..=299 => Self::Taken,
            408 | 425 | 429 | 500..=599 => Self::Failed,
            _ => Self::Refused,
        }
    }

    /// The exit status that the vessel's guardrails see.
    pub fn code(self) -> u8 {
        match self {
            Self::Taken => 0,
            Self::Refused => 1,
            Self::Failed => 111,
        }
    }
}

fn checked_url(text: &str) -> Result<String, String> {
    text.parse::<HttpUrl>().map(|_| text.to_owned())
}

/// Sends the request of the run to which this process belongs.
///
/// # Errors
/// When this process belongs to no run, or what is to be sent cannot be read.
pub fn run(arguments: &ForwardArgs) -> anyhow::Result<Outcome> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let run: RunId = variable("BOATHOOK_FLEET_RUN_ID")
        .and_then(|run| run.parse().ok())
        .context("this is a vessel's command: BOATHOOK_FLEET_RUN_ID names no run")?;
    let timeout = arguments.timeout.map_or(TIMEOUT, |timeout| timeout.0);
    let headers = match variable("SHIPYARD_WEBHOOK_HEADERS_FILE") {
        Some(path) => read_headers(Path::new(&path)).with_context(|| path.clone())?,
        None => Headers::new(),
    };
    let url = target(&arguments.url, variable("BOATHOOK_WEBHOOK_QUERY").as_deref());
    let uri: Uri = url.parse().context("the URL")?;
    let host = uri.host().unwrap_or_default().to_owned();
    let mut request = outbound::agent(timeout).post(uri);
    for (name, value) in forwarded(&headers) {
        // What no client of ours can send has come from none that follows the standard.
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value.as_bytes()))
        {
            request = request.header(name, value);
        }
    }
    request = request.header("Idempotency-Key", run.to_string());
    let answer = match variable("SHIPYARD_WEBHOOK_BODY_FILE") {
        Some(path) => {
            let mut body = File::open(&path).with_context(|| path.clone())?;
            request.send(body.as_body())
        }
        // The files are on another machine than this client.
        None if has_input() => request.send(SendBody::from_reader(&mut io::stdin().lock())),
        None => request.send_empty(),
    };
    let forwarded = match answer {
        Ok(answer) => told(&host, &answer)?,
        Err(error) => {
            fail(&format!("{host}: {}", outbound::told(&error, timeout)));
            of_error(&error)
        }
    };
    Ok(Outcome::Forwarded(forwarded))
}

/// Whether standard input is a file or a pipe that a body may come from.
fn has_input() -> bool {
    let stdin = io::stdin();
    !stdin.is_terminal()
        && rustix::fs::fstat(&stdin)
            .is_ok_and(|found| !rustix::fs::FileType::from_raw_mode(found.st_mode).is_char_device())
}

fn read_headers(path: &Path) -> anyhow::Result<Headers> {
    let file = io::Read::take(File::open(path)?, HEADERS_FILE_BYTES_MAX);
    Ok(serde_json::from_reader(io::BufReader::new(file))?)
}

/// `url` with the query of the request after its own.
fn target(url: &str, query: Option<&str>) -> String {
    match query {
        None => url.to_owned(),
        Some(query) if url.contains('?') => format!("{url}&{query}"),
        Some(query) => format!("{url}?{query}"),
    }
}

/// The headers that go on: none of the connection, and none that `Connection` names.
fn forwarded(headers: &Headers) -> impl Iterator<Item = (&str, &str)> {
    let connection = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("connection"));
    let named = connection.flat_map(|(_, values)| values).flat_map(|value| value.split(','));
    let named: BTreeSet<String> = named.map(|name| name.trim().to_ascii_lowercase()).collect();
    let goes_on = move |name: &str| {
        let name = name.to_ascii_lowercase();
        let is_own = HOP_BY_HOP_HEADERS.iter().chain(&NOT_FORWARDED).any(|own| *own == name);
        !is_own && !named.contains(&name)
    };
    headers
        .iter()
        .filter(move |(name, _)| goes_on(name))
        .flat_map(|(name, values)| values.iter().map(move |value| (name.as_str(), value.as_str())))
}

/// Says what the other side has answered.
fn told(host: &str, answer: &Response<Body>) -> io::Result<Forwarded> {
    let status = answer.status().as_u16();
    let forwarded = Forwarded::of_status(status);
    let request = answer.headers().get("X-Request-Id").and_then(|id| id.to_str().ok());
    let request = request.map(|id| format!(" to the request {id}")).unwrap_or_default();
    let line = format!("{host} answers {status}{request}");
    match forwarded {
        Forwarded::Taken => print(&format!("{line}\n"))?,
        Forwarded::Refused | Forwarded::Failed => fail(&line),
    }
    Ok(forwarded)
}

/// A request that cannot be sent is refused; all else may be otherwise in a while.
fn of_error(error: &ureq::Error) -> Forwarded {
    match error {
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => Forwarded::Refused,
        _ => Forwarded::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_the_connection_stay() {
        let headers: Headers = serde_json::from_str(
            r#"{"Accept": ["*/*"], "Connection": ["close, X-Hop"], "X-Hop": ["1"], "TE": ["trailers"],
                "X-Two": ["a", "b"], "Host": ["h"], "Content-Length": ["3"], "Upgrade": ["h2c"],
                "Idempotency-Key": ["theirs"], "X-Signature": ["s"]}"#,
        )
        .unwrap();
        let expected = [("Accept", "*/*"), ("X-Signature", "s"), ("X-Two", "a"), ("X-Two", "b")];
        assert_eq!(forwarded(&headers).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_query_of_the_request_comes_last() {
        for (url, query, expected) in [
            ("http://h/hooks/t", None, "http://h/hooks/t"),
            ("http://h/hooks/t", Some("a=1"), "http://h/hooks/t?a=1"),
            ("http://h/hooks/t?own=1", Some("a=1"), "http://h/hooks/t?own=1&a=1"),
        ] {
            assert_eq!(target(url, query), expected);
        }
    }

    #[test]
    fn an_exit_code_says_whether_to_try_again() {
        for (status, code) in [
            (200, 0),
            (201, 0),
            (202, 0),
            (302, 1),
            (400, 1),
            (401, 1),
            (408, 111),
            (413, 1),
            (425, 111),
            (429, 111),
            (500, 111),
            (503, 111),
        ] {
            assert_eq!(Forwarded::of_status(status).code(), code, "{status}");
        }
    }
}
