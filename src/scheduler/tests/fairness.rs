//! Fairness: several fleets, priorities, and the effect of a waiting run on the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use crate::model::fleet::FleetVersion;
use crate::model::graph::Condition;
use crate::model::ids::RunIds;
use crate::model::overlap::Overlap;
use crate::model::run::{End, OutputRecord, Status};
use crate::scheduler::Effects;
use crate::scheduler::fairness::{Fairness, STARTS_PER_FAIR_START};
use crate::scheduler::submit::REPLACED_PER_ARRIVAL_MAX;
use crate::scheduler::tests::rows::Rows;
use crate::scheduler::tests::{Shape, at, queued};
use crate::scheduler::{Claim, Interruption, InterruptionCause, Queue, StartedRun};

/// A queue with one worker, as far as it matters here.
struct Line {
    queue: Queue,
    ids: RunIds,
    rows: Rows,
}

impl Line {
    fn new() -> Self {
        Self { queue: Queue::new(100_000, 3), ids: RunIds::after(None), rows: Rows::default() }
    }

    fn submit(&mut self, version: &Arc<FleetVersion>) -> Effects {
        let run = self.ids.next(at(1_000), 0);
        let submitted = self.queue.submit(queued(run, version), at(1_000)).unwrap();
        self.rows.apply(&submitted.changes);
        submitted
    }

    fn claim(&mut self) -> Option<Claim> {
        let (claim, changes) = self.queue.claim(at(2_000))?;
        self.rows.apply(&changes);
        Some(claim)
    }

    fn settle(&mut self, claim: &Claim) {
        let output = OutputRecord::default();
        let settled = self.queue.settle(claim.vessel_run, &End::Exited(0), output, at(3_000));
        self.rows.apply(&settled.changes);
    }

    /// Claims and settles the next vessel; the number of its fleet.
    fn step(&mut self) -> u8 {
        let claim = self.claim().expect("there is something to start");
        self.settle(&claim);
        claim.version.fleet_id.as_bytes()[0]
    }
}

/// Fleet `number` with `vessels` one after the other.
fn chain(number: u8, vessels: usize) -> Arc<FleetVersion> {
    let paths: Vec<_> = (1..vessels as u16).map(|to| (to - 1, to, Condition::Success)).collect();
    Shape::new(vessels, &paths).version(number, 1)
}

/// A fleet that runs once at a time.
fn one_at_a_time(overlap: Overlap) -> Arc<FleetVersion> {
    Shape { concurrency: Some(1), overlap, ..Shape::new(2, &[]) }.version(1, 1)
}

#[test]
fn a_fleet_with_much_to_do_delays_anothers_first_run_by_one_vessel() {
    let one = one_at_a_time(Overlap::Queue);
    for busy in [vec![&one], vec![&chain(1, 50)], vec![&one, &chain(2, 50), &chain(4, 1)]] {
        let mut line = Line::new();
        for version in &busy {
            for _ in 0..2_000 {
                line.submit(version);
            }
        }
        for _ in 0..1_001 {
            line.step();
        }
        let running = line.claim().unwrap();
        line.submit(&chain(3, 1));
        line.settle(&running);
        assert_eq!(line.step(), 3, "after the vessel that was running");
    }
}

#[test]
fn fleets_take_turns_vessel_by_vessel() {
    let mut line = Line::new();
    for version in [&chain(1, 3), &chain(1, 3), &chain(2, 1), &chain(2, 1), &chain(2, 1)] {
        line.submit(version);
    }
    let fleets: Vec<u8> = (0..9).map(|_| line.step()).collect();
    assert_eq!(fleets, [1, 2, 1, 2, 1, 2, 1, 1, 1]);
}

#[test]
fn a_fleet_finishes_what_it_has_begun_before_it_begins_more() {
    let mut line = Line::new();
    for _ in 0..3 {
        line.submit(&chain(1, 2));
    }
    let mut runs = Vec::new();
    while let Some(claim) = line.claim() {
        runs.push(claim.run.sequence);
        line.settle(&claim);
    }
    assert_eq!(runs, [1, 1, 2, 2, 3, 3]);
}

