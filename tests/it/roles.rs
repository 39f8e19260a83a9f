//! Who may do what: every operation of the description with every role, and what a limited token
//! reaches.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::api::true_fleet;
use crate::harness::{Answer, Api, Server, description};

/// From the operator on, each includes those before it.
const ROLES: [&str; 5] = ["trigger", "reader", "operator", "author", "admin"];

/// A client with a new token: of this role, limited as `limit` says.
fn client(api: &Api, role: &str, limit: &Value) -> Api {
    let mut body = json!({"name": Uuid::new_v4().simple().to_string() + "x", "role": role});
    body.as_object_mut().unwrap().extend(limit.as_object().unwrap().clone());
    let made = api.post("/api/v1/tokens", &body).expect(201).data();
    api.with_token(made["token"].as_str().unwrap())
}

/// Whether `role` is enough for an operation that takes `needed`: by the words of the description.
fn is_enough(role: &str, needed: &str) -> bool {
    let rank = |role: &str| ROLES.iter().position(|it| *it == role).unwrap();
    match needed {
        "any" => true,
        "start" => role != "reader",
        needed => rank(role) >= rank(needed),
    }
}

/// A fleet with a project, a secret and a schedule of its own, and what it has done: an accepted and a
/// refused delivery.
struct Place {
    fleet: String,
    project: String,
    run: String,
    vessel_run: String,
    accepted: String,
    refused: String,
    hook: String,
    secret: String,
}

impl Place {
    fn make(server: &Server, name: &str) -> Self {
        let api = server.api();
        let secret = format!("{name}.key");
        let content = Some(("application/octet-stream", b"a value of this secret".to_vec()));
        api.call("PUT", &format!("/api/v1/secrets/{secret}"), content).expect(200);
        let fleet = json!({
            "name": format!("{name}-fleet"), "project": name,
            "vessels": {"v": {"run": "echo out", "environment": {"K": {"secret": &secret}}}},
            "schedules": [{"cron": "0 0 1 1 *"}],
            "webhook": {"verify": {"preset": "github", "secret": &secret}, "mode": "observe"},
        });
        let (fleet, hook) = server.fleet_with_webhook(&fleet);
        let run = hook.post(server.hooks(), &[], b"{}");
        let ended = api.wait_ended(&run);
        api.post(&format!("/api/v1/fleets/{fleet}/webhook/pause"), &json!({})).expect(200);
        assert_eq!(hook.try_post(server.hooks(), &[], b"{}").unwrap().status, 503);
        api.post(&format!("/api/v1/fleets/{fleet}/webhook/resume"), &json!({})).expect(200);
        let delivery = |verdict: &str| {
            let path = format!("/api/v1/deliveries?fleet={fleet}&verdict={verdict}");
            api.get(&path).expect(200).data()[0]["id"].as_str().unwrap().to_owned()
        };
        Self {
            project: ended["project_id"].as_str().unwrap().to_owned(),
            vessel_run: ended["vessels"][0]["id"].as_str().unwrap().to_owned(),
            accepted: delivery("accepted"),
            refused: delivery("refused"),
            hook: hook.token().to_owned(),
            fleet,
            run,
            secret,
        }
    }

    /// `template` with what is there, and the token of this id.
    fn fill(&self, template: &str, token: &str) -> String {
        let pairs = [
            ("{fleet}", self.fleet.as_str()),
            ("{project}", &self.project),
            ("{run}", &self.run),
            ("{vessel_run}", &self.vessel_run),
            ("{delivery}", &self.refused),
            ("{secret}", &self.secret),
            ("{token}", token),
            ("{session}", token),
            ("{org}", "default"),
            ("{version}", "1"),
        ];
        let filled =
            pairs.iter().fold(template.to_owned(), |path, (from, to)| path.replace(from, to));
        assert!(!filled.contains('{'), "{filled}");
        filled
    }
}

/// `template` with ids that nothing has.
fn with_unknown_ids(template: &str) -> String {
    let segments = template.split('/').map(|segment| match segment {
        "{version}" => "1".to_owned(),
        segment if segment.starts_with('{') => Uuid::new_v4().to_string(),
        segment => segment.to_owned(),
    });
    segments.collect::<Vec<_>>().join("/")
}

