//! Durable 201s per second against what Debian's `webhook` acknowledges without storing anything;
//! both run `/bin/true` for every request.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::client::{body, load, post};
use crate::median;
use crate::server::Server;

const TIME: Duration = Duration::from_secs(8);
const ROUNDS: usize = 3;

pub fn run() {
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let ours = boathook();
        if let Some(peer) = peer() {
            ratios.push(ours / peer);
        }
    }
    if ratios.is_empty() {
        println!("no peer: apt-get install webhook");
    } else {
        println!("ratio (median of {ROUNDS})          {:.2}   (at least 1.5)", median(&mut ratios));
    }
}

fn boathook() -> f64 {
    let server = Server::start("accept", &[]);
    let (_, path) = server.fleet("true", &["/bin/true"]);
    let mut answered = load(server.hooks, &post(&path, "", &body()), 201, TIME, usize::MAX);
    answered.report("boathook, durable");
    answered.rate
}

/// The same from the peer.
fn peer() -> Option<f64> {
    let hooks = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("hooks.json");
    let hook = r#"[{"id": "true", "execute-command": "/bin/true"}]"#;
    std::fs::write(&hooks, hook).expect("a file");
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).ok()?.port();
    let mut child = Command::new("webhook")
        .arg("-hooks")
        .arg(&hooks)
        .args(["-ip", "127.0.0.1", "-port", &port.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    while TcpStream::connect(address).is_err() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let request = post("/hooks/true", "", &body());
    let mut answered = load(address, &request, 200, TIME, usize::MAX);
    answered.report("webhook, nothing stored");
    let _ = child.kill();
    let _ = child.wait();
    Some(answered.rate)
}
