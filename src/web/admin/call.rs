//! A request on its way through an endpoint of the admin API.

use std::str::FromStr;

use serde::de::DeserializeOwned;

use super::AdminHandler;
use crate::engine::Reach;
use crate::listener::Request;
use crate::model::access::Principal;
use crate::model::ids::{RunId, VesselRunId};
use crate::model::refusal::{Reason, Refusal};
use crate::os::text_file::decode;
use crate::web::query::Query;

/// See the module.
pub(super) struct Call<'c> {
    pub(super) request: &'c mut Request,
    /// Whose request it is; `None`: of a page that signs in.
    pub(super) principal: Option<Principal>,
    /// What the principal sees: its fleets, and what is theirs.
    pub(super) reach: Reach,
    /// The segments of the path that vary.
    pub(super) segments: Vec<String>,
    /// The parameters of the query string; of a test run, none.
    pub(super) query: Query,
    /// For the audit: the name of what the request is about.
    pub(super) object: String,
    /// Whether it has changed anything: false of a rehearsal.
    pub(super) is_change: bool,
}

impl Call<'_> {
    /// The segment of the path at `index`.
    pub(super) fn segment(&self, index: usize) -> &str {
        self.segments.get(index).map_or("", String::as_str)
    }

    /// Whose request it is.
    pub(super) fn principal(&self) -> Result<Principal, Refusal> {
        let stranger = || Refusal::new(Reason::Unauthorized, "this needs a token");
        self.principal.ok_or_else(stranger)
    }

    /// The vessel run that the path names first. One out of reach is not found.
    pub(super) fn vessel_run_id(&self, admin: &AdminHandler) -> Result<VesselRunId, Refusal> {
        let id: VesselRunId = self.id(0, "vessel run")?;
        match self.reaches_run(admin, id.run()) {
            true => Ok(id),
            false => Err(Refusal::not_found(format!("there is no vessel run {id}"))),
        }
    }

    /// Whether a run is within reach.
    pub(super) fn reaches_run(&self, admin: &AdminHandler, run: RunId) -> bool {
        admin.engine.is_within(run, &self.reach)
    }

    /// The id at `index` of a `noun`. A segment that is no id is not found.
    pub(super) fn id<T: FromStr>(&self, index: usize, noun: &str) -> Result<T, Refusal> {
        let segment = self.segment(index);
        segment.parse().map_err(|_| Refusal::not_found(format!("no such {noun}: {segment:?}")))
    }

    /// The media type of the body, in lower case and without parameters; empty when none is given.
    pub(super) fn content_type(&self) -> String {
        media_type(self.request.header("Content-Type").unwrap_or_default())
    }

    /// Whether the client prefers this media type, of those that the endpoint has.
    pub(super) fn accepts(&self, wanted: &str) -> bool {
        let accept = self.request.header("Accept").unwrap_or_default();
        accept.split(|byte| *byte == b',').any(|range| media_type(range) == wanted)
    }

    /// The whole body as text.
    pub(super) fn text(&mut self) -> Result<String, Refusal> {
        let bytes = self
            .request
            .body_bytes()
            .map_err(|error| Refusal::failed(format!("the body cannot be read: {error}")))?;
        decode(bytes).map_err(|error| Refusal::bad_request(format!("the body: {error}")))
    }

    /// The body as text that should be JSON; `None` when there is none.
    pub(super) fn json_text(&mut self) -> Result<Option<String>, Refusal> {
        let content_type = self.content_type();
        let text = self.text()?;
        if text.trim().is_empty() {
            return Ok(None);
        }
        if !content_type.is_empty() && content_type != "application/json" {
            return Err(unsupported(&content_type, "application/json"));
        }
        Ok(Some(text))
    }

    /// The body as JSON; `None` when there is none.
    pub(super) fn json<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Refusal> {
        let Some(text) = self.json_text()? else { return Ok(None) };
        // serde takes an array for a struct with its fields in order. No client means that.
        if text.trim_start().starts_with('[') {
            return Err(Refusal::invalid("the body must be a JSON object"));
        }
        serde_json::from_str(&text).map(Some).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => Refusal::invalid(error.to_string()),
            _ => Refusal::bad_request(format!("the body is not JSON: {error}")),
        })
    }
}

/// The part of a Content-Type or Accept before any semicolon.
pub(super) fn media_type(value: &[u8]) -> String {
    let value = String::from_utf8_lossy(value);
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

pub(super) fn unsupported(given: &str, expected: &str) -> Refusal {
    Refusal::new(
        Reason::UnsupportedMediaType,
        format!("the Content-Type {given:?} is not supported; send {expected}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_lose_their_parameters() {
        assert_eq!(media_type(b"Application/YAML; charset=utf-8"), "application/yaml");
        assert_eq!(media_type(b""), "");
    }
}