#[test]
fn every_route_takes_its_role_and_refuses_less_naming_it() {
    let server = Server::start();
    let api = server.api();
    let fleet = api.apply(&true_fleet("f"));
    let project = api.get(&format!("/api/v1/fleets/{fleet}")).data()["project_id"].clone();
    let limits = [json!({}), json!({"project_id": project}), json!({"fleet_id": fleet})];
    let mut tried = 0;
    for role in ROLES {
        for limit in &limits {
            let client = client(&api, role, limit);
            let is_limited = limit != &json!({});
            for (method, template, needed, is_of_server) in description::roles() {
                let Some(needed) = needed else { continue };
                let path = with_unknown_ids(template);
                let answer = client.call(&method, &path, None);
                let what = format!("{method} {template} as {role} of {limit}");
                let may = is_enough(role, needed) && !(is_of_server && is_limited);
                assert_eq!(answer.status != 403, may, "{what}: {}", answer.status);
                assert_ne!(answer.status, 401, "{what}");
                if !is_enough(role, needed) {
                    let word = if needed == "start" { "operator" } else { needed };
                    let message = answer.error();
                    assert!(message.contains(word) && message.contains(role), "{what}: {message}");
                }
                tried += 1;
            }
        }
    }
    assert!(tried > 15 * 50, "{tried}");
    // Nothing of it is open to strangers.
    let stranger = api.with_token("wrong");
    for (method, template, needed, _) in description::roles() {
        if needed.is_some() {
            assert_eq!(stranger.call(&method, &with_unknown_ids(template), None).status, 401);
        }
    }
}

#[test]
fn what_is_out_of_reach_of_a_limited_token_is_not_found() {
    let server = Server::start();
    let api = server.api();
    let (own, other) = (Place::make(&server, "own"), Place::make(&server, "other"));
    let of_other = json!({"name": "theirs", "role": "reader", "fleet_id": other.fleet});
    let theirs = api.post("/api/v1/tokens", &of_other).expect(201).data();
    let theirs = theirs["id"].as_str().unwrap();
    for limit in [json!({"project_id": own.project}), json!({"fleet_id": own.fleet})] {
        let client = client(&api, "admin", &limit);
        for (method, template, needed, is_of_server) in description::roles() {
            let names_object = template.replace("{org}", "").contains('{');
            if needed.is_none() || !names_object {
                continue;
            }
            let status = client.call(&method, &other.fill(template, theirs), None).status;
            let expected = if is_of_server { 403 } else { 404 };
            assert_eq!(status, expected, "{method} {template} of {limit}");
            if method == "GET" {
                let status = client.get(&own.fill(template, theirs)).status;
                let has_none = template.ends_with("/body") && template.contains("deliveries");
                assert!(status == 200 || has_none && status == 404, "{template}: {status}");
            }
        }
        client.get(&format!("/api/v1/deliveries/{}", own.accepted)).expect(200);
        let status = client.get(&format!("/api/v1/deliveries/{}", other.accepted)).status;
        assert_eq!(status, 404);
        // Not by a part of its id either.
        let part = &other.run[other.run.len() - 12..];
        assert_eq!(client.get(&format!("/api/v1/runs/{part}")).status, 404);
        let part = &own.run[own.run.len() - 12..];
        client.get(&format!("/api/v1/runs/{part}")).expect(200);
        let named = json!({"runs": [other.run, own.run]});
        let done = client.post("/api/v1/runs/stop", &named).expect(200).data();
        assert_eq!((&done["matched"], &done["runs"][0]["id"]), (&json!(1), &json!(own.run)));
    }
    // All of it is still there.
    assert_eq!(api.get("/api/v1/fleets").data().as_array().unwrap().len(), 2);
    let tokens = api.get("/api/v1/tokens").data();
    assert!(tokens.as_array().unwrap().iter().any(|token| token["name"] == "theirs"));
}

#[test]
fn lists_show_what_is_in_reach() {
    let server = Server::start();
    let api = server.api();
    let (own, other) = (Place::make(&server, "own"), Place::make(&server, "other"));
    let texts = |client: &Api| -> Vec<(&str, Answer)> {
        let lists =
            ["fleets", "projects", "runs", "schedules", "deliveries", "secrets", "overview"];
        lists.map(|list| (list, client.get(&format!("/api/v1/{list}")).expect(200))).into()
    };
    let theirs = [&other.fleet, &other.project, &other.run, &other.refused, &other.secret];
    for limit in [json!({"project_id": own.project}), json!({"fleet_id": own.fleet})] {
        let reader = client(&api, "reader", &limit);
        for (list, answer) in texts(&reader) {
            let text = answer.text();
            assert!(theirs.iter().all(|id| !text.contains(id.as_str())), "{list} of {limit}");
            assert!(text.contains("own"), "{list} of {limit}: {text}");
        }
        let runs = reader.get("/api/v1/runs").data();
        assert_eq!(runs.as_array().unwrap().len(), 1, "{runs}");
        let of_other = reader.get(&format!("/api/v1/runs?fleet={}", other.fleet)).expect(200);
        assert_eq!(of_other.data(), json!([]));
        assert_eq!(reader.get("/api/v1/deliveries").data().as_array().unwrap().len(), 2);
    }
    for (list, answer) in texts(&client(&api, "reader", &json!({}))) {
        let text = answer.text();
        assert!(text.contains("own") && text.contains("other"), "{list}");
    }
}

