//! The pace of refused requests: a client in a closed loop is answered no faster than this, so that a flood
//! of them leaves the processor to the requests that are not refused. The connection's thread waits, and
//! holds neither a handler nor a permit meanwhile.

use std::time::Duration;

use crate::model::clock::{Clock, SystemClock};
use crate::model::rate::Rate;
use crate::model::rate_limit::Bucket;

/// Refused requests that are answered in a second: about a tenth of a core.
const REFUSALS: Rate = Rate::per_second(2_000, 2_000);
/// How long a response is held back at most.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pace(Bucket);

impl Pace {
    /// How long the response to one more refused request is to be held back.
    pub(super) fn pause(&self) -> Duration {
        self.0.pause(REFUSALS, SystemClock.now(), PAUSE_MAX)
    }
}
