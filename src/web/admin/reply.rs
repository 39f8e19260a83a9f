//! What an endpoint of the admin API answers.

use std::io::{self, Write};

use serde::Serialize;

use super::Outcome;
use crate::listener::{Response, ResponseBody, Stream, StreamWriter};
use crate::model::ids::RequestId;
use crate::model::refusal::Refusal;
use crate::web::query::NEXT_BEFORE;
use crate::web::respond;

/// A successful response, before the envelope is around it.
pub(super) enum Reply {
    Data {
        status: u16,
        /// The JSON of `data`.
        json: String,
        headers: Vec<(&'static str, String)>,
    },
    /// A response without an envelope.
    Plain(Response),
}

impl Reply {
    /// `json` is that of `data`.
    pub(super) fn json(status: u16, json: String) -> Self {
        Self::Data { status, json, headers: Vec::new() }
    }

    pub(super) fn ok(data: &impl Serialize) -> Outcome {
        Self::with_status(200, data)
    }

    pub(super) fn created(data: &impl Serialize) -> Outcome {
        Self::with_status(201, data)
    }

    pub(super) fn with_status(status: u16, data: &impl Serialize) -> Outcome {
        match serde_json::to_string(data) {
            Ok(json) => Ok(Self::json(status, json)),
            Err(error) => Err(Refusal::failed(format!("the answer cannot be shown: {error}"))),
        }
    }

    /// The same with a header of its own.
    pub(super) fn with_header(self, name: &'static str, value: String) -> Self {
        match self {
            Self::Data { status, json, mut headers } => {
                headers.push((name, value));
                Self::Data { status, json, headers }
            }
            Self::Plain(response) => Self::Plain(response.with_header(name, value)),
        }
    }

    /// Part of a list, which tells where the next part begins.
    pub(super) fn page(entries: &[impl Serialize], next: Option<String>) -> Outcome {
        let page = Self::ok(&entries)?;
        Ok(match next {
            Some(before) => page.with_header(NEXT_BEFORE, before),
            None => page,
        })
    }

    /// There is nothing left to show.
    pub(super) fn gone() -> Outcome {
        Self::ok(&())
    }

    /// A body that is written piece by piece.
    pub(super) fn stream(
        content_type: &str,
        length: Option<u64>,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
    ) -> Response {
        let write: StreamWriter = Box::new(write);
        let mut answer = Response::new(200, content_type, Vec::new());
        answer.body = ResponseBody::Stream(Stream { length, write });
        // nginx would hold the pieces back until its buffers are full or the stream has ended.
        answer.with_header("X-Accel-Buffering", "no")
    }

    /// The response to the request `id`.
    pub(super) fn into_response(self, id: RequestId) -> Response {
        match self {
            Self::Data { status, json, headers } => {
                let response = respond::data(id, status, &json);
                headers.into_iter().fold(response, |it, (name, value)| it.with_header(name, value))
            }
            Self::Plain(response) => response.with_header("X-Request-Id", id.to_string()),
        }
    }
}
