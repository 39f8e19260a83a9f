//! What waits, in which order, and for what: the order against the claims that follow, the causes case
//! by case.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use crate::model::debounce::Debounce;
use crate::model::fleet::FleetVersion;
use crate::model::graph::Condition;
use crate::model::ids::{RunId, RunIds};
use crate::model::run::{End, OutputRecord};
use crate::scheduler::tests::rows::Rows;
use crate::scheduler::tests::{Shape, at, queued_of};
use crate::scheduler::{
    Claim, Interruption, InterruptionCause, Queue, StartedRun, Wait, WaitCause,
};

struct Line {
    queue: Queue,
    ids: RunIds,
}

impl Line {
    fn new() -> Self {
        Self { queue: Queue::new(1_000, 3), ids: RunIds::after(None) }
    }

    fn submit(&mut self, version: &Arc<FleetVersion>, key: Option<&str>) -> RunId {
        let run = self.ids.next(at(1_000), 0);
        self.queue.submit(queued_of(run, version, key), at(1_000)).unwrap();
        run
    }

    fn claim(&mut self) -> Claim {
        self.queue.claim(at(2_000)).expect("there is something to start").0
    }

    fn settle(&mut self, claim: &Claim, end: &End) {
        self.queue.settle(claim.vessel_run, end, OutputRecord::default(), at(3_000));
    }

    fn waits(&self) -> Vec<Wait> {
        self.queue.waits(|_| true, 1_000)
    }

    /// Runs and causes.
    fn causes(&self) -> Vec<(RunId, WaitCause)> {
        self.waits().iter().map(|wait| (wait.run, wait.cause)).collect()
    }
}

fn limited(fleet: u8, concurrency: Option<u32>) -> Arc<FleetVersion> {
    Shape { concurrency, ..Shape::new(1, &[]) }.version(fleet, 1)
}

#[test]
fn runs_over_the_concurrency_wait_for_the_runs_before_them() {
    let mut line = Line::new();
    let (one, two) = (limited(1, Some(1)), limited(2, Some(2)));
    let runs = [(); 3].map(|()| line.submit(&one, None));
    let others = [(); 4].map(|()| line.submit(&two, None));
    let for_run = |run, concurrency| WaitCause::Run { run, concurrency };
    assert_eq!(
        line.causes(),
        [
            (runs[0], WaitCause::Worker),
            (others[0], WaitCause::Worker),
            (others[1], WaitCause::Worker),
            (runs[1], for_run(runs[0], 1)),
            (runs[2], for_run(runs[1], 1)),
            (others[2], for_run(others[0], 2)),
            (others[3], for_run(others[1], 2)),
        ]
    );
    let claim = line.claim();
    assert_eq!(line.causes()[2], (runs[1], for_run(runs[0], 1)), "it is active now");
    assert_eq!(line.queue.wait_of(one.fleet_id, runs[2]), Some(for_run(runs[1], 1)));
    assert_eq!(line.queue.wait_of(one.fleet_id, runs[0]), None, "it does not wait");
    line.settle(&claim, &End::Exited(0));
    assert!(line.causes().contains(&(runs[1], WaitCause::Worker)));
    let waits = line.queue.waits(|fleet| fleet == two.fleet_id, 3);
    assert!(waits.iter().map(|wait| wait.run).eq(others[..3].iter().copied()), "{waits:?}");
}

#[test]
fn each_key_waits_for_its_own_runs_and_a_raised_limit_for_the_runs_of_the_old_one() {
    let mut line = Line::new();
    let old = limited(1, Some(1));
    let (main, next) = (line.submit(&old, Some("main")), line.submit(&old, Some("main")));
    let other = line.submit(&old, Some("other"));
    let last = line.submit(&Shape::new(1, &[]).version(1, 2), Some("main"));
    assert_eq!(
        line.causes(),
        [
            (main, WaitCause::Worker),
            (other, WaitCause::Worker),
            (next, WaitCause::Run { run: main, concurrency: 1 }),
            (last, WaitCause::Run { run: next, concurrency: 1 }),
        ]
    );
}

