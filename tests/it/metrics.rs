//! What `/metrics` tells: in the format that Prometheus reads, exactly what has happened, to the
//! owner alone.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::api::true_fleet;
use crate::harness::http::exchange;
use crate::harness::receiver::Receiver;
use crate::harness::scrape::Scrape;
use crate::harness::{Api, Connection, Server, wait_for, wait_until};

/// Waits until the samples have these values: what is counted after an answer may lag behind it.
#[track_caller]
fn await_values(api: &Api, expected: &[(&str, f64)]) -> Scrape {
    let mut wrong = Vec::new();
    let settled = wait_for(|| {
        let scrape = Scrape::of(api);
        let values = expected.iter().map(|(sample, value)| (*sample, scrape.value(sample), *value));
        wrong = values.filter(|(_, is, wanted)| is != wanted).collect();
        wrong.is_empty().then_some(scrape)
    });
    settled.unwrap_or_else(|| panic!("waited in vain; sample, value, value expected: {wrong:?}"))
}

fn refused(listener: &str, reason: &str) -> String {
    format!(r#"boathook_requests_refused_total{{listener="{listener}",reason="{reason}"}}"#)
}

#[test]
fn runs_are_counted_from_their_acceptance_to_their_end() {
    let receiver = Receiver::start(|_| Some("200 OK\r\n".to_owned()));
    let builder = Server::builder().setting("workers", "2");
    let (_secrets, builder) = receiver.allowed_by(builder);
    let mut server = builder.start();
    let api = server.api();
    let (_, hook) = server.fleet_with_webhook(&true_fleet("good"));
    let notify = json!([
        {"on": ["ERRORED"], "url": format!("http://{}/x", receiver.address), "secret": "signing"},
        {"on": ["ERRORED"], "url": format!("http://{}/x", receiver.address), "secret": "gone"},
    ]);
    let bad = json!({"name": "bad", "notify": notify, "vessels": {
        "fails": {"run": "exit 3"}, "missing": {"command": ["/no/such/program"]},
    }});
    let bad = api.apply(&bad);
    let before = Scrape::of(&api);
    assert_eq!(before.value(r#"boathook_runs_accepted_total{trigger="webhook"}"#), 0.0);
    assert_eq!(before.value("boathook_accept_duration_seconds_count"), 0.0);
    assert_eq!(before.value("boathook_oldest_waiting_run_age_seconds"), 0.0);

    let runs: Vec<String> = (0..5).map(|_| hook.post(server.hooks(), &[], b"{}")).collect();
    for run in &runs {
        api.wait_status(run, "Success");
    }
    let run = api.start(&bad);
    api.wait_status(&run, "Errored");
    api.post(&format!("/api/v1/runs/{}/replay", runs[0]), &json!({})).expect(201);
    let mut settled = await_values(
        &api,
        &[
            (r#"boathook_runs_accepted_total{trigger="webhook"}"#, 5.0),
            (r#"boathook_webhook_requests_total{verdict="accepted",reason=""}"#, 5.0),
            (r#"boathook_webhook_requests_total{verdict="refused",reason="paused"}"#, 0.0),
            (r#"boathook_runs_accepted_total{trigger="on_demand"}"#, 1.0),
            (r#"boathook_runs_accepted_total{trigger="replay"}"#, 1.0),
            (r#"boathook_runs_accepted_total{trigger="api"}"#, 0.0),
            (r#"boathook_runs_ended_total{status="Success"}"#, 6.0),
            (r#"boathook_runs_ended_total{status="Errored"}"#, 1.0),
            (r#"boathook_runs_ended_total{status="Terminated"}"#, 0.0),
            (r#"boathook_vessel_attempts_total{end="exit_zero"}"#, 6.0),
            (r#"boathook_vessel_attempts_total{end="exit_nonzero"}"#, 1.0),
            (r#"boathook_vessel_attempts_total{end="not_started"}"#, 1.0),
            ("boathook_accept_duration_seconds_count", 5.0),
            ("boathook_vessel_duration_seconds_count", 7.0),
            ("boathook_vessel_spawn_duration_seconds_count", 7.0),
            ("boathook_workers", 2.0),
            ("boathook_workers_busy", 0.0),
            ("boathook_runs_waiting", 0.0),
            ("boathook_runs_active", 0.0),
            ("boathook_notifications_delivered_total", 1.0),
            ("boathook_notifications_given_up_total", 0.0),
            // Its secret may come yet.
            ("boathook_notifications_waiting", 1.0),
            ("boathook_accepting", 1.0),
        ],
    );
    // Each of them took some time, and no more than the test.
    for name in ["accept", "vessel", "vessel_spawn", "commit"] {
        let sum = settled.value(&format!("boathook_{name}_duration_seconds_sum"));
        assert!(sum > 0.0 && sum < 600.0, "{name}: {sum}");
    }
    // Two for each vessel that ran at least, and some for what is configured.
    let commits = settled.value("boathook_commit_duration_seconds_count");
    assert!(commits > 8.0 && settled.value("boathook_commit_group_size_sum") >= commits);
    assert_eq!(commits, settled.value("boathook_commit_group_size_count"));
    for name in ["disk_free", "disk_size", "database_size"] {
        assert!(settled.value(&format!("boathook_{name}_bytes")) > 100_000.0, "{name}");
    }
    assert!(settled.value("process_resident_memory_bytes") > 1e6);

    // What is under way: two workers are busy, a retry waits, one run waits and grows older.
    let retried = json!({"name": "retried", "vessels": {"v": {
        "run": "exit 1", "guardrails": {"retry_count": 1, "retry_wait": "1h"}}}});
    let retried = api.start(&api.apply(&retried));
    await_values(&api, &[("boathook_retries_waiting", 1.0)]);
    let slow = api.apply(&json!({"name": "slow", "vessels": {"v": {"run": "exec sleep 600"}}}));
    let slow: Vec<String> = (0..3).map(|_| api.start(&slow)).collect();
    settled = await_values(
        &api,
        &[
            ("boathook_workers_busy", 2.0),
            ("boathook_runs_waiting", 1.0),
            ("boathook_runs_active", 3.0),
            ("boathook_retries_waiting", 1.0),
        ],
    );
    let age = settled.value("boathook_oldest_waiting_run_age_seconds");
    wait_until("it grows older", || {
        Scrape::of(&api).value("boathook_oldest_waiting_run_age_seconds") > age
    });
    // The one that waits first, so that it does not start.
    for run in slow.iter().rev().chain([&retried]) {
        api.post(&format!("/api/v1/runs/{run}/stop"), &json!({})).expect(200);
    }
    await_values(
        &api,
        &[
            (r#"boathook_runs_ended_total{status="Terminated"}"#, 4.0),
            (r#"boathook_vessel_attempts_total{end="signal"}"#, 2.0),
            ("boathook_workers_busy", 0.0),
            ("boathook_runs_waiting", 0.0),
            ("boathook_retries_waiting", 0.0),
            ("boathook_oldest_waiting_run_age_seconds", 0.0),
        ],
    );
    server.stop();
}

#[test]
fn each_refusal_is_counted_by_its_reason() {
    let server = Server::builder()
        .setting("workers", "1")
        .setting("max_queued_runs", "1")
        .setting("max_body_bytes", "1KiB")
        .setting("head_timeout", "1s")
        .start();
    let api = server.api();
    let post = |path: &str, rest: &str| {
        let request = format!("POST {path} HTTP/1.1\r\nHost: x\r\n{rest}\r\n");
        exchange(server.hooks(), request.as_bytes()).unwrap().status
    };
    let (_, open) = server.fleet_with_webhook(&true_fleet("open"));
    let (choosy, of_choosy) = server.fleet_with_webhook(&true_fleet("choosy"));
    let path = format!("/api/v1/fleets/{choosy}/webhook");
    api.put(&path, &json!({"allow": ["198.51.100.0/24"]})).expect(200);
    let (rare, of_rare) = server.fleet_with_webhook(&true_fleet("rare"));
    let path = format!("/api/v1/fleets/{rare}/webhook");
    api.put(&path, &json!({"rate_limit": "1/h"})).expect(200);
    let slow = json!({"name": "slow", "vessels": {"v": {"run": "exec sleep 600"}}});
    let (_, of_slow) = server.fleet_with_webhook(&slow);

    assert_eq!(post("/hooks/nothing", ""), 400);
    assert_eq!(post("/hooks/nothing", ""), 400);
    assert_eq!(post(&open.target(), "Content-Length: 1025\r\n"), 413);
    assert_eq!(post(&open.target(), "Transfer-Encoding: gzip\r\n"), 501);
    assert_eq!(post(&format!("/{}", "x".repeat(20_000)), ""), 414);
    assert_eq!(post("/", &format!("X: {}\r\n", "x".repeat(70_000))), 431);
    assert_eq!(post("/", "X : y\r\n"), 400);
    let raw = |request: &[u8]| exchange(server.hooks(), request).unwrap().status;
    assert_eq!(raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"), 405);
    assert_eq!(raw(b"GET / HTTP/2.0\r\n\r\n"), 505);
    assert_eq!(raw(b"GET / "), 408);
    assert_eq!(post(&of_choosy.target(), ""), 400);
    assert_eq!([post(&of_rare.target(), ""), post(&of_rare.target(), "")], [201, 429]);
    // One runs, one waits, and a third finds no room.
    let running = of_slow.post(server.hooks(), &[], b"");
    server.wait_until("it runs", || api.run(&running)["status"] == "Running");
    assert_eq!([post(&of_slow.target(), ""), post(&of_slow.target(), "")], [201, 503]);
    let stranger = api.with_token("wrong");
    assert_eq!([stranger.get("/metrics").status, stranger.get("/api/v1/runs").status], [401, 401]);

    // Kept open, so that they can be counted.
    let mut kept = Connection::open(server.hooks()).unwrap();
    kept.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    kept.answer().unwrap().expect(503);
    let reasons = [
        ("unknown_url", 2.0),
        ("too_large", 1.0),
        ("not_implemented", 1.0),
        ("target_too_long", 1.0),
        ("head_too_large", 1.0),
        ("malformed", 1.0),
        ("method_not_allowed", 1.0),
        ("wrong_version", 1.0),
        ("timed_out", 1.0),
        ("not_allowed", 1.0),
        ("rate_limited", 1.0),
        ("queue_full", 1.0),
    ];
    let named: Vec<(String, f64)> =
        reasons.iter().map(|(reason, count)| (refused("hooks", reason), *count)).collect();
    let mut expected: Vec<(&str, f64)> =
        named.iter().map(|(sample, count)| (sample.as_str(), *count)).collect();
    let unauthorized = refused("admin", "unauthorized");
    expected.extend([
        (unauthorized.as_str(), 2.0),
        (r#"boathook_runs_accepted_total{trigger="webhook"}"#, 3.0),
        (r#"boathook_connections_open{listener="hooks"}"#, 1.0),
        // All of the above, but for the six whose head was not valid.
        (r#"boathook_connections_accepted_total{listener="hooks"}"#, 17.0),
        (r#"boathook_requests_total{listener="hooks"}"#, 11.0),
    ]);
    let scrape = await_values(&api, &expected);
    // No other reason was counted, and no token is to be seen.
    let all =
        scrape.text.lines().filter(|line| line.starts_with("boathook_requests_refused_total{"));
    let sum: f64 = all.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum();
    assert_eq!(sum, reasons.iter().map(|(_, count)| count).sum::<f64>() + 2.0);
    for secret in [open.token(), &server.token()] {
        assert!(!scrape.text.contains(secret));
    }
}

#[test]
fn connections_without_a_place_are_counted() {
    let server = Server::builder().setting("max_connections", "1").start();
    let (_, hook) = server.fleet_with_webhook(&true_fleet("held"));
    // An upload, which does not give way, has the one place. Those in reserve last for a second each.
    let mut upload = TcpStream::connect(server.hooks()).unwrap();
    let headers = "Host: x\r\nContent-Length: 5\r\nExpect: 100-continue";
    write!(upload, "POST {} HTTP/1.1\r\n{headers}\r\n\r\n", hook.target()).unwrap();
    upload.read_exact(&mut [0; 25]).unwrap();
    let mut held = Vec::new();
    server.wait_until("one is turned away", || {
        held.push(Connection::open(server.hooks()).unwrap());
        let scrape = Scrape::of(&server.api());
        scrape.value(r#"boathook_connections_turned_away_total{listener="hooks"}"#) > 0.0
    });
    let scrape = Scrape::of(&server.api());
    assert_eq!(
        scrape.value(r#"boathook_connections_turned_away_total{listener="hooks"}"#),
        scrape.value(&refused("hooks", "too_many_connections")),
    );
}

#[test]
fn the_dashboard_shows_what_there_is() {
    let server = Server::start();
    let scrape = Scrape::of(&server.api());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/grafana.json");
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let mut names = BTreeSet::new();
    collect_names(&dashboard, &mut names);
    assert!(names.len() > 30, "{names:?}");
    for name in &names {
        assert!(scrape.has(name), "the dashboard shows {name}, which is not there");
    }
    // Nothing of ours is left out but what is always the same.
    for family in scrape.families.keys().filter(|family| family.starts_with("boathook_")) {
        let is_shown = names.iter().any(|name| name.starts_with(family.as_str()));
        assert!(is_shown, "the dashboard does not show {family}");
    }
}

/// The metrics in all expressions and queries below `value`.
fn collect_names(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                match field {
                    Value::String(text) if key == "expr" || key == "query" => {
                        let words = text.split(|it: char| !it.is_ascii_alphanumeric() && it != '_');
                        let ours = ["boathook_", "process_"];
                        let metrics =
                            words.filter(|word| ours.iter().any(|start| word.starts_with(start)));
                        names.extend(metrics.map(str::to_owned));
                    }
                    _ => collect_names(field, names),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_names(item, names)),
        _ => {}
    }
}

#[test]
fn what_is_not_in_order_is_noticed() {
    let good = "# HELP a_total A.\n# TYPE a_total counter\na_total{x=\"\\\"\\n\"} 1\n";
    assert!(Scrape::parse(good).is_ok());
    for (from, to) in [
        ("# HELP a_total A.", "# HELP a_total A"),
        ("# TYPE a_total counter\n", ""),
        ("counter", "summary"),
        ("counter", "gauge"),
        ("a_total{", "a_totals{"),
        ("} 1", "} -1"),
        ("} 1", "} one"),
        ("} 1\n", "} 1"),
        ("x=", "X="),
        ("\\n", "\\t"),
        ("a_total{x=\"\\\"\\n\"} 1\n", ""),
        ("1\n", "1\na_total{x=\"\\\"\\n\"} 1\n"),
        ("1\n", "1\na_total{y=\"z\"} 1\n"),
    ] {
        assert!(Scrape::parse(&good.replace(from, to)).is_err(), "{from:?} {to:?}");
    }
    let histogram = "# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\n\
        h_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n";
    assert!(Scrape::parse(histogram).is_ok());
    for (from, to) in [
        ("h_count 2", "h_count 3"),
        ("} 1", "} 3"),
        ("le=\"1\"", "le=\"+Inf\""),
        ("le=\"1\"", "le=\"NaN\""),
        ("h_bucket{le=\"+Inf\"} 2\n", ""),
        ("h_sum 3\n", ""),
        ("h_sum 3", "h_sum 0"),
    ] {
        assert!(Scrape::parse(&histogram.replace(from, to)).is_err(), "{from:?} {to:?}");
    }
}
