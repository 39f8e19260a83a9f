//! Talks to the admin API of a server that [`super::locate`] found. Knows paths and envelopes, not
//! what they mean.

use std::io::Read;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use ureq::config::ConfigBuilder;
use ureq::http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header,
};
use ureq::typestate::AgentScope;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::{Agent, Body, SendBody};

use super::locate::{Located, Outlook};

mod connection;
mod proof;

use connection::ProvenConnector;
pub use proof::Unproved;

/// Bytes of one answer of the admin API that the command line reads into memory: a fleet's
/// versions with their files are the largest.
pub const CLIENT_ANSWER_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Entries that the command line asks for at a time: what the API gives at most.
const CLIENT_PAGE: usize = 1000;

/// The header of a list that tells the `before` of the next page.
const NEXT_BEFORE: &str = "X-Next-Before";
/// How long an answer may keep us waiting for its head. The server commits within a second; one
/// that has hung is not waited for without end.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// A client of one server. Cheap to clone; clones share their connections. A request fails when there is no
/// answer, or the server refuses.
#[derive(Clone)]
pub struct Client {
    agent: Agent,
    base: String,
    authorization: HeaderValue,
    outlook: Outlook,
}

/// Why there is no answer to use.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server answered, but no.
    #[error("{message}")]
    Refused { status: u16, message: String },
    #[error("nothing answers at {url}; {advice}")]
    NotRunning { url: String, advice: String },
    #[error("what listens at {url} is not your server: {why}. It was sent no token; {advice}")]
    NotProven { url: String, why: Unproved, advice: String },
    #[error("{url}: {source}")]
    Transport { url: String, source: Box<ureq::Error> },
    #[error("what answers at {url} is not a server of this kind: {message}")]
    Unintelligible { url: String, message: String },
    #[error("the token has letters that no header can carry")]
    Token,
}

impl ClientError {
    /// Whether the server says that there is no such thing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// Whether the same request may succeed in a while: the server restarts or is busy.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::Refused { status: 429 | 503, .. }
                | Self::NotRunning { .. }
                | Self::Transport { .. }
        )
    }
}

/// The `data` of an answer.
pub struct Data {
    json: Box<RawValue>,
    url: String,
    headers: HeaderMap,
}

impl Data {
    /// The data as it was sent.
    pub fn raw(&self) -> &RawValue {
        &self.json
    }

    /// A header of the answer.
    pub fn header(&self, name: &str) -> Option<&HeaderValue> {
        self.headers.get(name)
    }

    /// The data as what it should be.
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_str(self.json.get()).map_err(|error| ClientError::Unintelligible {
            url: self.url.clone(),
            message: error.to_string(),
        })
    }
}

/// What is sent with a request.
pub struct Content {
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: SendBody<'static>,
}

impl Content {
    /// Nothing.
    fn none() -> Content {
        Content { headers: Vec::new(), body: SendBody::none() }
    }

