//! Tries the webhook listener, and the public URL, from here.

use serde::Deserialize;
use std::time::Duration;
use ureq::tls::TlsConfig;
use ureq::{Agent, Body};

use crate::cli::client::agent_config;
use crate::cli::locate::from_here;
use crate::model::finding::Finding;
use crate::os::tls_roots::{tls_cause_of_request, tls_config, unverified_tls_config};

/// How long an examined listener may take to answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of an answer that are looked at: all of one of ours.
const ANSWER_BYTES_MAX: u64 = 4096;
/// A text that is no token.
const NO_TOKEN: &str = "doctor";

/// What every refusal of the webhook listener consists of.
#[derive(Deserialize)]
struct Refusal {
    request: Request,
}

#[derive(Deserialize)]
struct Request {
    id: String,
}

/// Whether the webhook listener at `base` answers.
pub(super) fn hooks(base: &str) -> Finding {
    const CHECK: &str = "hooks";
    let base = from_here(base);
    let asked = prober(unverified_tls_config()).get(format!("{base}/healthz")).call();
    match asked.map(|answer| answer.status().as_u16()) {
        Ok(200 | 503) => Finding::ok(CHECK, format!("{base} answers")),
        Ok(status) => {
            let what = format!("{base}/healthz answers {status}: that is not this server");
            Finding::problem(CHECK, what, "find out who listens there: ss -ltnp")
        }
        Err(error) => {
            let what = format!("{base} does not answer: {error}");
            let remedy = "its log says why; in a container or a network namespace of its own it can \
                          only be asked from within";
            Finding::problem(CHECK, what, remedy)
        }
    }
}

/// Whether what senders are told to use leads to the webhook listener at `hooks_base`: a POST
/// to an unknown URL, which only our own server refuses in this form.
pub(super) fn public(base: &str, hooks_base: &str) -> Finding {
    const CHECK: &str = "public-url";
    let url = format!("{base}/hooks/{NO_TOKEN}");
    let elsewhere = "if senders reach it all the same, all is well: some routers let no \
                     request of their own network in";
    match prober(tls_config()).post(&url).send_empty() {
        Ok(mut answer) => {
            if is_ours(&mut answer) {
                return Finding::ok(CHECK, format!("{base} leads to this server"));
            }
            let status = answer.status().as_u16();
            let what = format!("{base} leads elsewhere: a POST to /hooks/ answers {status}");
            let remedy = format!("have the proxy pass POST /hooks/ on to {hooks_base}");
            Finding::problem(CHECK, what, remedy)
        }
        Err(ureq::Error::HostNotFound) => {
            let what = format!("{base}: there is no such host");
            Finding::problem(CHECK, what, "give it a DNS record, or change `public_url`")
        }
        Err(error) => match tls_cause_of_request(&error) {
            Some(cause) => {
                let what = format!("{base}: {cause}; senders refuse it as well");
                let remedy = "serve a valid certificate for that name, with all between it and its \
                              root";
                Finding::problem(CHECK, what, remedy)
            }
            None => Finding::warning(CHECK, format!("{base}: {error}"), elsewhere),
        },
    }
}

/// Whether `answer` is a refusal of a server like this one.
fn is_ours(answer: &mut ureq::http::Response<Body>) -> bool {
    let id = answer.headers().get("X-Request-Id").and_then(|id| id.to_str().ok());
    let id = id.map(str::to_owned);
    let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
    let refusal = body.ok().and_then(|body| serde_json::from_str::<Refusal>(&body).ok());
    answer.status().is_client_error()
        && refusal.is_some_and(|refusal| Some(refusal.request.id) == id)
}

fn prober(tls: TlsConfig) -> Agent {
    agent_config().timeout_global(Some(PROBE_TIMEOUT)).tls_config(tls).build().new_agent()
}
