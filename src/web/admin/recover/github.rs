//! GitHub's API of webhooks and their deliveries, of repositories and organizations.

use std::fmt;
use std::io::Read;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::http::{Method, Request, Response};
use ureq::{Agent, Body};

use crate::config::secrets::Secret;
use crate::model::clock::Timestamp;
use crate::model::refusal::{Reason, Refusal};
use crate::os::outbound;

/// Entries of a page: the most that GitHub sends.
const PER_PAGE: usize = 100;
/// Pages of the list of webhooks. GitHub allows 20 for each event.
const HOOK_PAGES_MAX: usize = 10;
/// Bytes of an answer: several times a page of deliveries.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
const TIMEOUT: Duration = Duration::from_secs(10);
/// Letters of a name of an owner or a repository: GitHub allows 100.
const NAME_LETTERS_MAX: usize = 100;

/// Has the webhooks.
pub(super) enum Owner {
    Repository(String),
    Organization(String),
}

impl Owner {
    /// `owner/name`; `None`: it is none.
    pub(super) fn repository(text: &str) -> Option<Self> {
        let (owner, name) = text.split_once('/')?;
        (is_name(owner) && is_name(name)).then(|| Self::Repository(text.to_owned()))
    }

    pub(super) fn organization(text: &str) -> Option<Self> {
        is_name(text).then(|| Self::Organization(text.to_owned()))
    }

    fn path(&self) -> String {
        match self {
            Self::Repository(name) => format!("/repos/{name}/hooks"),
            Self::Organization(name) => format!("/orgs/{name}/hooks"),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository(name) | Self::Organization(name) => f.write_str(name),
        }
    }
}

/// Whether `text` is one segment of a path that needs no escapes.
fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=NAME_LETTERS_MAX).contains(&text.len())
        && text.bytes().all(fits)
        && !text.bytes().all(|byte| byte == b'.')
}

/// A webhook at GitHub.
#[derive(Deserialize)]
pub(super) struct Hook {
    pub(super) id: u64,
    pub(super) config: HookConfig,
}

#[derive(Deserialize)]
pub(super) struct HookConfig {
    pub(super) url: Option<String>,
}

/// An attempt to deliver something. Redeliveries have the guid of the first attempt.
#[derive(Debug, Deserialize)]
pub(super) struct Attempt {
    pub(super) id: u64,
    pub(super) guid: String,
    pub(super) delivered_at: Timestamp,
    /// Of the answer; 0: there was none. `None`: it is under way.
    pub(super) status_code: Option<u16>,
    pub(super) event: String,
}

impl Attempt {
    pub(super) fn has_failed(&self) -> bool {
        self.status_code.is_some_and(|status| !(200..300).contains(&status))
    }
}

/// What went wrong. Has no part of the token.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{base} cannot be reached from this machine: {why}")]
    Unreachable { base: String, why: String },
    #[error("GitHub lets this token ask no more for now{}; go on later", after(.retry_after.as_deref()))]
    TooOften { retry_after: Option<String> },
    #[error("GitHub does not know the token (401); it may have expired")]
    Token,
    #[error(
        "GitHub answered {status} to {path}: the token needs to read and write the webhooks of {owner} \
         (admin:repo_hook or admin:org_hook; of a fine-grained token, Webhooks)"
    )]
    Denied { status: u16, path: String, owner: String },
    #[error("GitHub answered {status} to {path}")]
    Status { status: u16, path: String },
    #[error("the answer of {base} to {path} is not one of GitHub's: {why}")]
    Unintelligible { base: String, path: String, why: String },
}

fn after(seconds: Option<&str>) -> String {
    seconds.map(|seconds| format!(" (for {seconds} s)")).unwrap_or_default()
}

impl Error {
    /// Whether the next request would fare no better.
    pub(super) fn ends_all(&self) -> bool {
        !matches!(self, Self::Status { .. })
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let reason = match error {
            Error::Token | Error::Denied { .. } => Reason::Conflict,
            _ => Reason::Unavailable,
        };
        Self::new(reason, error.to_string())
    }
}

/// A client with one token. Has no `Debug`.
pub(super) struct Client<'a> {
    agent: Agent,
    base: &'a str,
    owner: Owner,
    token: Secret,
}

impl<'a> Client<'a> {
    pub(super) fn new(base: &'a str, owner: Owner, token: Secret) -> Self {
        Self { agent: outbound::agent(TIMEOUT), base, owner, token }
    }

    pub(super) fn owner(&self) -> &Owner {
        &self.owner
    }

    /// All webhooks of the owner.
    ///
    /// # Errors
    /// When GitHub does not give them.
    pub(super) fn hooks(&self) -> Result<Vec<Hook>, Error> {
        let mut hooks = Vec::new();
        let mut next = None;
        for _ in 0..HOOK_PAGES_MAX {
            let (found, following) = self.page::<Hook>(&self.owner.path(), next.as_deref())?;
            hooks.extend(found);
            next = following;
            if next.is_none() {
                break;
            }
        }
        Ok(hooks)
    }

