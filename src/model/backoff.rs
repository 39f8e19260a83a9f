//! How long a vessel waits before it is tried again. Pure: what looks like chance is derived from
//! the vessel run and the number of the retry, so that the same retry always waits as long, also
//! when a new server reckons it again.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::fleet::Guardrails;
use crate::model::ids::VesselRunId;
use crate::model::limits::RETRY_WAIT_MAX;

/// How the waits between attempts develop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backoff {
    /// `retry_wait` every time.
    #[default]
    Constant,
    /// `retry_wait` doubles with every retry, up to [`RETRY_WAIT_MAX`]; of each wait, between half
    /// and all is waited, so that vessels that failed together do not come back together.
    Exponential,
}

impl Backoff {
    /// Whether it is what a fleet has that says nothing.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Guardrails {
    /// How long `vessel_run` waits before its retry number `retry`, counted from 1. At most
    /// [`RETRY_WAIT_MAX`].
    pub fn wait_before(&self, retry: u32, vessel_run: VesselRunId) -> Duration {
        if self.retry_backoff == Backoff::Constant {
            return self.retry_wait;
        }
        let doubled = 2u32.saturating_pow(retry.saturating_sub(1));
        let full = self.retry_wait.saturating_mul(doubled).min(RETRY_WAIT_MAX);
        let half = full / 2;
        // Milliseconds, as due times are; a wait of a millisecond or none has no two halves.
        let span = u64::try_from((full - half).as_millis()).unwrap_or(u64::MAX);
        half + Duration::from_millis(chance(retry, vessel_run) % (span + 1))
    }
}

/// A number that is as good as random, and always the same for the same retry.
fn chance(retry: u32, vessel_run: VesselRunId) -> u64 {
    let digest = Sha256::new()
        .chain_update(vessel_run.as_bytes())
        .chain_update(retry.to_be_bytes())
        .finalize();
    digest.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::clock::Timestamp;
    use crate::model::ids::RunIds;

    fn vessel_runs(count: u64) -> Vec<VesselRunId> {
        let mut ids = RunIds::after(None);
        let next = |random| ids.next(Timestamp::from_millis(1_000), random).vessel_run(0);
        (0..count).map(next).collect()
    }

    #[test]
    fn a_constant_wait_is_the_same_every_time() {
        let guardrails = Guardrails { retry_wait: Duration::from_secs(7), ..Default::default() };
        for vessel_run in vessel_runs(3) {
            for retry in 1..=24 {
                assert_eq!(guardrails.wait_before(retry, vessel_run), guardrails.retry_wait);
            }
        }
    }

    #[test]
    fn an_exponential_wait_doubles_up_to_its_limit_and_scatters() {
        let guardrails = Guardrails {
            retry_wait: Duration::from_secs(10),
            retry_backoff: Backoff::Exponential,
            ..Default::default()
        };
        let runs = vessel_runs(200);
        // 10 s doubled nine times is over an hour.
        for (retry, full_secs) in [(1, 10), (2, 20), (3, 40), (9, 2560), (10, 3600), (24, 3600)] {
            let full = Duration::from_secs(full_secs);
            let wait = |run: &VesselRunId| guardrails.wait_before(retry, *run);
            let waits: BTreeSet<Duration> = runs.iter().map(wait).collect();
            let (least, most) = (*waits.first().unwrap(), *waits.last().unwrap());
            assert!(full / 2 <= least && most <= full, "{retry}: {least:?} to {most:?}");
            // Spread over the whole of the half, not bunched.
            assert!(least < full * 11 / 20 && most > full * 19 / 20, "{least:?} to {most:?}");
            assert_eq!(wait(&runs[0]), wait(&runs[0]));
        }
        let retries: BTreeSet<Duration> =
            (10..=24).map(|retry| guardrails.wait_before(retry, runs[0])).collect();
        assert!(retries.len() > 10, "each retry has a chance of its own");
    }

    #[test]
    fn the_smallest_waits_have_a_backoff_too() {
        for (wait_ms, most) in [(0, 0), (1, 1)] {
            let guardrails = Guardrails {
                retry_wait: Duration::from_millis(wait_ms),
                retry_backoff: Backoff::Exponential,
                ..Default::default()
            };
            let wait = guardrails.wait_before(1, vessel_runs(1)[0]);
            assert!(wait <= Duration::from_millis(most), "{wait:?}");
        }
    }
}
