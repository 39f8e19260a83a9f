//! One run by the rules: the state of each of its vessels, and what becomes of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use boathook::internals::{
    ArrivalRecord, Backoff, Condition, Delivery, End, FleetDefinition, FleetId, Guardrails, Hold,
    RunId, Skip, Status, Timestamp,
};

/// The longest wait between two attempts.
const WAIT_MAX: Duration = Duration::from_secs(3600);

#[derive(Clone, Debug)]
pub struct Run {
    pub fleet: FleetId,
    pub version: u32,
    pub definition: Arc<FleetDefinition>,
    pub replay_of: Option<RunId>,
    pub arrival: ArrivalRecord,
    /// By the clock of that time.
    pub queued_at: Timestamp,
    /// A request has started it.
    pub is_request: bool,
    /// Until when it waits for more, by the clock of today. `arrival` has it as it is stored.
    pub hold: Option<Hold>,
    /// When the first run came of those that it stands for: see `Machine::hold_begins`.
    pub first_of_hold: (Duration, u32),
    /// Vessels that are not to be started, by name.
    pub skips: BTreeMap<String, Skip>,
    /// The overrides of the request. A replay may differ from them.
    pub asked_for: BTreeMap<String, Skip>,
    pub started: bool,
    pub crashes: u32,
    pub vessels: Vec<Vessel>,
}

#[derive(Clone, Debug, Default)]
pub struct Vessel {
    pub state: State,
    /// Every start, also one that a crash kept from happening.
    pub attempts: u32,
    /// Starts that used up `retry_count`.
    pub retries: u32,
    pub exit_code: Option<i32>,
    /// It was not started, and counts as this.
    pub skipped: Option<Skip>,
    /// The due time that was stored with its last failure, until it starts again.
    pub stored_due: Option<Timestamp>,
    /// How long before its latest retry it waits.
    pub wait: Duration,
    /// Its running attempt follows a failure.
    pub is_retry: bool,
    /// An end of the server has made its next attempt necessary: its log says so.
    pub interrupted: bool,
    /// Its state before its running attempt was claimed.
    pub before: Option<Box<Vessel>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Waits for its paths, or for a worker.
    #[default]
    Idle,
    Running {
        stop_requested: bool,
    },
    AwaitsRetry {
        due: Timestamp,
    },
    Ended(Status),
}

/// What the end of a server means for one run.
#[derive(Clone, Copy, Debug)]
pub struct Interruption {
    pub was_crash: bool,
    pub has_directory: bool,
}

impl Run {
    pub fn new(fleet: FleetId, version: u32, definition: &Arc<FleetDefinition>) -> Self {
        Self {
            fleet,
            version,
            definition: Arc::clone(definition),
            replay_of: None,
            arrival: ArrivalRecord::default(),
            queued_at: Timestamp::default(),
            is_request: false,
            hold: None,
            first_of_hold: (Duration::ZERO, 0),
            skips: BTreeMap::new(),
            asked_for: BTreeMap::new(),
            started: false,
            crashes: 0,
            vessels: vec![Vessel::default(); definition.vessels.len()],
        }
    }

    pub fn ended(&self, vessel: usize) -> Option<Status> {
        match self.vessels[vessel].state {
            State::Ended(status) => Some(status),
            _ => None,
        }
    }

    /// Whether the two share their fleet's limit.
    pub fn has_key_of(&self, other: &Run) -> bool {
        (self.fleet, &self.arrival.key) == (other.fleet, &other.arrival.key)
    }

    /// Its hold has ended.
    pub fn release(&mut self) {
        self.hold = None;
        self.arrival.hold = None;
    }

    /// Whether it ends with the vessels that were asked to end.
    pub fn is_stopping(&self) -> bool {
        let is_stopping = |it: &Vessel| {
            matches!(it.state, State::Ended(_) | State::Running { stop_requested: true })
        };
        self.vessels.iter().all(is_stopping)
    }

    pub fn is_over(&self) -> bool {
        (0..self.vessels.len()).all(|vessel| self.ended(vessel).is_some())
    }

