//! The environment, standard input, files, directory and limits of a vessel.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::api::vessel_of;
use crate::harness::http::{exchange, post_request};
use crate::harness::{Api, Server};

/// The NUL-separated output of `env -0`.
fn parse_environment(output: &[u8]) -> BTreeMap<String, String> {
    output
        .split(|byte| *byte == 0)
        .filter(|entry| !entry.is_empty())
        .map(|entry| {
            let entry = String::from_utf8(entry.to_vec()).unwrap();
            let (name, value) = entry.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        })
        .collect()
}

fn environment_of(api: &Api, run: &Value, vessel: &str) -> BTreeMap<String, String> {
    parse_environment(&api.output_answer(run, vessel, "").body)
}

const START_TIME_PARTS: [&str; 8] =
    ["YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND", "MILLISECOND", "EPOCH"];

/// Every variable of the contract for a run of a webhook.
fn contract_names() -> Vec<String> {
    let mut names: Vec<String> = [
        "PATH",
        "HOME",
        "LANG",
        "TZ",
        "USER",
        "SHIPYARD_ORG_ID",
        "SHIPYARD_ORG_NAME",
        "SHIPYARD_PROJECT_ID",
        "SHIPYARD_PROJECT_NAME",
        "SHIPYARD_VESSEL_ID",
        "SHIPYARD_VESSEL_NAME",
        "SHIPYARD_LOG_ID",
        "SHIPYARD_LOG_WORKDIR",
        "SHIPYARD_VESSEL_START_TIME",
        "SHIPYARD_VESSEL_SCHEDULED_TIME",
        "SHIPYARD_FLEET_ID",
        "SHIPYARD_FLEET_NAME",
        "SHIPYARD_FLEET_LOG_ID",
        "SHIPYARD_FLEET_START_TIME",
        "SHIPYARD_FLEET_SCHEDULED_TIME",
        "SHIPYARD_FLEET_CURRENTSTREAM_INDEX",
        "SHIPYARD_WEBHOOK_HEADERS_FILE",
        "SHIPYARD_WEBHOOK_BODY_FILE",
        "BOATHOOK_WEBHOOK_BODY",
        "BOATHOOK_WEBHOOK_HEADERS",
        "BOATHOOK_WEBHOOK_QUERY",
        "BOATHOOK_WEBHOOK_CONTENT_TYPE",
        "BOATHOOK_REMOTE_ADDR",
        "BOATHOOK_TRIGGER",
        "BOATHOOK_ATTEMPT",
        "BOATHOOK_FLEET_RUN_ID",
    ]
    .map(str::to_owned)
    .to_vec();
    for prefix in ["SHIPYARD_VESSEL_START_TIME", "SHIPYARD_FLEET_START_TIME"] {
        names.extend(START_TIME_PARTS.map(|part| format!("{prefix}_{part}")));
    }
    for stream in ["UPSTREAM", "CURRENTSTREAM", "DOWNSTREAM"] {
        for what in ["COUNT", "LOG_IDS", "VESSEL_IDS"] {
            names.push(format!("SHIPYARD_FLEET_{stream}_{what}"));
        }
    }
    names
}

/// Fails unless the parts of a start time match the time itself.
fn check_time_parts(environment: &BTreeMap<String, String>, prefix: &str) {
    let time: jiff::Timestamp = environment[prefix].parse().expect("RFC 3339");
    assert!(environment[prefix].ends_with('Z'), "{}", environment[prefix]);
    let utc = time.to_zoned_datetime(jiff::tz::TimeZone::UTC);
    let part = |name: &str| environment[&format!("{prefix}_{name}")].clone();
    assert_eq!(part("YEAR"), utc.year().to_string());
    assert_eq!(part("MONTH"), format!("{:02}", utc.month()));
    assert_eq!(part("DAY").parse::<i8>().unwrap(), utc.day());
    assert_eq!(part("HOUR"), utc.hour().to_string());
    assert_eq!(part("MINUTE"), utc.minute().to_string());
    assert_eq!(part("SECOND"), utc.second().to_string());
    assert!(part("MILLISECOND").parse::<u16>().unwrap() < 1000, "it is not in the time itself");
    assert_eq!(part("EPOCH"), time.as_second().to_string());
}

