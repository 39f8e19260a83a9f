//! The request of a run, its head, then its body; and what expressions see of a request.

use std::io::{self, Cursor, Read};
use std::sync::Arc;

use crate::engine::Engine;
use crate::model::concurrency_key::ConcurrencyKey;
use crate::model::event::{ArrivalRecord, Event};
use crate::model::expression::{Payload, Variables};
use crate::model::fleet::FleetVersion;
use crate::model::ids::RunId;
use crate::model::request::RequestHead;
use crate::model::run::{PayloadSize, Trigger};
use crate::store::ChunkReader;

/// The request of a run with its decoded head. A body in the same row as the end of the head is not read
/// from the database again; most bodies are.
pub(super) struct RunRequest {
    pub head: RequestHead,
    body: BodySource,
    body_bytes: u64,
}

enum BodySource {
    Stored {
        payload: ChunkReader,
        head_bytes: u64,
    },
    /// The beginning of a body that is not stored.
    Given(Arc<[u8]>),
}

impl RunRequest {
    /// A request that is not stored: of its body of `body_bytes` bytes, `body_start` is there.
    pub fn given(head: RequestHead, body_start: Arc<[u8]>, body_bytes: u64) -> Self {
        Self { head, body: BodySource::Given(body_start), body_bytes }
    }

    /// Bytes of the body; 0 when there is none.
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// The body from its first byte.
    pub fn open_body(&self) -> Box<dyn Read + Send> {
        match &self.body {
            BodySource::Stored { payload, head_bytes } => {
                Box::new(payload.part(*head_bytes, self.body_bytes))
            }
            BodySource::Given(bytes) => Box::new(Cursor::new(Arc::clone(bytes))),
        }
    }

    /// The payload as expressions see it, up to `bytes_max` bytes of it.
    pub fn payload(&self, bytes_max: u64) -> Payload<'_> {
        let length = self.body_bytes();
        Payload::read_by(self.head.header("Content-Type"), length, bytes_max, move || {
            read_all(&mut self.open_body(), length)
        })
    }
}

/// What `reader` gives, some `length` bytes.
fn read_all(reader: &mut dyn Read, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    reader.read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl Engine {
    /// What a run keeps of a request with this event, head and payload: `concurrency_key` has its value.
    pub(super) fn arrival_of<'a>(
        &self,
        version: &FleetVersion,
        trigger: Trigger,
        event: Event,
        head: &RequestHead,
        payload: impl FnOnce() -> Payload<'a>,
    ) -> ArrivalRecord {
        let (mut key, mut note) = (None, None);
        if let Some(expression) = &version.definition.concurrency_key {
            let now = self.clock.now();
            let variables = Variables::of_request(head, payload(), &event, trigger, now);
            match ConcurrencyKey::of(expression, &variables) {
                Ok(value) => key = value,
                Err(failed) => note = Some(failed),
            }
        }
        ArrivalRecord { event, key, note, ..ArrivalRecord::default() }
    }

    /// A body as expressions see it.
    pub(super) fn payload_of<'a>(&self, head: &'a RequestHead, body: &'a [u8]) -> Payload<'a> {
        let (length, bytes_max) = (body.len() as u64, self.settings.max_expression_body_bytes);
        let read = move || Ok::<_, io::Error>(body.to_vec());
        Payload::read_by(head.header("Content-Type"), length, bytes_max, read)
    }

    /// What a run without a request keeps.
    pub(super) fn arrival_of_none(
        &self,
        version: &FleetVersion,
        trigger: Trigger,
    ) -> ArrivalRecord {
        self.arrival_of(version, trigger, Event::default(), &RequestHead::default(), Payload::null)
    }

    /// The stored request of `run`, of this size.
    ///
    /// # Errors
    /// Why its head cannot be read.
    pub(super) fn stored_request(
        &self,
        run: RunId,
        size: PayloadSize,
    ) -> Result<RunRequest, String> {
        let mut bytes = Vec::with_capacity(size.head_bytes as usize);
        let mut payload = self.store.payload(run, 0, size.head_bytes.into());
        payload.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        let head = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        let body = BodySource::Stored { payload, head_bytes: size.head_bytes.into() };
        Ok(RunRequest { head, body, body_bytes: size.body_bytes })
    }
}
