//! Admission of requests: client addresses behind proxies, allow lists, rate limits, the floor under free
//! disk space.

use serde_json::{Value, json};

use crate::harness::api::true_fleet;
use crate::harness::http::{exchange, post_request};
use crate::harness::server::finish;
use crate::harness::{Answer, Api, Connection, Hook, Server, assert_error};

const FORWARDED_FOR: &str = "X-Forwarded-For";

/// A fleet whose vessel prints where its request came from.
fn address_fleet(name: &str) -> Value {
    json!({"name": name, "vessels": {"v": {"run": "echo $BOATHOOK_REMOTE_ADDR"}}})
}

fn settings_path(fleet: &str) -> String {
    format!("/api/v1/fleets/{fleet}/webhook")
}

#[track_caller]
fn post(server: &Server, hook: &Hook, headers: &[(&str, &str)]) -> Answer {
    hook.try_post(server.hooks(), headers, b"{}").unwrap()
}

/// What the vessel of the accepted request saw.
#[track_caller]
fn address_seen(server: &Server, api: &Api, hook: &Hook, headers: &[(&str, &str)]) -> String {
    let run = hook.post(server.hooks(), headers, b"");
    let run = api.wait_status(&run, "Success");
    api.output(&run, "v").trim().to_owned()
}

#[test]
fn only_trusted_proxies_tell_where_a_request_comes_from() {
    let mut server = Server::start();
    let (_, hook) = server.fleet_with_webhook(&address_fleet("where"));
    let forged = [(FORWARDED_FOR, "198.51.100.7")];
    assert_eq!(address_seen(&server, &server.api(), &hook, &forged), "127.0.0.1");
    server.stop();

    let mut server = Server::builder().setting("trusted_proxies", "127.0.0.1,10.0.0.0/8").start();
    let (_, hook) = server.fleet_with_webhook(&address_fleet("where"));
    let api = server.api();
    for (headers, address) in [
        (vec![], "127.0.0.1"),
        (vec![(FORWARDED_FOR, "1.2.3.4, 198.51.100.7, 10.1.1.1")], "198.51.100.7"),
        (vec![("Forwarded", "for=\"[2001:db8::7]:4711\"")], "2001:db8::7"),
        (vec![(FORWARDED_FOR, "198.51.100.7"), (FORWARDED_FOR, "unknown")], "127.0.0.1"),
    ] {
        assert_eq!(address_seen(&server, &api, &hook, &headers), address, "{headers:?}");
    }
    server.stop();
}

#[test]
fn a_webhook_takes_requests_from_its_allow_list_only() {
    let mut server = Server::builder().setting("trusted_proxies", "127.0.0.1").start();
    let (fleet, hook) = server.fleet_with_webhook(&address_fleet("choosy"));
    let api = server.api();
    let path = settings_path(&fleet);
    let shown = api.put(&path, &json!({"allow": ["198.51.100.0/24", "2001:db8::1"]})).expect(200);
    assert_eq!(shown.data()["allow"], json!(["198.51.100.0/24", "2001:db8::1/128"]));

    let statuses = |server: &Server, hook: &Hook| {
        ["198.51.100.7", "2001:db8::1", "198.51.101.7", "2001:db8::2", "nonsense"]
            .map(|address| post(server, hook, &[(FORWARDED_FOR, address)]).status)
    };
    assert_eq!(statuses(&server, &hook), [201, 201, 400, 400, 400]);
    assert_eq!(post(&server, &hook, &[]).status, 400);
    // A header that a proxy passes on unseen admits no client.
    let both = [(FORWARDED_FOR, "203.0.113.9"), ("Forwarded", "for=198.51.100.7")];
    assert_eq!(post(&server, &hook, &both).status, 400);
    server.wait_until("the log says why", || server.log().contains("name different clients"));

    // A sender cannot tell such a webhook from one that is not there.
    let refused = post(&server, &hook, &[]);
    let unknown = post_request(&format!("/hooks/{}", "U".repeat(43)), &[], b"{}");
    let unknown = exchange(server.hooks(), &unknown).unwrap();
    let id = |answer: &Answer| answer.json()["request"]["id"].as_str().unwrap().to_owned();
    assert_eq!(
        refused.text().replace(&id(&refused), ""),
        unknown.text().replace(&id(&unknown), "")
    );

    // The list outlives a replaced URL and a crash.
    let answer = api.call("POST", &format!("{path}/replace"), None).expect(201);
    let hook = Hook::from_url(answer.data()["url"].as_str().unwrap());
    server.crash_and_restart();
    assert_eq!(statuses(&server, &hook), [201, 201, 400, 400, 400]);
    // And is taken away by settings without one.
    let shown = server.api().put(&path, &json!({})).expect(200).data();
    assert_eq!(shown["allow"], json!([]));
    assert_eq!(post(&server, &hook, &[]).status, 201);
}

