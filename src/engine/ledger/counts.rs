//! The number of requests to webhooks, by verdict and reason.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::model::delivery::{ID_REUSED, Verdict};
use crate::model::event::{ArrivalRecord, Note};
use crate::model::refusal::Reason;

/// See the module. The reason is empty where the verdict says all.
#[derive(Debug)]
pub struct DeliveryCounts(Mutex<BTreeMap<(Verdict, &'static str), u64>>);

impl Default for DeliveryCounts {
    /// Zero for what is common, so that the first one is seen as an increase.
    fn default() -> Self {
        let verdicts = Verdict::ALL.into_iter().filter(|verdict| *verdict != Verdict::Refused);
        let refusals = Reason::COUNTED.map(|reason| (Verdict::Refused, reason.word()));
        let all = verdicts.map(|verdict| (verdict, "")).chain(refusals);
        Self(Mutex::new(all.map(|kind| (kind, 0)).collect()))
    }
}

impl DeliveryCounts {
    /// One more.
    pub fn count(&self, verdict: Verdict, reason: &'static str) {
        // No step of it can panic.
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((verdict, reason)).or_insert(0) += 1;
    }

    /// Each verdict and reason, and how many by now.
    pub fn all(&self) -> Vec<(Verdict, &'static str, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|((verdict, reason), count)| (*verdict, *reason, *count)).collect()
    }
}

/// The reason of an accepted request: what enforcing would have refused it for, or what is odd about
/// its event. Empty for most.
pub fn reason_of_accepted(arrival: &ArrivalRecord) -> &'static str {
    match &arrival.note {
        None if arrival.is_id_reused => ID_REUSED,
        note => note.as_ref().map_or("", Note::word),
    }
}
