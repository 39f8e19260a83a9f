//! Every graph of up to four vessels, with every condition on every path and every way its
//! vessels can end, against the definition of what runs.

use crate::model::graph::Condition;
use crate::model::ids::{RunId, RunIds};
use crate::model::run::{End, OutputRecord, Status};
use crate::scheduler::Queue;
use crate::scheduler::tests::rows::Rows;
use crate::scheduler::tests::{Shape, at, queued};

/// What a vessel does, should it run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Succeed,
    Fail,
    /// A person stops it while it runs.
    GetStopped,
}

#[test]
fn every_small_graph_runs_as_its_paths_say() {
    let mut checked = 0;
    for vessels in 1..=4 {
        let acts: &[Act] = match vessels {
            4 => &[Act::Succeed, Act::Fail],
            _ => &[Act::Succeed, Act::Fail, Act::GetStopped],
        };
        for shape in shapes(vessels) {
            for acts in sequences(acts, vessels) {
                checked += usize::from(check(&shape, &acts));
            }
        }
    }
    // So many differ in what happens; a change of this number is a change of the enumeration.
    assert!(checked > 20_000, "only {checked} cases");
}

/// Every set of forward paths between `vessels` vessels, under all conditions.
fn shapes(vessels: usize) -> impl Iterator<Item = Shape> {
    let count = vessels as u16;
    let pairs: Vec<(u16, u16)> =
        (0..count).flat_map(|from| (from + 1..count).map(move |to| (from, to))).collect();
    let choices =
        [None, Some(Condition::Success), Some(Condition::Errored), Some(Condition::Completed)];
    sequences(&choices, pairs.len()).map(move |chosen| {
        let paths: Vec<_> = pairs
            .iter()
            .zip(chosen)
            .filter_map(|(&(from, to), condition)| Some((from, to, condition?)))
            .collect();
        Shape::new(vessels, &paths)
    })
}

/// Every sequence of `length` of `choices`.
fn sequences<T: Copy>(choices: &[T], length: usize) -> impl Iterator<Item = Vec<T>> + use<T> {
    let choices = choices.to_vec();
    let count = choices.len().pow(length as u32);
    (0..count).map(move |mut number| {
        let digits = (0..length).map(|_| {
            let digit = choices[number % choices.len()];
            number /= choices.len();
            digit
        });
        digits.collect()
    })
}

/// Runs one case, unless it differs from another only in what vessels would do that never run.
fn check(shape: &Shape, acts: &[Act]) -> bool {
    let expected = expect(shape, acts);
    let runs = |vessel: usize| expected[vessel].ran;
    if acts.iter().enumerate().any(|(vessel, act)| !runs(vessel) && *act != Act::Succeed) {
        return false;
    }
    for last_first in [false, true] {
        let (rows, run, started) = drive(shape, acts, last_first);
        let context = || format!("{shape:?} {acts:?} last first: {last_first}");
        for (vessel, expected) in expected.iter().enumerate() {
            let status = rows.status(run.vessel_run(vessel)).expect("every vessel is decided");
            assert_eq!(started.contains(&vessel), expected.ran, "vessel {vessel} of {}", context());
            assert!(
                expected.allowed.contains(&status),
                "{status}: vessel {vessel} of {}",
                context()
            );
        }
        let fleet = expect_fleet(acts, runs);
        assert_eq!(rows.runs[&run].status, fleet, "{}", context());
        assert!(rows.queue.is_empty(), "{}", context());
    }
    true
}