#[test]
fn a_fleet_that_comes_back_does_not_get_ahead() {
    let mut line = Line::new();
    for _ in 0..100 {
        line.submit(&chain(1, 1));
    }
    // Two fleets that hand in a run whenever they have none: each is new to the line every time.
    let mut served = 0;
    let mut waits = [false, false];
    for _ in 0..90 {
        for number in [2, 3] {
            if !std::mem::replace(&mut waits[number - 2], true) {
                line.submit(&chain(number as u8, 1));
            }
        }
        match line.step() {
            1 => served += 1,
            other => waits[usize::from(other) - 2] = false,
        }
    }
    assert_eq!(served, 30, "of 90");
}

#[test]
fn a_higher_priority_goes_first_and_a_lower_one_still_gets_its_share() {
    let with_priority =
        |number: u8, priority: i8| Shape { priority, ..Shape::new(1, &[]) }.version(number, 1);
    let mut line = Line::new();
    for (number, priority) in [(1, -10), (2, 0), (3, 10), (4, 10)] {
        for _ in 0..1_000 {
            line.submit(&with_priority(number, priority));
        }
    }
    let mut counts: BTreeMap<u8, u64> = BTreeMap::new();
    for _ in 0..STARTS_PER_FAIR_START * 100 {
        *counts.entry(line.step()).or_default() += 1;
    }
    let fair = counts[&1] + counts[&2];
    assert!(fair.abs_diff(100) <= 2, "{counts:?}");
    assert!(counts[&1].abs_diff(counts[&2]) <= 2, "{counts:?}");
    assert!(counts[&3].abs_diff(counts[&4]) <= 2, "{counts:?}");
}

#[test]
fn runs_with_a_crash_behind_them_and_the_others_alternate() {
    let mut line = Line::new();
    let version = chain(1, 20);
    line.submit(&version);
    let run = line.claim().unwrap().run.id;
    line.queue = Queue::new(100, 3);
    let entry = line.rows.queue[&1].clone();
    let latest = |vessel| line.rows.latest(run.vessel_run(vessel)).cloned();
    let started = StartedRun {
        record: line.rows.runs[&run].clone(),
        vessels: (0..20).map(latest).collect(),
        interruption: Interruption {
            cause: InterruptionCause::Crash,
            has_directory: true,
            is_rebooted: false,
        },
    };
    let (_, changes) = line.queue.reload(&entry, version, Some(started), at(5_000));
    line.rows.apply(&changes);
    for _ in 0..10 {
        line.submit(&chain(2, 1));
    }
    let fleets: Vec<u8> = (0..8).map(|_| line.step()).collect();
    assert_eq!(fleets, [1, 2, 1, 2, 1, 2, 1, 2]);
}

#[test]
fn a_run_that_comes_while_its_fleet_is_at_its_concurrency_is_skipped() {
    let mut line = Line::new();
    // It has its place, even if no worker has come to it yet.
    assert!(line.submit(&one_at_a_time(Overlap::Skip)).ended.is_empty());
    let skipped = line.submit(&one_at_a_time(Overlap::Skip)).ended;
    assert_eq!((skipped.len(), skipped[0].status), (1, Status::Incomplete));
    assert_eq!((skipped[0].started_at, skipped[0].ended_at), (None, Some(at(1_000))));
    let reason = skipped[0].reason.as_deref().unwrap();
    assert!(reason.starts_with("skipped: 1 of this fleet's runs were under way"), "{reason}");
    assert_eq!(line.rows.status(skipped[0].id.vessel_run(1)), Some(Status::Incomplete));
    while line.claim().is_some_and(|claim| {
        line.settle(&claim);
        true
    }) {}
    assert!(line.submit(&one_at_a_time(Overlap::Skip)).ended.is_empty(), "there is a place again");
}