#[test]
fn held_runs_and_retries_wait_for_their_times_and_come_last() {
    let mut line = Line::new();
    let (wait, max_wait) = (Duration::from_secs(10), Duration::from_secs(60));
    let debounce = Some(Debounce { wait, max_wait });
    let held = line.submit(&Shape { debounce, ..Shape::new(1, &[]) }.version(1, 1), None);
    let shape = Shape { retry_count: 1, retry_wait_ms: 2_000, ..Shape::new(1, &[]) };
    let retried = line.submit(&shape.version(2, 1), None);
    let claim = line.claim();
    line.settle(&claim, &End::Exited(1));
    let free = line.submit(&limited(3, None), None);
    let waits = line.waits();
    assert_eq!(
        waits.iter().map(|wait| (wait.run, wait.vessel, wait.cause)).collect::<Vec<_>>(),
        [
            (free, None, WaitCause::Worker),
            (retried, Some(0), WaitCause::Retry { at: at(5_000) }),
            (held, None, WaitCause::Debounce { until: at(11_000) }),
        ]
    );
    assert_eq!(waits[1].since, at(3_000), "the end of the attempt");
    line.queue.fire_due(at(20_000));
    let causes = line.causes();
    assert!(causes.iter().all(|(_, cause)| *cause == WaitCause::Worker), "{causes:?}");
    assert_eq!(causes.len(), 3);
}

#[test]
fn runs_that_a_crash_interrupted_wait_for_each_other() {
    let version = Shape::new(2, &[(0, 1, Condition::Success)]).version(1, 1);
    let (mut line, mut rows) = (Line::new(), Rows::default());
    for _ in 0..2 {
        let run = line.ids.next(at(1_000), 0);
        let submitted = line.queue.submit(queued_of(run, &version, None), at(1_000)).unwrap();
        rows.apply(&submitted.changes);
        rows.apply(&line.queue.claim(at(2_000)).unwrap().1);
    }
    line.queue = Queue::new(10, 3);
    let interruption =
        Interruption { cause: InterruptionCause::Crash, has_directory: true, is_rebooted: false };
    for entry in rows.queue.values() {
        let vessels = [0, 1].map(|it| rows.latest(entry.run.vessel_run(it)).cloned()).to_vec();
        let started = StartedRun { record: rows.runs[&entry.run].clone(), vessels, interruption };
        line.queue.reload(entry, Arc::clone(&version), Some(started), at(5_000));
    }
    let causes: Vec<WaitCause> = line.waits().iter().map(|wait| wait.cause).collect();
    assert_eq!(causes, [WaitCause::Worker, WaitCause::CrashLoopingRun]);
    line.claim();
    let causes: Vec<WaitCause> = line.waits().iter().map(|wait| wait.cause).collect();
    assert_eq!(causes, [WaitCause::CrashLoopingRun]);
}

/// Fleets of one vessel, so that a start makes no further vessel ready.
fn versions() -> Vec<Arc<FleetVersion>> {
    let shape = |fleet, concurrency, priority| {
        Shape { concurrency, priority, ..Shape::new(1, &[]) }.version(fleet, 1)
    };
    vec![
        shape(1, None, 0),
        shape(2, Some(1), 0),
        shape(3, Some(2), 5),
        shape(4, None, -3),
        shape(3, Some(1), 1),
    ]
}

proptest! {
    #[test]
    fn workers_start_what_waits_for_them_in_the_order_that_was_told(
        rounds in proptest::collection::vec(
            (proptest::collection::vec((0..5_usize, 0..3_usize), 0..12), 0..6_usize, 0..6_usize),
            1..6,
        ),
    ) {
        let (mut line, versions) = (Line::new(), versions());
        let mut running: Vec<Claim> = Vec::new();
        for (submits, claims, settles) in rounds {
            for (version, key) in submits {
                line.submit(&versions[version], [None, Some("a"), Some("b")][key]);
            }
            let told: Vec<RunId> = line.waits().iter()
                .filter(|wait| wait.cause == WaitCause::Worker)
                .map(|wait| wait.run)
                .collect();
            let mut ahead = told.into_iter();
            for _ in 0..claims {
                let claimed = line.queue.claim(at(2_000)).map(|(claim, _)| claim);
                prop_assert_eq!(claimed.as_ref().map(|claim| claim.run.id), ahead.next());
                running.extend(claimed);
            }
            for _ in 0..settles.min(running.len()) {
                let claim = running.remove(0);
                line.settle(&claim, &End::Exited(0));
            }
        }
        // Nothing is left out, and nothing waits for a run that has ended.
        let waits = line.waits();
        prop_assert_eq!(waits.len(), line.queue.depth().waiting);
        for wait in &waits {
            if let WaitCause::Run { run, .. } = wait.cause {
                let is_there = waits.iter().any(|it| it.run == run)
                    || running.iter().any(|claim| claim.run.id == run);
                prop_assert!(is_there, "{run} has ended");
            }
        }
    }
}
