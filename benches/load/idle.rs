//! What a server costs that has nothing to do: memory, and wake-ups by thread.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use crate::client::{Connection, post};
use crate::server::Server;

const TIME: Duration = Duration::from_secs(20);

pub fn run() {
    let server = Server::start("idle", &[]);
    let (fleet, path) = server.fleet("true", &["/bin/true"]);
    let mut connection = Connection::open(server.hooks);
    for _ in 0..10 {
        connection.exchange(&post(&path, "", b"{}"));
    }
    drop(connection);
    server.await_drained(&fleet);
    // tiny_http lets go of its spare threads after five seconds.
    std::thread::sleep(Duration::from_secs(7));
    let before = switches(server.pid());
    std::thread::sleep(TIME);
    let after = switches(server.pid());
    println!("resident {:.1} MB   (under 25)", server.resident_mb());
    for (thread, count) in after {
        let woken = count - before.get(&thread).copied().unwrap_or(0);
        if woken > 0 {
            println!("{:<20} {:.1} wake-ups/s", thread.1, woken as f64 / TIME.as_secs_f64());
        }
    }
}

/// Voluntary context switches by thread (id and name).
fn switches(pid: u32) -> BTreeMap<(String, String), u64> {
    let mut switches = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).expect("it runs").flatten() {
        let read = |file: &str| fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let status = read("status");
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"));
        let count = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0);
        let id = task.file_name().to_string_lossy().into_owned();
        switches.insert((id, read("comm").trim().to_owned()), count);
    }
    switches
}
