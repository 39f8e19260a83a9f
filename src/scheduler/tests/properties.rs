//! Random lives of a queue: verbs in any order, crashes and orderly stops between them, the clock
//! going either way; after each step queue, rows and model agree.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use crate::model::change::Change;
use crate::model::concurrency_key::ConcurrencyKey;
use crate::model::debounce::Debounce;
use crate::model::fleet::{Delivery, FleetVersion};
use crate::model::graph::Condition;
use crate::model::guardrails::Backoff;
use crate::model::ids::{RunId, RunIds, VesselRunId};
use crate::model::overlap::Overlap;
use crate::model::run::{End, OutputRecord, Skip, Status};
use crate::scheduler::tests::model::{Model, Told};
use crate::scheduler::tests::rows::{Rows, run_of};
use crate::scheduler::tests::{EXCLUDED_EXIT_CODE, EXCLUDED_SIGNAL, Shape, at, queued_of};
use crate::scheduler::{Effects, Interruption, InterruptionCause, Queue, QueueFull, StartedRun};

const WAITING_MAX: usize = 6;
const CRASHES_MAX: u32 = 3;

/// One step of a life. Numbers choose among what there is.
#[derive(Clone, Debug)]
enum Verb {
    Submit {
        version: usize,
        key: usize,
    },
    Claim,
    Settle {
        running: usize,
        end: End,
    },
    StopRun {
        run: usize,
    },
    StopVessel {
        run: usize,
        vessel: usize,
    },
    /// The clock moves, either way, and due retries fire.
    Tick {
        millis: i64,
    },
    Restart(Restart),
}

#[derive(Clone, Debug)]
struct Restart {
    was_crash: bool,
    /// The last commit did not reach the disk; only a crash can do that.
    loses_last: bool,
    /// Bit by bit, whether a run's work directory is still there.
    directories: u16,
}

/// The rows on disk, and the model of them.
#[derive(Clone, Default)]
struct Durable {
    rows: Rows,
    model: Model,
}

struct Life {
    queue: Queue,
    now: i64,
    ids: RunIds,
    versions: Vec<Arc<FleetVersion>>,
    durable: Durable,
    /// As it was before the last commit.
    before: Durable,
    /// Whether `has_claimable` may promise too much: something was stopped that the queue has not met since.
    may_promise: bool,
}

impl Life {
    fn new(versions: Vec<Arc<FleetVersion>>) -> Self {
        Self {
            queue: Queue::new(WAITING_MAX, CRASHES_MAX),
            now: 1_000_000,
            ids: RunIds::after(None),
            versions,
            durable: Durable::default(),
            before: Durable::default(),
            may_promise: false,
        }
    }

    fn step(&mut self, verb: &Verb) {
        if let Verb::Restart(Restart { was_crash: true, loses_last: true, .. }) = verb {
            self.durable = self.before.clone();
        }
        let before = self.durable.clone();
        match verb {
            Verb::Submit { version, key } => self.submit(*version, *key),
            Verb::Claim => self.claim(),
            Verb::Settle { running, end } => self.settle(*running, end),
            Verb::StopRun { run } => self.stop_run(*run),
            Verb::StopVessel { run, vessel } => self.stop_vessel(*run, *vessel),
            Verb::Tick { millis } => self.tick(*millis),
            Verb::Restart(restart) => self.restart(restart),
        }
        if self.durable.rows != before.rows {
            self.before = before;
        }
        self.check();
    }

    fn check(&self) {
        let Durable { rows, model } = &self.durable;
        model.check(rows);
        let depth = self.queue.depth();
        assert_eq!((depth.waiting, depth.active), model.depth());
        assert_eq!(depth.running, model.running.len());
        assert_eq!(self.queue.lanes.keys(), model.keys_in_use(), "keys that are known");
        let (promised, claimable) = (self.queue.has_claimable(), model.has_claimable());
        assert!(promised || !claimable, "no worker would wake");
        assert!(!promised || claimable || self.may_promise, "a worker would wake for nothing");
    }

    /// Applies changes that must all be about one run.
    fn apply(&mut self, run: RunId, changes: &[Change]) {
        for other in changes.iter().filter_map(run_of) {
            assert_eq!(other, run, "a change of another run");
        }
        self.durable.rows.apply(changes);
    }

