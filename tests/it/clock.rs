//! A wall clock that was ahead and has been set right: times are the real ones from then on, while run
//! ids go on increasing. A small library between the server and the C library moves the clock.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use boathook::internals::Timestamp;
use serde_json::{Value, json};

use crate::harness::api::true_fleet;
use crate::harness::{Api, Hook, Server, ServerBuilder, shared_library};

/// Adds the number of seconds in the file `CLOCK_AHEAD` to the wall clock. Timers follow that clock.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *ahead;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CLOCK_AHEAD");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *mapped = mmap(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped != MAP_FAILED)
        ahead = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && clock == CLOCK_REALTIME && ahead)
        time->tv_sec += *ahead;
    return result;
}

int timerfd_settime(int fd, int flags, const struct itimerspec *set, struct itimerspec *old) {
    struct itimerspec real = *set;
    if ((flags & TFD_TIMER_ABSTIME) && real.it_value.tv_sec && ahead)
        real.it_value.tv_sec = real.it_value.tv_sec > *ahead ? real.it_value.tv_sec - *ahead : 1;
    return syscall(SYS_timerfd_settime, fd, flags, &real, old);
}
"#;

const TEN_YEARS: i64 = 10 * 365 * 86_400;

/// The wall clock of a server.
pub struct Clock {
    file: File,
    path: PathBuf,
    library: PathBuf,
    _directory: tempfile::TempDir,
}

impl Clock {
    pub fn ahead_by(seconds: i64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (source, path) = (directory.path().join("clock.c"), directory.path().join("ahead"));
        fs::write(&source, LIBRARY).unwrap();
        let library = shared_library(&source, directory.path());
        let file = File::create(&path).unwrap();
        let clock = Self { file, path, library, _directory: directory };
        clock.set_ahead_by(seconds);
        clock
    }

    pub fn set_ahead_by(&self, seconds: i64) {
        self.file.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
    }

    pub fn builder(&self) -> ServerBuilder {
        Server::builder()
            .variable("LD_PRELOAD", AsRef::<OsStr>::as_ref(&self.library))
            .variable("CLOCK_AHEAD", AsRef::<OsStr>::as_ref(&self.path))
    }
}

/// So many seconds from now.
pub fn from_now(seconds: i64) -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp::from_millis(since_epoch.as_millis() as i64 + seconds * 1000)
}

fn time(of: &Value, key: &str) -> Timestamp {
    of[key].as_str().unwrap_or_else(|| panic!("no {key} in {of}")).parse().unwrap()
}

#[track_caller]
fn assert_near(time: Timestamp, expected: Timestamp) {
    const TOLERANCE: Duration = Duration::from_secs(300);
    let apart = time.since(expected).max(expected.since(time));
    assert!(apart < TOLERANCE, "{time} is not {expected}");
}

/// The ids of the runs that the list holds for `query`.
fn listed(api: &Api, query: &str) -> Vec<String> {
    let runs = api.get(&format!("/api/v1/runs?{query}")).expect(200).data();
    let ids = runs.as_array().unwrap().iter();
    ids.map(|run| run["id"].as_str().unwrap().to_owned()).collect()
}

fn scheduled_time_fleet(name: &str) -> Value {
    let run = "printf %s \"$SHIPYARD_FLEET_SCHEDULED_TIME\"";
    json!({"name": name, "vessels": {"v": {"run": run}}})
}

#[test]
fn runs_after_a_clock_was_ahead_have_their_real_times_and_stay_in_order() {
    let clock = Clock::ahead_by(TEN_YEARS);
    let mut server = clock.builder().start();
    let (_, hook) = server.fleet_with_webhook(&scheduled_time_fleet("clocked"));
    let early = hook.post(server.hooks(), &[], b"early");
    let shown = server.api().wait_status(&early, "Success");
    assert_near(time(&shown, "queued_at"), from_now(TEN_YEARS));

    // While the server runs, and over a restart.
    clock.set_ahead_by(0);
    let mut runs = vec![early.clone()];
    for restarts in [false, true, false] {
        if restarts {
            server.stop();
            server.start_again();
        }
        let run = hook.post(server.hooks(), &[], b"later");
        let shown = server.api().wait_status(&run, "Success");
        for key in ["queued_at", "started_at", "ended_at"] {
            assert_near(time(&shown, key), from_now(0));
        }
        let (whole_seconds, _) = shown["queued_at"].as_str().unwrap().split_once('.').unwrap();
        assert_eq!(server.api().output(&shown, "v"), format!("{whole_seconds}Z"));
        assert!(runs.last().is_none_or(|last| *last < run), "{run} after {runs:?}");
        runs.push(run);
    }

    let api = server.api();
    let (hour_ago, in_an_hour) = (from_now(-3600), from_now(3600));
    runs.reverse();
    assert_eq!(listed(&api, ""), runs);
    assert_eq!(listed(&api, &format!("since={hour_ago}&until={in_an_hour}")), runs[..3]);
    assert_eq!(listed(&api, &format!("until={in_an_hour}")), runs[..3]);
    assert_eq!(listed(&api, &format!("since={in_an_hour}")), runs[3..]);
    assert_eq!(listed(&api, &format!("until={hour_ago}")), Vec::<String>::new());
    server.stop();
}

