//! The lane of one fleet: the ready vessels of its active runs, then its waiting runs in the order of
//! acceptance. `concurrency` holds for the runs of each key. A key is known as long as a run of it
//! waits or is active.
//!
//! A run that `debounce` holds waits as well, and cannot start. A key holds one run at most.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::model::concurrency_key::ConcurrencyKey;
use crate::model::ids::RunId;
use crate::model::run::PayloadSize;
use crate::scheduler::lanes::NextStart;
use crate::scheduler::waits::{Ahead, WaitCause};
use crate::scheduler::{QueuedRun, VesselOfRun};

/// `None` is the key of runs without a value of it.
pub type Key = Option<ConcurrencyKey>;

/// See the module.
#[derive(Debug, Default)]
pub struct Lane {
    /// Ready vessels of active runs with their priorities. Some may have been stopped since.
    pub ready: VecDeque<(VesselOfRun, i8)>,
    /// Running vessels.
    pub running: usize,
    /// Waiting runs by sequence number, held ones included.
    waiting: BTreeMap<u64, QueuedRun>,
    keys: BTreeMap<Key, RunsOfKey>,
    /// The first run of each key that may start one.
    startable: BTreeSet<u64>,
    /// Active runs of all keys.
    active: usize,
    /// Bytes of the payloads of its waiting and active runs.
    payload_bytes: u64,
}

/// The runs of one key by their sequence numbers.
#[derive(Debug, Default)]
struct RunsOfKey {
    waiting: BTreeSet<u64>,
    held: Option<u64>,
    active: BTreeMap<u64, RunId>,
    /// Its entry in `startable`.
    startable: Option<u64>,
}

impl RunsOfKey {
    /// How many more runs may start within `limit`.
    fn places(&self, limit: Option<u32>) -> usize {
        limit.map_or(usize::MAX, |limit| (limit as usize).saturating_sub(self.active.len()))
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.held.is_none() && self.active.is_empty()
    }
}

impl Lane {
    /// Waiting runs, held ones included.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The oldest waiting run that is not held.
    pub fn first_waiting(&self) -> Option<(u64, &QueuedRun)> {
        let mut waiting = self.waiting.iter();
        waiting.find(|(_, run)| run.hold.is_none()).map(|(sequence, run)| (*sequence, run))
    }

    pub fn active(&self) -> usize {
        self.active
    }