#[test]
fn the_run_that_waits_gives_way_to_the_newest() {
    let mut line = Line::new();
    line.submit(&one_at_a_time(Overlap::Replace));
    let first = line.claim().unwrap();
    assert!(line.submit(&one_at_a_time(Overlap::Replace)).ended.is_empty());
    let newest = line.submit(&one_at_a_time(Overlap::Replace));
    assert_eq!(newest.ended.len(), 1);
    assert_eq!(newest.ended[0].status, Status::Incomplete);
    let newest_id = *line.rows.runs.keys().last().unwrap();
    let reason = newest.ended[0].reason.as_deref().unwrap();
    assert_eq!(reason, format!("gave way to the newer run {newest_id} (overlap: replace)"));
    line.settle(&first);
    line.step();
    assert_eq!(line.claim().unwrap().run.id, newest_id);
}

#[test]
fn a_long_line_gives_way_bit_by_bit() {
    let mut line = Line::new();
    for _ in 0..REPLACED_PER_ARRIVAL_MAX + 11 {
        line.submit(&one_at_a_time(Overlap::Queue));
    }
    line.claim().unwrap();
    let ended = line.submit(&one_at_a_time(Overlap::Replace)).ended;
    assert_eq!(ended.len(), REPLACED_PER_ARRIVAL_MAX);
    assert!(ended.is_sorted_by_key(|run| run.sequence), "the oldest first");
    assert_eq!(line.submit(&one_at_a_time(Overlap::Replace)).ended.len(), 11);
    assert_eq!(line.queue.depth().waiting, 1);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_fleet_starves(priorities in proptest::collection::vec(-10..=10i8, 1..6)) {
        let mut line = Line::new();
        let patience = STARTS_PER_FAIR_START as usize * priorities.len();
        for (number, priority) in priorities.iter().enumerate() {
            let shape = Shape { priority: *priority, ..Shape::new(1, &[]) };
            let version = shape.version(number as u8, 1);
            for _ in 0..patience * 3 {
                line.submit(&version);
            }
        }
        let order: Vec<u8> = (0..patience * 3).map(|_| line.step()).collect();
        for number in 0..priorities.len() as u8 {
            for window in order.windows(patience) {
                prop_assert!(window.contains(&number), "{number} in {window:?}");
            }
        }
    }

    /// The next fleet is the one served longest ago, and no fleet is remembered that would come first
    /// anyway.
    #[test]
    fn turns_go_to_the_fleet_served_longest_ago(
        steps in proptest::collection::vec((0..6u8, 0..4u8), 1..200),
    ) {
        let id = |number: u8| Shape::new(1, &[]).version(number, 1).fleet_id;
        let mut fairness = Fairness::default();
        let mut served = [0; 6];
        let mut waits = [false; 6];
        let mut starts = 0;
        for (number, what) in steps {
            let number = usize::from(number);
            match what {
                0 | 1 => {
                    fairness.set(id(number as u8), Some(0));
                    waits[number] = true;
                }
                2 => {
                    fairness.leave(id(number as u8));
                    waits[number] = false;
                }
                _ => {
                    let Some(next) = fairness.next() else { continue };
                    starts += 1;
                    fairness.served(next);
                    served[usize::from(next.as_bytes()[0])] = starts;
                }
            }
            let oldest = (0..6).filter(|number| waits[*number]).map(|number| served[number]).min();
            for number in 0..6 {
                if !waits[number] && oldest.is_none_or(|oldest| served[number] < oldest) {
                    served[number] = 0;
                }
            }
            let next = fairness.next().map(|fleet| usize::from(fleet.as_bytes()[0]));
            prop_assert_eq!(next.is_some(), oldest.is_some());
            prop_assert!(next.is_none_or(|next| waits[next] && Some(served[next]) == oldest));
            prop_assert_eq!(fairness.is_empty(), next.is_none());
        }
        for number in 0..6 {
            fairness.leave(id(number));
        }
        prop_assert_eq!(fairness.remembered(), 0);
    }
}