    /// Nothing but a length of zero.
    pub fn empty() -> Content {
        let length = (header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        Content { headers: vec![length], ..Content::none() }
    }

    /// `text` of the given media type.
    pub fn text(content_type: &'static str, text: String) -> Content {
        Self::bytes(content_type, text.into_bytes())
    }

    /// `bytes` of the given media type.
    pub fn bytes(content_type: &'static str, bytes: Vec<u8>) -> Content {
        let length = HeaderValue::from(bytes.len() as u64);
        let headers = vec![
            (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
            (header::CONTENT_LENGTH, length),
        ];
        let body = SendBody::from_owned_reader(std::io::Cursor::new(bytes));
        Content { headers, body }
    }
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    data: Option<Box<RawValue>>,
    #[serde(default)]
    error: Option<ErrorBody>,
}

#[derive(Deserialize)]
struct ErrorBody {
    message: String,
}

impl Client {
    /// A client of the server at hand; nothing is sent yet.
    ///
    /// # Errors
    /// When the token is not one.
    pub fn new(located: &Located) -> Result<Self, ClientError> {
        let bearer = format!("Bearer {}", located.token.reveal());
        let mut authorization = HeaderValue::try_from(bearer).map_err(|_| ClientError::Token)?;
        authorization.set_sensitive(true);
        Ok(Self {
            agent: Agent::with_parts(
                agent_config().build(),
                ProvenConnector::new(located),
                DefaultResolver::default(),
            ),
            base: located.url.clone(),
            authorization,
            outlook: located.outlook(),
        })
    }

    /// The address of the server, without a slash at its end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Gets the data at `path`, which begins below `/api/v1`.
    pub fn get(&self, path: &str) -> Result<Data, ClientError> {
        self.send(Method::GET, path, Content::none())
    }

    /// Posts without a body.
    pub fn post(&self, path: &str) -> Result<Data, ClientError> {
        self.send(Method::POST, path, Content::empty())
    }

    /// Deletes what is at `path`.
    pub fn delete(&self, path: &str) -> Result<Data, ClientError> {
        self.send(Method::DELETE, path, Content::none())
    }

    /// Sends `content` and reads the data of the answer.
    pub fn send(&self, method: Method, path: &str, content: Content) -> Result<Data, ClientError> {
        let response = self.exchange(method, path, content, Some(ANSWER_TIMEOUT))?;
        self.data(path, response)
    }

    /// Opens the answer at `path` as a stream of bytes, which may wait for as long as it likes.
    pub fn open(&self, path: &str) -> Result<Response<Body>, ClientError> {
        let response = self.exchange(Method::GET, path, Content::none(), None)?;
        self.successful(path, response)
    }

    /// The same for a POST without a body.
    pub fn open_posted(&self, path: &str) -> Result<Response<Body>, ClientError> {
        let response = self.exchange(Method::POST, path, Content::empty(), None)?;
        self.successful(path, response)
    }

    /// Gets what is at `path` as text of the given media type.
    pub fn get_text(&self, path: &str, accept: &'static str) -> Result<String, ClientError> {
        let accept = (header::ACCEPT, HeaderValue::from_static(accept));
        let content = Content { headers: vec![accept], ..Content::none() };
        let response = self.exchange(Method::GET, path, content, Some(ANSWER_TIMEOUT))?;
        let response = self.successful(path, response)?;
        self.read(path, response)
    }

    /// Gets what is at `path` as text, with its entity tag.
    pub fn get_tagged(
        &self,
        path: &str,
        accept: &'static str,
    ) -> Result<(String, String), ClientError> {
        let accept = (header::ACCEPT, HeaderValue::from_static(accept));
        let content = Content { headers: vec![accept], ..Content::none() };
        let response = self.exchange(Method::GET, path, content, Some(ANSWER_TIMEOUT))?;
        let response = self.successful(path, response)?;
        let tag = response.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok());
        let tag = tag.unwrap_or_default().to_owned();
        Ok((self.read(path, response)?, tag))
    }

    /// Gets a list as a whole, page after page, at most `limit` entries. `path` carries no
    /// `before` and no `limit`.
    pub fn list(&self, path: &str, limit: usize) -> Result<Vec<Data>, ClientError> {
        self.list_by(path, limit, CLIENT_PAGE)
    }

    /// As [`list`](Self::list), with up to `page_max` entries at a time.
    pub fn list_by(
        &self,
        path: &str,
        limit: usize,
        page_max: usize,
    ) -> Result<Vec<Data>, ClientError> {
        let mark = if path.contains('?') { '&' } else { '?' };
        let mut entries: Vec<Data> = Vec::new();
        let mut before = String::new();
        while entries.len() < limit {
            let size = page_max.min(limit - entries.len());
            let url = self.url(path);
            let asked = format!("{path}{mark}limit={size}{before}");
            let answer =
                self.exchange(Method::GET, &asked, Content::none(), Some(ANSWER_TIMEOUT))?;
            let next = answer.headers().get(NEXT_BEFORE).and_then(|next| next.to_str().ok());
            let next = next.map(|next| format!("&before={next}"));
            let page: Vec<Box<RawValue>> = self.data(&asked, answer)?.parse()?;
            entries.extend(page.into_iter().map(|json| Data {
                json,
                url: url.clone(),
                headers: HeaderMap::new(),
            }));
            match next {
                Some(next) => before = next,
                None => break,
            }
        }
        Ok(entries)
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/v1{path}", self.base)
    }

    fn exchange(
        &self,
        method: Method,
        path: &str,
        content: Content,
        answer_timeout: Option<Duration>,
    ) -> Result<Response<Body>, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(self.url(path))
            .header(header::AUTHORIZATION, &self.authorization);
        for (name, value) in &content.headers {
            request = request.header(name, value);
        }
        let transport = |source: ureq::Error| self.transport(path, source);
        let request = request.body(content.body).map_err(|error| transport(error.into()))?;
        let request =
            self.agent.configure_request(request).timeout_recv_response(answer_timeout).build();
        self.agent.run(request).map_err(transport)
    }

    fn transport(&self, path: &str, source: ureq::Error) -> ClientError {
        let url = self.base.clone();
        let is_refused = match &source {
            ureq::Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
            ureq::Error::ConnectionFailed => true,
            _ => false,
        };
        if is_refused {
            return ClientError::NotRunning { url, advice: self.outlook.advice() };
        }
        match source {
            ureq::Error::Other(cause) if cause.is::<Unproved>() => match cause.downcast() {
                Ok(why) => self.unproved(path, *why),
                Err(cause) => self.broken(path, ureq::Error::Other(cause)),
            },
            source => self.broken(path, source),
        }
    }

