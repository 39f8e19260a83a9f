//! What the senders of accepted requests are answered: fixed answers, and those of vessels.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::http::post_request;
use crate::harness::{Answer, Connection, Hook, Server};

/// A fleet whose one vessel `v` runs `script`, with this answer.
fn fleet(script: &str, respond: &Value) -> Value {
    json!({"name": "answers", "vessels": {"v": {"run": script}}, "webhook": {"respond": respond}})
}

/// What a sender gets of a fleet that is made for it.
#[track_caller]
fn answer_of(server: &Server, script: &str, respond: &Value) -> Answer {
    let id = server.api().apply(&fleet(script, respond));
    let hook = hook_of(server, &id);
    hook.try_post(server.hooks(), &[], b"{}").unwrap()
}

fn hook_of(server: &Server, id: &str) -> Hook {
    let webhook = format!("/api/v1/fleets/{id}/webhook");
    match server.api().get(&webhook).status {
        200 => Hook::from_url(server.api().get(&webhook).data()["url"].as_str().unwrap()),
        _ => server.api().add_webhook(id),
    }
}

/// The run that an answer names in its header.
#[track_caller]
fn run_of(answer: &Answer) -> String {
    answer.header("boathook-run").expect("Boathook-Run").to_owned()
}

/// The log of the vessel `v` of the run that an answer names.
#[track_caller]
fn log_of(server: &Server, answer: &Answer) -> String {
    let run = server.api().wait_ended(&run_of(answer));
    server.api().output(&run, "v")
}

/// Whether the answer says that the run goes on, with the ids that a 201 has.
#[track_caller]
fn assert_late(answer: &Answer) {
    assert_eq!(answer.status, 202, "{}", answer.text());
    let data = answer.data();
    assert_eq!(data["fleet_run_id"], run_of(answer));
    assert!(data["fleet_id"].is_string() && data["org_id"].is_string(), "{data}");
    assert_eq!(answer.header("x-request-id"), answer.json()["request"]["id"].as_str());
}

/// A sender that has sent its request and waits.
fn waiting(server: &Server, hook: &Hook, headers: &[(&str, &str)]) -> Connection {
    let mut client = Connection::open(server.hooks()).unwrap();
    client.send(&post_request(&hook.target(), headers, b"{}")).unwrap();
    client
}

