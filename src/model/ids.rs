//! Identifiers. Fleets, projects, vessels and the organization carry random UUIDs (version 4);
//! runs carry time-ordered UUIDs (version 7), from which the ids of their vessel runs are derived.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::model::clock::Timestamp;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        #[allow(dead_code, reason = "the key of a row has an id of few of these types")]
        impl $name {
            /// The id as the 16 bytes that order and store it.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// The id that was stored as `bytes`; `None` when there are not exactly 16.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                Uuid::from_slice(bytes).ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::try_parse(text).map(Self)
            }
        }
    };
}

macro_rules! random_id {
    ($($name:ident)*) => {$(
        impl $name {
            /// A new random id (UUID version 4).
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }
        }
    )*};
}

id!(
    /// The one organization of an installation.
    OrganizationId
);
id!(
    /// A project: a group of fleets with a time zone.
    ProjectId
);
id!(
    /// A fleet, stable across its versions.
    FleetId
);
id!(
    /// A vessel of a fleet, stable across versions as long as its name stays.
    VesselId
);
id!(
    /// One answered request, for correlating it with the log. A request to a webhook has a time-ordered
    /// id (version 7), under which its delivery is found: that of an accepted one is derived from the
    /// run's id.
    RequestId
);
id!(
    /// A named token of the admin API. Not a secret.
    TokenId
);
id!(
    /// A session of the pages. Not a secret.
    SessionId
);
id!(
    /// One data directory. Vessels carry it in their environment, so that leftovers of a crashed
    /// server can be told from another server's vessels.
    InstanceId
);
id!(
    /// One run of a fleet. Sorts in the order in which requests got their places. A run whose body takes
    /// long to read enters the queue later than its id says; `sequence` is the order of the queue.
    RunId
);
id!(
    /// One vessel within one run; spans all its attempts. Derived from the run's id.
    VesselRunId
);
random_id!(
    OrganizationId ProjectId FleetId VesselId RequestId TokenId SessionId InstanceId
);

/// Bits 60..52 of a run id count the vessel within the run: zero in the run's own id, index + 1 in
/// the id of a vessel run. RFC 9562 leaves these bits of a version 7 UUID to its creator.
const VESSEL_SHIFT: u32 = 52;
const VESSEL_MASK: u128 = 0x3ff << VESSEL_SHIFT;

impl RunId {
    /// The id of the vessel run at `vessel`, its index within the fleet version.
    ///
    /// Deriving it needs no table from vessel runs to runs, and a crash cannot tear the two apart.
    pub fn vessel_run(self, vessel: usize) -> VesselRunId {
        debug_assert!(vessel < crate::model::limits::VESSELS_PER_FLEET_MAX);
        let index = (vessel as u128 + 1) << VESSEL_SHIFT;
        VesselRunId(Uuid::from_u128(self.0.as_u128() | (index & VESSEL_MASK)))
    }

    /// The time in the id, in whole milliseconds: that of its run's acceptance, or a later one if the
    /// clock has stepped back.
    pub fn time(self) -> Timestamp {
        Timestamp::from_millis((self.0.as_u128() >> 80) as i64)
    }

    /// The `before` with which a list goes on at `older`, the run before this one. It names neither.
    pub fn cursor_after(self, older: Self) -> Self {
        Self(cursor(self.0, older.0))
    }

    /// The smallest id of a run accepted at `time` or later: where a scan by time ends.
    pub fn first_at(time: Timestamp) -> Self {
        Self(Uuid::from_u128((time.as_millis().max(0) as u128) << 80))
    }
}

/// A cursor that lies behind `newer` and before or at `older`, the next entry of a list whose latest entries
/// come first. It tells neither of their random parts.
fn cursor(newer: Uuid, older: Uuid) -> Uuid {
    let (newer, older) = (newer.as_u128(), older.as_u128());
    if newer >> VESSEL_SHIFT == older >> VESSEL_SHIFT {
        return Uuid::from_u128(older + newer.saturating_sub(older).div_ceil(2));
    }
    Uuid::from_u128(newer >> VESSEL_SHIFT << VESSEL_SHIFT)
}

/// The vessel bits of the id of a request that was accepted. No vessel has this index.
const ACCEPTED: u128 = VESSEL_MASK;
/// The vessel bits of the id of any other request to a webhook.
const NOT_ACCEPTED: u128 = VESSEL_MASK - (1 << VESSEL_SHIFT);

impl RequestId {
    /// A new id of a request to a webhook that arrives at `now`.
    pub fn arriving(now: Timestamp) -> Self {
        const TIME_AND_KIND: u128 = !0 << 76 | 0b11 << 62;
        let random = Uuid::new_v4().as_u128() & !TIME_AND_KIND & !VESSEL_MASK;
        let time = (now.as_millis().max(0) as u128) << 80;
        Self(Uuid::from_u128(time | (0x7 << 76) | (0b10 << 62) | NOT_ACCEPTED | random))
    }

    /// The id of the request that started `run`.
    ///
    /// Deriving it needs no table from requests to runs.
    pub fn of_run(run: RunId) -> Self {
        Self(Uuid::from_u128(run.0.as_u128() | ACCEPTED))
    }

    /// The run that the request started; `None` for an id that is not of an accepted request.
    pub fn run(self) -> Option<RunId> {
        let bits = self.0.as_u128();
        (bits & VESSEL_MASK == ACCEPTED && self.0.get_version_num() == 7)
            .then(|| RunId(Uuid::from_u128(bits & !VESSEL_MASK)))
    }

    /// The greatest id of a run whose request sorts before this one or is this one.
    pub fn run_at_most(self) -> RunId {
        RunId(Uuid::from_u128(self.0.as_u128() & !VESSEL_MASK))
    }