    fn submit(&mut self, version: usize, key: usize) {
        let key = [None, Some("a"), Some("b")][key % 3];
        let version = Arc::clone(&self.versions[version % self.versions.len()]);
        let run = self.ids.next(at(self.now), 0);
        let (waiting, active) = self.durable.model.depth();
        let room = waiting + active.saturating_sub(self.durable.model.running.len()) < WAITING_MAX;
        let now = at(self.now);
        match self.queue.submit(queued_of(run, &version, key), now) {
            Ok(effects) => {
                assert!(room);
                let key = key.map(ConcurrencyKey::new);
                let told = self.durable.model.submit(run, &version, key, now);
                self.told(&effects, told);
            }
            Err(QueueFull) => assert!(!room),
        }
    }

    /// Runs have given way to others.
    fn told(&mut self, effects: &Effects, (expected, mut signal): Told) {
        self.durable.rows.apply(&effects.changes);
        let ended: Vec<RunId> = effects.ended.iter().map(|run| run.id).collect();
        assert_eq!(ended, expected);
        for ended in &effects.ended {
            assert_eq!(self.durable.rows.runs.get(&ended.id), Some(ended));
        }
        let mut signaled = effects.signal.clone();
        signal.sort_unstable();
        signaled.sort_unstable();
        assert_eq!(signaled, signal);
        self.may_promise |= !ended.is_empty() || !signal.is_empty();
    }

    fn claim(&mut self) {
        let expected = self.durable.model.has_claimable();
        let claimed = self.queue.claim(at(self.now));
        assert_eq!(claimed.is_some(), expected);
        let Some((claim, changes)) = claimed else {
            // Stopped vessels are forgotten when they are met; crash-looping runs are only in their turn.
            self.may_promise &= self.durable.model.some_crash_looping_runs();
            return;
        };
        self.apply(claim.run.id, &changes);
        self.durable.model.claim(&claim);
        let row = self.durable.rows.latest(claim.vessel_run).expect("the attempt has its row");
        assert_eq!((row.attempt, row.started_at), (claim.attempt, Some(at(self.now))));
    }

    fn settle(&mut self, running: usize, end: &End) {
        let Some(vessel) = pick(self.durable.model.running.iter().copied(), running) else {
            return;
        };
        let now = at(self.now);
        let output = OutputRecord::default();
        let settled = self.queue.settle(vessel, end, output, now);
        self.apply(vessel.run(), &settled.changes);
        let retry_at = self.durable.rows.latest(vessel).and_then(|record| record.retry_at);
        let ends = self.durable.model.settle(vessel, end, retry_at, now);
        assert_eq!(settled.ended.is_some(), ends);
        if let Some(ended) = settled.ended {
            assert_eq!(self.durable.rows.runs.get(&ended.id), Some(&ended));
        }
        let again = self.queue.settle(vessel, end, output, now);
        assert!(again.changes.is_empty() && again.ended.is_none(), "an attempt ends once");
    }

    fn stop_run(&mut self, run: usize) {
        let Some(run) = pick(self.durable.model.runs.iter().copied(), run) else { return };
        let vessels = self.durable.model.vessels(run);
        let (fleet, sequence) = {
            let record = &self.durable.rows.runs[&run];
            (record.fleet_id, record.sequence)
        };
        let now = at(self.now);
        let stopped = self.queue.stop_run(run, fleet, sequence, now);
        assert_eq!(stopped.is_none(), self.durable.model.is_over(run));
        self.stopped(run, &vessels, stopped);
        let again = self.queue_stop_again(run);
        self.stopped_again(again, run);
    }

    /// What a second stop of the run would do, asked of the queue itself.
    fn queue_stop_again(&mut self, run: RunId) -> Option<Effects> {
        let record = &self.durable.rows.runs[&run];
        self.queue.stop_run(run, record.fleet_id, record.sequence, at(self.now + 1))
    }

    fn stop_vessel(&mut self, run: usize, vessel: usize) {
        let Some(run) = pick(self.durable.model.runs.iter().copied(), run) else { return };
        let Some(vessel) = pick(self.durable.model.vessels(run), vessel) else { return };
        let model = &self.durable.model;
        let is_active = model.was_started(run) && !model.is_over(run);
        let affected = match self.durable.rows.status(vessel) {
            Some(status) if status.is_final() => Vec::new(),
            _ => model.with_descendants(vessel),
        };
        let stopped = self.queue.stop_vessel_run(vessel, at(self.now));
        assert_eq!(stopped.is_some(), is_active);
        if is_active {
            self.stopped(run, &affected, stopped);
            let again = self.queue.stop_vessel_run(vessel, at(self.now + 1));
            self.stopped_again(again, run);
        }
    }