#[test]
fn only_authors_see_the_urls_of_webhooks() {
    let server = Server::start();
    let api = server.api();
    let place = Place::make(&server, "own");
    let grace = json!({"grace_seconds": 600});
    let path = format!("/api/v1/fleets/{}/webhook", place.fleet);
    let replaced = api.post(&format!("{path}/replace"), &grace).expect(201).data();
    let hooks =
        [place.hook.as_str(), replaced["url"].as_str().unwrap().rsplit('/').next().unwrap()];
    for role in ["trigger", "reader", "operator"] {
        let client = client(&api, role, &json!({}));
        for (method, template, needed, _) in description::roles() {
            if method != "GET" || !is_enough(role, needed.unwrap_or("admin")) {
                continue;
            }
            let text = client.get(&place.fill(template, &Uuid::new_v4().to_string())).text();
            assert!(hooks.iter().all(|hook| !text.contains(hook)), "{template} as {role}");
        }
    }
    let reader = client(&api, "reader", &json!({})).get(&path).expect(200).data();
    assert_eq!((&reader["url"], &reader["previous"]["url"]), (&Value::Null, &Value::Null));
    let author = client(&api, "author", &json!({})).get(&path).expect(200).data();
    assert!(author["url"].is_string() && author["previous"]["url"].is_string());
}

#[test]
fn a_trigger_starts_its_fleet_and_sees_how_it_ends_and_nothing_else() {
    let server = Server::start();
    let api = server.api();
    let place = Place::make(&server, "own");
    let trigger = client(&api, "trigger", &json!({"fleet_id": place.fleet}));
    let run = trigger.start(&place.fleet);
    let ended = trigger.wait_status(&run, "Success");
    assert_eq!(ended["vessels"][0]["exit_code"], 0);
    let sent =
        trigger.post(&format!("/api/v1/fleets/{}/test", place.fleet), &json!({})).expect(201);
    trigger.wait_ended(sent.data()["fleet_run_id"].as_str().unwrap());
    // What the sender of the first run sent is not the trigger's business.
    let shown = trigger.run(&place.run);
    for field in ["event", "note", "delivery_id"] {
        assert_eq!(shown[field], Value::Null, "{field}");
    }
    assert!(api.run(&place.run)["note"].is_object());
    let fleet = trigger.get(&format!("/api/v1/fleets/{}", place.fleet)).expect(200).data();
    assert!(fleet["name"] == "own-fleet" && fleet["vessels"].is_null(), "{fleet}");
    let vessel = ended["vessels"][0]["id"].as_str().unwrap();
    for path in [
        format!("/api/v1/vessel-runs/{vessel}/output"),
        format!("/api/v1/runs/{run}/webhook-parameters"),
        format!("/api/v1/fleets/{}/webhook", place.fleet),
    ] {
        assert_eq!(trigger.get(&path).status, 403, "{path}");
    }
    assert_eq!(trigger.post(&format!("/api/v1/runs/{run}/stop"), &json!({})).status, 403);
}

