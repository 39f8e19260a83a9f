//! Dry runs: what would become of a request, told by what a real request meets.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::api::{true_fleet, vessel_of};
use crate::harness::server::finish;
use crate::harness::{Hook, Server};

/// What would become of a POST with these headers and this body.
#[track_caller]
fn forecast(server: &Server, fleet: &str, headers: &[(&str, &str)], body: &[u8]) -> Value {
    let target = format!("/api/v1/fleets/{fleet}/dry-run?q=1");
    let mut all = vec![("Authorization", format!("Bearer {}", server.token()))];
    all.extend(headers.iter().map(|(name, value)| (*name, (*value).to_owned())));
    let all: Vec<_> = all.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let request = crate::harness::http::post_request(&target, &all, body);
    crate::harness::http::exchange(server.admin(), &request).unwrap().expect(200).data()
}

fn environment_of(vessel: &Value) -> BTreeMap<String, String> {
    serde_json::from_value(vessel["environment"].clone()).unwrap()
}

#[test]
fn a_dry_run_shows_what_a_real_run_gets_and_starts_nothing() {
    let server = Server::start();
    let api = server.api();
    api.call("PUT", "/api/v1/secrets/KEY", Some(("text/plain", b"t0p-s3cret".to_vec())));
    let journal = server.journal("journal");
    let script = format!("echo ran >> {journal}; env -0 | base64 -w0; echo; printf '%s\\n' \"$@\"");
    let id = api.apply(&json!({
        "name": "dry",
        "vessels": {
            "last": {"run": "true", "working_directory": "/tmp"},
            "first": {
                "command": ["/bin/sh", "-c", script, "sh", {"expr": "body.ref"}, "x\ny"],
                "environment": {"PLAIN": "plain", "REF": {"expr": "body.ref"}, "NONE": {"expr": "body.none"},
                    "HIDDEN": {"secret": "KEY"}},
            },
        },
        "connections": {"first": {"last": "COMPLETED"}},
    }));
    let body = br#"{"ref": "main"}"#;
    let headers = [("Content-Type", "application/json"), ("X-Kind", "push")];
    let shown = forecast(&server, &id, &headers, body);
    assert_eq!((&shown["outcome"], &shown["status"]), (&json!("accepted"), &json!(201)));
    assert!(shown["sender"]["verified"].is_null() && shown["filter"].is_null(), "{shown}");
    assert!(api.all_runs().is_empty() && !journal.path().exists(), "nothing is started");
    let text = shown.to_string();
    assert!(!text.contains("t0p-s3cret") && text.contains("••••"), "secrets are masked");
    assert!(!text.contains(&server.token()), "what the admin listener got is not the webhook's");
    let [first, last] = shown["vessels"].as_array().unwrap().as_slice() else { panic!("{shown}") };
    assert_eq!((&first["name"], &last["name"]), (&json!("first"), &json!("last")));
    assert_eq!(last["after"], json!({"first": "COMPLETED"}));
    assert_eq!(
        (&last["argv"], &last["directory"]),
        (&json!(["/bin/sh", "-c", "true"]), &json!("/tmp"))
    );
    assert_eq!(first["argv"][4], "main");
    assert_eq!(first["argv"][5], "x\ny");
    assert_eq!(first["stdin_bytes"], body.len());

    // The same request for real: the same variables, but for ids, times and the secret.
    let content = Some(("application/json", body.to_vec()));
    let started = api.call("POST", &format!("/api/v1/fleets/{id}/test?q=1"), content).expect(201);
    let run = api.wait_ended(started.data()["fleet_run_id"].as_str().unwrap());
    let output = api.output(&run, "first");
    let (encoded, words) = output.split_once('\n').unwrap();
    assert_eq!(words, "main\nx\ny\n");
    let bytes = data_encoding::BASE64.decode(encoded.as_bytes()).unwrap();
    let real: BTreeMap<String, String> = String::from_utf8_lossy(&bytes)
        .split_terminator('\0')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let foreseen = environment_of(first);
    let own = |name: &&String| !["PWD", "SHLVL", "_", "OLDPWD"].contains(&name.as_str());
    let names = |of: &BTreeMap<String, String>| of.keys().filter(own).cloned().collect::<Vec<_>>();
    assert_eq!(names(&foreseen), names(&real));
    for name in [
        "PLAIN",
        "REF",
        "PATH",
        "TZ",
        "USER",
        "BOATHOOK_TRIGGER",
        "BOATHOOK_WEBHOOK_QUERY",
        "BOATHOOK_WEBHOOK_BODY",
        "BOATHOOK_ATTEMPT",
        "SHIPYARD_FLEET_ID",
        "SHIPYARD_VESSEL_NAME",
    ] {
        assert_eq!(foreseen[name], real[name], "{name}");
    }
    assert_eq!(foreseen["HIDDEN"], "••••");
    let files: Vec<_> = first["files"].as_array().unwrap().iter().collect();
    assert_eq!(files.len(), 2);
    let directory = Path::new(first["directory"].as_str().unwrap());
    for (file, bytes) in [(files[0], None), (files[1], Some(body.len()))] {
        assert!(Path::new(file["path"].as_str().unwrap()).starts_with(directory), "{file}");
        assert!(
            bytes.is_none_or(|bytes| file["bytes"] == bytes) && file["mode"] == "600",
            "{file}"
        );
    }
    assert!(!directory.exists(), "no directory is made");
}

