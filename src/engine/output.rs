//! Reading the output of an attempt: from the memory of its worker, the database or a file.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use crate::engine::Engine;
use crate::model::ids::VesselRunId;
use crate::model::run::{OutputPlace, VesselRunRecord};
pub use crate::runner::output::OutputChunk;
use crate::runner::output::{LiveOutput, StoredOutput};

/// The output of one attempt.
pub enum OutputReader {
    /// Its worker captures it.
    Live(Arc<LiveOutput>),
    /// It is in a file.
    File(StoredOutput),
    /// Small output, read as a whole.
    Whole(Vec<u8>),
}

impl OutputReader {
    /// Bytes from `offset` on, counted after redaction. While the attempt runs, waits up to `wait` for
    /// more. The chunk begins after `offset` when bytes between were left out.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(&self, offset: u64, wait: Duration) -> io::Result<OutputChunk> {
        match self {
            OutputReader::Live(output) => output.read(offset, wait),
            OutputReader::File(output) => output.read(offset),
            OutputReader::Whole(bytes) => Ok(OutputChunk::of_whole(bytes, offset)),
        }
    }
}

impl Engine {
    /// The output of an attempt, by default the latest one. `None` without such a vessel run or
    /// attempt.
    ///
    /// # Errors
    /// When it is stored and cannot be read.
    pub fn output(
        &self,
        id: VesselRunId,
        attempt: Option<u32>,
    ) -> io::Result<Option<OutputReader>> {
        {
            let decisions = self.decisions();
            let running = decisions.running.get(&id);
            if let Some(running) = running.filter(|it| attempt.is_none_or(|n| n == it.attempt)) {
                return Ok(Some(OutputReader::Live(Arc::clone(&running.output))));
            }
        }
        let record = match attempt {
            Some(attempt) => self.store.attempt(id, attempt),
            None => self.store.vessel_run(id),
        };
        let is_gone = || !self.is_stored(id.run());
        if is_gone() {
            // The sweeper is removing the run: its remaining rows are not shown.
            return Ok(None);
        }
        let Some(record) = record else {
            // An undecided vessel has no row and no output.
            let is_known = attempt.is_none() && self.is_vessel_run(id);
            return Ok(is_known.then(|| OutputReader::Whole(Vec::new())));
        };
        match self.stored_output(&record) {
            Ok(output) => Ok(Some(output)),
            Err(_) if is_gone() => Ok(None),
            Err(error) => {
                log::error!(vessel_run:% = id, error:%; "stored output cannot be read");
                Err(error)
            }
        }
    }

    /// The output of an attempt that has ended or was interrupted.
    fn stored_output(&self, record: &VesselRunRecord) -> io::Result<OutputReader> {
        let VesselRunRecord { id, attempt, output, .. } = record;
        if output.place == OutputPlace::Rows {
            let mut bytes = Vec::new();
            self.store.output(*id, *attempt, 0, output.bytes).read_to_end(&mut bytes)?;
            return Ok(OutputReader::Whole(bytes));
        }
        // An attempt that a crash has interrupted may have a file that its record does not name.
        match StoredOutput::open(&self.output_dir, *id, *attempt) {
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && output.place != OutputPlace::File =>
            {
                Ok(OutputReader::Whole(Vec::new()))
            }
            opened => Ok(OutputReader::File(opened?)),
        }
    }

    /// Whether the run of this id has a vessel of this index.
    fn is_vessel_run(&self, id: VesselRunId) -> bool {
        let vessels = self.run(id.run()).map_or(0, |view| view.vessels.len());
        id.vessel().is_some_and(|vessel| vessel < vessels)
    }
}
