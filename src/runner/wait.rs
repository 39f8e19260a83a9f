//! Supervises a started vessel: one loop waits for the leader's exit, output, room in the input,
//! the stop signal and the deadlines. Afterwards the process group is empty. After a stop or a
//! cutoff, no other process of the attempt is left; after another end the log names those that live
//! on.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, waitid};

use super::HowEnded;
use super::feed::{Feed, PIPE_BUFFER_BYTES};
use super::group::{Ending, PAUSE_MAX, PAUSE_MIN, ProcessGroup, Step};
use super::mark::Mark;
use super::orphans::living_orphans;
use super::output::LiveOutput;
use super::process_table::Process;
use super::stop::{Stop, StopSignal};
use super::termination::{Termination, named};

/// Bytes of the first read. Most vessels write less, and to free a buffer of a pipe's size costs
/// the allocator more.
const FIRST_READ_BYTES: usize = 4096;

/// A started vessel: its leader and the pipes to it.
pub(super) struct Started<'a> {
    pub leader: OwnedFd,
    pub pid: Pid,
    /// Identifies its processes; `None` when its environment names no vessel run.
    pub mark: Option<Mark>,
    pub pipe: OwnedFd,
    /// `None` when its input is complete.
    pub feed: Option<Feed<'a>>,
}

/// The bounds of an attempt.
pub(super) struct Bounds {
    pub cutoff_at: Option<Instant>,
    pub kill_grace: Duration,
}

/// Waits for the end of a vessel and of its process group; after a stop or a cutoff, for the end of
/// all processes of the attempt.
pub(super) fn wait(
    started: Started<'_>,
    bounds: &Bounds,
    stop: &StopSignal,
    output: &LiveOutput,
) -> HowEnded {
    let Started { leader, pid, mark, pipe, feed } = started;
    let mut attempt = Attempt {
        leader,
        pid,
        mark,
        group: ProcessGroup::led_by(pid),
        pipe: Some(pipe),
        feed,
        output,
        buffer: Vec::new(),
        bounds,
        cause: Cause::Itself,
        ending: Ending::NotAsked,
        termination: None,
    };
    let status = match attempt.await_leader(stop) {
        true => attempt.end_group(),
        false => None,
    };
    attempt.heed_late_stop(stop);
    attempt.await_termination();
    attempt.drain();
    attempt.log_leftovers();
    match (attempt.cause, status) {
        (Cause::CutOff, _) => HowEnded::CutOff,
        (Cause::Stop(Stop::Abandon), _) => HowEnded::Abandoned,
        (Cause::InputFailed(reason), _) => HowEnded::NotStarted(reason),
        (Cause::Itself | Cause::Stop(Stop::Requested), status) => own_end(status),
    }
}

/// Why an attempt ends.
enum Cause {
    Itself,
    Stop(Stop),
    CutOff,
    InputFailed(String),
}

struct Attempt<'a> {
    leader: OwnedFd,
    pid: Pid,
    mark: Option<Mark>,
    group: ProcessGroup,
    /// `None` when every writer has closed it.
    pipe: Option<OwnedFd>,
    feed: Option<Feed<'a>>,
    output: &'a LiveOutput,
    buffer: Vec<u8>,
    bounds: &'a Bounds,
    cause: Cause,
    ending: Ending,
    /// Ends all processes of the attempt after a stop or a cutoff.
    termination: Option<Termination>,
}

#[derive(Default)]
struct Ready {
    leader: bool,
    pipe: bool,
    feed: bool,
    stop: bool,
}

