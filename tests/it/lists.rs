//! Lists page by page while what is in them changes, and edits that are meant for one version.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::api::{Api, true_fleet};
use crate::harness::http::exchange;
use crate::harness::server::finish;
use crate::harness::{Answer, Server, assert_error};

/// A page of the list at `path`: the names in it, and the `before` of the next one.
fn page(api: &Api, path: &str, before: Option<&str>) -> (Vec<String>, Option<String>) {
    let before = before.map(|before| format!("&before={before}")).unwrap_or_default();
    let answer = api.get(&format!("{path}?limit=2{before}")).expect(200);
    let data = answer.data();
    let names = data.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned());
    (names.collect(), answer.header("x-next-before").map(str::to_owned))
}

/// Fails unless a list of `a` to `e` at `path` loses and repeats nothing that stayed, when `change`
/// is made to its second entry after the first page.
#[track_caller]
fn assert_pages_hold(api: &Api, path: &str, change: impl FnOnce(&str)) {
    let entries = api.get(path).expect(200).data();
    let second = entries[1]["id"].as_str().unwrap();
    let (names, next) = page(api, path, None);
    assert_eq!(names, ["a", "b"]);
    change(second);
    let (names, next) = page(api, path, next.as_deref());
    assert_eq!(names, ["c", "d"]);
    let (names, next) = page(api, path, next.as_deref());
    assert_eq!((names.first().map(String::as_str), next), (Some("e"), None));
}

#[test]
fn a_list_of_fleets_goes_on_when_the_row_at_the_cursor_is_renamed_or_removed() {
    let paths = ["/api/v1/fleets", "/api/v1/overview/fleets"].into_iter().cycle();
    for (renamed, list) in
        [Some("zz"), Some("0"), Some("bb"), None, Some("zz"), None].into_iter().zip(paths)
    {
        let server = Server::start();
        let api = server.api();
        for name in ["a", "b", "c", "d", "e"] {
            api.apply(&true_fleet(name));
        }
        assert_pages_hold(&api, list, |id| {
            let path = format!("/api/v1/fleets/{id}");
            match renamed {
                Some("bb") => {
                    api.apply(&true_fleet("a0"));
                }
                Some(name) => {
                    api.put(&path, &true_fleet(name)).expect(200);
                }
                None => {
                    api.delete(&path).expect(200);
                }
            }
        });
    }
}

#[test]
fn a_list_of_projects_goes_on_when_the_row_at_the_cursor_is_renamed_or_removed() {
    for renamed in [Some("zz"), None] {
        let server = Server::start();
        let api = server.api();
        let first = api.get("/api/v1/projects").expect(200).data();
        for default in first.as_array().unwrap() {
            api.delete(&format!("/api/v1/projects/{}", default["id"].as_str().unwrap()))
                .expect(200);
        }
        for name in ["a", "b", "c", "d", "e"] {
            api.post("/api/v1/projects", &json!({"name": name})).expect(201);
        }
        assert_pages_hold(&api, "/api/v1/projects", |id| {
            let path = format!("/api/v1/projects/{id}");
            match renamed {
                Some(name) => api.put(&path, &json!({"name": name})).expect(200),
                None => api.delete(&path).expect(200),
            };
        });
    }
}

#[test]
fn fleets_are_listed_by_project_and_limited_by_project_name_and_state() {
    let server = Server::start();
    let api = server.api();
    for (project, name) in [("b", "one"), ("a", "two"), ("a", "one"), ("a b", "three")] {
        let mut fleet = true_fleet(name);
        fleet["project"] = json!(project);
        api.apply(&fleet);
    }
    let list = |query: &str| {
        let data = api.get(&format!("/api/v1/overview/fleets{query}")).expect(200).data();
        let entries = data.as_array().unwrap().iter();
        let name = |it: &Value| format!("{}/{}", it["project_name"], it["name"]).replace('"', "");
        entries.map(name).collect::<Vec<_>>()
    };
    assert_eq!(list(""), ["a/one", "a/two", "a b/three", "b/one"]);
    assert_eq!(list("?name=A/"), ["a/one", "a/two"]);
    let projects = api.get("/api/v1/projects?name=a%20B").expect(200).data();
    assert_eq!(projects[0]["fleets"], 1);
    let project = projects[0]["id"].as_str().unwrap();
    assert_eq!(list(&format!("?project={project}")), ["a b/three"]);
    assert_eq!(list("?state=failing"), [""; 0]);
    assert_eq!(list("?state=no_webhook&name=one"), ["a/one", "b/one"]);
    let refused = api.get("/api/v1/overview/fleets?state=sick").expect(400);
    assert!(refused.error().contains("no_webhook"), "{}", refused.error());
}