#[test]
fn settings_that_cannot_be_meant_are_refused() {
    let server = Server::start();
    let api = server.api();
    let fleet = api.apply(&true_fleet("set"));
    let path = settings_path(&fleet);
    assert_error(&api.put(&path, &json!({"rate_limit": "9/s"})), 404);
    for (body, expected) in [
        (json!({"allow": ["10.0.0.0/33"]}), "allow[0]: not a network"),
        (json!({"allow": ["10.0.0.1/8"]}), "within 10.0.0.0/8"),
        (json!({"allow": "10.0.0.0/8"}), "allow: expected a list"),
        (json!({"allow": vec!["10.0.0.1"; 65]}), "at most 64"),
        (json!({"rate_limit": "fast"}), "rate_limit: not a rate"),
        (json!({"rate_limit": 9}), "rate_limit: not a rate"),
        (json!({"limit": "9/s"}), "unknown key `limit`"),
        (json!(["9/s"]), "expected a mapping"),
        (json!({"mode": "enforced"}), "did you mean enforce?"),
        (json!({"deduplicate": "on"}), "expected `off`"),
        (json!({"deduplicate": {"window": "31d"}}), "longer than 720h"),
    ] {
        for method in ["POST", "PUT"] {
            let content = ("application/json", body.to_string().into_bytes());
            let answer = api.call(method, &path, Some(content));
            assert_error(&answer, 422);
            assert!(answer.error().contains(expected), "{}", answer.error());
        }
    }
    assert_error(&api.get(&path), 404);
    let longest = "1111:2222:3333:4444:5555:6666:7777:8888/128";
    let body = json!({"allow": vec![longest; 64], "rate_limit": "1000000/s burst 999999"});
    let shown = api.post(&path, &body).expect(201).data();
    assert_eq!(shown["rate_limit"], body["rate_limit"]);
    assert_error(&api.call("PUT", &path, None), 400);
}

#[test]
fn a_webhook_takes_no_more_than_its_rate_limit() {
    let mut server = Server::start();
    let (fleet, hook) = server.fleet_with_webhook(&true_fleet("limited"));
    let (_, other) = server.fleet_with_webhook(&true_fleet("free"));
    let api = server.api();
    api.put(&settings_path(&fleet), &json!({"rate_limit": "2/d"})).expect(200);
    let statuses = [0; 3].map(|_| post(&server, &hook, &[]).status);
    assert_eq!(statuses, [201, 201, 429]);
    let refused = post(&server, &hook, &[]);
    assert!(refused.json()["data"].is_null() && refused.json().get("error").is_none());
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((43_000..=43_200).contains(&wait), "{wait}");
    // Runs that the owner starts do not count, nor do other webhooks.
    api.post(&format!("/api/v1/fleets/{fleet}/test"), &json!({})).expect(201);
    assert_eq!(post(&server, &other, &[]).status, 201);
    server.stop();
}

