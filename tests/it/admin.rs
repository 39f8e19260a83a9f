//! The admin API: who gets in, projects, fleets and their versions, and what bad input gets.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::api::true_fleet;
use crate::harness::http::exchange;
use crate::harness::{Server, assert_error};

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect()
}

#[test]
fn nobody_gets_in_without_the_token() {
    let server = Server::start();
    let api = server.api();
    let token = server.token();
    let id = Uuid::nil();
    let paths = [
        "/api/v1/organization".to_owned(),
        "/api/v1/projects".to_owned(),
        "/api/v1/fleets".to_owned(),
        format!("/api/v1/fleets/{id}"),
        format!("/api/v1/fleets/{id}/webhook"),
        "/api/v1/runs".to_owned(),
        format!("/api/v1/runs/{id}/body"),
        format!("/api/v1/vessel-runs/{id}/output"),
        "/api/v1/no-such-thing".to_owned(),
    ];
    let shorter = &token[..token.len() - 1];
    let longer = format!("{token}x");
    for path in &paths {
        for wrong in ["wrong", shorter, &longer] {
            assert_error(&api.with_token(wrong).get(path), 401);
        }
        for header in ["", "Authorization: Basic YTpi\r\n", "Authorization: Bearer\r\n"] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{header}\r\n");
            assert_error(&exchange(server.admin(), request.as_bytes()).unwrap(), 401);
        }
    }
    let wrong = api.with_token("wrong");
    assert_error(&wrong.post("/api/v1/fleets", &true_fleet("intruder")), 401);
    assert_eq!(api.get("/api/v1/fleets").expect(200).data(), json!([]));
    // A hook is not served here, nor is the admin API on the other listener.
    let (_, hook) = server.fleet_with_webhook(&true_fleet("mine"));
    assert_ne!(hook.try_post(server.admin(), &[], b"").unwrap().status, 201);
    let request =
        format!("GET /api/v1/fleets HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
    let answer = exchange(server.hooks(), request.as_bytes()).unwrap();
    assert_eq!(answer.status, 405);
}

#[test]
fn unknown_things_are_not_found() {
    let server = Server::start();
    let api = server.api();
    let id = Uuid::nil();
    for path in [
        format!("/api/v1/projects/{id}"),
        format!("/api/v1/fleets/{id}"),
        "/api/v1/fleets/no-id".to_owned(),
        format!("/api/v1/fleets/{id}/versions"),
        format!("/api/v1/fleets/{id}/webhook"),
        format!("/api/v1/runs/{id}"),
        format!("/api/v1/runs/{id}/body"),
        format!("/api/v1/runs/{id}/webhook-parameters"),
        format!("/api/v1/vessel-runs/{id}/output"),
        "/api/v1/".to_owned(),
        "/api/v2/fleets".to_owned(),
    ] {
        assert_error(&api.get(&path), 404);
    }
    assert_error(&api.post(&format!("/api/v1/fleets/{id}/runs"), &json!({})), 404);
    assert_error(&api.call("POST", &format!("/api/v1/runs/{id}/stop"), None), 404);
    assert_error(&api.call("POST", &format!("/api/v1/vessel-runs/{id}/stop"), None), 404);
    assert_error(&api.delete(&format!("/api/v1/fleets/{id}")), 404);
}