    fn broken(&self, path: &str, source: ureq::Error) -> ClientError {
        ClientError::Transport { url: self.url(path), source: Box::new(source) }
    }

    /// The error for a connection without proof. A server that is busy or that is stopping counts as a
    /// server, unless its data directory shows that none runs.
    fn unproved(&self, path: &str, why: Unproved) -> ClientError {
        match why {
            Unproved::Busy(status) if !self.outlook.is_stopped() => {
                ClientError::Refused { status, message: why.to_string() }
            }
            Unproved::Closed(error) if !self.outlook.is_stopped() => {
                self.broken(path, error.into())
            }
            Unproved::UnknownToken if !self.outlook.is_stopped() => {
                let message =
                    format!("the server at {} does not take this token: {why}", self.base);
                ClientError::Refused { status: 401, message }
            }
            why => {
                let advice = self.outlook.advice();
                ClientError::NotProven { url: self.base.clone(), why, advice }
            }
        }
    }

    fn data(&self, path: &str, response: Response<Body>) -> Result<Data, ClientError> {
        let response = self.successful(path, response)?;
        let headers = response.headers().clone();
        let text = self.read(path, response)?;
        let envelope: Envelope = serde_json::from_str(&text).map_err(|error| {
            ClientError::Unintelligible { url: self.url(path), message: error.to_string() }
        })?;
        let json = envelope.data.unwrap_or_else(|| RawValue::NULL.to_owned());
        Ok(Data { json, url: self.url(path), headers })
    }

    /// The answer, when it is a success; its message otherwise.
    fn successful(
        &self,
        path: &str,
        response: Response<Body>,
    ) -> Result<Response<Body>, ClientError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = self.read(path, response).unwrap_or_default();
        Err(ClientError::Refused { status: status.as_u16(), message: refusal(status, &text) })
    }

    fn read(&self, path: &str, mut response: Response<Body>) -> Result<String, ClientError> {
        let body = response.body_mut().with_config().limit(CLIENT_ANSWER_BYTES_MAX);
        body.read_to_string().map_err(|source| self.transport(path, source))
    }
}

/// The message of an answer that is no success.
fn refusal(status: StatusCode, text: &str) -> String {
    let said = serde_json::from_str::<Envelope>(text)
        .ok()
        .and_then(|envelope| Some(envelope.error?.message));
    match (said, status) {
        (Some(message), StatusCode::UNAUTHORIZED) => {
            format!("the server does not accept this token: {message}")
        }
        (Some(message), _) => message,
        (None, StatusCode::UNAUTHORIZED) => "the server does not accept this token".to_owned(),
        (None, StatusCode::SERVICE_UNAVAILABLE) => {
            "the server cannot take this in just now (503); try again in a while".to_owned()
        }
        (None, _) => format!("the server answers {status}"),
    }
}

/// What holds for all that the command line sends: no proxies, since servers are near; no redirects,
/// since a token goes where it was meant to go.
pub fn agent_config() -> ConfigBuilder<AgentScope> {
    Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .max_redirects(0)
        .user_agent(concat!("boathook/", env!("CARGO_PKG_VERSION")))
}

/// The entries of a list as one JSON array.
pub fn joined<'a>(entries: impl IntoIterator<Item = &'a Data>) -> Box<RawValue> {
    let entries: Vec<_> = entries.into_iter().map(|entry| entry.raw().get()).collect();
    RawValue::from_string(format!("[{}]", entries.join(",")))
        .unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// The bytes of an answer, however many there are.
pub fn reader(response: Response<Body>) -> impl Read {
    response.into_body().into_with_config().limit(u64::MAX).reader()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_show_the_message_of_the_server() {
        let text = r#"{"request":{"id":"x"},"data":null,
                       "error":{"code":"conflict","message":"there is one already"}}"#;
        assert_eq!(refusal(StatusCode::CONFLICT, text), "there is one already");
        assert!(refusal(StatusCode::UNAUTHORIZED, text).contains("token"));
        let like_webhook = r#"{"request":{"id":"x"},"data":null}"#;
        assert!(refusal(StatusCode::BAD_REQUEST, like_webhook).contains("400"));
        assert!(refusal(StatusCode::BAD_GATEWAY, "<html>").contains("502"));
    }

    #[test]
    fn lists_join_as_they_were_sent() {
        let entry = |text: &str| Data {
            json: RawValue::from_string(text.to_owned()).unwrap(),
            url: String::new(),
            headers: HeaderMap::new(),
        };
        let joined = joined(&[entry(r#"{"b":1.0}"#), entry("2")]);
        assert_eq!(joined.get(), r#"[{"b":1.0},2]"#);
    }
}