    fn stopped(&mut self, run: RunId, vessels: &[VesselRunId], stopped: Option<Effects>) {
        let stopped = stopped.unwrap_or_default();
        self.apply(run, &stopped.changes);
        let was_over = self.durable.model.is_over(run);
        let mut signal = self.durable.model.stop(vessels);
        let mut signaled = stopped.signal.clone();
        signal.sort_unstable();
        signaled.sort_unstable();
        assert_eq!(signaled, signal);
        assert_eq!(!stopped.ended.is_empty(), !was_over && self.durable.model.is_over(run));
        self.may_promise = true;
    }

    fn stopped_again(&self, again: Option<Effects>, run: RunId) {
        let again = again.unwrap_or_default();
        assert!(again.changes.is_empty() && again.ended.is_empty(), "a stop of {run} is done once");
    }

    fn tick(&mut self, millis: i64) {
        self.now = (self.now + millis).max(0);
        let effects = self.queue.fire_due(at(self.now));
        let told = self.durable.model.fire_due(at(self.now));
        self.told(&effects, told);
        // The queue may wake for a retry of what was stopped, but not miss one.
        let (due, expected) = (self.queue.next_due(), self.durable.model.next_due());
        assert!(due.is_none_or(|due| due > at(self.now)));
        assert!(expected.is_none_or(|expected| due.is_some_and(|due| due <= expected)));
    }

    fn restart(&mut self, restart: &Restart) {
        self.queue = Queue::new(WAITING_MAX, CRASHES_MAX);
        self.may_promise = false;
        let now = at(self.now);
        let mut recovered = Vec::new();
        let Durable { rows, model } = &mut self.durable;
        for (place, entry) in rows.queue.values().enumerate() {
            let interruption = Interruption {
                cause: if restart.was_crash {
                    InterruptionCause::Crash
                } else {
                    InterruptionCause::Stop
                },
                has_directory: restart.directories >> (place % 16) & 1 == 1,
                is_rebooted: false,
            };
            let vessels = model.vessels(entry.run);
            let started = entry.started.then(|| StartedRun {
                record: rows.runs[&entry.run].clone(),
                vessels: vessels.iter().map(|vessel| rows.latest(*vessel).cloned()).collect(),
                interruption,
            });
            let version = Arc::clone(&model.versions[&entry.run]);
            let (reloaded, changes) = self.queue.reload(entry, version, started, now);
            assert!(changes.iter().filter_map(run_of).all(|run| run == entry.run));
            let expected = model.reload(entry.run, interruption, CRASHES_MAX, rows, now);
            assert_eq!(reloaded, expected);
            recovered.extend(changes);
        }
        rows.apply(&recovered);
        assert!(model.running.is_empty(), "nothing runs yet");
    }

    /// Without further faults everything comes to its end.
    fn drain(&mut self) {
        let mut steps = 0;
        while self.durable.model.depth() != (0, 0) {
            steps += 1;
            assert!(steps < 1_000, "no end in sight: {:?}", self.durable.model);
            while self.queue.has_claimable() {
                self.step(&Verb::Claim);
            }
            let end = End::Exited(steps % 3);
            self.step(&Verb::Settle { running: steps as usize, end });
            if self.durable.model.running.is_empty() {
                self.step(&Verb::Tick { millis: 4_000_000 });
            }
        }
        let depth = self.queue.depth();
        assert_eq!((depth.waiting, depth.active, depth.running), (0, 0, 0));
        assert!(self.queue.claim(at(self.now)).is_none());
        assert!(self.queue.has_room() && !self.queue.has_claimable());
    }
}

fn pick<T>(among: impl IntoIterator<Item = T>, number: usize) -> Option<T> {
    let mut among: Vec<T> = among.into_iter().collect();
    (!among.is_empty()).then(|| among.swap_remove(number % among.len()))
}