    pub fn is_active(&self) -> bool {
        self.started && !self.is_over()
    }

    pub fn is_waiting(&self) -> bool {
        !self.started && !self.is_over()
    }

    pub fn running(&self) -> usize {
        self.vessels.iter().filter(|it| matches!(it.state, State::Running { .. })).count()
    }

    pub fn guardrails(&self, vessel: usize) -> &Guardrails {
        &self.definition.vessels[vessel].guardrails
    }

    pub fn skip(&self, vessel: usize) -> Option<Skip> {
        self.skips.get(&self.definition.vessels[vessel].name).copied()
    }

    /// Terminated outranks Errored outranks Success; what a replay has taken over does not count.
    pub fn status(&self) -> Status {
        let own = |it: &usize| !matches!(self.vessels[*it].skipped, Some(Skip::Replay { .. }));
        let statuses: Vec<Status> =
            (0..self.vessels.len()).filter(own).map(|it| self.vessel_status(it)).collect();
        let has = |status| statuses.contains(&status);
        match (self.started, self.is_over()) {
            (false, false) => Status::Scheduled,
            (true, false) if has(Status::Retrying) => Status::Retrying,
            (true, false) => Status::Running,
            (_, true) if has(Status::Terminated) => Status::Terminated,
            (_, true) if has(Status::Errored) => Status::Errored,
            (_, true) if has(Status::Success) => Status::Success,
            (_, true) => Status::Incomplete,
        }
    }

    pub fn vessel_status(&self, vessel: usize) -> Status {
        let it = &self.vessels[vessel];
        match it.state {
            State::Ended(status) => status,
            State::AwaitsRetry { .. } => Status::Retrying,
            State::Idle if it.stored_due.is_some() => Status::Retrying,
            State::Idle => Status::Scheduled,
            State::Running { .. } if it.is_retry => Status::Retrying,
            State::Running { .. } => Status::Running,
        }
    }