    /// As [`RunId::cursor_after`].
    pub fn cursor_after(self, older: Self) -> Self {
        Self(cursor(self.0, older.0))
    }

    /// The time in the id.
    pub fn time(self) -> Timestamp {
        RunId(self.0).time()
    }

    /// The smallest id of a request that arrives at `time` or later.
    pub fn first_at(time: Timestamp) -> Self {
        Self(RunId::first_at(time).0)
    }
}

impl VesselRunId {
    /// The run this vessel run belongs to.
    pub fn run(self) -> RunId {
        RunId(Uuid::from_u128(self.0.as_u128() & !VESSEL_MASK))
    }

    /// The vessel's index within the fleet version; `None` for an id that is not a vessel run's.
    pub fn vessel(self) -> Option<usize> {
        ((self.0.as_u128() & VESSEL_MASK) >> VESSEL_SHIFT)
            .checked_sub(1)
            .map(|index| index as usize)
    }
}

/// Makes run ids that strictly increase, also when the clock steps back or stands still.
#[derive(Debug)]
pub struct RunIds {
    millis_last: u64,
    counter: u16,
}

impl RunIds {
    /// Continues after `last`, the greatest run id stored.
    pub fn after(last: Option<RunId>) -> Self {
        let bits = last.map_or(0, |id| id.0.as_u128());
        Self { millis_last: (bits >> 80) as u64, counter: ((bits >> 64) & 0xfff) as u16 }
    }

    /// The next id, for a run accepted at `now`; `random` fills the bits that order nothing.
    pub fn next(&mut self, now: Timestamp, random: u64) -> RunId {
        let now_millis = now.as_millis().max(0) as u64;
        if now_millis > self.millis_last {
            self.millis_last = now_millis;
            self.counter = 0;
        } else if self.counter < 0xfff {
            self.counter += 1;
        } else {
            // 4,096 ids in one millisecond: borrow from the next rather than repeat.
            self.millis_last += 1;
            self.counter = 0;
        }
        let random = u128::from(random) & ((1 << VESSEL_SHIFT) - 1);
        let bits = (u128::from(self.millis_last) << 80)
            | (0x7 << 76)
            | (u128::from(self.counter) << 64)
            | (0b10 << 62)
            | random;
        RunId(Uuid::from_u128(bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_increase_even_when_the_clock_steps_back() {
        let mut ids = RunIds::after(None);
        let mut last = ids.next(Timestamp::from_millis(1_000_000), 7);
        for step in 0..10_000 {
            let next = ids.next(Timestamp::from_millis(999_999 - step), !0);
            assert!(next > last, "{next} after {last}");
            last = next;
        }
        let resumed = RunIds::after(Some(last)).next(Timestamp::from_millis(0), 0);
        assert!(resumed > last);
    }

    #[test]
    fn run_ids_are_version_7_and_tell_their_time() {
        let id = RunIds::after(None).next(Timestamp::from_millis(1_700_000_000_123), !0);
        assert_eq!(id.0.get_version_num(), 7);
        assert_eq!(id.0.get_variant(), uuid::Variant::RFC4122);
        assert_eq!(id.time(), Timestamp::from_millis(1_700_000_000_123));
        assert!(RunId::first_at(Timestamp::from_millis(1_700_000_000_123)) < id);
    }

    #[test]
    fn requests_sort_by_time_and_accepted_ones_lead_to_their_run() {
        let at = |millis: i64| Timestamp::from_millis(1_700_000_000_000 + millis);
        let run = RunIds::after(None).next(at(5), !0);
        let accepted = RequestId::of_run(run);
        assert_eq!((accepted.run(), accepted.run_at_most()), (Some(run), run));
        for _ in 0..100 {
            let refused = RequestId::arriving(at(5));
            assert_eq!(refused.run(), None);
            assert_eq!(refused.0.get_version_num(), 7);
            assert_eq!(refused.0.get_variant(), uuid::Variant::RFC4122);
            assert!(RequestId::arriving(at(4)) < refused && refused < RequestId::arriving(at(6)));
            assert!(RequestId::first_at(at(5)) <= refused && refused < RequestId::first_at(at(6)));
        }
        assert_eq!(RequestId::random().run(), None);
    }

    #[test]
    fn a_cursor_lies_between_two_entries_and_names_neither() {
        let at = |millis: i64| Timestamp::from_millis(1_700_000_000_000 + millis);
        let mut ids = RunIds::after(None);
        let runs: Vec<RunId> = (0..50).map(|step| ids.next(at(step / 9), 77_777)).collect();
        for pair in runs.windows(2) {
            let cursor = pair[1].cursor_after(pair[0]);
            assert!(pair[0] < cursor && cursor < pair[1], "{cursor} between {pair:?}");
            assert_eq!(cursor.to_string().parse::<RunId>(), Ok(cursor));
        }
        let mut requests: Vec<RequestId> = (0..500).map(|_| RequestId::arriving(at(5))).collect();
        requests.extend(runs.iter().map(|run| RequestId::of_run(*run)));
        requests.sort();
        for pair in requests.windows(2) {
            let cursor = pair[1].cursor_after(pair[0]);
            assert!(pair[0] < cursor && cursor < pair[1], "{cursor} between {pair:?}");
        }
    }

    #[test]
    fn vessel_runs_lead_back_to_their_run() {
        let run = RunIds::after(None).next(Timestamp::from_millis(1_700_000_000_123), !0);
        for vessel in [0, 1, 7, crate::model::limits::VESSELS_PER_FLEET_MAX - 1] {
            let derived = run.vessel_run(vessel);
            assert_eq!(derived.run(), run);
            assert_eq!(derived.vessel(), Some(vessel));
        }
        assert_eq!(VesselRunId::from_slice(run.as_bytes()).unwrap().vessel(), None);
    }
}