#[test]
fn runs_are_a_table_for_those_who_ask_for_one_and_leave_vessels_out() {
    let server = Server::start();
    let api = server.api();
    let fleet = api.apply(&json!({"name": "a, b", "vessels": {"v": {"command": ["false"],
        "guardrails": {"retry_count": 1, "retry_wait": 0}}}}));
    let run = api.wait_ended(&api.start(&fleet));
    let request = format!(
        "GET /api/v1/runs?status=Errored HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
         Accept: text/csv\r\n\r\n",
        server.token()
    );
    let table = exchange(server.admin(), request.as_bytes()).unwrap().expect(200);
    let text = table.text();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("Fleet Log ID,Status,Trigger,"), "{text}");
    let row = format!("{},Errored,on_demand,{fleet},\"a, b\",", run["id"].as_str().unwrap());
    assert!(lines[1].starts_with(&row) && lines[1].contains(",1,1,1,"), "{text}");
    assert_eq!(lines.len(), 2);
    let brief = api.get("/api/v1/runs?vessels=false").expect(200).data();
    assert_eq!((&brief[0]["id"], &brief[0]["vessels"]), (&run["id"], &json!([])));
}

#[test]
fn an_id_is_taken_as_a_cursor_too() {
    let server = Server::start();
    let api = server.api();
    let ids: Vec<String> = ["a", "b", "c"].map(|name| api.apply(&true_fleet(name))).into();
    assert_eq!(page(&api, "/api/v1/fleets", Some(&ids[0])).0, ["b", "c"]);
    assert_eq!(page(&api, "/api/v1/fleets", Some(&ids[2])).0.len(), 0);
    api.delete(&format!("/api/v1/fleets/{}", ids[1])).expect(200);
    let refused = api.get(&format!("/api/v1/fleets?before={}", ids[1])).expect(404);
    assert!(refused.error().contains("X-Next-Before"), "{}", refused.error());
}

#[test]
fn versions_and_runs_say_where_the_next_page_begins() {
    let server = Server::start();
    let api = server.api();
    let fleet = api.apply(&true_fleet("paged"));
    for concurrency in 1..5 {
        let mut edited = true_fleet("paged");
        edited["concurrency"] = json!(concurrency);
        api.apply(&edited);
    }
    let path = format!("/api/v1/fleets/{fleet}/versions");
    let first = api.get(&format!("{path}?limit=4")).expect(200);
    assert_eq!(first.header("x-next-before"), Some("2"));
    let last = api.get(&format!("{path}?limit=4&before=2")).expect(200);
    assert_eq!(last.data().as_array().unwrap().len(), 1);
    assert_eq!(last.header("x-next-before"), None);

    let mut runs: Vec<String> = (0..5).map(|_| api.start(&fleet)).collect();
    runs.reverse();
    let mut seen = Vec::new();
    let mut query = "limit=2".to_owned();
    loop {
        let answer = api.get(&format!("/api/v1/runs?{query}")).expect(200);
        let data = answer.data();
        seen.extend(
            data.as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap().to_owned()),
        );
        let Some(next) = answer.header("x-next-before") else { break };
        query = format!("limit=2&before={next}");
    }
    assert_eq!(seen, runs);
}

#[test]
fn the_command_line_lists_and_finds_more_fleets_than_one_page_has() {
    const FLEETS: usize = 1_020;
    let server = Server::start();
    let api = server.api();
    let names: BTreeSet<String> = (0..FLEETS).map(|at| format!("fleet-{at:04}")).collect();
    std::thread::scope(|scope| {
        let names: Vec<&String> = names.iter().collect();
        for part in names.chunks(FLEETS / 8) {
            let (api, part) = (api.clone(), part.to_vec());
            scope.spawn(move || part.iter().for_each(|name| drop(api.apply(&true_fleet(name)))));
        }
    });
    let (code, listed, said) = finish(server.cli(&["fleet", "list", "--json"]));
    assert_eq!(code, 0, "{said}");
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let listed: BTreeSet<String> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(listed, names);
    let (code, _, said) = finish(server.cli(&["fleet", "show", "fleet-1019"]));
    assert_eq!(code, 0, "{said}");
}