    pub fn upstream(&self, vessel: usize) -> impl Iterator<Item = (usize, Condition)> + '_ {
        let incoming = self.definition.paths.iter().filter(move |it| usize::from(it.to) == vessel);
        incoming.map(|path| (usize::from(path.from), path.condition))
    }

    /// Whether the path holds; `None` while its upstream vessel has not ended.
    fn holds(&self, (from, condition): (usize, Condition)) -> Option<bool> {
        Some(match self.ended(from)? {
            Status::Success => condition != Condition::Errored,
            Status::Errored => condition != Condition::Success,
            _ => false,
        })
    }

    pub fn may_start(&self, vessel: usize) -> bool {
        self.vessels[vessel].state == State::Idle
            && self.upstream(vessel).all(|path| self.holds(path) == Some(true))
    }

    /// What lies behind a path that was not taken never runs.
    pub fn follow_paths(&mut self) {
        let never = |run: &Self, vessel: &usize| {
            run.vessels[*vessel].state == State::Idle
                && run.upstream(*vessel).any(|path| run.holds(path) == Some(false))
        };
        while let Some(vessel) = (0..self.vessels.len()).find(|it| never(self, it)) {
            self.end(vessel, Status::Incomplete);
        }
    }

    pub fn end(&mut self, vessel: usize, status: Status) {
        let it = &mut self.vessels[vessel];
        it.state = State::Ended(status);
        it.stored_due = None;
        it.interrupted = false;
    }

    /// It ends before it has started.
    pub fn dismiss(&mut self) {
        (0..self.vessels.len()).for_each(|vessel| self.end(vessel, Status::Incomplete));
    }

    pub fn claim(&mut self, vessel: usize, attempt: u32) {
        self.started = true;
        let it = &mut self.vessels[vessel];
        it.before = Some(Box::new(Vessel { before: None, ..it.clone() }));
        it.attempts += 1;
        assert_eq!(it.attempts, attempt, "attempts count every start");
        it.state = State::Running { stop_requested: false };
        it.is_retry = it.stored_due.take().is_some();
        it.exit_code = None;
        it.interrupted = false;
    }

    /// As if the vessel had not been claimed. False when it is to be stopped.
    pub fn undo_claim(&mut self, vessel: usize) -> bool {
        let it = &mut self.vessels[vessel];
        if it.state != (State::Running { stop_requested: false }) {
            return false;
        }
        let Some(before) = it.before.take() else { panic!("vessel {vessel} was not claimed") };
        *it = *before;
        self.started =
            self.vessels.iter().any(|it| it.attempts > 0 || matches!(it.state, State::Ended(_)));
        true
    }

    /// `retry_at` is when the engine tries again, if it does.
    pub fn settle(
        &mut self,
        vessel: usize,
        end: &End,
        retry_at: Option<Timestamp>,
        now: Timestamp,
    ) {
        let State::Running { stop_requested } = self.vessels[vessel].state else {
            panic!("vessel {vessel} ended without running: {self:?}");
        };
        let excluded = match end {
            End::Exited(code) => !self.guardrails(vessel).retries_exit_code(*code),
            End::Signaled(signal) => !self.guardrails(vessel).retries_signal(*signal),
            _ => false,
        };
        let retry = self.vessels[vessel].retries + 1;
        let retries_left = retry <= self.guardrails(vessel).retry_count;
        self.vessels[vessel].exit_code = match end {
            End::Exited(code) => Some(*code),
            End::Skipped(skip) => skip.exit_code(),
            _ => None,
        };
        if stop_requested {
            self.end(vessel, Status::Terminated);
        } else if let End::Skipped(skip) = end {
            self.vessels[vessel].skipped = Some(*skip);
            self.end(vessel, skip.status());
        } else if *end == End::Exited(0) {
            self.end(vessel, Status::Success);
        } else if retries_left && !excluded {
            let due =
                retry_at.unwrap_or_else(|| panic!("vessel {vessel} is not retried: {self:?}"));
            let (least, most) = wait_bounds(self.guardrails(vessel), retry);
            assert!(now.plus(least) <= due && due <= now.plus(most), "a retry waits for its time");
            let it = &mut self.vessels[vessel];
            it.retries = retry;
            it.stored_due = retry_at;
            it.wait = due.since(now);
            it.state = State::AwaitsRetry { due };
            return;
        } else {
            self.end(vessel, Status::Errored);
        }
        assert_eq!(retry_at, None, "vessel {vessel} must not be retried: {self:?}");
        self.follow_paths();
    }

    pub fn stop(&mut self, vessel: usize) {
        match &mut self.vessels[vessel].state {
            State::Running { stop_requested } => *stop_requested = true,
            State::Ended(_) => {}
            State::Idle | State::AwaitsRetry { .. } => self.end(vessel, Status::Terminated),
        }
    }

    /// A vessel and everything behind it.
    pub fn with_descendants(&self, vessel: usize) -> Vec<usize> {
        let mut found = vec![vessel];
        let mut next = 0;
        while let Some(from) = found.get(next).copied() {
            let paths = self.definition.paths.iter().filter(|it| usize::from(it.from) == from);
            let new: Vec<usize> =
                paths.map(|it| usize::from(it.to)).filter(|to| !found.contains(to)).collect();
            found.extend(new);
            next += 1;
        }
        found
    }

    /// Retries that are due may be claimed. A due time further ahead than the wait means that the
    /// clock has stepped back.
    pub fn fire_due(&mut self, now: Timestamp) {
        self.hold = self.hold.map(|hold| self.clamped(hold, now));
        for vessel in &mut self.vessels {
            if let State::AwaitsRetry { due } = &mut vessel.state {
                *due = (*due).min(now.plus(vessel.wait));
                if *due <= now {
                    vessel.state = State::Idle;
                }
            }
        }
    }

    fn clamped(&self, hold: Hold, now: Timestamp) -> Hold {
        let wait = self.definition.debounce.map(|debounce| debounce.wait).unwrap_or_default();
        Hold { since: hold.since.min(now), until: hold.until.min(now.plus(wait)) }
    }

    fn give_up(&mut self) {
        let is_running =
            |run: &Self, it: &usize| matches!(run.vessels[*it].state, State::Running { .. });
        let all = 0..self.vessels.len();
        let mut errored: Vec<usize> = all.clone().filter(|it| is_running(self, it)).collect();
        if errored.is_empty() {
            errored.extend(all.clone().find(|it| self.ended(*it).is_none()));
        }
        for vessel in errored {
            self.end(vessel, Status::Errored);
        }
        for vessel in all {
            if self.ended(vessel).is_none() {
                self.end(vessel, Status::Incomplete);
            }
        }
    }

    fn set_back(&mut self, vessel: usize) {
        let it = &mut self.vessels[vessel];
        it.state = State::Idle;
        it.exit_code = None;
        it.skipped = None;
        it.stored_due = None;
        it.is_retry = false;
        it.interrupted = it.attempts > 0;
    }

    /// A new server takes the run over.
    pub fn reload(&mut self, interruption: Interruption, crashes_max: u32, now: Timestamp) {
        if !self.started {
            self.hold = self.arrival.hold.map(|hold| self.clamped(hold, now));
            return;
        }
        for vessel in 0..self.vessels.len() {
            if self.vessels[vessel].state == (State::Running { stop_requested: true }) {
                self.end(vessel, Status::Terminated);
            }
            // Of a retry that had fallen due and not started, only the stored time is left.
            let it = &mut self.vessels[vessel];
            if let Some(stored) = it.stored_due {
                it.state = State::AwaitsRetry { due: stored.min(now.plus(it.wait)) };
            }
        }
        if self.is_over() {
            // A person has stopped all that was left of it.
            return;
        }
        let was_running = self.running() > 0;
        if was_running && interruption.was_crash {
            self.crashes += 1;
        }
        let has_launched = self.vessels.iter().any(|it| it.attempts > 0 && it.skipped.is_none());
        let has_directory = interruption.has_directory || !has_launched;
        let at_most_once = self.definition.delivery == Delivery::AtMostOnce;
        let too_often = was_running && interruption.was_crash && self.crashes >= crashes_max;
        if too_often || at_most_once && (was_running || !has_directory) {
            self.give_up();
            return;
        }
        for vessel in 0..self.vessels.len() {
            let again = match self.vessels[vessel].state {
                State::Running { .. } => true,
                // As a whole, but for what a person has stopped.
                state => !has_directory && state != State::Ended(Status::Terminated),
            };
            if again {
                self.set_back(vessel);
            }
        }
        self.follow_paths();
    }

    /// What its replay from the vessel called `from` on takes over, if it is a version of
    /// `definition`; `None` when `from` could not start there.
    pub fn taken_over(
        &self,
        definition: &Arc<FleetDefinition>,
        from: &str,
    ) -> Option<BTreeMap<String, Skip>> {
        let first = definition.vessel_index(from)?;
        let mut replay = Run::new(self.fleet, 0, definition);
        let runs = replay.with_descendants(first);
        let others: Vec<usize> =
            (0..replay.vessels.len()).filter(|it| !runs.contains(it)).collect();
        let mut skips = BTreeMap::new();
        for vessel in &others {
            let name = &definition.vessels[*vessel].name;
            let before = self.definition.vessel_index(name);
            let status = before.map_or(Status::Incomplete, |before| self.vessel_status(before));
            let exit_code = before.and_then(|before| self.vessels[before].exit_code);
            skips.insert(name.clone(), Skip::Replay { status, exit_code });
        }
        replay.skips = skips;
        while let Some(vessel) = others.iter().find(|vessel| replay.may_start(**vessel)) {
            let skip = replay.skip(*vessel)?;
            replay.end(*vessel, skip.status());
            replay.follow_paths();
        }
        replay.may_start(first).then_some(replay.skips)
    }
}

/// Between which limits the wait before retry number `retry` lies, from 1.
fn wait_bounds(guardrails: &Guardrails, retry: u32) -> (Duration, Duration) {
    let wait = guardrails.retry_wait;
    match guardrails.retry_backoff {
        Backoff::Constant => (wait, wait),
        Backoff::Exponential => {
            let full = (1..retry).fold(wait, |wait, _| wait * 2).min(WAIT_MAX);
            (full / 2, full)
        }
    }
}