impl Attempt<'_> {
    /// Waits until the leader is a zombie. False when SIGKILL does not end it.
    fn await_leader(&mut self, stop: &StopSignal) -> bool {
        loop {
            let now = Instant::now();
            let cutoff_at = self.bounds.cutoff_at.filter(|_| self.ending == Ending::NotAsked);
            if cutoff_at.is_some_and(|at| now >= at) {
                self.ask(Cause::CutOff, now);
            }
            match self.ending.advance(now) {
                Step::Wait => {}
                Step::Kill => self.kill(),
                Step::GiveUp => {
                    log::error!(group:? = self.group; "vessel outlives SIGKILL and is given up");
                    return false;
                }
            }
            let until = [self.output.move_when_due(now), self.ending.due_at(), cutoff_at];
            let until = until.into_iter().flatten().min();
            // A stop stays raised. Polled again, it would keep the loop spinning.
            let stop_heard = self.ending != Ending::NotAsked;
            let ready = self.poll(Some(self.leader.as_fd()), (!stop_heard).then_some(stop), until);
            if ready.pipe {
                self.read_pipe();
            }
            if ready.feed {
                self.pump(now);
            }
            if ready.leader {
                return true;
            }
            if ready.stop
                && let Some(kind) = stop.raised()
            {
                self.ask(Cause::Stop(kind), Instant::now());
            }
        }
    }

    /// Sends SIGTERM to all processes of the attempt, once.
    fn ask(&mut self, cause: Cause, now: Instant) {
        if self.ending == Ending::NotAsked {
            self.termination = Some(Termination::of_attempt(self.mark, self.pid));
            self.ending = Ending::asked(now, self.bounds.kill_grace);
            self.cause = cause;
        }
    }

    /// Sends SIGKILL to the group and to all processes that got SIGTERM.
    fn kill(&mut self) {
        self.group.signal(Signal::KILL);
        if let Some(termination) = &mut self.termination {
            termination.kill();
        }
    }

    /// Ends the group of the leader, which is a zombie, and returns the leader's wait status.
    ///
    /// The zombie reserves the group's id, so SIGTERM is sent before it is reaped. Members that are
    /// left afterwards reserve the id themselves (see [`super::group`]).
    fn end_group(&mut self) -> Option<WaitIdStatus> {
        // SIGTERM for the members, while the zombie reserves the id.
        self.feed = None;
        if self.ending == Ending::NotAsked {
            self.group.signal(Signal::TERM);
            self.ending = Ending::asked(Instant::now(), self.bounds.kill_grace);
        }
        if let Some(termination) = &mut self.termination {
            termination.forget_leader();
        }
        // The leader is reaped.
        let status = waitid(WaitId::PidFd(self.leader.as_fd()), WaitIdOptions::EXITED);
        let status = status.unwrap_or_else(|errno| {
            log::error!(error:% = errno; "vessel's exit status is lost: another thread reaped it");
            None
        });
        // Members that are left reserve the id.
        if !self.group.is_gone() {
            self.group.signal(Signal::CONT);
            self.await_group();
        }
        status
    }

    /// Waits for the group's members to end, and kills them after the grace.
    fn await_group(&mut self) {
        let mut pause = PAUSE_MIN;
        loop {
            self.read_for(pause);
            if self.group.is_gone() || pause == PAUSE_MAX && self.group.is_only_zombies() {
                return;
            }
            match self.ending.advance(Instant::now()) {
                Step::Wait => {}
                Step::Kill => self.kill(),
                Step::GiveUp => {
                    log::error!(group:? = self.group; "process group outlives SIGKILL and is given up");
                    return;
                }
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Ends the other processes of the attempt when a stop has come while the vessel ended by
    /// itself.
    fn heed_late_stop(&mut self, stop: &StopSignal) {
        if self.termination.is_none()
            && stop.raised() == Some(Stop::Requested)
            && let Some(mark) = self.mark
        {
            self.termination = Some(Termination::of_marked([mark].into()));
            self.ending = Ending::asked(Instant::now(), self.bounds.kill_grace);
        }
    }

    /// Waits for all processes that got SIGTERM, in any group, and kills them after the grace.
    fn await_termination(&mut self) {
        let mut pause = PAUSE_MIN;
        while self.termination.as_mut().is_some_and(|it| !it.is_over()) {
            match self.ending.advance(Instant::now()) {
                Step::Wait => {}
                Step::Kill => self.kill(),
                Step::GiveUp => return,
            }
            self.read_for(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Names in the log the processes of the attempt that live on: daemons of a vessel that ended
    /// by itself, and processes that could not be ended.
    fn log_leftovers(&mut self) {
        if let Some(termination) = &self.termination {
            if let Some(line) = termination.report().what_is_left() {
                self.output.append_line(&line);
            }
            return;
        }
        let orphans = self.mark.map(living_orphans).unwrap_or_default();
        if !orphans.is_empty() {
            let names = named(orphans.iter().map(Process::shown));
            self.output.append_line(&format!(
                "boathook: left running in a session or group of its own: {names}; it lives on, and \
                 is ended only by a retry of this vessel"
            ));
        }
    }

    /// Reads output for `time`.
    fn read_for(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            if self.poll(None, None, Some(until)).pipe {
                self.read_pipe();
            }
        }
    }

    /// Reads the bytes that are in the pipe now. Processes outside of the group may hold it open
    /// and go on writing; nothing waits for them.
    fn drain(&mut self) {
        let Some(pipe) = &self.pipe else { return };
        let mut bytes_left = rustix::io::ioctl_fionread(pipe).unwrap_or(0);
        while bytes_left > 0 {
            match self.read_pipe() {
                0 => return,
                bytes => bytes_left = bytes_left.saturating_sub(bytes as u64),
            }
        }
    }

    /// Reads once, and returns the number of bytes.
    fn read_pipe(&mut self) -> usize {
        let Some(pipe) = &self.pipe else { return 0 };
        let wanted = match self.buffer.capacity() {
            0 => FIRST_READ_BYTES,
            full if full == self.buffer.len() => PIPE_BUFFER_BYTES,
            enough => enough,
        };
        self.buffer.clear();
        self.buffer.reserve_exact(wanted);
        match rustix::io::read(pipe, spare_capacity(&mut self.buffer)) {
            Ok(0) => self.pipe = None,
            Ok(_) => self.output.append(&self.buffer),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.pipe = None,
        }
        self.buffer.len()
    }

    fn pump(&mut self, now: Instant) {
        let pumped = self.feed.as_mut().map_or(Ok(()), Feed::pump);
        if let Err(error) = pumped {
            // A closed input would make the vessel take half a body for the whole. It stays open
            // until the vessel has ended.
            let reason = format!("the request's body could not be read: {error}");
            self.ask(Cause::InputFailed(reason), now);
            self.kill();
            if let Some(feed) = &mut self.feed {
                feed.pause();
            }
        }
    }

    /// Waits until something is ready or `until` has come.
    fn poll(
        &self,
        leader: Option<BorrowedFd<'_>>,
        stop: Option<&StopSignal>,
        until: Option<Instant>,
    ) -> Ready {
        let feed = self.feed.as_ref().and_then(Feed::wants);
        let watched = [
            (leader, PollFlags::IN),
            (self.pipe.as_ref().map(AsFd::as_fd), PollFlags::IN),
            (feed, PollFlags::OUT),
            (stop.map(AsFd::as_fd), PollFlags::IN),
        ];
        let mut fds = Vec::with_capacity(watched.len());
        fds.extend(
            watched
                .iter()
                .filter_map(|(fd, events)| fd.map(|fd| PollFd::from_borrowed_fd(fd, *events))),
        );
        let timeout = until.map(|until| {
            let left = until.saturating_duration_since(Instant::now());
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() }
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ready::default(),
            Err(errno) => {
                // The kernel is out of memory. The vessel still has to be supervised.
                log::error!(error:% = errno; "vessel cannot be waited for at the moment");
                std::thread::sleep(PAUSE_MAX);
                return Ready::default();
            }
        }
        let mut answers = fds.iter().map(|fd| !fd.revents().is_empty());
        let mut ready = watched.iter().map(|(fd, _)| fd.is_some() && answers.next() == Some(true));
        let mut next = || ready.next() == Some(true);
        Ready { leader: next(), pipe: next(), feed: next(), stop: next() }
    }
}

/// The end of the leader by its wait status.
fn own_end(status: Option<WaitIdStatus>) -> HowEnded {
    let Some(status) = status else { return HowEnded::Signaled(Signal::KILL.as_raw()) };
    match status.exit_status() {
        Some(code) => HowEnded::Exited(code),
        None => HowEnded::Signaled(status.terminating_signal().unwrap_or(Signal::KILL.as_raw())),
    }
}
