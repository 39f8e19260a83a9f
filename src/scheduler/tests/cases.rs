//! Single cases: defects that must not come back, and rules that a random life seldom meets.

use crate::model::graph::Condition;
use crate::model::ids::RunIds;
use crate::model::run::{End, OutputRecord, PayloadSize, Status};
use crate::scheduler::tests::rows::Rows;
use crate::scheduler::tests::{Shape, at, queued};
use crate::scheduler::{
    Interruption, InterruptionCause, Queue, QueueFull, QueuedRun, Reloaded, StartedRun,
};

#[test]
fn stopping_a_finished_run_spares_the_run_that_has_its_sequence_now() {
    let version = Shape::new(1, &[]).version(1, 1);
    let mut ids = RunIds::after(None);
    let mut rows = Rows::default();
    let mut queue = Queue::new(10, 3);
    let first = ids.next(at(1_000), 0);
    rows.apply(&queue.submit(queued(first, &version), at(1_000)).unwrap().changes);
    let (claim, changes) = queue.claim(at(2_000)).unwrap();
    rows.apply(&changes);
    let settled =
        queue.settle(claim.vessel_run, &End::Exited(0), OutputRecord::default(), at(3_000));
    rows.apply(&settled.changes);

    // A new server finds an empty queue and counts from the start.
    let mut queue = Queue::new(10, 3);
    let second = ids.next(at(4_000), 0);
    rows.apply(&queue.submit(queued(second, &version), at(4_000)).unwrap().changes);
    let ended = &rows.runs[&first];
    assert!(queue.stop_run(first, ended.fleet_id, ended.sequence, at(5_000)).is_none());
    assert_eq!(queue.depth().waiting, 1);
    assert_eq!(rows.runs[&second].status, Status::Scheduled);
}

#[test]
fn a_run_whose_last_vessel_was_stopped_does_not_start_again_without_its_directory() {
    let version = Shape::new(2, &[(0, 1, Condition::Success)]).version(1, 1);
    let mut rows = Rows::default();
    let mut queue = Queue::new(10, 3);
    let run = RunIds::after(None).next(at(1_000), 0);
    rows.apply(&queue.submit(queued(run, &version), at(1_000)).unwrap().changes);
    rows.apply(&queue.claim(at(2_000)).unwrap().1);
    let (end, output) = (End::Exited(0), OutputRecord::default());
    rows.apply(&queue.settle(run.vessel_run(0), &end, output, at(3_000)).changes);
    rows.apply(&queue.claim(at(3_000)).unwrap().1);
    let record = &rows.runs[&run];
    let stopped = queue.stop_run(run, record.fleet_id, record.sequence, at(4_000)).unwrap();
    rows.apply(&stopped.changes);

    // The power fails before the vessel that was told to stop has ended.
    let mut queue = Queue::new(10, 3);
    let interruption =
        Interruption { cause: InterruptionCause::Crash, has_directory: false, is_rebooted: false };
    let vessels = [0, 1].map(|vessel| rows.latest(run.vessel_run(vessel)).cloned()).to_vec();
    let started = StartedRun { record: rows.runs[&run].clone(), vessels, interruption };
    let entry = rows.queue.values().next().unwrap().clone();
    let (reloaded, changes) = queue.reload(&entry, version, Some(started), at(5_000));
    rows.apply(&changes);
    assert_eq!(reloaded, Reloaded::Ended);
    assert!(queue.claim(at(6_000)).is_none());
    assert_eq!(rows.runs[&run].status, Status::Terminated);
    assert_eq!(rows.latest(run.vessel_run(0)).unwrap().status, Status::Success);
}

#[test]
fn runs_between_two_attempts_count_as_waiting_for_the_limit() {
    let mut shape = Shape::new(1, &[]);
    (shape.retry_count, shape.retry_wait_ms) = (5, 3_600_000);
    let version = shape.version(1, 1);
    let mut ids = RunIds::after(None);
    let mut queue = Queue::new(2, 3);
    for round in 0..2 {
        queue.submit(queued(ids.next(at(1_000), 0), &version), at(1_000)).unwrap();
        let (claim, _) = queue.claim(at(2_000)).unwrap();
        assert!(queue.has_room(), "a run that a worker is at takes no room ({round})");
        queue.settle(claim.vessel_run, &End::Exited(1), OutputRecord::default(), at(3_000));
    }
    let refused = queue.submit(queued(ids.next(at(4_000), 0), &version), at(4_000));
    assert_eq!(refused.err(), Some(QueueFull));
    queue.fire_due(at(3_603_000));
    queue.claim(at(3_603_000)).unwrap();
    assert!(queue.has_room());
}

#[test]
fn one_fleet_does_not_fill_the_queue_for_others() {
    let (greedy, other) = (Shape::new(1, &[]).version(1, 1), Shape::new(1, &[]).version(2, 1));
    let mut ids = RunIds::after(None);
    let mut queue = Queue::new(100, 3);
    let mut submit = |queue: &mut Queue, version| {
        let run = QueuedRun {
            payload: PayloadSize { head_bytes: 1, body_bytes: 9 },
            ..queued(ids.next(at(1_000), 0), version)
        };
        queue.submit(run, at(1_000)).unwrap();
    };
    let mut accepted = 0;
    while queue.has_room_for(greedy.fleet_id) {
        submit(&mut queue, &greedy);
        accepted += 1;
    }
    assert_eq!((accepted, queue.has_room()), (75, true));
    assert_eq!(queue.payload_bytes(greedy.fleet_id), 750);
    submit(&mut queue, &other);
    assert!(queue.has_room_for(other.fleet_id));
    // An active run takes no room, but its payload is stored until it ends.
    let (claim, _) = queue.claim(at(2_000)).unwrap();
    let fleet = claim.run.fleet_id;
    let expected = if fleet == greedy.fleet_id { 750 } else { 10 };
    assert_eq!(queue.payload_bytes(fleet), expected);
    queue.settle(claim.vessel_run, &End::Exited(0), OutputRecord::default(), at(3_000));
    assert_eq!(queue.payload_bytes(fleet), expected - 10);
    while let Some((claim, _)) = queue.claim(at(4_000)) {
        queue.settle(claim.vessel_run, &End::Exited(0), OutputRecord::default(), at(4_000));
    }
    assert_eq!(queue.payload_bytes(greedy.fleet_id) + queue.payload_bytes(other.fleet_id), 0);
}

#[test]
fn a_clock_that_steps_back_between_settle_and_timer_does_not_postpone_the_retry() {
    let mut shape = Shape::new(1, &[]);
    (shape.retry_count, shape.retry_wait_ms) = (1, 1_000);
    let mut queue = Queue::new(2, 3);
    let run = RunIds::after(None).next(at(0), 0);
    queue.submit(queued(run, &shape.version(1, 1)), at(0)).unwrap();
    let (claim, _) = queue.claim(at(1_000)).unwrap();
    let year = 365 * 24 * 3_600_000;
    queue.settle(claim.vessel_run, &End::Exited(1), OutputRecord::default(), at(year));
    queue.fire_due(at(2_000));
    assert_eq!(queue.next_due(), Some(at(3_000)));
    queue.fire_due(at(3_000));
    assert_eq!(queue.claim(at(3_000)).unwrap().0.attempt, 2);
}