    /// A page of attempts of the webhook `hook`, the latest first, and the query of the next page.
    ///
    /// # Errors
    /// When GitHub does not give them.
    pub(super) fn attempts(
        &self,
        hook: u64,
        page: Option<&str>,
    ) -> Result<(Vec<Attempt>, Option<String>), Error> {
        self.page(&format!("{}/{hook}/deliveries", self.owner.path()), page)
    }

    /// Lets GitHub deliver again what an attempt has tried.
    ///
    /// # Errors
    /// When GitHub does not.
    pub(super) fn redeliver(&self, hook: u64, attempt: u64) -> Result<(), Error> {
        let path = format!("{}/{hook}/deliveries/{attempt}/attempts", self.owner.path());
        self.exchange(Method::POST, &path, &path).map(drop)
    }

    fn page<T: DeserializeOwned>(
        &self,
        path: &str,
        query: Option<&str>,
    ) -> Result<(Vec<T>, Option<String>), Error> {
        let first = format!("per_page={PER_PAGE}");
        let target = format!("{path}?{}", query.unwrap_or(&first));
        let mut answer = self.exchange(Method::GET, path, &target)?;
        let next = answer.headers().get("Link").and_then(|link| next_query(link.to_str().ok()?));
        let unintelligible = |why: String| Error::Unintelligible {
            base: self.base.to_owned(),
            path: path.to_owned(),
            why,
        };
        let mut bytes = Vec::new();
        let read = answer.body_mut().as_reader().take(ANSWER_BYTES_MAX).read_to_end(&mut bytes);
        read.map_err(|error| unintelligible(error.to_string()))?;
        let entries =
            serde_json::from_slice(&bytes).map_err(|error| unintelligible(error.to_string()))?;
        Ok((entries, next))
    }

    fn exchange(&self, method: Method, path: &str, target: &str) -> Result<Response<Body>, Error> {
        let unreachable = |why: String| Error::Unreachable { base: self.base.to_owned(), why };
        let token = self.token.clone().into_text();
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{target}", self.base))
            .header("Accept", "application/vnd.github+json")
            .header("X-GitHub-Api-Version", "2022-11-28")
            .header("Authorization", format!("Bearer {token}"))
            .body(());
        // Its message would have the token.
        let request = request.map_err(|_| unreachable("the token fits in no header".to_owned()))?;
        let answer = self.agent.run(request);
        let answer = answer.map_err(|error| unreachable(outbound::told(&error, TIMEOUT)))?;
        let header = |name: &str| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
        let (path, owner) = (path.to_owned(), self.owner.to_string());
        match answer.status().as_u16() {
            200..300 => Ok(answer),
            401 => Err(Error::Token),
            403 | 429
                if answer.status() == 429
                    || header("Retry-After").is_some()
                    || header("X-RateLimit-Remaining").as_deref() == Some("0") =>
            {
                Err(Error::TooOften { retry_after: header("Retry-After") })
            }
            // GitHub does not tell strangers what there is.
            status @ (403 | 404) => Err(Error::Denied { status, path, owner }),
            status => Err(Error::Status { status, path }),
        }
    }
}

/// The query of the URL with `rel="next"` in a Link header (RFC 8288). Its host is not asked for: the token
/// goes to the one that the settings name.
fn next_query(link: &str) -> Option<String> {
    let entry = link.split(',').find(|entry| entry.contains("rel=\"next\""))?;
    let url = entry.split_once('<')?.1.split_once('>')?.0;
    let (_, query) = url.split_once('?')?;
    let is_safe = query.bytes().all(|byte| byte.is_ascii_graphic());
    is_safe.then(|| query.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_names_that_lead_nowhere_else() {
        for name in ["octo/hello-world", "o/.github", "Octo_1/a.b"] {
            assert!(Owner::repository(name).is_some(), "{name}");
        }
        for name in ["octo", "octo/", "/a", "a/b/c", "a/..", "../a", "a/b?c", "a/b c", "a/%2e", ""]
        {
            assert!(Owner::repository(name).is_none(), "{name}");
        }
        assert!(Owner::organization("octo-org").is_some());
        assert!(Owner::organization("..").is_none() && Owner::organization("a/b").is_none());
    }

    #[test]
    fn the_next_page_is_what_the_link_header_names() {
        let link = "<https://api.github.com/repositories/1/hooks/2/deliveries?per_page=100&cursor=v1_3>; \
                    rel=\"next\", <https://api.github.com/x?cursor=0>; rel=\"prev\"";
        assert_eq!(next_query(link).as_deref(), Some("per_page=100&cursor=v1_3"));
        for link in
            ["", "<https://a/x?y>; rel=\"prev\"", "rel=\"next\"", "<https://a>; rel=\"next\""]
        {
            assert_eq!(next_query(link), None, "{link}");
        }
    }
}
