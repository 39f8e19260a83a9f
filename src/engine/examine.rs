//! Facts for `boathook doctor`, which judges them. Reads; decides nothing and starts nothing.

use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::model::clock::Timestamp;
use crate::runner::output::has_output;
use crate::store::{StorageError, VerifyCallbacks, VerifyProgress, VerifyReport};

impl Engine {
    /// When the last run was accepted, by the clock of that time.
    pub fn last_accepted_at(&self) -> Option<Timestamp> {
        self.store.runs_before(None).next().map(|run| run.queued_at)
    }

    /// Reads all stored data. After each step it pauses as long as the step has taken, so that requests
    /// come first. `go_on` gets the progress and returns false to end the check.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn verify(
        &self,
        mut go_on: impl FnMut(VerifyProgress) -> bool,
    ) -> Result<VerifyReport, StorageError> {
        let mut began_at = Instant::now();
        let mut step = |progress| {
            std::thread::sleep(began_at.elapsed().min(Duration::from_secs(1)));
            let goes_on = go_on(progress);
            began_at = Instant::now();
            goes_on
        };
        let directory = &self.output_dir;
        let has_output_file = |vessel_run, attempt| has_output(directory, vessel_run, attempt);
        self.store
            .verify(&mut VerifyCallbacks { step: &mut step, has_output_file: &has_output_file })
    }
}
