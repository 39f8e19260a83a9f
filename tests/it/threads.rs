//! Servers that the system gives no more threads: what is needed to stop a run, and to stop, is there
//! from the start; without that a server does not start, and says which limit is to blame.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::json;

use crate::harness::http::exchange;
use crate::harness::server::finish;
use crate::harness::{Server, ServerBuilder, wait_for};

/// A cgroup with a limit of processes and threads. Gone when dropped.
struct Pids(PathBuf);

impl Pids {
    /// `None`, loudly, where cgroups cannot be made.
    fn make(name: &str) -> Option<Self> {
        let roots = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"];
        let made = roots.iter().find_map(|root| {
            let path = Path::new(root).join(format!("boathook-{name}-{}", std::process::id()));
            fs::create_dir(&path).ok()?;
            let group = Self(path);
            group.0.join("pids.max").exists().then_some(group)
        });
        if made.is_none() {
            println!("SKIPPED: this test makes a cgroup with a limit of processes: not tested");
        }
        made
    }

    fn limit(&self, limit: &str) {
        fs::write(self.0.join("pids.max"), limit).unwrap();
    }

    /// No more than there are.
    fn close(&self) {
        let current = fs::read_to_string(self.0.join("pids.current")).unwrap();
        self.limit(current.trim());
    }

    fn server(&self) -> ServerBuilder {
        Server::builder().after_shell(&format!("echo $$ > {}/cgroup.procs", self.0.display()))
    }
}

impl Drop for Pids {
    fn drop(&mut self) {
        let _ = wait_for(|| fs::remove_dir(&self.0).ok());
    }
}

#[test]
fn without_threads_a_run_can_be_stopped_and_so_can_the_server() {
    let Some(pids) = Pids::make("stop") else { return };
    let mut server = pids.server().setting("shutdown_grace", "1s").start();
    let journal = server.journal("journal");
    let script = format!("echo on >> {journal}; exec sleep 100000");
    let (_, hook) =
        server.fleet_with_webhook(&json!({"name": "greedy", "vessels": {"v": {"run": script}}}));
    let first = hook.post(server.hooks(), &[], b"first");
    let second = hook.post(server.hooks(), &[], b"second");
    server.wait_until("both run", || journal.lines().len() == 2);
    pids.close();
    // What serves connections that have gone ends, and then no more threads can be had.
    for _ in 0..20 {
        let health = exchange(server.hooks(), b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!(health.status, 200, "{}", health.text());
    }
    let third = hook.post(server.hooks(), &[], b"third");
    // The command line asks the server for its proof, and then once more on the same connection.
    let (status, _, told) = finish(server.cli(&["runs", "stop", &first]));
    assert_eq!(status, 0, "{told}");
    server.api().wait_status(&first, "Terminated");
    pids.limit("max");
    server.wait_until("what waited starts", || journal.lines().len() == 3);
    pids.close();
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit().code(), Some(0), "{}", server.log_tail());
    assert!(!server.log().contains("panicked"), "{}", server.log_tail());
    pids.limit("max");
    server.start_again();
    for run in [second, third] {
        server.api().call("POST", &format!("/api/v1/runs/{run}/stop"), None).expect(200);
        server.api().wait_status(&run, "Terminated");
    }
}

#[test]
fn a_start_without_enough_threads_names_the_limit() {
    let Some(pids) = Pids::make("start") else { return };
    for limit in [2, 5, 10, 20, 40] {
        pids.limit(&limit.to_string());
        let mut server = pids.server().not_started();
        assert!(server.try_start_again().is_err(), "it starts with {limit}");
        server.wait_until("it says why", || server.log().contains("pids.max"));
        assert!(server.log().contains("TasksMax="), "{}", server.log_tail());
        assert!(!server.log().contains("panicked"), "{}", server.log_tail());
    }
}