/// The number of senders that wait.
fn waiting_senders(server: &Server) -> u64 {
    let text = server.api().get("/metrics").expect(200).text();
    let line = text.lines().find(|line| line.starts_with("boathook_waiting_senders ")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_fixed_answer_takes_the_place_of_the_ids() {
    let server = Server::start();
    let respond = json!({"status": 202, "content_type": "application/xml", "body": "<ok/>"});
    let answer = answer_of(&server, "true", &respond).expect(202);
    assert_eq!(
        (answer.text().as_str(), answer.header("content-type")),
        ("<ok/>", Some("application/xml"))
    );
    let run = run_of(&answer);
    assert_eq!(answer.header("x-request-id").map(|id| id.len()), Some(36));
    let delivery = server.api().get("/api/v1/deliveries").data()[0].clone();
    assert_eq!((&delivery["status"], &delivery["run_id"]), (&json!(202), &json!(run)));
    let id = server.api().apply(&fleet("true", &json!({"status": 204})));
    let close = [("Connection", "close")];
    let empty = hook_of(&server, &id).try_post(server.hooks(), &close, b"").unwrap().expect(204);
    assert!(empty.body.is_empty() && empty.header("content-length").is_none());
    let plain = answer_of(&server, "true", &json!({"body": "thanks"})).expect(200);
    assert_eq!(plain.header("content-type"), Some("text/plain; charset=utf-8"));
    // Once durable: the run is there after a crash.
    let mut server = server;
    let answer = answer_of(&server, "true", &json!({"body": "thanks"})).expect(200);
    server.crash_and_restart();
    server.api().wait_ended(&run_of(&answer));
}

#[test]
fn a_sender_that_waits_gets_the_output_and_a_status_by_the_end() {
    let server = Server::start();
    let wait = json!({"wait": "5m"});
    for (script, status, text) in [
        ("echo done", 200, "done\n"),
        ("echo failed >&2; exit 3", 500, "failed\n"),
        ("cat; printf x", 200, "{}x"),
        ("true", 200, ""),
    ] {
        let answer = answer_of(&server, script, &wait).expect(status);
        assert_eq!(answer.text(), text, "{script}");
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        let run = server.api().run(&run_of(&answer));
        assert!(run["ended_at"].is_string(), "the answer came before the end: {run}");
    }
    let answer = answer_of(&server, "head -c 3000000 /dev/zero | tr '\\0' x", &wait).expect(200);
    assert!(answer.text().contains("boathook: cut; `boathook runs logs "), "said at its end");
    assert!(answer.body.len() < (1 << 20) + 200, "{}", answer.body.len());
}

#[test]
fn a_response_in_cgi_form_goes_to_the_sender() {
    let server = Server::start();
    let wait = json!({"wait": "5m"});
    let respond = |text: &str, then: &str| {
        let script = format!("printf '{text}' > \"$BOATHOOK_RESPONSE_FILE\"; echo seen; {then}");
        answer_of(&server, &script, &wait)
    };
    let json_type = "Content-Type: application/json";
    let answer = respond(&format!("Status: 201 Made\\n{json_type}\\nX-A: b c\\n\\n{{}}"), "");
    let answer = answer.expect(201);
    assert_eq!((answer.text().as_str(), answer.header("x-a")), ("{}", Some("b c")));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(log_of(&server, &answer), "seen\n", "what it answers is not its log");
    // Without a status it is 200, however the vessel ends.
    assert_eq!(respond("\\nplain", "").expect(200).text(), "plain");
    assert_eq!(respond("\\nplain", "exit 1").expect(200).text(), "plain");
    assert_eq!(respond("Status: 404\\r\\n\\r\\n", "exit 1").expect(404).text(), "");
    let away = respond("Location: https://example.com/\\n\\n", "").expect(302);
    assert_eq!(away.header("location"), Some("https://example.com/"));
    // Its mode keeps it from other users, and each attempt begins with an empty one.
    let script = "stat -c '%a %s' \"$BOATHOOK_RESPONSE_FILE\"; echo x > \"$BOATHOOK_RESPONSE_FILE\"; \
                  test $BOATHOOK_ATTEMPT = 2 && : > \"$BOATHOOK_RESPONSE_FILE\"";
    let mut definition = fleet(script, &wait);
    definition["vessels"]["v"]["guardrails"] = json!({"retry_count": 1});
    let hook = hook_of(&server, &server.api().apply(&definition));
    let answer = hook.try_post(server.hooks(), &[], b"").unwrap().expect(200);
    assert_eq!(answer.text(), "600 0\n", "of the attempt that counts");
}

#[test]
fn a_wrong_response_is_502_and_the_log_says_why() {
    let server = Server::start();
    let wait = json!({"wait": "5m"});
    let secret = server.scratch().join("secret");
    std::fs::write(&secret, "Status: 200\n\nstolen").unwrap();
    for (script, expected) in [
        ("echo hello > $F", "line 1, `hello`, is no header"),
        ("printf 'Status: 700\\n\\n' > $F", "`Status: 700` is no status"),
        ("printf 'Status: 100\\n\\n' > $F", "`Status: 100` is no status"),
        ("printf 'A b: c\\n\\n' > $F", "is no header"),
        (
            "printf 'Transfer-Encoding: chunked\\n\\n' > $F",
            "`Transfer-Encoding` is the server's own",
        ),
        ("printf 'Connection: close\\n\\n' > $F", "`Connection` is the server's own"),
        ("printf 'Content-Length: 9\\n\\nx' > $F", "`Content-Length: 9` is wrong"),
        ("printf 'X-A: b\\rX-B: c\\n\\n' > $F", "control characters"),
        ("rm $F; mkdir $F", "no regular file"),
        ("rm $F; mkfifo $F", "no regular file"),
        (&format!("rm $F; ln -s {} $F", secret.display()), "symbolic link"),
    ] {
        let script = format!("F=$BOATHOOK_RESPONSE_FILE; {script}");
        let answer = answer_of(&server, &script, &wait).expect(502);
        assert!(!answer.text().contains("stolen"));
        assert!(answer.header("transfer-encoding").is_none());
        let log = log_of(&server, &answer);
        assert!(log.starts_with("boathook: the response: "), "{script}: {log}");
        assert!(log.contains(expected), "{script}: {log}");
        assert!(log.contains("the sender gets 502"), "{log}");
        assert_eq!(server.api().run(&run_of(&answer))["status"], "Success", "{script}");
    }
}

#[test]
fn a_response_over_the_limit_is_cut_and_the_log_says_so() {
    let server = Server::start();
    let script = "F=$BOATHOOK_RESPONSE_FILE; printf 'Status: 203\\n\\n' > $F; \
                  head -c 1073741824 /dev/zero >> $F 2> /dev/null; true";
    let mut definition = fleet(script, &json!({"wait": "5m"}));
    // A limit, so that a small disk takes it.
    definition["vessels"]["v"]["limits"] = json!({"file_size": "64MiB"});
    let hook = hook_of(&server, &server.api().apply(&definition));
    let answer = hook.try_post(server.hooks(), &[], b"").unwrap().expect(203);
    assert_eq!(answer.body.len(), (1 << 20) - "Status: 203\n\n".len());
    let log = log_of(&server, &answer);
    assert!(log.contains("the response: cut at 1MiB, the most that a sender gets"), "{log}");
}

#[test]
fn the_vessel_that_is_named_answers_and_others_do_not() {
    let server = Server::start();
    let script = "echo \"${BOATHOOK_RESPONSE_FILE:-none}\"; test -n \"$BOATHOOK_RESPONSE_FILE\" && \
                  printf '\\nof v' > \"$BOATHOOK_RESPONSE_FILE\"";
    let definition = |vessel: Option<&str>| {
        let mut respond = json!({"wait": "5m"});
        if let Some(vessel) = vessel {
            respond["vessel"] = json!(vessel);
        }
        json!({"name": "two", "vessels": {"v": {"run": script}, "w": {"run": "echo of w; exit 1"}},
            "connections": {"v": {"w": "COMPLETED"}}, "webhook": {"respond": respond}})
    };
    let post = |vessel| {
        let hook = hook_of(&server, &server.api().apply(&definition(vessel)));
        hook.try_post(server.hooks(), &[], b"").unwrap()
    };
    // The vessel's own end counts, although the run has failed.
    assert_eq!(post(Some("v")).expect(200).text(), "of v");
    assert_eq!(post(Some("w")).expect(500).text(), "of w\n");
    // Without a name, the last response.
    assert_eq!(post(None).expect(200).text(), "of v");

    let api = server.api();
    let refused = |respond: Value| {
        let mut definition = definition(None);
        definition["webhook"]["respond"] = respond;
        let content = ("application/json", definition.to_string().into_bytes());
        let answer = api.call("PUT", "/api/v1/fleets?by=name", Some(content)).expect(422);
        answer.json()["error"]["message"].as_str().unwrap().to_owned()
    };
    for (respond, expected) in [
        (
            json!({"wait": "1s", "vessel": "x"}),
            "webhook.respond.vessel: there is no vessel \"x\"; there are v, w",
        ),
        (json!({"wait": "6m"}), "webhook.respond.wait: longer than 5m"),
        (json!({"wait": "0s"}), "webhook.respond.wait: no time at all"),
        (json!({"vessel": "v"}), "webhook.respond.wait: missing"),
        (
            json!({"wait": "1s", "status": 200}),
            "webhook.respond.status: is for an answer that is always the same",
        ),
        (json!({"status": 199}), "webhook.respond.status: "),
        (json!({"status": 600}), "webhook.respond.status: "),
        (json!({"status": 204, "body": "x"}), "webhook.respond.body: an answer 204 has no body"),
        (json!({"body": "x".repeat(20_000)}), "webhook.respond.body: 20000 bytes; at most 16384"),
        (json!({"content_type": "text/plain\r\nX: y"}), "webhook.respond.content_type: no type"),
        (json!({}), "webhook.respond: says nothing"),
    ] {
        let message = refused(respond.clone());
        assert!(message.contains(expected), "{respond}: {message}");
    }
    // An edit that takes the vessel away is refused as well.
    api.apply(&definition(Some("w")));
    let without = json!({"name": "two", "vessels": {"v": {"run": "true"}}});
    let content = ("application/json", without.to_string().into_bytes());
    let refused = api.call("PUT", "/api/v1/fleets?by=name", Some(content)).expect(422);
    assert!(refused.error().contains("there is no vessel"), "{}", refused.error());
}

#[test]
fn a_sender_that_is_too_late_gets_202() {
    let server = Server::builder().setting("max_waiting", "2").start();
    let gate = server.scratch().join("gate");
    let script = format!("until test -e {}; do sleep 0.05; done; echo done", gate.display());
    let short = answer_of(&server, &script, &json!({"wait": "10ms"}));
    assert_late(&short);
    let definition = fleet(&script, &json!({"wait": "5m"}));
    let hook = hook_of(&server, &server.api().apply(&definition));
    // The sender itself may ask for less, and for no wait at all.
    for prefer in ["wait=0", "respond-async", "foo, wait=1", "WAIT=0; a=b"] {
        let answer = hook.try_post(server.hooks(), &[("Prefer", prefer)], b"").unwrap();
        assert_late(&answer);
    }
    // Two may wait; the third is answered at once.
    let mut waiting: Vec<_> = (0..2).map(|_| waiting(&server, &hook, &[])).collect();
    server.wait_until("two senders wait", || waiting_senders(&server) == 2);
    assert_late(&hook.try_post(server.hooks(), &[], b"").unwrap());
    // A sender that goes away leaves its place, and its run goes on.
    drop(waiting.pop());
    server.wait_until("one sender waits", || waiting_senders(&server) == 1);
    let mut again = self::waiting(&server, &hook, &[("Prefer", "wait=86400")]);
    server.wait_until("two senders wait", || waiting_senders(&server) == 2);
    std::fs::write(&gate, "").unwrap();
    for client in [&mut waiting[0], &mut again] {
        assert_eq!(client.answer().unwrap().expect(200).text(), "done\n");
    }
    server.wait_until("no sender waits", || waiting_senders(&server) == 0);
    let runs = server.wait_all_ended();
    assert_eq!(runs.len(), 9);
    assert!(runs.iter().all(|run| run["status"] == "Success"), "{runs:?}");
}

#[test]
fn waiting_senders_hold_no_handler() {
    let server = Server::start();
    let gate = server.scratch().join("gate");
    let script = format!("until test -e {}; do sleep 0.2; done", gate.display());
    let mut definition = fleet(&script, &json!({"wait": "5m"}));
    definition["concurrency"] = json!(1);
    let hook = hook_of(&server, &server.api().apply(&definition));
    // More than there are handlers, or requests that may be under way.
    let mut clients: Vec<_> = (0..200).map(|_| waiting(&server, &hook, &[])).collect();
    server.wait_until("all wait", || waiting_senders(&server) == 200);
    let (_, other) =
        server.fleet_with_webhook(&json!({"name": "other", "vessels": {"v": {"run": "true"}}}));
    for _ in 0..20 {
        other.post(server.hooks(), &[], b"{}");
    }
    std::fs::write(&gate, "").unwrap();
    for client in &mut clients {
        client.answer().unwrap().expect(200);
    }
}

#[test]
fn a_stop_and_a_cutoff_answer_the_sender() {
    let server = Server::start();
    let api = server.api();
    let mut definition = fleet("echo begun; exec sleep 1000", &json!({"wait": "5m"}));
    let hook = hook_of(&server, &api.apply(&definition));
    let mut client = waiting(&server, &hook, &[]);
    let run = || api.all_runs()[0]["id"].as_str().unwrap().to_owned();
    server.wait_until("a run", || !api.all_runs().is_empty());
    server.wait_until("it runs", || api.run(&run())["status"] == "Running");
    api.call("POST", &format!("/api/v1/runs/{}/stop", run()), None).expect(200);
    let answer = client.answer().unwrap().expect(503);
    assert_eq!(run_of(&answer), run());
    // Stopped while it waits to start: nothing has written anything.
    definition["concurrency"] = json!(1);
    api.apply(&definition);
    let mut first = waiting(&server, &hook, &[]);
    server.wait_until("a run", || api.all_runs().len() == 2);
    let mut second = waiting(&server, &hook, &[]);
    server.wait_until("a queued run", || api.all_runs().len() == 3);
    api.call("POST", &format!("/api/v1/runs/{}/stop", run()), None).expect(200);
    assert_eq!(second.answer().unwrap().expect(503).text(), "");
    let running = api.all_runs()[1]["id"].as_str().unwrap().to_owned();
    api.call("POST", &format!("/api/v1/runs/{running}/stop"), None).expect(200);
    first.answer().unwrap().expect(503);

    definition["vessels"]["v"]["guardrails"] = json!({"runtime_cutoff": "200ms"});
    api.apply(&definition);
    let answer = hook.try_post(server.hooks(), &[], b"").unwrap().expect(500);
    assert!(answer.text().starts_with("begun\n"), "{}", answer.text());
}

#[test]
fn a_server_that_stops_answers_202_and_the_run_goes_on() {
    let mut server = Server::builder().setting("shutdown_grace", "0s").start();
    let gate = server.scratch().join("gate");
    let script = format!("until test -e {}; do sleep 0.05; done; echo done", gate.display());
    let id = server.api().apply(&fleet(&script, &json!({"wait": "5m"})));
    let hook = hook_of(&server, &id);
    let mut clients: Vec<_> = (0..3).map(|_| waiting(&server, &hook, &[])).collect();
    server.wait_until("all wait", || waiting_senders(&server) == 3);
    let begun = Instant::now();
    server.signal(Signal::TERM);
    let answers: Vec<_> = clients.iter_mut().map(|client| client.answer().unwrap()).collect();
    answers.iter().for_each(assert_late);
    server.wait_exit();
    assert!(begun.elapsed() < Duration::from_secs(60), "a sender holds the stop up");
    server.start_again();
    std::fs::write(&gate, "").unwrap();
    for answer in &answers {
        assert_eq!(server.api().wait_ended(&run_of(answer))["status"], "Success");
    }
}

#[test]
fn a_run_within_the_grace_of_a_stop_still_answers() {
    let mut server = Server::start();
    let gate = server.scratch().join("gate");
    let script = format!("until test -e {}; do sleep 0.05; done; echo done", gate.display());
    let hook = hook_of(&server, &server.api().apply(&fleet(&script, &json!({"wait": "5m"}))));
    let mut client = waiting(&server, &hook, &[]);
    let runs = || server.api().all_runs();
    server.wait_until("it runs", || runs().first().is_some_and(|run| run["status"] == "Running"));
    server.signal(Signal::TERM);
    std::fs::write(&gate, "").unwrap();
    assert_eq!(client.answer().unwrap().expect(200).text(), "done\n");
    server.wait_exit();
}

#[test]
fn a_crash_takes_the_sender_and_not_the_run() {
    let mut server = Server::start();
    let gate = server.scratch().join("gate");
    let script = format!(
        "until test -e {}; do sleep 0.05; done; printf '\\nx' > \"$BOATHOOK_RESPONSE_FILE\"",
        gate.display()
    );
    let hook = hook_of(&server, &server.api().apply(&fleet(&script, &json!({"wait": "5m"}))));
    let mut client = waiting(&server, &hook, &[]);
    server.wait_until("it waits", || waiting_senders(&server) == 1);
    server.crash_and_restart();
    assert!(client.answer().is_err(), "the connection is gone");
    std::fs::write(&gate, "").unwrap();
    let runs = server.wait_all_ended();
    assert_eq!((runs.len(), &runs[0]["status"]), (1, &json!("Success")), "its file is there again");
}

#[test]
fn a_duplicate_of_a_run_that_is_waited_for_gets_its_ids_at_once() {
    let server = Server::start();
    let gate = server.scratch().join("gate");
    let script = format!("until test -e {}; do sleep 0.05; done; echo done", gate.display());
    server.api().call("PUT", "/api/v1/secrets/HOOK", Some(("text/plain", b"secret".to_vec())));
    let mut definition = fleet(&script, &json!({"wait": "5m"}));
    definition["webhook"]["verify"] = json!({"preset": "gitlab", "secret": "HOOK"});
    let hook = hook_of(&server, &server.api().apply(&definition));
    let headers = [("X-Gitlab-Token", "secret"), ("webhook-id", "1"), ("X-Gitlab-Event-UUID", "1")];
    let mut client = waiting(&server, &hook, &headers);
    server.wait_until("it waits", || waiting_senders(&server) == 1);
    let duplicate = hook.try_post(server.hooks(), &headers, b"{}").unwrap().expect(200);
    assert_eq!(duplicate.header("boathook-duplicate"), Some("true"));
    std::fs::write(&gate, "").unwrap();
    let answer = client.answer().unwrap().expect(200);
    assert_eq!(duplicate.data()["fleet_run_id"], run_of(&answer));
}

#[test]
fn runs_without_a_sender_get_the_file_too() {
    let server = Server::start();
    let api = server.api();
    let script = "printf '\\nx' > \"$BOATHOOK_RESPONSE_FILE\" && echo written";
    let id = api.apply(&fleet(script, &json!({"wait": "5m"})));
    let run = api.wait_ended(&api.start(&id));
    assert_eq!((&run["status"], api.output(&run, "v").as_str()), (&json!("Success"), "written\n"));
    // A test answers with the ids, as a script expects.
    let content = Some(("application/json", b"{}".to_vec()));
    let answer = api.call("POST", &format!("/api/v1/fleets/{id}/test"), content).expect(201);
    api.wait_ended(answer.data()["fleet_run_id"].as_str().unwrap());
    // Where nothing waits there is none.
    let id = api.apply(
        &json!({"name": "none", "vessels": {"v": {"run": "echo ${BOATHOOK_RESPONSE_FILE-none}"}}}),
    );
    let run = api.wait_ended(&api.start(&id));
    assert_eq!(api.output(&run, "v"), "none\n");
}

#[test]
fn a_slow_reader_of_a_large_answer_keeps_its_place_and_gets_all() {
    let server = Server::builder().setting("max_waiting", "1").start();
    let script = "printf '\\n' > $BOATHOOK_RESPONSE_FILE; \
                  head -c 1000000 /dev/zero >> $BOATHOOK_RESPONSE_FILE";
    let hook = hook_of(&server, &server.api().apply(&fleet(script, &json!({"wait": "5m"}))));
    let mut client = waiting(&server, &hook, &[]);
    server.wait_until("the run has ended", || {
        server.api().all_runs().first().is_some_and(|run| run["ended_at"].is_string())
    });
    let answer = client.answer().unwrap().expect(200);
    assert_eq!(answer.body.len(), 1_000_000);
    server.wait_until("the place is free", || waiting_senders(&server) == 0);
}
