//! Several servers: a fleet that moves with its URL, servers behind one proxy, and requests that one server
//! sends on to another.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::harness::api::{true_fleet, vessel_of};
use crate::harness::proxy::{Proxy, free_port, topic_block};
use crate::harness::receiver::Receiver;
use crate::harness::server::finish;
use crate::harness::{Hook, Server, wait_until};

const TOPIC: &str = include_str!("../../src/cli/help/elsewhere.md");

/// A fleet that sends on to `url`.
fn forwarding(url: &str) -> Value {
    json!({"name": "intake", "vessels": {"forward": {
        "command": [env!("CARGO_BIN_EXE_boathook"), "forward"],
        "environment": {"FORWARD_URL": url},
    }}})
}

#[test]
fn a_fleet_moves_to_another_server_with_its_url() {
    let (old, new) = (Server::start(), Server::start());
    let fleet = json!({
        "name": "moves", "vessels": {"v": {"run": "cat"}},
        "webhook": {"allow": ["127.0.0.0/8"], "rate_limit": "1000/s"},
    });
    let (id, hook) = old.fleet_with_webhook(&fleet);
    old.api().post(&format!("/api/v1/fleets/{id}/webhook/pause"), &json!({})).expect(200);
    let file = old.scratch().join("moves.export");
    let out = fs::File::create(&file).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let mut export = old.cli(&["fleet", "export", "moves"]);
    let done = export.stdout(out).output().unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.success() && said.contains("This file is a secret"), "{said}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::read_to_string(&file).unwrap().contains("This file is a secret"));
    let import = || finish(new.cli(&["fleet", "import", file.to_str().unwrap()]));
    for _ in 0..2 {
        let (code, stdout, stderr) = import();
        assert_eq!((code, stdout.as_str()), (0, "imported moves\n"), "{stderr}");
        assert!(!stderr.contains(hook.token()), "the URL is in the file alone");
        assert!(stderr.contains("boathook fleet delete; until then its schedules run"), "{stderr}");
    }
    // Paused as it was.
    assert_eq!(hook.try_post(new.hooks(), &[], b"x").unwrap().status, 503);
    let (code, ..) = finish(new.cli(&["webhook", "resume", "moves"]));
    assert_eq!(code, 0);
    let run = hook.post(new.hooks(), &[], b"the body");
    let ended = new.api().wait_status(&run, "Success");
    assert_eq!(new.api().output(&ended, "v"), "the body");
    assert_eq!(ended["fleet_id"], id.as_str());
    let moved = new.api().get(&format!("/api/v1/fleets/{id}/webhook")).expect(200).data();
    assert_eq!(
        (&moved["allow"], &moved["rate_limit"]),
        (&json!(["127.0.0.0/8"]), &json!("1000/s"))
    );
    // Another webhook is not overwritten.
    let (code, ..) = finish(new.cli(&["webhook", "replace", "moves"]));
    assert_eq!(code, 0);
    let (code, _, stderr) = import();
    assert!(code == 1 && stderr.contains("has a webhook with another URL here"), "{stderr}");
    let (code, _, stderr) = finish(new.cli(&["fleet", "import", "/etc/passwd"]));
    assert!(code == 1 && stderr.contains("is no file of `boathook fleet export`"), "{stderr}");
}

#[test]
fn a_webhook_takes_an_existing_token() {
    let server = Server::start();
    let (_, hook) = server.fleet_with_webhook(&true_fleet("first"));
    server.api().apply(&true_fleet("second"));
    let file = server.scratch().join("token");
    let file = file.to_str().unwrap();
    let add = || finish(server.cli(&["webhook", "add", "second", "--token-file", file]));
    for (content, message) in [
        (
            format!("https://hooks.example.com/hooks/{}\n", hook.token()),
            "a webhook of another fleet has this token",
        ),
        (server.token(), "this is a token of the API"),
        ("short".to_owned(), "holds no webhook's URL"),
    ] {
        fs::write(file, &content).unwrap();
        let (code, stdout, stderr) = add();
        assert!(code == 1 && stdout.is_empty() && stderr.contains(message), "{stderr}");
        assert!(!stderr.contains(content.trim()), "a token is shown");
    }
    let token = "A".repeat(43);
    fs::write(file, format!("{token}\n")).unwrap();
    let (code, stdout, stderr) = add();
    assert!(code == 0 && stdout.trim().ends_with(&format!("/hooks/{token}")), "{stderr}");
    let run = Hook::from_url(stdout.trim()).post(server.hooks(), &[], b"");
    server.api().wait_status(&run, "Success");
}