#[test]
fn a_vessel_gets_the_environment_of_the_contract_and_nothing_else() {
    let server = Server::builder()
        .variable("CANARY", "of the server's own environment")
        .variable("TZ", "Asia/Tokyo")
        .variable("LD_LIBRARY_PATH", "/nowhere")
        .start();
    let api = server.api();
    let project = api
        .post("/api/v1/projects", &json!({"name": "Sea", "time_zone": "Europe/Berlin"}))
        .expect(201)
        .data();
    let (fleet, hook) = server.fleet_with_webhook(&json!({
        "name": "show",
        "project": "Sea",
        "vessels": {"env": {"command": ["env", "-0"], "environment": {"MINE": "a b\"c'$d\n"}}},
    }));
    let headers = [
        ("Content-Type", "application/json"),
        ("x-gitHub-event", "push"),
        ("Proxy", "evil"),
        ("LD-Preload", "evil"),
        ("BASH_FUNC_x%%", "() { :; }"),
        ("X-Many", "one"),
        ("x-many", "two"),
    ];
    let body = r#"{"PATH":"evil","IFS":"x"}"#;
    let target = format!("{}?PATH=evil&x=1", hook.target());
    let request = post_request(&target, &headers, body.as_bytes());
    let data = exchange(server.hooks(), &request).unwrap().expect(201).data();
    let run = api.wait_status(data["fleet_run_id"].as_str().unwrap(), "Success");
    let environment = environment_of(&api, &run, "env");

    let mut expected = contract_names();
    expected.push("MINE".to_owned());
    for name in &expected {
        assert!(environment.contains_key(name), "{name} is missing in {environment:#?}");
    }
    for name in environment.keys() {
        // The variable of the instance's id identifies leftovers and is not part of the contract.
        let known = expected.contains(name) || name.starts_with("BOATHOOK_INSTANCE");
        assert!(known, "{name} does not belong there");
    }

    let id = run["id"].as_str().unwrap();
    let vessel = vessel_of(&run, "env");
    let organization = api.get("/api/v1/organization").expect(200).data();
    let work = &environment["SHIPYARD_LOG_WORKDIR"];
    for (name, value) in [
        ("MINE", "a b\"c'$d\n"),
        ("TZ", "Europe/Berlin"),
        ("HOME", work),
        ("SHIPYARD_ORG_ID", organization["id"].as_str().unwrap()),
        ("SHIPYARD_ORG_NAME", organization["name"].as_str().unwrap()),
        ("SHIPYARD_PROJECT_ID", project["id"].as_str().unwrap()),
        ("SHIPYARD_PROJECT_NAME", "Sea"),
        ("SHIPYARD_VESSEL_ID", vessel["vessel_id"].as_str().unwrap()),
        ("SHIPYARD_VESSEL_NAME", "env"),
        ("SHIPYARD_LOG_ID", vessel["id"].as_str().unwrap()),
        ("SHIPYARD_FLEET_ID", &fleet),
        ("SHIPYARD_FLEET_NAME", "show"),
        ("SHIPYARD_FLEET_LOG_ID", id),
        ("SHIPYARD_FLEET_UPSTREAM_COUNT", "0"),
        ("SHIPYARD_FLEET_UPSTREAM_LOG_IDS", ""),
        ("SHIPYARD_FLEET_DOWNSTREAM_COUNT", "0"),
        ("SHIPYARD_FLEET_CURRENTSTREAM_INDEX", "0"),
        ("SHIPYARD_WEBHOOK_HEADERS_FILE", &format!("{work}/{id}.webhook_headers")),
        ("SHIPYARD_WEBHOOK_BODY_FILE", &format!("{work}/{id}.webhook_body")),
        ("BOATHOOK_WEBHOOK_BODY", body),
        ("BOATHOOK_WEBHOOK_QUERY", "PATH=evil&x=1"),
        ("BOATHOOK_WEBHOOK_CONTENT_TYPE", "application/json"),
        ("BOATHOOK_TRIGGER", "webhook"),
        ("BOATHOOK_ATTEMPT", "1"),
        ("BOATHOOK_FLEET_RUN_ID", id),
    ] {
        assert_eq!(environment[name], value, "{name}");
    }
    assert!(environment["BOATHOOK_REMOTE_ADDR"].starts_with("127.0.0.1"));
    check_time_parts(&environment, "SHIPYARD_VESSEL_START_TIME");
    check_time_parts(&environment, "SHIPYARD_FLEET_START_TIME");
    let headers: Value = serde_json::from_str(&environment["BOATHOOK_WEBHOOK_HEADERS"]).unwrap();
    assert_eq!(headers["X-Github-Event"], json!(["push"]));
    assert_eq!(headers["X-Many"], json!(["one", "two"]));
    assert_eq!(headers["Host"], Value::Null, "it names this server");
    for name in ["SHIPYARD_VESSEL_SCHEDULED_TIME", "SHIPYARD_FLEET_SCHEDULED_TIME"] {
        assert_eq!(environment[name].len(), "2026-03-12T21:22:47Z".len(), "{name}");
    }
}

