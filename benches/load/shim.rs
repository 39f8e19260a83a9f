//! What starting a vessel by way of the shim costs over the direct way: runs of a long chain of
//! `/bin/true`, by turns direct, with a umask, and (as root) as another user.

use serde_json::{Value, json};

use crate::median;
use crate::server::Server;

const CHAIN: usize = 50;
const ROUNDS: usize = 11;
/// What the shim may cost, in milliseconds per vessel.
const WANTED_MS: f64 = 2.0;

pub fn run() {
    let is_root = rustix::process::geteuid().is_root();
    let work_dir = "/dev/shm/boathook-bench-shim";
    let arguments = ["--work-dir", work_dir, "--allowed-users", "nobody"];
    let server = Server::start("shim", &arguments[..if is_root { 4 } else { 2 }]);
    let direct = chain(&server, "direct", None, None);
    let by_shim = chain(&server, "shim", Some("022"), None);
    let other_user = is_root.then(|| chain(&server, "user", None, Some("nobody")));
    let (mut shim_costs, mut user_costs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let base = per_vessel_ms(&server, &direct);
        shim_costs.push(per_vessel_ms(&server, &by_shim) - base);
        if let Some(other_user) = &other_user {
            user_costs.push(per_vessel_ms(&server, other_user) - base);
        }
    }
    println!(
        "over the direct way (median of {ROUNDS} rounds of {CHAIN} vessels; at most {WANTED_MS} ms)"
    );
    println!("  with a umask     {:.2} ms", median(&mut shim_costs));
    if is_root {
        println!("  as another user  {:.2} ms", median(&mut user_costs));
    }
    drop(server);
    let _ = std::fs::remove_dir_all(work_dir);
}

fn chain(server: &Server, name: &str, umask: Option<&str>, user: Option<&str>) -> String {
    let mut vessel = json!({"command": ["/bin/true"]});
    if let Some(umask) = umask {
        vessel["umask"] = umask.into();
    }
    let name_of = |index: usize| format!("v{index}");
    let vessels: serde_json::Map<String, Value> =
        (0..CHAIN).map(|index| (name_of(index), vessel.clone())).collect();
    let paths: serde_json::Map<String, Value> =
        (1..CHAIN).map(|index| (name_of(index - 1), json!({name_of(index): "SUCCESS"}))).collect();
    let mut fleet = json!({"name": name, "vessels": vessels, "connections": paths});
    if let Some(user) = user {
        fleet["user"] = user.into();
    }
    let fleet = server.api("POST", "/api/v1/fleets", &fleet.to_string());
    fleet["id"].as_str().expect("an id").to_owned()
}

/// How long one run of the chain takes, for each of its vessels.
fn per_vessel_ms(server: &Server, fleet: &str) -> f64 {
    let started = server.api("POST", &format!("/api/v1/fleets/{fleet}/runs"), "");
    let path = format!("/api/v1/runs/{}", started["fleet_run_id"].as_str().expect("an id"));
    loop {
        let run = server.api("GET", &path, "");
        if run["ended_at"].is_string() {
            assert_eq!(run["status"], "Success", "{run:#}");
            return run["duration_ms"].as_f64().expect("a duration") / CHAIN as f64;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