#[test]
fn a_limited_author_saves_fleets_within_its_limit() {
    let server = Server::start();
    let api = server.api();
    let (own, other) = (Place::make(&server, "own"), Place::make(&server, "other"));
    let save = |client: &Api, name: &str, project: Option<&str>| {
        let mut fleet = true_fleet(name);
        fleet.as_object_mut().unwrap().extend(project.map(|it| ("project".to_owned(), json!(it))));
        let answer = client.put("/api/v1/fleets?by=name", &fleet);
        let message = if answer.status == 403 { answer.error() } else { String::new() };
        (answer.status, message)
    };
    let of_project = client(&api, "author", &json!({"project_id": own.project}));
    assert_eq!(save(&of_project, "new", Some("own")).0, 201);
    let (status, message) = save(&of_project, "new", None);
    assert!(status == 403 && message.contains("`project: own`"), "{message}");
    assert_eq!(save(&of_project, "other-fleet", Some("other")).0, 403);
    assert_eq!(save(&of_project, "new", Some("made-up")).0, 403);
    let moved = json!({"name": "new", "project": "other", "vessels": {"v": {"command": ["true"]}}});
    let path = format!("/api/v1/fleets/{}", own.fleet);
    assert_eq!(of_project.put(&path, &moved).status, 403);
    assert_eq!(of_project.post("/api/v1/fleets", &moved).status, 403);

    let of_fleet = client(&api, "author", &json!({"fleet_id": own.fleet}));
    assert_eq!(save(&of_fleet, "own-fleet", Some("own")).0, 200);
    assert_eq!(save(&of_fleet, "new", Some("own")).0, 403);
    assert_eq!(of_fleet.post("/api/v1/fleets", &moved).status, 403);
    let in_place = json!({"name": "renamed", "vessels": {"v": {"command": ["true"]}}});
    of_fleet.put(&path, &in_place).expect(200);
    assert_eq!(of_fleet.put(&format!("/api/v1/fleets/{}", other.fleet), &in_place).status, 404);
    let names: Vec<Value> = api.get("/api/v1/fleets").data().as_array().unwrap().clone();
    let names: Vec<_> = names.iter().map(|fleet| fleet["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["new", "other-fleet", "renamed"]);
    assert_eq!(api.get("/api/v1/projects").data().as_array().unwrap().len(), 3);
}

#[test]
fn only_authors_give_a_run_variables_that_its_fleet_does_not_declare() {
    let server = Server::start();
    let api = server.api();
    let fleet = api.apply(&json!({"name": "open", "vessels": {"v": {
        "run": "echo \"$TARGET $MORE\"", "environment": {"TARGET": "staging"}}}}));
    let start = |client: &Api, variables: Value| {
        let overrides = json!({"vessel_overrides": [
            {"name": "v", "environment_variable_overrides": variables}]});
        client.post(&format!("/api/v1/fleets/{fleet}/runs"), &overrides)
    };
    let own = json!({"TARGET": "prod", "SHIPYARD_OVERRIDE_STATUS": null});
    let other = json!({"BASH_ENV": "$(touch /tmp/owned)"});
    for role in ["trigger", "operator"] {
        let client = client(&api, role, &json!({}));
        start(&client, own.clone()).expect(201);
        let refused = start(&client, other.clone());
        assert_eq!(refused.status, 403);
        let message = refused.error();
        assert!(message.contains("BASH_ENV") && message.contains("author"), "{message}");
    }
    start(&client(&api, "author", &json!({})), json!({"MORE": "of it"})).expect(201);
}

#[test]
fn a_request_whose_token_is_revoked_while_its_body_arrives_does_nothing() {
    let server = Server::start();
    let api = server.api();
    let token = api.post("/api/v1/tokens", &json!({"name": "slow", "role": "author"}));
    let token = token.expect(201).data();
    let body = true_fleet("late").to_string();
    let head = format!(
        "POST /api/v1/fleets HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        token["token"].as_str().unwrap(),
        body.len()
    );
    let mut stream = TcpStream::connect(server.admin()).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 25];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n", "it was let in");
    let id = token["id"].as_str().unwrap();
    api.call("DELETE", &format!("/api/v1/tokens/{id}"), None).expect(200);
    stream.write_all(body.as_bytes()).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
    assert_eq!(api.get("/api/v1/fleets").expect(200).data(), json!([]));
}

#[test]
fn a_secret_called_test_is_a_secret_like_others() {
    let server = Server::start();
    let api = server.api();
    let set = || Some(("application/octet-stream", b"a value of this secret".to_vec()));
    api.call("PUT", "/api/v1/secrets/test", set()).expect(200);
    api.apply(&json!({"name": "uses", "vessels": {"v": {
        "command": ["true"], "environment": {"K": {"secret": "test"}}}}}));
    assert_eq!(api.call("DELETE", "/api/v1/secrets/test", None).status, 409);
    let long = Some(("application/octet-stream", vec![b'x'; 70_000]));
    assert_eq!(api.call("PUT", "/api/v1/secrets/test", long).status, 413);
    api.call("DELETE", "/api/v1/secrets/test?force=true", None).expect(200);
}
