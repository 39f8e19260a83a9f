//! Accepting webhooks beside senders that wait for the end of their runs, against the same without them.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use crate::client::{body, load, post};
use crate::server::Server;
use crate::{median, millis, percentile};

const SENDERS: usize = 256;
const TIME: Duration = Duration::from_secs(4);
const ROUNDS: usize = 5;

pub fn run() {
    // Nothing drains meanwhile: the figures are those of accepting alone.
    let server = Server::start("waiting", &["--workers", "1"]);
    let _hold = server.hold_workers(1);
    let (_, other) = server.fleet("other", &["/bin/true"]);
    let (_, waiting) = server.add_fleet(&serde_json::json!({
        "name": "waiting",
        "vessels": {"main": {"command": ["/bin/true"]}},
        "webhook": {"respond": {"wait": "5m"}},
    }));
    let request = post(&other, "", &body());
    let p99 = |who| {
        let mut answered = load(server.hooks, &request, 201, TIME, usize::MAX);
        answered.report(who);
        millis(percentile(&mut answered.latencies, 99))
    };
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let alone = p99("no sender waits");
        let mut senders = Vec::new();
        for _ in 0..SENDERS {
            let mut sender = TcpStream::connect(server.hooks).expect("the server accepts");
            sender.write_all(&post(&waiting, "", b"{}")).expect("the server reads");
            senders.push(sender);
        }
        server.await_waiting(SENDERS);
        ratios.push(p99("256 senders wait") / alone);
        drop(senders);
        server.await_waiting(0);
    }
    println!("p99 ratio (median of {ROUNDS})       {:.2}   (at most 1.2)", median(&mut ratios));
}

impl Server {
    /// Waits until so many senders wait.
    fn await_waiting(&self, senders: usize) {
        let expected = format!("boathook_waiting_senders {senders}");
        while !String::from_utf8_lossy(&self.raw("GET", "/metrics"))
            .lines()
            .any(|it| it == expected)
        {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
