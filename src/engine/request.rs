//! The stored request of a run: its head, then its body.

use std::io::Read;

use crate::engine::Engine;
use crate::model::ids::RunId;
use crate::model::request::RequestHead;
use crate::model::run::PayloadSize;
use crate::store::ChunkReader;

/// A stored request with its decoded head. A body in the same row as the end of the head is not read
/// from the database again; most bodies are.
pub(super) struct StoredRequest {
    pub head: RequestHead,
    payload: ChunkReader,
    size: PayloadSize,
}

impl StoredRequest {
    /// Bytes of the body; 0 when there is none.
    pub fn body_bytes(&self) -> u64 {
        self.size.body_bytes
    }

    /// The body from its first byte.
    pub fn open_body(&self) -> ChunkReader {
        self.payload.part(self.size.head_bytes.into(), self.size.body_bytes)
    }
}

impl Engine {
    /// The stored request of `run`, of this size.
    ///
    /// # Errors
    /// Why its head cannot be read.
    pub(super) fn stored_request(
        &self,
        run: RunId,
        size: PayloadSize,
    ) -> Result<StoredRequest, String> {
        let mut bytes = Vec::with_capacity(size.head_bytes as usize);
        let mut payload = self.store.payload(run, 0, size.head_bytes.into());
        payload.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        let head = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        Ok(StoredRequest { head, payload, size })
    }
}
