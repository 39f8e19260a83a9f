//! What strangers may send instead of requests. Each row of the [`table`] is refused as it should
//! be, and the same server goes on as if nothing had been: it accepts a good POST after each, and
//! holds no thread and no descriptor more than before.

mod table;

use serde_json::json;
use uuid::Uuid;

use crate::harness::http::{exchange, post_request};
use crate::harness::processes::Holdings;
use crate::harness::{Answer, Connection, Hook, Server, assert_error, redacted};

/// One row of the table.
#[derive(Clone)]
struct Case {
    name: &'static str,
    request: Vec<u8>,
    /// Of the answers, in their order. None: the connection ends without a word.
    statuses: Vec<u16>,
    ending: Ending,
    sending: Sending,
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// It is good for another request.
    Kept,
    /// The last answer says that it was the last, and it was.
    Closed,
}

/// What the sender does when it has sent everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    /// It reads.
    Whole,
    /// It says that nothing more will come, and reads.
    HalfClosed,
    /// It is gone, and the network says so.
    Reset,
}

/// Which listener a row is about.
#[derive(Clone, Copy)]
enum Side {
    Hooks,
    Admin,
}

/// A server, the webhook to send good requests to, and what the server holds without connections.
struct Siege {
    server: Server,
    hook: Hook,
    quiet: Holdings,
    accepted: usize,
}

impl Siege {
    fn start() -> Self {
        // Nothing is to run: what was accepted waits behind a vessel that does not end.
        let server = Server::builder()
            .setting("workers", "1")
            .setting("head_timeout", "3s")
            .setting("body_timeout", "3s")
            .setting("idle_timeout", "3s")
            .setting("max_body_bytes", "10000000")
            .start();
        let (_, hook) = server.fleet_with_webhook(&json!({
            "name": "wait", "vessels": {"wait": {"command": ["/bin/sleep", "1000"]}},
        }));
        hook.post(server.hooks(), &[], b"");
        exchange(server.admin(), b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap().expect(200);
        let quiet = Holdings::quiet(server.pid());
        Self { server, hook, quiet, accepted: 1 }
    }

    /// Sends the rows of a group one after the other.
    fn hold_out(&mut self, side: Side, cases: Vec<Case>) {
        assert!(!cases.is_empty());
        for case in cases {
            let connection = self.send(side, &case);
            if let Some(connection) = connection {
                self.receive(side, &case, connection);
            }
            self.prove_good(&case);
        }
        self.quiet.await_again(self.server.pid());
    }

    /// Sends the rows of a group all at once: they take their time.
    fn sit_out(&mut self, side: Side, cases: &[Case]) {
        let sent: Vec<_> = cases.iter().map(|case| self.send(side, case).unwrap()).collect();
        for (case, connection) in cases.iter().zip(sent) {
            self.receive(side, case, connection);
            self.prove_good(case);
        }
        self.quiet.await_again(self.server.pid());
    }

    fn send(&self, side: Side, case: &Case) -> Option<Connection> {
        let address = match side {
            Side::Hooks => self.server.hooks(),
            Side::Admin => self.server.admin(),
        };
        let request = fill_in(&case.request, &self.hook.target());
        let mut connection = Connection::open(address).unwrap();
        // A client that is refused in the middle may be cut off before all is sent.
        let _ = connection.send(&request);
        match case.sending {
            Sending::Whole => {}
            Sending::HalfClosed => connection.finish_sending().unwrap(),
            Sending::Reset => {
                connection.reset();
                return None;
            }
        }
        Some(connection)
    }

    fn receive(&mut self, side: Side, case: &Case, mut connection: Connection) {
        let Case { name, statuses, .. } = case;
        for (at, status) in statuses.iter().enumerate() {
            let answer = connection
                .answer()
                .unwrap_or_else(|error| panic!("{name}: answer {at} is missing: {error}"));
            assert_eq!(answer.status, *status, "{name}: {}", redacted(&answer.text()));
            match (status, side) {
                (200, _) => {}
                (201, _) => self.accepted += 1,
                (_, Side::Hooks) => assert_refusal(&answer, name),
                (_, Side::Admin) => assert_error(&answer, *status),
            }
            // "Silence between requests" ends as an idle connection does: without having said so.
            let is_last = at + 1 == statuses.len() && case.ending == Ending::Closed;
            let says_so = answer.header("connection") == Some("close");
            assert!(is_last == says_so || (is_last && *status == 201), "{name}: {at} {says_so}");
        }
        match case.ending {
            Ending::Closed => {
                let rest = connection.read_to_end();
                assert!(rest.is_empty(), "{name}: {}", redacted(&String::from_utf8_lossy(&rest)));
            }
            Ending::Kept => {
                let request = post_request(&self.hook.target(), &[], b"again");
                let (request, status) = match side {
                    Side::Hooks => (request, 201),
                    Side::Admin => (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), 200),
                };
                connection.send(&request).unwrap();
                let answer = connection.answer();
                let answer = answer.unwrap_or_else(|error| panic!("{name}: not kept: {error}"));
                assert_eq!(answer.status, status, "{name}");
                self.accepted += usize::from(status == 201);
            }
        }
    }

    /// The same server accepts a good POST.
    fn prove_good(&mut self, case: &Case) {
        let answer = self.hook.try_post(self.server.hooks(), &[], case.name.as_bytes());
        let answer = answer.unwrap_or_else(|error| panic!("after {}: {error}", case.name));
        assert_eq!(answer.status, 201, "after {}", case.name);
        self.accepted += 1;
    }