#[test]
fn a_query_key_given_twice_is_refused() {
    let server = Server::start();
    let api = server.api();
    let fleet = api.apply(&true_fleet("asked"));
    let run = api.wait_ended(&api.start(&fleet));
    let vessel = run["vessels"][0]["id"].as_str().unwrap();
    for path in [
        "/api/v1/fleets?limit=1&limit=2".to_owned(),
        "/api/v1/projects?limit=1&limit=1".to_owned(),
        "/api/v1/runs?status=Success&status=Errored".to_owned(),
        "/api/v1/runs?fleet=&fleet=".to_owned(),
        format!("/api/v1/fleets/{fleet}?x=1&x=2"),
        format!("/api/v1/fleets/{fleet}/versions?limit=1&before=2&limit=1"),
        format!("/api/v1/vessel-runs/{vessel}/output?offset=0&offset=1"),
        "/api/v1/overview?a&a".to_owned(),
    ] {
        let refused = get_raw(&server, &path);
        assert_error(&refused, 400);
        assert!(refused.error().contains("given twice"), "{path}: {}", refused.error());
    }
    // A test run takes whatever its webhook takes.
    api.call("POST", &format!("/api/v1/fleets/{fleet}/test?a=1&a=2"), None).expect(201);
}

/// A GET whose query the description would not have.
fn get_raw(server: &Server, path: &str) -> Answer {
    let token = server.token();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n");
    exchange(server.admin(), request.as_bytes()).unwrap()
}

/// A request with an If-Match and a body in YAML.
fn change(server: &Server, method: &str, path: &str, if_match: &str, yaml: &str) -> Answer {
    let token = server.token();
    let request = format!(
        "{method} /api/v1{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
         If-Match: {if_match}\r\nContent-Type: application/yaml\r\nContent-Length: {}\r\n\r\n{yaml}",
        yaml.len()
    );
    exchange(server.admin(), request.as_bytes()).unwrap()
}

#[test]
fn a_change_that_is_meant_for_another_version_is_refused() {
    let server = Server::start();
    let api = server.api();
    let fleet = api.apply(&true_fleet("edited"));
    let path = format!("/fleets/{fleet}");
    let yaml =
        |nice: u8| format!("name: edited\nvessels: {{v: {{command: [\"true\"], nice: {nice}}}}}\n");
    for accept in ["application/json", "application/yaml", "application/vnd.boathook.fleet+json"] {
        let token = server.token();
        let request = format!(
            "GET /api/v1{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nAccept: {accept}\r\n\r\n"
        );
        let answer = exchange(server.admin(), request.as_bytes()).unwrap().expect(200);
        assert_eq!(answer.header("etag"), Some("\"1\""), "{accept}");
    }
    let saved = change(&server, "PUT", &path, "\"1\"", &yaml(1)).expect(200);
    assert_eq!(saved.header("etag"), Some("\"2\""));
    for stale in ["\"1\"", "\"3\"", "\"1\", \"3\"", "W/\"2\"", "2", "\"x\"", ""] {
        for (method, path) in [
            ("PUT", path.clone()),
            ("PUT", "/fleets?by=name".to_owned()),
            ("DELETE", path.clone()),
            ("POST", format!("{path}/versions/1/revert")),
        ] {
            let refused = change(&server, method, &path, stale, &yaml(2));
            assert_error(&refused, 412);
            assert!(refused.error().contains("version 2"), "{stale}: {}", refused.error());
        }
    }
    assert_eq!(api.get(&format!("/api/v1{path}")).expect(200).data()["version"], 2);
    // Without a fleet of this name there is nothing that could match.
    let other = yaml(1).replace("edited", "other");
    assert_error(&change(&server, "PUT", "/fleets?by=name", "*", &other), 412);

    change(&server, "PUT", &path, "\"1\", \"2\"", &yaml(3)).expect(200);
    change(&server, "PUT", "/fleets?by=name", "*", &yaml(4)).expect(200);
    let reverted = change(&server, "POST", &format!("{path}/versions/1/revert"), "\"4\"", "");
    assert_eq!(reverted.expect(201).header("etag"), Some("\"5\""));
    change(&server, "DELETE", &path, "\"5\"", "").expect(200);
}