#[test]
fn a_dry_run_says_what_keeps_a_vessel_from_starting() {
    let server = Server::start();
    let api = server.api();
    let id = api.apply(&json!({"name": "dry", "vessels": {
        "missing": {"command": ["no-such-program-here"]},
        "wrapped": {"run": "true", "runner": ["env", "N=${SHIPYARD_VESSEL_NAME}"]},
        "cleaned": {"run": "true", "runner": {"command": ["env"],
            "cleanup": ["echo", "${SHIPYARD_VESSEL_NAME}"]}},
        "value": {"command": ["echo", {"expr": "body.ref"}]},
        "secret": {"run": "true", "environment": {"A": {"secret": "NOPE"}}},
        "code": {"source": {"type": "CODE", "language": "BASH", "file_to_run": "go.sh",
            "file": {"name": "go.sh", "content": "echo hi\n"}}},
    }}));
    let shown = forecast(&server, &id, &[], b"{}");
    let problem = |name: &str| {
        let vessels = shown["vessels"].as_array().unwrap();
        let vessel = vessels.iter().find(|vessel| vessel["name"] == name).unwrap();
        vessel["problem"].as_str().unwrap_or_default().to_owned()
    };
    let wrapped = shown["vessels"].as_array().unwrap().iter().find(|it| it["name"] == "wrapped");
    let expected = json!(["env", "N=wrapped", "/bin/sh", "-c", "true"]);
    assert_eq!(wrapped.unwrap()["argv"], expected, "with its runner");
    let runner = |name: &str| {
        let vessels = shown["vessels"].as_array().unwrap();
        vessels.iter().find(|vessel| vessel["name"] == name).unwrap()["runner"].clone()
    };
    let cleaned = json!({"name": null, "cleanup": ["echo", "cleaned"]});
    assert_eq!((runner("cleaned"), runner("value")), (cleaned, Value::Null));
    let (_, out, _) = finish(server.cli(&["run", "dry", "--dry-run"]));
    assert!(out.contains("runner     of the fleet") && out.contains("cleanup[1] cleaned"), "{out}");
    assert!(problem("missing").contains("was not found in PATH"), "{shown}");
    assert!(problem("value").contains("`body.ref` has no value"), "{shown}");
    assert!(problem("secret").contains("`NOPE`"), "{shown}");
    assert_eq!(problem("code"), "", "its file comes with the start");
}

