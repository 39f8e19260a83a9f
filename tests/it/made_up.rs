//! The description of the admin API against the server, from the side of what is wrong: values,
//! methods and bodies that a property-based client makes up. Bounded, and seeded.

use std::collections::BTreeSet;

use serde_json::json;
use uuid::Uuid;

use crate::harness::api::true_fleet;
use crate::harness::http::exchange;
use crate::harness::{Answer, Random, Server, description};

/// What a client may put into a query.
const VALUES: &[&str] = &[
    "",
    "0",
    "1",
    "2",
    "50",
    "1000",
    "1001",
    "-1",
    "1.0",
    "1e3",
    "+1",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "99999999999999999999",
    "true",
    "false",
    "yes",
    "null",
    "x",
    ".",
    "6.",
    "61.a",
    "61.0a-",
    "6G.a",
    "Success",
    "Queued",
    "webhook",
    "api",
    "manual",
    "2026-01-02T03:04:05Z",
    "2026-13-02T03:04:05Z",
    "2026-01-02",
    "[]",
    "%22%22",
];

fn send(server: &Server, method: &str, target: &str, body: Option<&str>) -> Answer {
    let token = server.token();
    let body = body.map(|body| {
        format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    });
    let body = body.unwrap_or_else(|| "\r\n".to_owned());
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{body}"
    );
    exchange(server.admin(), request.as_bytes()).unwrap()
}

#[test]
fn a_query_is_taken_if_and_only_if_the_description_takes_it() {
    const PAIRS: usize = 200;
    let server = Server::start();
    let api = server.api();
    let fleet = api.apply(&true_fleet("queried"));
    let run = api.wait_ended(&api.start(&fleet));
    let vessel = run["vessels"][0]["id"].as_str().unwrap();
    let project = run["project_id"].as_str().unwrap();
    let organization = api.get("/api/v1/organization").expect(200).data();
    let organization = organization["id"].as_str().unwrap();
    let parameters = description::query_parameters();
    assert!(parameters.len() > 10, "{}", parameters.len());
    let mut random = Random::seeded(24);
    let mut differences = Vec::new();
    let stranger = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001).to_string();
    let values: Vec<&str> = VALUES.iter().copied().chain([stranger.as_str()]).collect();
    let mut check =
        |chosen: &[(&'static str, &'static str, &'static serde_json::Value, &str)]| {
            let path = chosen[0].0.replace("{fleet}", &fleet).replace("{vessel_run}", vessel);
            let path = path.replace("{org}", organization).replace("{project}", project);
            let query: Vec<String> =
                chosen.iter().map(|(_, name, _, value)| format!("{name}={value}")).collect();
            let target = format!("{path}?{}", query.join("&"));
            let is_described = chosen.iter().all(|(_, _, schema, value)| {
                description::takes(schema, &value.replace("%22", "\""))
            });
            let status = send(&server, "GET", &target, None).status;
            // An attempt that is not there is another matter.
            let is_taken = matches!(status, 200 | 404);
            assert!(is_taken || status == 400, "{status} {target}");
            if is_taken != is_described {
                differences.push(format!("{status} {target}"));
            }
        };
    for (path, name, schema) in &parameters {
        for value in &values {
            check(&[(*path, *name, *schema, *value)]);
        }
    }
    for _ in 0..PAIRS {
        let first = parameters[random.below(parameters.len())];
        let others: Vec<_> =
            parameters.iter().filter(|it| it.0 == first.0 && it.1 != first.1).collect();
        let Some(second) = others.get(random.below(others.len().max(1))) else {
            continue;
        };
        let mut value = || values[random.below(values.len())];
        check(&[(first.0, first.1, first.2, value()), (second.0, second.1, second.2, value())]);
    }
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn methods_that_are_not_described_are_answered_with_those_that_are() {
    let server = Server::start();
    let id = Uuid::nil().to_string();
    for path in description::all_paths() {
        let described: BTreeSet<String> = description::methods(path).into_iter().collect();
        let target = path.split('/').map(|segment| match segment {
            "{version}" => "1",
            variable if variable.starts_with('{') => &id,
            fixed => fixed,
        });
        let target = target.collect::<Vec<_>>().join("/");
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
            if described.contains(method) {
                continue;
            }
            let answer = send(&server, method, &target, None).expect(405);
            let allowed = answer.header("allow").unwrap_or_default();
            let allowed: BTreeSet<String> = allowed.split(", ").map(str::to_owned).collect();
            assert_eq!(allowed, described, "{method} {path}");
        }
    }
}

#[test]
fn a_whole_number_may_have_a_fraction_of_zero() {
    let server = Server::start();
    let api = server.api();
    let (fleet, _) = server.fleet_with_webhook(&true_fleet("numbers"));
    let replace = format!("/api/v1/fleets/{fleet}/webhook/replace");
    for (number, status) in [
        ("60", 201),
        ("60.0", 201),
        ("6e1", 201),
        ("0.0", 201),
        ("31622400.0", 201),
        ("60.5", 422),
        ("-1", 422),
        ("-1.0", 422),
        ("1e30", 422),
        ("31622401.0", 422),
        ("\"60\"", 422),
        ("null", 422),
        ("true", 422),
    ] {
        let body = format!("{{\"grace_seconds\": {number}}}");
        assert_eq!(send(&server, "POST", &replace, Some(&body)).status, status, "{number}");
    }
    let file = |concurrency: &str, priority: &str| {
        format!(
            r#"{{"name": "numbers", "vessels": {{"v": {{"command": ["true"]}}}},
                "concurrency": {concurrency}, "priority": {priority}}}"#
        )
    };
    let path = format!("/api/v1/fleets/{fleet}");
    for (concurrency, priority, status) in [
        ("2.0", "-1.0", 200),
        ("3", "1", 200),
        ("2.5", "1", 422),
        ("2", "1.5", 422),
        ("2.", "1", 400),
    ] {
        let answer = send(&server, "PUT", &path, Some(&file(concurrency, priority)));
        assert_eq!(answer.status, status, "{concurrency} {priority}: {}", answer.text());
    }
    assert_eq!(api.get(&path).expect(200).data()["concurrency"], json!(3));
}

#[test]
fn a_body_that_is_no_object_is_refused_everywhere() {
    let server = Server::start();
    let (fleet, _) = server.fleet_with_webhook(&true_fleet("bodies"));
    let (fleet, project) = (format!("/api/v1/fleets/{fleet}"), "/api/v1/projects".to_owned());
    for (method, path) in [
        ("POST", project.clone()),
        ("POST", "/api/v1/fleets".to_owned()),
        ("PUT", "/api/v1/fleets?by=name".to_owned()),
        ("PUT", fleet.clone()),
        ("PUT", format!("{fleet}/webhook")),
        ("POST", format!("{fleet}/webhook/replace")),
        ("POST", format!("{fleet}/runs")),
    ] {
        for body in ["\"\"", "null", "[]", "[null, null]", "1.0", "false", "{\"x\": 1}"] {
            let answer = send(&server, method, &path, Some(body));
            let is_refused = matches!(answer.status, 400 | 422);
            assert!(is_refused, "{method} {path} {body}: {} {}", answer.status, answer.text());
        }
    }
}
