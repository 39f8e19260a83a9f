use super::*;
use crate::model::ids::{RunId, RunIds};
use crate::model::run::{PayloadSize, Status};

/// A history and the rows that it has written.
struct Past {
    history: History,
    rows: BTreeMap<u64, HistoryEntry>,
    fleet: FleetId,
    ids: RunIds,
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + seconds * 1000)
}

impl Past {
    fn kept(rule: &str) -> Self {
        Self {
            history: History::new(rule.parse().unwrap()),
            rows: BTreeMap::new(),
            fleet: FleetId::random(),
            ids: RunIds::after(None),
        }
    }

    /// A run of 10 bytes ends.
    fn end(&mut self, now: Timestamp) -> RunId {
        let run = RunRecord {
            fleet_id: self.fleet,
            status: Status::Success,
            payload: PayloadSize { head_bytes: 2, body_bytes: 3 },
            output_bytes: 5,
            queued_at: now,
            ended_at: Some(now),
            ..RunRecord::example(self.ids.next(now, 1))
        };
        let change = self.history.enter(&run, now);
        self.apply(&[change]);
        run.id
    }

    /// Removes the due runs, a few rows at a time, and returns them.
    fn sweep(&mut self, now: Timestamp) -> Vec<RunId> {
        let mut removed = Vec::new();
        while let Some(fleet) = self.history.due_fleet(now) {
            let rows = self.rows.clone();
            self.rows.extend(set_right(rows.into_iter(), now));
            let found: Vec<_> =
                self.rows.iter().take(2).map(|(number, entry)| (*number, entry.clone())).collect();
            let changes = self.history.take_due(fleet, &found, now);
            removed.extend(self.apply(&changes));
        }
        self.assert_size();
        removed
    }

    fn apply(&mut self, changes: &[Change]) -> Vec<RunId> {
        let mut removed = Vec::new();
        for change in changes {
            match change {
                Change::PutHistory { number, entry, .. } => {
                    self.rows.insert(*number, entry.clone());
                }
                Change::RemoveHistory { number, .. } => {
                    self.rows.remove(number);
                }
                Change::BeginRemoval { run, .. } => removed.push(*run),
                other => panic!("{other:?}"),
            }
        }
        removed
    }

    fn assert_size(&self) {
        let runs = self.rows.len() as u64;
        assert_eq!(self.history.size(), HistorySize { runs, bytes: 10 * runs });
    }

    /// The same for the next server.
    fn restart(&mut self) {
        let rule = self.history.rule;
        self.history = History::new(rule);
        let entry = |(number, entry): (&u64, &HistoryEntry)| (*number, entry.clone());
        let ends = self.rows.iter().next().zip(self.rows.iter().next_back());
        if let Some((oldest, latest)) = ends {
            self.history.reload(self.fleet, entry(oldest), entry(latest));
        }
        self.assert_size();
    }
}

#[test]
fn a_run_goes_when_its_time_is_over() {
    let mut past = Past::kept("10s");
    let runs = [past.end(at(0)), past.end(at(1)), past.end(at(9))];
    assert_eq!(past.sweep(at(9)), []);
    let slack = Duration::from_secs(10) / 60;
    assert_eq!(past.history.next_due(at(4)), Some(Duration::from_millis(6166)), "{slack:?}");
    assert_eq!(past.sweep(at(10)), runs[..1]);
    past.restart();
    assert_eq!(past.sweep(at(12)), runs[1..2]);
    assert_eq!(past.sweep(at(3000)), runs[2..]);
    assert_eq!(past.history.next_due(at(3000)), None);
    past.restart();
    past.end(at(3001));
    past.assert_size();
}

#[test]
fn the_latest_runs_are_kept_when_there_are_more() {
    let mut past = Past::kept("3 runs");
    let runs: Vec<RunId> = (0..8).map(|second| past.end(at(second))).collect();
    assert!(past.history.is_news(past.fleet));
    assert_eq!(past.history.next_due(at(8)), Some(Duration::ZERO));
    assert_eq!(past.sweep(at(8)), runs[..5]);
    assert_eq!(past.history.next_due(at(1 << 40)), None);
    past.restart();
    let ninth = past.end(at(9));
    assert_eq!(past.sweep(at(9)), runs[5..6]);
    past.history.set_rules([(past.fleet, "1 run".parse().unwrap())].into());
    assert_eq!(past.sweep(at(10)), runs[6..]);
    past.history.set_rules([(past.fleet, "10s".parse().unwrap())].into());
    assert_eq!(past.sweep(at(18)), []);
    assert_eq!(past.sweep(at(19)), [ninth]);
}

#[test]
fn for_ever_means_for_ever() {
    let mut past = Past::kept("forever");
    past.end(at(0));
    assert_eq!(past.history.next_due(at(1 << 32)), None);
    assert_eq!(past.sweep(at(1 << 32)), []);
}

#[test]
fn a_clock_that_steps_back_does_not_prolong_an_age() {
    let mut past = Past::kept("10s");
    let runs = [past.end(at(1_000_000)), past.end(at(1_000_000)), past.end(at(3))];
    assert_eq!(past.history.next_due(at(3)), Some(Duration::ZERO));
    assert_eq!(past.sweep(at(3)), []);
    assert_eq!(past.sweep(at(12)), []);
    assert_eq!(past.sweep(at(13)), runs);
}

#[test]
fn runs_that_ended_while_the_clock_was_ahead_are_as_old_as_the_next_one() {
    let mut past = Past::kept("10s");
    let first = past.end(at(0));
    let ahead: Vec<RunId> = (0..40).map(|second| past.end(at(1_000_000 + second))).collect();
    let last = past.end(at(5));
    assert_eq!(past.sweep(at(10)), [first]);
    past.restart();
    assert_eq!(past.sweep(at(20)), [ahead, vec![last]].concat());
}

#[test]
fn rows_that_cannot_be_read_are_left_out() {
    let mut past = Past::kept("2 runs");
    let runs: Vec<RunId> = (0..6).map(|second| past.end(at(second))).collect();
    past.rows.remove(&0);
    past.rows.remove(&3);
    assert_eq!(past.history.due_fleet(at(6)), Some(past.fleet));
    let found: Vec<_> = past.rows.iter().map(|(number, entry)| (*number, entry.clone())).collect();
    let changes = past.history.take_due(past.fleet, &found, at(6));
    assert_eq!(past.apply(&changes), runs[1..3]);
    assert_eq!(past.history.next_due(at(6)), None);
}