/// A fleet whose sender is verified and that wants pushes to main.
fn guarded(server: &Server) -> (String, Hook) {
    server.api().call("PUT", "/api/v1/secrets/HOOK", Some(("text/plain", b"secret".to_vec())));
    server.fleet_with_webhook(&json!({
        "name": "guarded", "vessels": {"v": {"run": "test -e \"$0.never\" || exit 0"}},
        "webhook": {"verify": {"preset": "github", "secret": "HOOK"},
            "when": "body.ref == 'refs/heads/main'"},
    }))
}

/// The headers of a request that GitHub signs.
fn signed(body: &[u8], id: &str) -> Vec<(&'static str, String)> {
    let key = hmac_sha256(b"secret", body);
    vec![
        ("Content-Type", "application/json".to_owned()),
        ("X-GitHub-Event", "push".to_owned()),
        ("X-GitHub-Delivery", id.to_owned()),
        ("X-Hub-Signature-256", format!("sha256={}", data_encoding::HEXLOWER.encode(&key))),
    ]
}

fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    use hmac::{Hmac, KeyInit, Mac};
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key).unwrap();
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

#[test]
fn a_dry_run_tells_sender_duplicate_and_filter() {
    let server = Server::start();
    let (id, hook) = guarded(&server);
    let main: &[u8] = br#"{"ref": "refs/heads/main"}"#;
    let next: &[u8] = br#"{"ref": "refs/heads/next"}"#;
    let ask = |body: &[u8], headers: &[(&'static str, String)]| {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        forecast(&server, &id, &headers, body)
    };
    let shown = ask(main, &signed(main, "1"));
    assert_eq!(
        (&shown["outcome"], &shown["sender"]["verified"]),
        (&json!("accepted"), &json!(true))
    );
    assert_eq!(shown["event"], json!({"preset": "github", "id": "1", "type": "push"}));
    assert_eq!(shown["filter"]["result"], true);
    // It is not remembered: the real one runs.
    let headers = signed(main, "1");
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let run = hook.post(server.hooks(), &headers, main);
    server.api().wait_status(&run, "Success");
    let shown = ask(main, &signed(main, "1"));
    assert_eq!((&shown["outcome"], &shown["status"]), (&json!("duplicate"), &json!(200)));
    assert_eq!(shown["duplicate_of"], run);
    let shown = ask(next, &signed(next, "2"));
    assert_eq!(
        (&shown["outcome"], &shown["filter"]["result"]),
        (&json!("filtered"), &json!(false))
    );
    assert!(shown["filter"]["detail"].as_str().unwrap().contains("body.ref = "), "{shown}");
    let shown = ask(next, &signed(main, "3"));
    assert_eq!((&shown["outcome"], &shown["status"]), (&json!("refused"), &json!(401)));
    assert_eq!(shown["sender"]["reason"], "signature_mismatch");
    let shown = ask(main, &[]);
    assert_eq!(shown["sender"]["reason"], "signature_missing");
    assert!(
        shown["vessels"].as_array().is_some_and(|vessels| vessels.len() == 1),
        "shown all the same"
    );
    assert_eq!(server.api().all_runs().len(), 1);
    let deliveries = server.api().get("/api/v1/deliveries").data();
    assert_eq!(deliveries.as_array().unwrap().len(), 1, "a dry run is no delivery: {deliveries}");

    // The stored requests of a run and of a delivery.
    let of_run =
        server.api().call("POST", &format!("/api/v1/runs/{run}/dry-run"), None).expect(200).data();
    assert_eq!(
        (&of_run["sender"]["verified"], &of_run["duplicate_of"]),
        (&json!(true), &json!(run))
    );
    hook.try_post(server.hooks(), &[("X-Hub-Signature-256", "sha256=00")], main)
        .unwrap()
        .expect(401);
    server.wait_until("the delivery", || {
        server.api().get("/api/v1/deliveries?verdict=refused").data()[0]["id"].is_string()
    });
    let refused = server.api().get("/api/v1/deliveries?verdict=refused").data()[0]["id"].clone();
    let path = format!("/api/v1/deliveries/{}/dry-run", refused.as_str().unwrap());
    let shown = server.api().call("POST", &path, None).expect(200).data();
    assert_eq!(shown["outcome"], "refused");
}

#[test]
fn the_command_line_shows_a_dry_run() {
    let server = Server::start();
    let (_, hook) = guarded(&server);
    let main: &[u8] = br#"{"ref": "refs/heads/main"}"#;
    let file = server.scratch().join("body");
    std::fs::write(&file, main).unwrap();
    let path = file.to_str().unwrap();
    let headers = signed(main, "7");
    let lines: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let mut arguments = vec!["run", "guarded", "--dry-run", "--body", path];
    for line in &lines {
        arguments.extend(["--header", line.as_str()]);
    }
    let (code, out, err) = finish(server.cli(&arguments));
    assert_eq!(code, 0, "{err}");
    for expected in [
        "outcome    accepted (201)",
        "sender     verified",
        "event      push 7",
        "filter     `body.ref == 'refs/heads/main'` is true",
        "vessel v",
        "  argv[0]    /bin/sh",
        "BOATHOOK_TRIGGER=webhook",
        "  stdin      26 bytes",
    ] {
        assert!(out.contains(expected), "{expected}: {out}");
    }
    let (code, out, _) =
        finish(server.cli(&["run", "guarded", "--dry-run", "--body", path, "--json"]));
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &shown["outcome"]), (0, &json!("refused")));
    let all: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let run = hook.post(server.hooks(), &all, main);
    let (code, out, err) = finish(server.cli(&["run", "guarded", "--dry-run", "--of-run", &run]));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains(&format!("duplicate  of the run {run}")), "{out}");
    assert_eq!(vessel_of(&server.api().wait_ended(&run), "v")["attempt"], 1);
    assert_eq!(server.api().all_runs().len(), 1);
}