#[test]
fn an_address_gets_no_more_than_the_rate_limit_whatever_it_asks_for() {
    let mut server = Server::builder()
        .setting("trusted_proxies", "127.0.0.1")
        .setting("rate_limit_per_ip", "2/d burst 3")
        .start();
    let (_, hook) = server.fleet_with_webhook(&true_fleet("busy"));
    let from = [(FORWARDED_FOR, "198.51.100.7")];
    let guess = post_request(&format!("/hooks/{}", "G".repeat(43)), &from, b"");
    assert_eq!(exchange(server.hooks(), &guess).unwrap().status, 400);
    let statuses = [0; 3].map(|_| post(&server, &hook, &from).status);
    assert_eq!(statuses, [201, 201, 429]);
    assert_eq!(exchange(server.hooks(), &guess).unwrap().status, 429, "guesses count, too");
    let refused = post(&server, &hook, &from);
    assert!(refused.header("retry-after").is_some());
    // Everybody else is served, and the health check always.
    assert_eq!(post(&server, &hook, &[(FORWARDED_FOR, "198.51.100.8")]).status, 201);
    for _ in 0..5 {
        let health =
            format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{FORWARDED_FOR}: 198.51.100.7\r\n\r\n");
        assert_eq!(exchange(server.hooks(), health.as_bytes()).unwrap().status, 200);
    }
    server.stop();
}

#[test]
fn a_refusal_by_the_head_comes_before_the_body() {
    let mut server = Server::builder()
        .setting("trusted_proxies", "127.0.0.1")
        .setting("rate_limit_per_ip", "3/d")
        .start();
    let (fleet, hook) = server.fleet_with_webhook(&true_fleet("early"));
    let settings = json!({"allow": ["198.51.100.0/24"], "rate_limit": "1/d"});
    server.api().put(&settings_path(&fleet), &settings).expect(200);
    for (address, expected) in [
        ("203.0.113.9", 400),
        ("198.51.100.7", 201),
        ("198.51.100.7", 429),
        ("198.51.100.7", 429),
        ("198.51.100.7", 429),
    ] {
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: x\r\n{FORWARDED_FOR}: {address}\r\n\
             Expect: 100-continue\r\nContent-Length: 2\r\n\r\n",
            hook.target()
        );
        let mut connection = Connection::open(server.hooks()).unwrap();
        connection.send(head.as_bytes()).unwrap();
        let interim = connection.line().unwrap();
        if expected == 201 {
            assert_eq!(
                (interim.as_str(), connection.line().unwrap().as_str()),
                ("HTTP/1.1 100 Continue", "")
            );
            connection.send(b"{}").unwrap();
            connection.answer().unwrap().expect(201);
        } else {
            assert!(interim.starts_with(&format!("HTTP/1.1 {expected} ")), "{interim}");
        }
    }
    server.stop();
}

#[test]
fn the_command_line_sets_and_shows_allow_lists_and_rate_limits() {
    let server = Server::start();
    server.api().apply(&true_fleet("handy"));
    let run = |arguments: &[&str]| finish(server.cli(&[&["webhook"], arguments].concat()));
    let (code, url, said) =
        run(&["add", "handy", "--allow", "127.0.0.0/8,::1", "--rate-limit", "60/m burst 5"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(url.lines().count(), 1);
    assert!(said.contains("127.0.0.0/8, ::1/128"), "{said}");
    let (_, _, said) = run(&["replace", "handy", "--rate-limit", "5/s"]);
    assert!(said.contains("127.0.0.0/8") && said.contains("5/s"), "{said}");
    let (_, _, said) = run(&["show", "handy"]);
    assert!(said.contains("127.0.0.0/8") && said.contains("5/s"), "{said}");
    let (code, _, said) = run(&["replace", "handy", "--allow", "10.0.0.1/8"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("within 10.0.0.0/8"), "{said}");
}

#[test]
fn too_little_free_disk_space_is_a_503_at_once() {
    let mut server = Server::start();
    let (fleet, hook) = server.fleet_with_webhook(&true_fleet("cramped"));
    server.stop();
    let mut server = Server::builder()
        .data_dir(server.data_dir())
        .setting("min_free_bytes", "1000000GiB")
        .start();
    let refused = post(&server, &hook, &[]);
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    let health = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    for address in [server.hooks(), server.admin()] {
        assert_eq!(exchange(address, health).unwrap().status, 503);
    }
    let run = server.api().post(&format!("/api/v1/fleets/{fleet}/runs"), &json!({}));
    assert_error(&run, 503);
    assert!(run.error().contains("disk"), "{}", run.error());
    let said = || server.log().matches("too little free disk space:").count();
    server.wait_until("the log says why", || said() > 0);
    assert_eq!(said(), 1, "once");
    server.stop();
}