#[test]
fn a_run_without_request_has_no_parameters() {
    let server = Server::start();
    let api = server.api();
    let fleet = api.apply(&json!({
        "name": "show",
        "vessels": {"env": {"command": ["env", "-0"]}, "input": {"command": ["wc", "-c"]}},
    }));
    for (query, trigger) in [("", "api"), ("?trigger=on_demand", "on_demand")] {
        let path = format!("/api/v1/fleets/{fleet}/runs{query}");
        let data = api.post(&path, &json!({})).expect(201).data();
        let run = api.wait_status(data["fleet_run_id"].as_str().unwrap(), "Success");
        let environment = environment_of(&api, &run, "env");
        assert_eq!(environment["BOATHOOK_TRIGGER"], trigger);
        for name in [
            "SHIPYARD_WEBHOOK_HEADERS_FILE",
            "SHIPYARD_WEBHOOK_BODY_FILE",
            "BOATHOOK_WEBHOOK_BODY",
            "BOATHOOK_WEBHOOK_HEADERS",
        ] {
            assert_eq!(environment.get(name), None, "{name}");
        }
        assert_eq!(api.output(&run, "input").trim(), "0");
        assert_eq!(run["trigger"], trigger);
    }
}

/// A script that prints a line for each fact about the vessel's surroundings.
const SURROUNDINGS: &str = r#"
echo "umask $(umask)"
echo "directory $(pwd -P)"
echo "directory-mode $(stat -c %a .)"
echo "headers-mode $(stat -c %a "$SHIPYARD_WEBHOOK_HEADERS_FILE")"
echo "body-mode $(stat -c %a "$SHIPYARD_WEBHOOK_BODY_FILE")"
echo "descriptors $(ulimit -Sn)"
echo "group $(ps -o pgid= -p $$ 2>/dev/null || cut -d' ' -f5 /proc/$$/stat)"
echo "self $$"
"#;

/// Arguments for `grep` that print its blocked and ignored signals.
const SIGNALS: [&str; 2] = ["^Sig[BI]", "/proc/self/status"];

#[test]
fn a_vessel_has_its_own_group_and_a_private_directory() {
    let server = Server::start();
    let api = server.api();
    let (_, hook) = server.fleet_with_webhook(&json!({
        "name": "surroundings",
        "vessels": {
            "show": {"run": SURROUNDINGS},
            "descriptors": {"command": ["ls", "/proc/self/fd"]},
            "elsewhere": {"command": ["pwd"], "working_directory": "/usr"},
            "signals": {"command": ["grep", SIGNALS[0], SIGNALS[1]]},
        },
    }));
    let run = hook.post(server.hooks(), &[("X-A", "b")], b"body");
    let run = api.wait_status(&run, "Success");
    let output = api.output(&run, "show");
    let facts: BTreeMap<&str, &str> =
        output.lines().filter_map(|line| line.split_once(' ')).collect();
    assert_eq!(facts["umask"], "0022");
    assert_eq!(facts["directory-mode"], "700");
    assert_eq!(facts["headers-mode"], "600");
    assert_eq!(facts["body-mode"], "600");
    assert_eq!(facts["group"].trim(), facts["self"]);
    let run_id = run["id"].as_str().unwrap();
    assert!(facts["directory"].contains(run_id), "each run has its own: {}", facts["directory"]);
    // The server may have raised its own limit. Vessels get the original one.
    let own = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let usual = ["1024".to_owned(), own.map_or("unlimited".to_owned(), |limit| limit.to_string())];
    assert!(usual.iter().any(|limit| limit == facts["descriptors"]), "{}", facts["descriptors"]);

    // The standard streams and the directory that ls reads, for any descriptors of this test.
    assert_eq!(api.output(&run, "descriptors"), "0\n1\n2\n3\n");
    // The C library reserves signals 32 and 33.
    let of_library = 0x1_8000_0000_u64;
    for line in api.output(&run, "signals").lines() {
        let (_, mask) = line.split_once(":\t").unwrap();
        assert_eq!(u64::from_str_radix(mask, 16).unwrap() & !of_library, 0, "{line}");
    }
    assert_eq!(api.output(&run, "elsewhere"), "/usr\n");
}