#[test]
fn a_dry_run_tells_what_the_webhook_decides_by_the_head() {
    let server = Server::start();
    let (id, hook) = server.fleet_with_webhook(&true_fleet("gate"));
    let run = hook.post(server.hooks(), &[], b"{}");
    let api = server.api();
    let of_run = || api.post(&format!("/api/v1/runs/{run}/dry-run"), &json!({})).expect(200).data();
    let shown = of_run();
    let open = json!({"paused": false, "allow": [], "allowed": null, "rate_limit": null});
    assert_eq!((&shown["webhook"], &shown["outcome"]), (&open, &json!("accepted")));
    let webhook = format!("/api/v1/fleets/{id}/webhook");
    api.put(&webhook, &json!({"allow": ["198.51.100.0/24"], "rate_limit": "9/m"})).expect(200);
    let shown = of_run();
    assert_eq!((&shown["outcome"], &shown["status"]), (&json!("refused"), &json!(400)));
    let gate = &shown["webhook"];
    assert_eq!((&gate["allowed"], &gate["rate_limit"]), (&json!(false), &json!("9/m")));
    // A request that is given has no sender's address.
    let shown = forecast(&server, &id, &[], b"{}");
    assert_eq!(
        (&shown["outcome"], &shown["webhook"]["allowed"]),
        (&json!("accepted"), &Value::Null)
    );
    api.call("POST", &format!("{webhook}/pause"), None).expect(200);
    let shown = forecast(&server, &id, &[], b"{}");
    assert_eq!((&shown["status"], &shown["webhook"]["paused"]), (&json!(503), &json!(true)));
    let (code, output, error) =
        finish(server.cli(&["run", "gate", "--dry-run", "--header", "X: y"]));
    assert_eq!(code, 0, "{error}");
    for expected in ["webhook    is paused", "allow      198.51.100.0/24", "rate       9/m"] {
        assert!(output.contains(expected), "{expected}: {output}");
    }
}