#[test]
fn projects_group_fleets() {
    let mut server = Server::start();
    let api = server.api();
    assert!(names(&api.get("/api/v1/projects").expect(200).data()).contains(&"default"));
    let project = api
        .post("/api/v1/projects", &json!({"name": "zoo", "time_zone": "America/New_York"}))
        .expect(201)
        .data();
    let path = format!("/api/v1/projects/{}", project["id"].as_str().unwrap());
    assert_error(&api.post("/api/v1/projects", &json!({"name": "zoo"})), 409);
    let answer = api.post("/api/v1/projects", &json!({"name": "x", "time_zone": "Mars/Olympus"}));
    assert!(matches!(answer.status, 400 | 422), "{}", answer.status);
    api.post("/api/v1/projects", &json!({"name": "ant"})).expect(201);
    let listed = api.get("/api/v1/projects").expect(200).data();
    assert_eq!(names(&listed), ["ant", "default", "zoo"]);

    let changed = json!({"name": "zoological garden", "time_zone": "UTC"});
    api.put(&path, &changed).expect(200);
    server.crash_and_restart();
    let api = server.api();
    let project = api.get(&path).expect(200).data();
    assert_eq!(
        (&project["name"], &project["time_zone"]),
        (&changed["name"], &changed["time_zone"])
    );

    // Same name in two projects: two fleets. A project that a fleet names is made.
    let mut fleet = true_fleet("same");
    fleet["project"] = json!("zoological garden");
    let first = api.apply(&fleet);
    fleet["project"] = json!("made on the way");
    let second = api.apply(&fleet);
    assert_ne!(first, second);
    let listed = api.get("/api/v1/projects").expect(200).data();
    assert!(names(&listed).contains(&"made on the way"), "{listed}");

    assert_error(&api.delete(&path), 409);
    api.delete(&format!("/api/v1/fleets/{first}")).expect(200);
    api.delete(&path).expect(200);
    assert_error(&api.get(&path), 404);
}