#[test]
fn overrides_set_unset_and_skip() {
    let server = Server::start();
    let api = server.api();
    let fleet = api.apply(&json!({
        "name": "overridden",
        "vessels": {
            "first": {"run": "echo must not run; exit 1"},
            "second": {
                "command": ["env", "-0"],
                "environment": {"GONE": "x", "EMPTY": "x", "CHANGED": "x", "KEPT": "x"},
            },
            "third": {"command": ["true"]},
        },
        "connections": {"first": {"second": "SUCCESS"}, "second": {"third": "ERRORED"}},
    }));
    let overrides = json!({"vessel_overrides": [
        {"name": "first", "environment_variable_overrides": {"SHIPYARD_OVERRIDE_STATUS": "SUCCESS"}},
        {"name": "second", "environment_variable_overrides":
            {"GONE": null, "EMPTY": "", "CHANGED": "y", "NEW": "z"}},
    ]});
    let data = api.post(&format!("/api/v1/fleets/{fleet}/runs"), &overrides).expect(201).data();
    let run = api.wait_status(data["fleet_run_id"].as_str().unwrap(), "Success");
    assert_eq!(api.output(&run, "first").trim_end(), "Vessel has been skipped due to override.");
    let environment = environment_of(&api, &run, "second");
    assert_eq!(environment.get("GONE"), None);
    for (name, value) in [("EMPTY", ""), ("CHANGED", "y"), ("NEW", "z"), ("KEPT", "x")] {
        assert_eq!(environment[name], value, "{name}");
    }
    assert_eq!(vessel_of(&run, "third")["status"], "Incomplete");

    let overrides = json!({"vessel_overrides": [
        {"name": "second", "environment_variable_overrides": {"SHIPYARD_OVERRIDE_STATUS": "ERRORED"}},
        {"name": "first", "environment_variable_overrides": {"SHIPYARD_OVERRIDE_STATUS": "SUCCESSFUL"}},
    ]});
    let run = api.wait_status(&api.start_with(&fleet, &overrides), "Errored");
    assert_eq!(vessel_of(&run, "third")["status"], "Success");

    for wrong in [
        json!({"vessel_overrides": [{"name": "nobody", "environment_variable_overrides": {}}]}),
        json!({"vessel_overrides": [{"name": "first",
            "environment_variable_overrides": {"SHIPYARD_FLEET_ID": "x"}}]}),
        json!({"vessel_overrides": 7}),
        json!({"vessel_override": []}),
    ] {
        let answer = api.post(&format!("/api/v1/fleets/{fleet}/runs"), &wrong);
        assert!(matches!(answer.status, 400 | 422), "{wrong}: {}", answer.status);
    }
    assert_eq!(api.all_runs().len(), 2);
}

/// Core files of the server and of its clients would contain tokens.
#[test]
fn the_server_writes_no_core_files_and_vessels_keep_their_limit() {
    let server = Server::builder().after_shell("ulimit -c 1000").start();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    let api = server.api();
    // A vessel that starts without the shim has the server's limit for a moment.
    let show = "until [ \"$(ulimit -Sc)\" != 0 ]; do :; done; ulimit -Sc";
    let fleet = api.apply(&json!({
        "name": "core",
        "vessels": {
            "plain": {"run": show, "guardrails": {"runtime_cutoff": "60s"}},
            "shim": {"run": "ulimit -Sc", "umask": "077"},
        },
    }));
    let run = api.wait_status(&api.start(&fleet), "Success");
    for vessel in ["plain", "shim"] {
        assert_eq!(api.output(&run, vessel), "1000\n", "{vessel}");
    }
    // A client has the token in memory as well.
    let mut client = server.cli(&["runs", "logs", "--follow", run["id"].as_str().unwrap()]);
    client.stdin(std::process::Stdio::null());
    let (code, _, said) = crate::harness::server::finish(client);
    assert_eq!(code, 0, "{said}");
}
