//! Handshakes that bring a secret: taken while the owner of the webhook expects one, and at no other time.

use std::fs;
use std::thread;

use serde_json::{Value, json};

use crate::harness::api::true_fleet;
use crate::harness::http::{Answer, exchange, post_request};
use crate::harness::server::finish;
use crate::harness::{Hook, Server, assert_error};
use crate::senders::github;

const BROUGHT: &str = "b537207f20cbfa02357cf448134da559e8bd39d61597dcd5631b8012eae53e81";

fn fleet(name: &str) -> Value {
    let mut fleet = true_fleet(name);
    fleet["webhook"] = json!({"verify": {"preset": "asana", "secret": "ASANA_HOOK"}});
    fleet
}

/// A handshake as Asana sends it, which brings `secret`.
fn bring(hooks: &str, hook: &Hook, secret: &str) -> Answer {
    exchange(hooks, &post_request(&hook.target(), &[("X-Hook-Secret", secret)], b"")).unwrap()
}

/// An event that is signed with `secret`.
fn event(server: &Server, hook: &Hook, secret: &str) -> u16 {
    let body = r#"{"events": []}"#;
    let signature = github(secret, body);
    let headers = [("X-Hook-Signature", signature.trim_start_matches("sha256="))];
    hook.try_post(server.hooks(), &headers, body.as_bytes()).unwrap().status
}

#[test]
fn a_handshake_brings_the_secret_only_while_its_owner_expects_one() {
    let mut server = Server::start();
    let (id, hook) = server.fleet_with_webhook(&fleet("tasks"));
    let path = format!("/api/v1/fleets/{id}/webhook/handshake");
    let file = server.data_dir().join("secrets/ASANA_HOOK");
    let kept = || fs::read_to_string(&file).ok();

    // Nothing is expected: events wait for the secret, and a handshake does not bring it.
    assert_eq!(event(&server, &hook, BROUGHT), 503);
    let refused = bring(server.hooks(), &hook, "of a stranger").expect(403);
    assert_eq!((refused.header("x-hook-secret"), kept()), (None, None));
    let id = refused.json()["request"]["id"].as_str().unwrap().to_owned();
    let shown = server.api().get(&format!("/api/v1/deliveries/{id}")).expect(200).data();
    assert_eq!(shown["reason"], "handshake_mismatch");
    let detail = shown["detail"].as_str().unwrap();
    assert!(detail.contains("boathook webhook handshake FLEET"), "{detail}");
    let doctor = server.api().get("/api/v1/doctor").expect(200).text();
    assert!(doctor.contains("boathook webhook handshake"), "{doctor}");

    // A window outlives the server, and is for one handshake.
    let (code, printed, said) = finish(server.cli(&["webhook", "handshake", "tasks"]));
    assert!(
        code == 0 && printed.starts_with("tasks expects a handshake until 2"),
        "{printed}{said}"
    );
    server.crash_and_restart();
    let taken = bring(server.hooks(), &hook, BROUGHT).expect(200);
    assert_eq!((taken.header("x-hook-secret"), taken.text().as_str()), (Some(BROUGHT), ""));
    assert_eq!(kept().as_deref(), Some(BROUGHT));
    bring(server.hooks(), &hook, "of a stranger").expect(403);
    assert_eq!(event(&server, &hook, BROUGHT), 201);
    assert_eq!(event(&server, &hook, "of a stranger"), 401);
    server.crash_and_restart();
    assert_eq!((kept().as_deref(), event(&server, &hook, BROUGHT)), (Some(BROUGHT), 201));

    // Another window: another secret.
    let api = server.api();
    let open = |method| api.call(method, &path, None).expect(200).data()["handshake_until"].clone();
    assert!(open("POST").is_string());
    assert_eq!(open("DELETE"), Value::Null);
    bring(server.hooks(), &hook, "of a stranger").expect(403);
    assert!(open("POST").is_string());
    bring(server.hooks(), &hook, "second").expect(200);
    assert_eq!((kept().as_deref(), event(&server, &hook, "second")), (Some("second"), 201));
    assert!(!server.log().contains(BROUGHT), "the log has the secret");
}

#[test]
fn of_many_handshakes_at_once_one_is_taken() {
    let server = Server::start();
    let (id, hook) = server.fleet_with_webhook(&fleet("raced"));
    server.api().call("POST", &format!("/api/v1/fleets/{id}/webhook/handshake"), None).expect(200);
    let answers: Vec<(String, u16)> = thread::scope(|scope| {
        let threads = (0..16).map(|number| {
            let (hooks, hook) = (server.hooks(), &hook);
            scope.spawn(move || {
                let secret = format!("secret {number}");
                let status = bring(hooks, hook, &secret).status;
                (secret, status)
            })
        });
        threads.collect::<Vec<_>>().into_iter().map(|it| it.join().unwrap()).collect()
    });
    let taken: Vec<_> = answers.iter().filter(|(_, status)| *status == 200).collect();
    let [(secret, _)] = taken[..] else { panic!("{answers:?}") };
    let kept = fs::read_to_string(server.data_dir().join("secrets/ASANA_HOOK")).unwrap();
    assert_eq!(kept, *secret);
}

#[test]
fn a_window_is_refused_where_no_handshake_brings_a_secret() {
    let server = Server::start();
    let api = server.api();
    let (id, _) = server.fleet_with_webhook(&true_fleet("open"));
    let refused = api.call("POST", &format!("/api/v1/fleets/{id}/webhook/handshake"), None);
    assert_error(&refused, 409);
    assert!(refused.error().contains("preset: asana"), "{}", refused.error());
    let bare = api.apply(&fleet("bare"));
    let path = format!("/api/v1/fleets/{bare}/webhook/handshake");
    assert_error(&api.call("POST", &path, None), 404);
}
