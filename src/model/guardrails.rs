//! The guardrails of a vessel: when it is retried, and when an attempt is cut off.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::defaults::is_default;
use crate::model::duration::millis;
use crate::model::ids::VesselRunId;

/// Highest `retry_count`, as the hosted system has it.
pub const RETRY_COUNT_MAX: u32 = 24;
/// Longest `retry_wait`, as the hosted system has it.
pub const RETRY_WAIT_MAX: Duration = Duration::from_secs(3600);
/// Longest `runtime_cutoff`. The hosted system ends at 4 h. A machine of one's own may take longer; more
/// than a year is a typing error.
pub const RUNTIME_CUTOFF_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// A shell's exit code for a program that a signal has ended is this plus the signal's number.
const SIGNALED_EXIT_CODE: i32 = 128;

/// When to retry a vessel and when to cut it off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guardrails {
    #[serde(default, skip_serializing_if = "is_default")]
    pub retry_count: u32,
    #[serde(default, skip_serializing_if = "Duration::is_zero", with = "millis")]
    pub retry_wait: Duration,
    #[serde(default, skip_serializing_if = "is_default")]
    pub retry_backoff: Backoff,
    /// The longest one attempt may take; zero: no cutoff.
    #[serde(default, skip_serializing_if = "Duration::is_zero", with = "millis")]
    pub runtime_cutoff: Duration,
    /// Exit codes that are never retried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude_exit_code_ranges: Vec<ExitCodes>,
    /// Exit codes that alone are retried; empty: all that are not excluded. One of the two lists is
    /// empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retry_on_exit_codes: Vec<ExitCodes>,
}

impl Guardrails {
    /// Whether an attempt that a signal ended may be retried at all. It counts as an exit with 128
    /// and the signal's number, as in a shell.
    pub fn retries_signal(&self, signal: i32) -> bool {
        self.retries_exit_code(signal.saturating_add(SIGNALED_EXIT_CODE))
    }

    /// Whether an attempt that exited with `code` may be retried at all.
    pub fn retries_exit_code(&self, code: i32) -> bool {
        let is_among = |ranges: &[ExitCodes]| {
            ranges.iter().any(|it| (i32::from(it.first)..=i32::from(it.last)).contains(&code))
        };
        let is_wanted = self.retry_on_exit_codes.is_empty() || is_among(&self.retry_on_exit_codes);
        is_wanted && !is_among(&self.exclude_exit_code_ranges)
    }
}

/// An inclusive range of exit codes, `first <= last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitCodes {
    pub first: u8,
    pub last: u8,
}

impl fmt::Display for ExitCodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

/// The sequence of waits between attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backoff {
    /// `retry_wait` every time.
    #[default]
    Constant,
    /// `retry_wait` doubles with every retry, up to [`RETRY_WAIT_MAX`]. The wait is between half and all of
    /// that, so that vessels that failed together do not retry together.
    Exponential,
}

impl Backoff {
    /// The word of fleet files.
    pub fn word(self) -> &'static str {
        match self {
            Backoff::Constant => "constant",
            Backoff::Exponential => "exponential",
        }
    }
}

impl Guardrails {
    /// How long `vessel_run` waits before its retry number `retry`, counted from 1. At most
    /// [`RETRY_WAIT_MAX`]. The same retry always has the same wait, also on a server that has restarted.
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

/// A pseudo-random number that depends on nothing but the retry.
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
    fn exit_codes_are_excluded_or_alone_retried() {
        let ranges = vec![ExitCodes { first: 3, last: 5 }, ExitCodes { first: 143, last: 143 }];
        let retried = |guardrails: Guardrails| {
            let codes = [1, 3, 5, 6, 143].map(|code| guardrails.retries_exit_code(code));
            (codes, guardrails.retries_signal(15))
        };
        assert_eq!(retried(Guardrails::default()), ([true; 5], true));
        let alone = Guardrails { retry_on_exit_codes: ranges.clone(), ..Default::default() };
        assert_eq!(retried(alone), ([false, true, true, false, true], true));
        let others = Guardrails { exclude_exit_code_ranges: ranges, ..Default::default() };
        assert_eq!(retried(others), ([true, false, false, true, false], false));
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
