//! Schedules of a fleet: the local times at which it runs ([`cron`]), and which of them run late.

use std::fmt;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::clock::Timestamp;
use crate::model::defaults::is_default;
use crate::model::ids::FleetId;

mod cron;
mod hosted;

pub use cron::{CronExpression, DueTimes};
#[cfg(test)]
pub use hosted::HowOften;
pub use hosted::{HOW_OFTEN, Hosted};

/// Schedules of one fleet. Each is a row, and is looked at whenever the server wakes for one.
pub const SCHEDULES_PER_FLEET_MAX: usize = 32;
/// Due times of one schedule that wait to run, and due times that its row remembers as run.
pub const DUE_TIMES_MAX: usize = 100;

/// One schedule of a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    pub cron: CronExpression,
    /// IANA name of the zone that `cron` is read in; `None`: the project's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub catch_up: CatchUp,
    /// The words of the hosted system that `cron` stands for, if the file uses these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosted: Option<Hosted>,
}

/// Which due times run that passed while the server was down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// The latest of them.
    #[default]
    Latest,
    /// Each of them, the latest [`DUE_TIMES_MAX`] at most.
    All,
    /// None of them.
    None,
}

impl CatchUp {
    /// The word of fleet files.
    pub fn word(self) -> &'static str {
        match self {
            CatchUp::Latest => "latest",
            CatchUp::All => "all",
            CatchUp::None => "none",
        }
    }
}

/// A schedule in the zone that it is read in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZonedSchedule {
    pub schedule: Schedule,
    pub time_zone: String,
}

impl ZonedSchedule {
    /// `schedule` of a fleet whose project has the time zone `of_project`.
    pub fn new(schedule: &Schedule, of_project: &str) -> Self {
        let time_zone = schedule.time_zone.as_deref().unwrap_or(of_project).to_owned();
        Self { schedule: schedule.clone(), time_zone }
    }
}

/// What a schedule is recognised by while its fleet changes: its fleet, times and time zone. Equal
/// schedules of a fleet are told apart by their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScheduleKey {
    pub fleet: FleetId,
    digest: [u8; 16],
}

impl ScheduleKey {
    /// The keys of `schedules` of a fleet, in their order.
    pub fn all(fleet: FleetId, schedules: &[ZonedSchedule]) -> Vec<Self> {
        let times = |it: &ZonedSchedule| (it.schedule.cron.clone(), it.time_zone.clone());
        let key = |(index, zoned): (usize, &ZonedSchedule)| {
            let equal = schedules[..index].iter().filter(|it| times(it) == times(zoned));
            let mut hash = Sha256::new();
            // No expression and no name of a zone has a NUL.
            for part in [zoned.schedule.cron.text(), "\0", zoned.time_zone.as_str(), "\0"] {
                hash.update(part);
            }
            hash.update(equal.count().to_be_bytes());
            let hash: [u8; 32] = hash.finalize().into();
            let mut digest = [0; 16];
            digest.copy_from_slice(&hash[..16]);
            Self { fleet, digest }
        };
        schedules.iter().enumerate().map(key).collect()
    }

    /// The key as the bytes that store it.
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(self.fleet.as_bytes());
        bytes[16..].copy_from_slice(&self.digest);
        bytes
    }

    /// The key that is stored as `bytes`; `None` when it is none.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; 32] = bytes.try_into().ok()?;
        let (fleet, digest) = bytes.split_at(16);
        Some(Self { fleet: FleetId::from_slice(fleet)?, digest: digest.try_into().ok()? })
    }
}

impl fmt::Display for ScheduleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.to_bytes()))
    }
}

/// How far a schedule has come: a row of `schedules`, by its key. The order of its fields is part of the
/// format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleEntry {
    /// When the schedule was made, or the last due time that is decided: of the due times up to this
    /// those in `waiting` run and no others, unless the clock is put back before it.
    pub settled: Timestamp,
    /// The due times that ran last, in their order: at most [`DUE_TIMES_MAX`].
    pub ran: Vec<Timestamp>,
    /// Due times that are to run, the earliest first: at most [`DUE_TIMES_MAX`].
    #[serde(default)]
    pub waiting: Vec<Timestamp>,
}

impl ScheduleEntry {
    /// The entry of a schedule that is made at `now`.
    pub fn new(now: Timestamp) -> Self {
        Self { settled: now, ran: Vec::new(), waiting: Vec::new() }
    }

    /// The entry once `due` has run as well.
    pub fn with(&self, due: Timestamp) -> Self {
        let mut ran = self.ran.clone();
        let place = ran.partition_point(|earlier| *earlier <= due);
        ran.insert(place, due);
        let excess = ran.len().saturating_sub(DUE_TIMES_MAX);
        ran.drain(..excess);
        let waiting = self.waiting.iter().filter(|it| **it != due).copied().collect();
        Self { settled: self.settled.max(due), ran, waiting }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zoned(cron: &str, zone: &str) -> ZonedSchedule {
        let cron = CronExpression::try_from(cron.to_owned()).unwrap();
        ZonedSchedule::new(&Schedule { cron, ..Schedule::default() }, zone)
    }

    #[test]
    fn keys_tell_fleets_times_zones_and_repetitions_apart() {
        let fleet = FleetId::random();
        let schedules = [
            zoned("0 2 * * *", "UTC"),
            zoned("0 2 * * *", "Europe/Berlin"),
            zoned("0 3 * * *", "UTC"),
            zoned("0 2 * * *", "UTC"),
        ];
        let keys = ScheduleKey::all(fleet, &schedules);
        let different: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(different.len(), 4);
        assert_eq!(ScheduleKey::all(fleet, &schedules[1..])[2], keys[0], "order does not matter");
        assert_ne!(ScheduleKey::all(FleetId::random(), &schedules)[0], keys[0]);
        assert_eq!(ScheduleKey::from_slice(&keys[1].to_bytes()), Some(keys[1]));
        assert_eq!(ScheduleKey::from_slice(b"short"), None);
    }

    #[test]
    fn an_entry_remembers_the_last_due_times_in_order() {
        let at = |minutes: i64| Timestamp::from_millis(minutes * 60_000);
        let mut entry = ScheduleEntry::new(at(0));
        for minute in (1..=150).filter(|minute| *minute != 120).chain([120]) {
            entry = entry.with(at(minute));
        }
        assert_eq!(entry.settled, at(150), "decided is what was decided before");
        assert_eq!(entry.ran, (51..=150).map(at).collect::<Vec<_>>());
    }
}