    /// What was answered with 201 is a run, and nothing else is.
    fn assert_runs(&self) {
        assert_eq!(self.server.api().all_runs().len(), self.accepted);
        let log = self.server.log();
        assert!(!log.contains("panicked"), "{}", self.server.log_tail());
    }
}

/// `request` with the path of the webhook, `target`, where it says `{hook}`.
pub fn fill_in(request: &[u8], target: &str) -> Vec<u8> {
    const PLACE: &[u8] = b"{hook}";
    let mut filled = Vec::with_capacity(request.len() + target.len());
    let mut rest = request;
    while let Some(at) = rest.windows(PLACE.len()).position(|bytes| bytes == PLACE) {
        filled.extend_from_slice(&rest[..at]);
        filled.extend_from_slice(target.as_bytes());
        rest = &rest[at + PLACE.len()..];
    }
    filled.extend_from_slice(rest);
    filled
}

/// Fails unless `answer` has the envelope of the contract and what belongs to its status.
fn assert_refusal(answer: &Answer, name: &str) {
    let id = answer.header("x-request-id").unwrap_or_else(|| panic!("{name}: no X-Request-Id"));
    assert!(Uuid::try_parse(id).is_ok(), "{name}: {id}");
    assert_eq!(answer.text(), format!(r#"{{"request":{{"id":"{id}"}},"data":null}}"#), "{name}");
    assert_eq!(answer.header("content-type"), Some("application/json"), "{name}");
    assert_eq!(answer.header("allow").is_some(), answer.status == 405, "{name}");
    let wants_retry = matches!(answer.status, 429 | 503);
    assert_eq!(answer.header("retry-after").is_some(), wants_retry, "{name}");
}

#[test]
fn hostile_beginnings_are_refused() {
    let mut siege = Siege::start();
    siege.hold_out(Side::Hooks, table::beginnings());
    siege.hold_out(Side::Hooks, table::headers());
    siege.assert_runs();
}

#[test]
fn no_request_becomes_two() {
    let mut siege = Siege::start();
    siege.hold_out(Side::Hooks, table::framings());
    siege.hold_out(Side::Hooks, table::chunks());
    siege.assert_runs();
}

#[test]
fn a_client_that_goes_away_leaves_nothing_behind() {
    let mut siege = Siege::start();
    siege.hold_out(Side::Hooks, table::cuts());
    siege.sit_out(Side::Hooks, &table::silences());
    siege.assert_runs();
}

#[test]
fn odd_but_valid_requests_are_served() {
    let mut siege = Siege::start();
    siege.hold_out(Side::Hooks, table::valid());
    siege.hold_out(Side::Admin, table::admin());
    siege.assert_runs();
}

/// Each of these once cost a server of this kind a thread and two descriptors for good.
#[test]
fn probes_by_the_hundred_leave_nothing_behind() {
    let mut siege = Siege::start();
    let probe = |name| table::beginnings().into_iter().find(|case| case.name == name).unwrap();
    for name in ["HTTP/2.0", "TLS hello"] {
        let probes = vec![probe(name); 200];
        let sent: Vec<_> =
            probes.iter().map(|case| siege.send(Side::Hooks, case).unwrap()).collect();
        for (case, connection) in probes.iter().zip(sent) {
            siege.receive(Side::Hooks, case, connection);
        }
        siege.prove_good(&probes[0]);
        siege.quiet.await_again(siege.server.pid());
    }
    siege.assert_runs();
}

/// More connections than there are threads that answer: each gets its turn, round after round.
#[test]
fn connections_that_stay_are_served_alike() {
    const CONNECTIONS: usize = 150;
    let siege = Siege::start();
    let request = post_request(&siege.hook.target(), &[], b"x");
    let mut connections: Vec<Connection> =
        (0..CONNECTIONS).map(|_| Connection::open(siege.server.hooks()).unwrap()).collect();
    for _ in 0..4 {
        for connection in &mut connections {
            connection.send(&request).unwrap();
        }
        for connection in &mut connections {
            connection.answer().unwrap().expect(201);
        }
    }
    drop(connections);
    assert_eq!(siege.server.api().all_runs().len(), 1 + 4 * CONNECTIONS);
}

/// A sender that reads only when it has sent everything gets to see why it was refused.
#[test]
fn a_client_that_reads_after_sending_sees_its_refusal() {
    let siege = Siege::start();
    let large = vec![b'x'; 30_000_000];
    for (headers, status) in [
        ("Content-Length: 30000000\r\n", 413),
        ("Transfer-Encoding: chunked\r\n", 413),
        ("Content-Length: +5\r\n", 400),
        ("Content-Length: 30000000\r\nExpect: 200-ok\r\n", 413),
    ] {
        let target = siege.hook.target();
        let head = format!("POST {target} HTTP/1.1\r\nHost: x\r\n{headers}\r\n1c9c380\r\n");
        let request = [head.as_bytes(), &large].concat();
        let mut connection = Connection::open(siege.server.hooks()).unwrap();
        connection.send(&request).unwrap_or_else(|error| panic!("{headers}: {error}"));
        let answer = connection.answer().unwrap();
        assert_eq!(answer.status, status, "{headers}");
        assert_refusal(&answer, headers);
        drop(connection);
        siege.quiet.await_again(siege.server.pid());
    }
    siege.assert_runs();
}