#[test]
fn a_request_is_sent_on_as_it_came() {
    let receiver =
        Receiver::start(|_| Some("201 Created\r\nX-Request-Id: theirs\r\n\r\n{}".to_owned()));
    let server = Server::start();
    let url = format!("http://{}/hooks/next?own=1", receiver.address);
    let (_, hook) = server.fleet_with_webhook(&forwarding(&url));
    let target = format!("{}?a=1&b=%20", hook.target());
    let answer = server.api();
    let headers = [
        ("X-Signature", "sha256=0f"),
        ("X-Two", "a"),
        ("Connection", "close, X-Hop"),
        ("X-Hop", "1"),
        ("Content-Type", "text/odd"),
    ];
    let mut request = format!("POST {target} HTTP/1.1\r\nHost: intake\r\nContent-Length: 8\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    let mut connection = crate::harness::Connection::open(server.hooks()).unwrap();
    connection.send((request + "\r\nthe body").as_bytes()).unwrap();
    let said = String::from_utf8(connection.read_to_end()).unwrap();
    assert!(said.starts_with("HTTP/1.1 201"), "{said}");
    let (_, json) = said.split_once("\r\n\r\n").unwrap();
    let ids: Value = serde_json::from_str(json.trim()).unwrap();
    let run = ids["data"]["fleet_run_id"].as_str().unwrap().to_owned();
    let ended = answer.wait_status(&run, "Success");
    assert_eq!(answer.output(&ended, "forward"), "127.0.0.1 answers 201 to the request theirs\n");
    let received = receiver.received();
    let [received] = received.as_slice() else { panic!("{received:?}") };
    assert_eq!(
        (received.target.as_str(), received.body.as_str()),
        ("/hooks/next?own=1&a=1&b=%20", "the body")
    );
    for (name, value) in [
        ("x-signature", "sha256=0f"),
        ("x-two", "a"),
        ("content-type", "text/odd"),
        ("content-length", "8"),
        ("idempotency-key", &run),
    ] {
        assert_eq!(received.header(name), value);
    }
    let names: Vec<&str> = received.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert!(!names.contains(&"x-hop") && received.header("host") != "intake", "{names:?}");
}

#[test]
fn the_exit_code_says_whether_to_send_again() {
    let receiver = Receiver::start(|number| {
        let statuses = [
            "200 OK",
            "401 Unauthorized",
            "503 Service Unavailable",
            "302 Found\r\nLocation: http://127.0.0.1:1/",
        ];
        Some(format!("{}\r\n\r\n", statuses[number]))
    });
    let server = Server::start();
    let id = server.api().apply(&forwarding(&format!("http://{}/x", receiver.address)));
    for (status, code) in [("Success", 0), ("Errored", 1), ("Errored", 111), ("Errored", 1)] {
        let ended = server.api().wait_status(&server.api().start(&id), status);
        assert_eq!(vessel_of(&ended, "forward")["exit_code"], code);
    }
    let id = server.api().apply(&forwarding("http://127.0.0.1:1/hooks/SECRET"));
    let ended = server.api().wait_status(&server.api().start(&id), "Errored");
    assert_eq!(vessel_of(&ended, "forward")["exit_code"], 111);
    assert!(!server.api().output(&ended, "forward").contains("SECRET"));
    let (code, _, stderr) = finish(server.cli(&["forward", "http://127.0.0.1:1/"]));
    assert!(code == 1 && stderr.contains("this is a vessel's command"), "{stderr}");
}

#[test]
fn a_large_body_is_sent_on_byte_for_byte() {
    let (intake, next) = (Server::start(), Server::start());
    let (_, last) =
        next.fleet_with_webhook(&json!({"name": "last", "vessels": {"v": {"run": "sha256sum"}}}));
    let url = format!("http://{}{}", next.hooks(), last.target());
    let (_, hook) = intake.fleet_with_webhook(&forwarding(&url));
    let body: Vec<u8> = (0..20_000_000_u32).map(|at| (at ^ (at >> 7)) as u8).collect();
    let run = hook.post(intake.hooks(), &[], &body);
    intake.api().wait_status(&run, "Success");
    let [run] = next.wait_all_ended().try_into().unwrap();
    let sum = crate::harness::sha256(&body);
    assert_eq!(next.api().output(&run, "v"), format!("{sum}  -\n"));
}

/// nginx at `address` with the topic's block: `one` has all webhooks but that of `moved`, which `two` has.
fn nginx(address: &str, one: &Server, two: &Server, moved: &Hook) -> Proxy {
    let block = topic_block(
        TOPIC,
        "## Several machines",
        "nginx",
        &[
            ("listen 443 ssl", &format!("listen {address}")),
            ("one.example.com:9000", one.hooks()),
            ("two.example.com:9000", two.hooks()),
            ("TOKEN_OF_A_FLEET", moved.token()),
        ],
    );
    let proxy =
        Proxy::nginx(tempfile::tempdir().unwrap(), &block, format!("http://{address}"), Vec::new());
    wait_until("the proxy answers", || proxy.ask("GET", "/healthz").0 == "200");
    proxy
}

#[test]
fn fleets_of_two_servers_share_a_proxy_and_one_moves_with_its_url() {
    let server = || Server::builder().setting("trusted_proxies", "127.0.0.1").start();
    let (one, two) = (server(), server());
    let fleet = |name: &str| json!({"name": name, "vessels": {"v": {"run": "cat; echo; echo $BOATHOOK_REMOTE_ADDR"}}});
    let (stays, of_stays) = one.fleet_with_webhook(&fleet("stays"));
    let (moves, of_moves) = one.fleet_with_webhook(&fleet("moves"));
    let (other, of_other) = two.fleet_with_webhook(&fleet("other"));
    let address = format!("127.0.0.1:{}", free_port());
    let body = one.scratch().join("body");
    fs::write(&body, "the body").unwrap();
    // A request to the hook, which `server` runs: the id of its fleet.
    let post = |proxy: &Proxy, hook: &Hook, end: &str, server: &Server| {
        let (status, answer) = proxy.post(&format!("{}{end}", hook.target()), &body, &[]);
        assert_eq!(status, "201", "{answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let run = answer["data"]["fleet_run_id"].as_str().unwrap();
        let ended = server.api().wait_status(run, "Success");
        assert_eq!(server.api().output(&ended, "v"), "the body\n127.0.0.2\n");
        ended["fleet_id"].as_str().unwrap().to_owned()
    };
    let proxy = nginx(&address, &one, &two, &of_other);
    assert_eq!(post(&proxy, &of_stays, "", &one), stays);
    assert_eq!(post(&proxy, &of_moves, "", &one), moves);
    assert_eq!(post(&proxy, &of_other, "", &two), other);
    drop(proxy);

    let file = one.scratch().join("moves.export");
    let mut export = one.cli(&["fleet", "export", "moves"]);
    assert!(export.stdout(fs::File::create(&file).unwrap()).status().unwrap().success());
    let import = finish(two.cli(&["fleet", "import", file.to_str().unwrap()]));
    assert_eq!(import.0, 0, "{}", import.2);
    let proxy = nginx(&address, &one, &two, &of_moves);
    let remove = finish(one.cli(&["webhook", "remove", "moves", "--yes"]));
    assert_eq!(remove.0, 0, "{}", remove.2);
    for end in ["", "/", "?a=1"] {
        assert_eq!(post(&proxy, &of_moves, end, &two), moves, "{end}");
    }
    assert_eq!(post(&proxy, &of_stays, "", &one), stays);
}

#[test]
fn a_forward_that_is_repeated_is_one_run() {
    let (intake, next) = (Server::start(), Server::start());
    let (_, hook) = next.fleet_with_webhook(&json!({
        "name": "last", "vessels": {"v": {"run": "cat"}},
        "webhook": {"deduplicate": {"id": "headers[\"idempotency-key\"]"}},
    }));
    // Each first attempt ends as if the answer had not come.
    let script =
        format!("{} forward && [ \"$BOATHOOK_ATTEMPT\" = 2 ]", env!("CARGO_BIN_EXE_boathook"));
    let (_, of_intake) =
        intake.fleet_with_webhook(&json!({"name": "intake", "vessels": {"forward": {
            "run": script,
            "environment": {"FORWARD_URL": format!("http://{}{}", next.hooks(), hook.target())},
            "guardrails": {"retry_count": 1},
        }}}));
    let bodies = ["one", "two", "two"];
    for body in bodies {
        let run = of_intake.post(intake.hooks(), &[], body.as_bytes());
        let ended = intake.api().wait_status(&run, "Success");
        assert_eq!(vessel_of(&ended, "forward")["attempt"], 2);
    }
    let runs = next.wait_all_ended();
    let mut outputs: Vec<_> = runs.iter().map(|run| next.api().output(run, "v")).collect();
    outputs.sort();
    assert_eq!(outputs, bodies, "a repeat is no run, and another request is one");
    for run in intake.api().all_runs() {
        assert!(intake.api().output(&run, "forward").contains(" answers 200 "), "{run}");
    }
}