/// Takes one run through the queue. Returns its rows and the vessels in the order of their start.
fn drive(shape: &Shape, acts: &[Act], last_first: bool) -> (Rows, RunId, Vec<usize>) {
    let mut queue = Queue::new(1, 3);
    let mut rows = Rows::default();
    let run = RunIds::after(None).next(at(1_000), 0);
    rows.apply(&queue.submit(queued(run, &shape.version(1, 1)), at(1_000)).unwrap().changes);
    let (mut running, mut started) = (Vec::new(), Vec::new());
    loop {
        while let Some((claim, changes)) = queue.claim(at(2_000)) {
            rows.apply(&changes);
            running.push(claim.vessel);
            started.push(claim.vessel);
        }
        if running.is_empty() {
            return (rows, run, started);
        }
        let vessel = running.remove(if last_first { running.len() - 1 } else { 0 });
        let id = run.vessel_run(vessel);
        let end = match acts[vessel] {
            Act::Succeed => End::Exited(0),
            Act::Fail => End::Exited(1),
            Act::GetStopped => {
                let stopped = queue.stop_vessel_run(id, at(3_000)).expect("the run is active");
                assert_eq!(stopped.signal, [id]);
                rows.apply(&stopped.changes);
                End::Signaled(15)
            }
        };
        rows.apply(&queue.settle(id, &end, OutputRecord::default(), at(4_000)).changes);
    }
}

/// How a vessel must end.
#[derive(Clone, Debug, Default)]
struct Expected {
    ran: bool,
    allowed: Vec<Status>,
}

/// The definition: a vessel waits for all its upstream vessels, then runs if the condition of
/// every incoming path holds; otherwise it is Incomplete, or Terminated below a stopped one.
fn expect(shape: &Shape, acts: &[Act]) -> Vec<Expected> {
    let mut expected: Vec<Option<Expected>> = vec![None; shape.vessels];
    while expected.iter().any(Option::is_none) {
        for vessel in 0..shape.vessels {
            let incoming: Vec<(&Expected, Act, Condition)> = shape
                .paths
                .iter()
                .filter(|(_, to, _)| usize::from(*to) == vessel)
                .filter_map(|&(from, _, condition)| {
                    let from = usize::from(from);
                    Some((expected[from].as_ref()?, acts[from], condition))
                })
                .collect();
            let paths = shape.paths.iter().filter(|(_, to, _)| usize::from(*to) == vessel).count();
            if incoming.len() == paths {
                expected[vessel] = Some(expect_vessel(&incoming, acts[vessel]));
            }
        }
    }
    expected.into_iter().flatten().collect()
}

fn expect_vessel(incoming: &[(&Expected, Act, Condition)], act: Act) -> Expected {
    let holds = |(from, act, condition): &(&Expected, Act, Condition)| {
        from.ran
            && match act {
                Act::Succeed => *condition != Condition::Errored,
                Act::Fail => *condition != Condition::Success,
                Act::GetStopped => false,
            }
    };
    if incoming.iter().all(holds) {
        let status = match act {
            Act::Succeed => Status::Success,
            Act::Fail => Status::Errored,
            Act::GetStopped => Status::Terminated,
        };
        return Expected { ran: true, allowed: vec![status] };
    }
    let is_stopped = |from: &Expected| !from.ran && from.allowed.contains(&Status::Terminated);
    let below_stop = |(from, act, _): &&(&Expected, Act, Condition)| {
        (from.ran && *act == Act::GetStopped) || is_stopped(from)
    };
    let failing = incoming.iter().filter(|path| !holds(path)).count();
    let stopped = incoming.iter().filter(below_stop).count();
    let allowed = match stopped {
        0 => vec![Status::Incomplete],
        _ if stopped == failing && incoming.len() == 1 && incoming[0].0.allowed.len() == 1 => {
            vec![Status::Terminated]
        }
        // Whichever came first: a path that was not taken, or the stop.
        _ => vec![Status::Terminated, Status::Incomplete],
    };
    Expected { ran: false, allowed }
}

/// Terminated outranks Errored outranks Success; what never ran does not count.
fn expect_fleet(acts: &[Act], ran: impl Fn(usize) -> bool) -> Status {
    let some = |act| acts.iter().enumerate().any(|(vessel, it)| *it == act && ran(vessel));
    if some(Act::GetStopped) {
        Status::Terminated
    } else if some(Act::Fail) {
        Status::Errored
    } else {
        Status::Success
    }
}