    pub fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.active == 0
    }

    #[cfg(test)]
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// The priority of its next start, if there is one.
    pub fn priority(&self) -> Option<i8> {
        match self.ready.front() {
            Some((_, priority)) => Some(*priority),
            None => {
                let next = self.startable.first().and_then(|first| self.waiting.get(first));
                next.map(|next| next.version.definition.priority)
            }
        }
    }

    /// Takes what it starts next.
    pub fn take(&mut self) -> Option<NextStart> {
        if let Some((vessel, _)) = self.ready.pop_front() {
            return Some(NextStart::Vessel(vessel));
        }
        let sequence = *self.startable.first()?;
        let run = self.waiting.remove(&sequence)?;
        self.active += 1;
        self.change(&run.key, |runs| {
            runs.waiting.remove(&sequence);
            runs.active.insert(sequence, run.id);
        });
        Some(NextStart::Run(sequence, run))
    }

    /// Adds a waiting run, or one that is held.
    pub fn push(&mut self, sequence: u64, run: QueuedRun) {
        self.payload_bytes = self.payload_bytes.saturating_add(run.payload.bytes());
        let (key, is_held) = (run.key.clone(), run.hold.is_some());
        self.waiting.insert(sequence, run);
        self.change(&key, |runs| {
            if is_held {
                debug_assert_eq!(runs.held, None, "a key holds two runs");
                runs.held = Some(sequence);
            } else {
                runs.waiting.insert(sequence);
            }
        });
    }

    /// The waiting run of this sequence number.
    pub fn get(&self, sequence: u64) -> Option<&QueuedRun> {
        self.waiting.get(&sequence)
    }

    pub fn get_mut(&mut self, sequence: u64) -> Option<&mut QueuedRun> {
        self.waiting.get_mut(&sequence)
    }

    /// Removes a waiting run, or one that is held.
    pub fn remove(&mut self, sequence: u64) -> Option<QueuedRun> {
        let run = self.waiting.remove(&sequence)?;
        self.payload_bytes = self.payload_bytes.saturating_sub(run.payload.bytes());
        self.change(&run.key, |runs| {
            runs.waiting.remove(&sequence);
            runs.held = runs.held.filter(|held| *held != sequence);
        });
        Some(run)
    }

    /// Its waiting runs in the order of acceptance, with their sequence numbers and what they wait for.
    pub fn waits(&self) -> impl Iterator<Item = (u64, &QueuedRun, WaitCause)> {
        let mut keys: BTreeMap<&Key, Ahead> = BTreeMap::new();
        self.waiting.iter().map(move |(sequence, run)| {
            let ahead = keys.entry(&run.key).or_insert_with(|| Ahead::of(self.active_of(&run.key)));
            (*sequence, run, ahead.cause_of_next(run))
        })
    }

    /// The sequence number of the run that the key holds.
    pub fn held(&self, key: &Key) -> Option<u64> {
        self.keys.get(key).and_then(|runs| runs.held)
    }

    /// How many of the waiting runs of the key could start within `limit` if there were workers.
    pub fn places(&self, key: &Key, limit: Option<u32>) -> usize {
        let unlimited = || RunsOfKey::default().places(limit);
        self.keys.get(key).map_or_else(unlimited, |runs| runs.places(limit))
    }

    /// The waiting runs of the key that are not held, the oldest first.
    pub fn waiting_of(&self, key: &Key) -> Option<&BTreeSet<u64>> {
        self.keys.get(key).map(|runs| &runs.waiting)
    }

    /// The active runs of the key, the oldest first.
    pub fn active_of(&self, key: &Key) -> Vec<RunId> {
        let runs = self.keys.get(key).map(|runs| runs.active.values().copied().collect());
        runs.unwrap_or_default()
    }

    /// Counts a reloaded run as active.
    pub fn resumed(&mut self, sequence: u64, run: RunId, key: &Key, payload: PayloadSize) {
        self.active += 1;
        self.payload_bytes = self.payload_bytes.saturating_add(payload.bytes());
        self.change(key, |runs| {
            runs.active.insert(sequence, run);
        });
    }

    /// Counts an active run as ended. Returns whether it was active.
    pub fn finished(&mut self, sequence: u64, key: &Key, payload: PayloadSize) -> bool {
        let mut was_active = false;
        self.change(key, |runs| was_active = runs.active.remove(&sequence).is_some());
        if was_active {
            self.active -= 1;
            self.payload_bytes = self.payload_bytes.saturating_sub(payload.bytes());
        }
        was_active
    }

    /// Changes the runs of a key, and brings `startable` in step with them. A key without runs is
    /// forgotten.
    fn change(&mut self, key: &Key, change: impl FnOnce(&mut RunsOfKey)) {
        if !self.keys.contains_key(key) {
            self.keys.insert(key.clone(), RunsOfKey::default());
        }
        let Some(runs) = self.keys.get_mut(key) else { return };
        change(runs);
        let first = runs.waiting.first().copied();
        // The limit is that of the run which would start.
        let next = first.filter(|first| {
            let limit = self.waiting.get(first).and_then(|run| run.version.definition.concurrency);
            runs.places(limit) > 0
        });
        if next != runs.startable {
            runs.startable.iter().for_each(|before| _ = self.startable.remove(before));
            self.startable.extend(next);
            runs.startable = next;
        }
        if runs.is_idle() {
            self.keys.remove(key);
        }
    }
}