#[test]
fn a_run_that_waits_keeps_its_real_time_over_a_crash() {
    let clock = Clock::ahead_by(TEN_YEARS);
    let mut server = clock.builder().start();
    let api = server.api();
    let go = server.scratch().join("go");
    let wait = format!("while [ ! -e '{}' ]; do sleep 0.05; done", go.display());
    let mut fleet = json!({"name": "waits", "vessels": {"v": {"run": wait}}});
    fleet["concurrency"] = json!(1);
    let fleet = api.apply(&fleet);
    let first = api.start(&fleet);
    server.wait_until("it runs", || api.run(&first)["status"] == "Running");
    clock.set_ahead_by(0);
    let second = api.start(&fleet);
    let queued_at = api.run(&second)["queued_at"].clone();
    server.kill();
    server.start_again();
    let api = server.api();
    assert_eq!(api.run(&second)["queued_at"], queued_at);
    fs::write(&go, "").unwrap();
    let ended = api.wait_status(&second, "Success");
    assert_eq!(ended["queued_at"], queued_at);
    assert_near(time(&ended, "queued_at"), from_now(0));
    assert_near(time(&ended["vessels"][0], "started_at"), from_now(0));
    server.stop();
}

#[test]
fn retention_removes_runs_of_a_time_when_the_clock_was_ahead() {
    let clock = Clock::ahead_by(TEN_YEARS);
    let mut server = clock.builder().setting("keep_runs", "2s").start();
    let api = server.api();
    let fleet = api.apply(&true_fleet("kept"));
    let runs: Vec<String> = (0..3).map(|_| api.start(&fleet)).collect();
    clock.set_ahead_by(0);
    for run in &runs {
        server.wait_until("it has ended or is gone", || {
            let answer = api.get(&format!("/api/v1/runs/{run}"));
            answer.status == 404 || answer.data()["ended_at"].is_string()
        });
    }
    server.wait_until("all runs are gone", || listed(&api, "").is_empty());
    server.stop();
}

#[test]
fn a_replaced_url_is_not_answered_for_as_long_as_the_clock_was_ahead() {
    let clock = Clock::ahead_by(TEN_YEARS);
    let mut server = clock.builder().start();
    let (fleet, old) = server.fleet_with_webhook(&true_fleet("replaced"));
    let api = server.api();
    let path = format!("/api/v1/fleets/{fleet}/webhook");
    let replaced = api.post(&format!("{path}/replace"), &json!({"grace_seconds": 3600}));
    let new = Hook::from_url(replaced.data()["url"].as_str().unwrap());
    let status = |hook: &Hook| hook.try_post(server.hooks(), &[], b"x").unwrap().status;
    assert_eq!((status(&old), status(&new)), (201, 201), "in the grace");
    clock.set_ahead_by(0);
    assert_eq!((status(&old), status(&new)), (400, 201));
    assert!(api.get(&path).expect(200).data()["previous"].is_null());
    server.stop();
}

#[test]
fn a_rate_limit_and_a_retry_do_not_wait_for_the_time_when_the_clock_was_ahead() {
    let clock = Clock::ahead_by(TEN_YEARS);
    let mut server = clock.builder().start();
    let once = "[ $BOATHOOK_ATTEMPT -gt 1 ]";
    let guardrails = json!({"retry_count": 1, "retry_wait": "3s"});
    let vessel = json!({"run": once, "guardrails": guardrails});
    let (fleet, hook) =
        server.fleet_with_webhook(&json!({"name": "retried", "vessels": {"v": vessel}}));
    let api = server.api();
    api.put(&format!("/api/v1/fleets/{fleet}/webhook"), &json!({"rate_limit": "1/s"})).expect(200);
    let run = hook.post(server.hooks(), &[], b"x");
    server.wait_until("it waits for its retry", || api.run(&run)["status"] == "Retrying");
    clock.set_ahead_by(0);
    server.wait_until("the limit lets another one in", || {
        hook.try_post(server.hooks(), &[], b"x").unwrap().status == 201
    });
    api.wait_status(&run, "Success");
    server.stop();
}