#[test]
fn fleets_have_versions() {
    let mut server = Server::start();
    let api = server.api();
    let script = |text: &str| json!({"name": "versioned", "vessels": {"v": {"run": format!("echo {text}")}}});
    let created = api.post("/api/v1/fleets", &script("one")).expect(201).data();
    assert_eq!(created["version"], 1);
    let fleet = created["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/fleets/{fleet}");
    assert_error(&api.post("/api/v1/fleets", &script("one")), 409);
    assert_eq!(api.put(&path, &script("two")).expect(200).data()["version"], 2);
    server.crash_and_restart();
    let api = server.api();
    assert_eq!(api.get(&path).expect(200).data()["version"], 2);

    let versions = api.get(&format!("{path}/versions")).expect(200).data();
    let numbers: Vec<u64> = versions
        .as_array()
        .unwrap()
        .iter()
        .map(|version| version["version"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [2, 1], "newest first");
    for (query, expected) in [("limit=1", vec![2]), ("before=2", vec![1]), ("before=1", vec![])] {
        let page = api.get(&format!("{path}/versions?{query}")).expect(200).data();
        let page = page.as_array().unwrap().iter().map(|it| it["version"].as_u64().unwrap());
        assert_eq!(page.collect::<Vec<_>>(), expected, "{query}");
    }
    assert_error(&api.get(&format!("{path}/versions?before=x")), 400);
    api.get(&format!("{path}/versions/1")).expect(200);
    assert_error(&api.get(&format!("{path}/versions/3")), 404);

    // A revert is a new version with the old content.
    let answer = api.call("POST", &format!("{path}/versions/1/revert"), None);
    assert_eq!(answer.status, 201);
    assert_eq!(answer.data()["version"], 3);
    let again = api.call("POST", &format!("{path}/versions/1/revert"), None).expect(200);
    assert_eq!(again.data()["version"], 3, "nothing has changed");
    let run = api.wait_status(&api.start(&fleet), "Success");
    assert_eq!((run["fleet_version"].as_u64(), api.output(&run, "v").as_str()), (Some(3), "one\n"));
}

#[test]
fn applying_by_name_creates_updates_or_leaves_alone() {
    let server = Server::start();
    let api = server.api();
    let path = "/api/v1/fleets?by=name";
    let mut fleet = true_fleet("applied");
    let created = api.put(path, &fleet).expect(201).data();
    let id = created["id"].as_str().unwrap().to_owned();
    let again = api.put(path, &fleet).expect(200).data();
    assert_eq!((&again["id"], &again["version"]), (&created["id"], &json!(1)), "identical");
    fleet["vessels"]["v"]["command"] = json!(["echo", "changed"]);
    let updated = api.put(path, &fleet).expect(200).data();
    assert_eq!((&updated["id"], &updated["version"]), (&created["id"], &json!(2)));

    fleet["_id"] = json!(id);
    assert_eq!(api.put(path, &fleet).expect(200).data()["version"], 2);
    fleet["_id"] = json!(Uuid::new_v4());
    assert_error(&api.put(path, &fleet), 409);
    let other = api.apply(&true_fleet("other"));
    fleet["_id"] = json!(other);
    assert_error(&api.put(path, &fleet), 409);
    assert_eq!(names(&api.get("/api/v1/fleets").expect(200).data()), ["applied", "other"]);

    // What YAML means is what JSON means.
    let yaml = "name: other\nvessels:\n  v: {command: ['true']}\n";
    let content = Some(("application/yaml", yaml.as_bytes().to_vec()));
    assert_eq!(api.call("PUT", path, content).expect(200).data()["version"], 1);
}

#[test]
fn written_text_stays_what_it_was() {
    let server = Server::start();
    let api = server.api();
    let fleet = api.apply_yaml(
        "name: scalars\n\
         vessels:\n\
         \x20 v:\n\
         \x20   command: [printenv, A, B, C, D]\n\
         \x20   environment: {A: 3.10, B: yes, C: 0x1F, D: 007}\n",
    );
    let run = api.wait_status(&api.start(&fleet), "Success");
    assert_eq!(api.output(&run, "v"), "3.10\nyes\n0x1F\n007\n");
}

/// (what is wrong, the definition, what the message must name)
const BAD_YAML: [(&str, &str, &[&str]); 19] = [
    ("no YAML", "name: [unclosed\nvessels: {\n", &["line"]),
    ("unknown key", "name: x\nvessels:\n  v:\n    comand: [a]\n", &["line 4", "comand"]),
    (
        "unknown key in guardrails",
        "name: x\nvessels:\n  v:\n    run: a\n    guardrails: {retry_cuont: 1}\n",
        &["line 5", "retry_cuont"],
    ),
    (
        "unknown key at the top",
        "name: x\ncolor: red\nvessels: {v: {run: a}}\n",
        &["line 2", "color"],
    ),
    ("no name", "vessels: {v: {run: a}}\n", &["name"]),
    ("no vessels", "name: x\nvessels: {}\n", &["vessels"]),
    ("no vessels at all", "name: x\n", &["vessels"]),
    ("duplicate vessels", "name: x\nvessels:\n  v: {run: a}\n  v: {run: b}\n", &["line 4", "v"]),
    (
        "cycle",
        "name: x\nvessels: {a: {run: a}, b: {run: b}}\nconnections:\n  a: {b: SUCCESS}\n  b: {a: SUCCESS}\n",
        &["cycle"],
    ),
    (
        "unknown vessel",
        "name: x\nvessels: {a: {run: a}}\nconnections:\n  a: {nobody: SUCCESS}\n",
        &["line 4", "nobody"],
    ),
    (
        "unknown condition",
        "name: x\nvessels: {a: {run: a}, b: {run: b}}\nconnections:\n  a: {b: SOMETIMES}\n",
        &["line 4", "connections.a.b"],
    ),
    ("nothing to run", "name: x\nvessels:\n  v: {environment: {A: b}}\n", &["line 3"]),
    ("two things to run", "name: x\nvessels:\n  v: {run: a, command: [b]}\n", &["line 3"]),
    (
        "too many retries",
        "name: x\nvessels:\n  v:\n    run: a\n    guardrails:\n      retry_count: 25\n",
        &["line 6", "retry_count"],
    ),
    (
        "no duration",
        "name: x\nvessels:\n  v:\n    run: a\n    guardrails: {runtime_cutoff: soon}\n",
        &["line 5", "runtime_cutoff"],
    ),
    (
        "a reserved variable",
        "name: x\nvessels:\n  v:\n    run: a\n    environment:\n      SHIPYARD_FLEET_ID: y\n",
        &["line 6", "SHIPYARD_FLEET_ID"],
    ),
    (
        "another reserved variable",
        "name: x\nvessels:\n  v:\n    run: a\n    environment:\n      BOATHOOK_ATTEMPT: 1\n",
        &["line 6", "BOATHOOK_ATTEMPT"],
    ),
    (
        "a blueprint",
        "name: x\nvessels:\n  v:\n    source: {type: BLUEPRINT, blueprint: b, inputs: {}}\n",
        &["line 4", "source"],
    ),
    (
        "a schedule without a day",
        "name: x\nvessels: {v: {run: a}}\ntriggers:\n  schedules: [{how_often: WEEKLY, at: '2:00'}]\n",
        &["line 4", "triggers.schedules[0].when", "WEDNESDAY"],
    ),
];

#[test]
fn bad_definitions_are_refused_with_line_and_key() {
    let server = Server::start();
    let api = server.api();
    for (what, yaml, named) in BAD_YAML {
        for (method, path) in [("POST", "/api/v1/fleets"), ("PUT", "/api/v1/fleets?by=name")] {
            let content = Some(("application/yaml", yaml.as_bytes().to_vec()));
            let answer = api.call(method, path, content);
            assert!(matches!(answer.status, 400 | 422), "{what}: {}", answer.status);
            assert_error(&answer, answer.status);
            for word in named {
                assert!(answer.error().contains(word), "{what}: {word} in {}", answer.error());
            }
        }
    }
    let json = [
        ("{\"name\": \"x\",\n\"vessels\": {\"v\": ", "line 2"),
        ("{\"name\": \"x\",\n\"vessels\": {\"v\": {\"comand\": [\"a\"]}}}", "comand"),
        ("{\"name\": \"x\",\n\"vessels\": {\"v\": {\"comand\": [\"a\"]}}}", "line 2"),
        ("[]", "line 1"),
        ("", ""),
        ("\u{0}", ""),
    ];
    for (text, named) in json {
        let content = Some(("application/json", text.as_bytes().to_vec()));
        let answer = api.call("POST", "/api/v1/fleets", content);
        assert!(matches!(answer.status, 400 | 422), "{text:?}: {}", answer.status);
        assert!(answer.error().contains(named), "{text:?}: {}", answer.error());
    }
    for name in ["", "a/b", "line\nbreak", "cc3737df-06ee-431a-8f87-1e79f1eed6d6"] {
        let answer = api.post("/api/v1/fleets", &true_fleet(name));
        assert!(matches!(answer.status, 400 | 422), "{name:?}: {}", answer.status);
    }
    let content = Some(("text/csv", b"name,vessels".to_vec()));
    assert_error(&api.call("POST", "/api/v1/fleets", content), 415);
    let large = json!({"name": "x", "vessels": {"v": {"run": "x".repeat(3 << 20)}}});
    let answer = api.post("/api/v1/fleets", &large);
    assert!(matches!(answer.status, 413 | 422), "{}", answer.status);

    assert_eq!(api.get("/api/v1/fleets").expect(200).data(), json!([]), "nothing is stored");
    let projects = api.get("/api/v1/projects").expect(200).data();
    assert_eq!(names(&projects), ["default"]);
}

#[test]
fn a_refused_update_leaves_the_fleet_as_it_was() {
    let server = Server::start();
    let api = server.api();
    let fleet = api.apply(&true_fleet("kept"));
    let path = format!("/api/v1/fleets/{fleet}");
    let before = api.get(&path).expect(200).data();
    let cycle = json!({"name": "kept", "vessels": {"v": {"run": "a"}}, "connections": {"v": {"v": "SUCCESS"}}});
    let answer = api.put(&path, &cycle);
    assert!(matches!(answer.status, 400 | 422), "{}", answer.status);
    assert_eq!(api.get(&path).expect(200).data(), before);
    api.apply(&true_fleet("taken"));
    assert_error(&api.put(&path, &true_fleet("taken")), 409);
    assert_eq!(api.get(&path).expect(200).data(), before);
}