fn shape() -> impl Strategy<Value = Shape> {
    let condition = prop_oneof![
        3 => Just(None),
        2 => Just(Some(Condition::Success)),
        1 => Just(Some(Condition::Errored)),
        1 => Just(Some(Condition::Completed)),
    ];
    let conditions = proptest::collection::vec(condition, 6);
    let overlap = prop_oneof![2 => Just(Overlap::Queue), 1 => Just(Overlap::Skip), 1 => Just(Overlap::Replace), 2 => Just(Overlap::Cancel)];
    let debounce = prop::option::weighted(
        0.3,
        (1..20_u64, 1..4_u32).prop_map(|(seconds, times)| {
            let wait = Duration::from_secs(seconds);
            Debounce { wait, max_wait: wait * times }
        }),
    );
    let limited = ((1..=2u32).prop_map(Some), overlap);
    let turns = (prop_oneof![Just((None, Overlap::Queue)), limited], -1..=1i8);
    let wait = prop_oneof![Just(0), Just(1_000), Just(10_000), Just(2_000_000)];
    let backoff = prop_oneof![Just(Backoff::Constant), Just(Backoff::Exponential)];
    let retries = (prop_oneof![Just(0), 1..=3u32], wait, backoff);
    (1..=4usize, conditions, (turns, debounce), retries, prop::bool::weighted(0.25)).prop_map(
        |(vessels, conditions, (turns, debounce), retries, at_most_once)| {
            let ((concurrency, overlap), priority) = turns;
            let (retry_count, retry_wait_ms, retry_backoff) = retries;
            let pairs = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)];
            let paths: Vec<_> = pairs
                .into_iter()
                .zip(conditions)
                .filter(|((_, to), _)| usize::from(*to) < vessels)
                .filter_map(|((from, to), condition)| Some((from, to, condition?)))
                .collect();
            let delivery = if at_most_once { Delivery::AtMostOnce } else { Delivery::AtLeastOnce };
            let retry_count = if at_most_once { 0 } else { retry_count };
            let shape = Shape::new(vessels, &paths);
            Shape {
                concurrency,
                overlap,
                debounce,
                priority,
                retry_count,
                retry_wait_ms,
                retry_backoff,
                delivery,
                ..shape
            }
        },
    )
}

fn verb() -> impl Strategy<Value = Verb> {
    let taken_over = proptest::sample::select(vec![
        Status::Success,
        Status::Errored,
        Status::Terminated,
        Status::Incomplete,
    ]);
    let end = prop_oneof![
        4 => Just(End::Exited(0)),
        3 => Just(End::Exited(1)),
        1 => Just(End::Exited(EXCLUDED_EXIT_CODE)),
        1 => Just(End::Signaled(9)),
        1 => Just(End::Signaled(EXCLUDED_SIGNAL)),
        1 => Just(End::CutOff),
        1 => Just(End::NotStarted("no such file".to_owned())),
        1 => (0..=1).prop_map(|exit_code| End::Skipped(Skip::Override { exit_code })),
        1 => taken_over.prop_map(|status| End::Skipped(Skip::Replay { status, exit_code: None })),
    ];
    let millis = prop_oneof![
        4 => 0..12_000i64,
        1 => -20_000..0i64,
        1 => Just(86_400_000),
        1 => Just(-86_400_000),
    ];
    let restart = (prop::bool::weighted(0.7), any::<bool>(), any::<u16>(), any::<u16>()).prop_map(
        |(was_crash, loses_last, some, more)| {
            Verb::Restart(Restart { was_crash, loses_last, directories: some | more })
        },
    );
    prop_oneof![
        6 => (any::<usize>(), 0..3usize).prop_map(|(version, key)| Verb::Submit { version, key }),
        10 => Just(Verb::Claim),
        8 => (any::<usize>(), end).prop_map(|(running, end)| Verb::Settle { running, end }),
        1 => any::<usize>().prop_map(|run| Verb::StopRun { run }),
        1 => (any::<usize>(), any::<usize>())
            .prop_map(|(run, vessel)| Verb::StopVessel { run, vessel }),
        3 => millis.prop_map(|millis| Verb::Tick { millis }),
        2 => restart,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_life_agrees_with_the_model_and_comes_to_its_end(
        shapes in proptest::collection::vec(shape(), 4),
        verbs in proptest::collection::vec(verb(), 1..120),
    ) {
        // Two versions of one fleet, and two fleets more.
        let fleets = [(1, 1), (1, 2), (2, 1), (3, 1)];
        let versions = shapes.iter().zip(fleets).map(|(shape, (fleet, version))| {
            shape.version(fleet, version)
        });
        let mut life = Life::new(versions.collect());
        for verb in &verbs {
            life.step(verb);
        }
        life.drain();
    }
}
