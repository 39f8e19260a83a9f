//! Values that a request gives to vessels.

use serde_json::json;

use crate::harness::api::{true_fleet, vessel_of};
use crate::harness::http::{Answer, exchange, post_request};
use crate::harness::{Hook, Server};

/// A fleet whose vessel prints its arguments and one variable, each on a line.
fn printing(arguments: &serde_json::Value, environment: &serde_json::Value) -> serde_json::Value {
    let mut command = vec![
        json!("/bin/sh"),
        json!("-c"),
        json!("printf '%s\\n' \"$@\"; echo \"REF=${REF-unset}\""),
    ];
    command.push(json!("sh"));
    command.extend(arguments.as_array().unwrap().iter().cloned());
    json!({"name": "values", "vessels": {"v": {"command": command, "environment": environment}}})
}

#[test]
fn arguments_and_variables_get_what_the_request_holds() {
    let server = Server::start();
    let api = server.api();
    let arguments = json!([
        {"expr": "body.ref"},
        {"expr": "body.nope", "default": "main"},
        {"expr": "headers[\"x-github-event\"] + query.q"},
        {"expr": "body.list"},
        {"expr": "body.dash", "allow_dash": true},
        {"expr": "trigger + method"},
    ]);
    let fleet = printing(&arguments, &json!({"REF": {"expr": "body.ref"}}));
    let (_, hook) = server.fleet_with_webhook(&fleet);
    let body = br#"{"ref": "$(touch x); `id` 'q' \"d\"\nsecond line", "list": [1, {"a": "b"}], "dash": "-n"}"#;
    let headers = [("X-GitHub-Event", "push"), ("X-GitHub-Event", "other")];
    let target = format!("{}?q=%2Bx", hook.target());
    let request = post_request(&target, &headers, body);
    let answer = exchange(server.hooks(), &request).unwrap();
    let run = answer.expect(201).json()["data"]["fleet_run_id"].as_str().unwrap().to_owned();
    let run = api.wait_ended(&run);
    assert_eq!(run["status"], "Success");
    let text = "$(touch x); `id` 'q' \"d\"\nsecond line";
    let expected =
        format!("{text}\nmain\npush+x\n[1,{{\"a\":\"b\"}}]\n-n\nwebhookPOST\nREF={text}\n");
    assert_eq!(api.output(&run, "v"), expected);
    // A replay computes the same from the stored request, but for its trigger.
    let path = format!("/api/v1/runs/{}/replay", run["id"].as_str().unwrap());
    let answer = api.post(&path, &json!({})).expect(201).json();
    let replay = answer["data"]["fleet_run_id"].as_str().unwrap().to_owned();
    let replay = api.wait_ended(&replay);
    assert_eq!(api.output(&replay, "v"), expected.replace("webhookPOST", "replayPOST"));
}

#[test]
fn a_value_that_is_missing_or_wrong_is_said() {
    let server = Server::start();
    let api = server.api();
    let big = format!("{{\"big\": \"{}\"}}", "x".repeat(200_000));
    let huge = format!("{{\"ref\": \"{}\"}}", "x".repeat(1 << 20));
    for (argument, body, expected) in [
        (json!({"expr": "body.ref"}), "{}", "`body.ref` has no value for this request"),
        (json!({"expr": "body.ref"}), "not JSON", "`body.ref` has no value for this request"),
        (json!({"expr": "body.ref"}), &huge, "more than max_expression_body_bytes"),
        (json!({"expr": "body.ref", "default": "main"}), &huge, "`body.ref` fails: "),
        (json!({"expr": "body.ref"}), r#"{"ref": "--delete"}"#, "begins with `-`"),
        (json!({"expr": "body.ref + 1"}), r#"{"ref": "x"}"#, "`body.ref + 1` fails: "),
        (json!({"expr": "body.big"}), &big, "gives 200000 bytes"),
        (json!({"expr": "body.n"}), r#"{"n": "\u0000"}"#, "NUL"),
    ] {
        let fleet = printing(&json!([argument]), &json!({}));
        let (id, hook) = server.fleet_with_webhook(&fleet);
        let run = api.wait_ended(&hook.post(server.hooks(), &[], body.as_bytes()));
        assert_eq!(run["status"], "Errored", "{argument}");
        let output = api.output(&run, "v");
        assert!(output.contains(expected), "{argument}: {output}");
        assert!(vessel_of(&run, "v")["started_at"].is_null() || !output.contains("REF="));
        api.delete(&format!("/api/v1/fleets/{id}")).expect(200);
    }
    let fleet = printing(&json!([]), &json!({"REF": {"expr": "body.ref"}}));
    let (_, hook) = server.fleet_with_webhook(&fleet);
    let run = api.wait_ended(&hook.post(server.hooks(), &[], b"{}"));
    assert_eq!(api.output(&run, "v"), "\nREF=unset\n");
    let run = api.wait_ended(&hook.post(server.hooks(), &[], huge.as_bytes()));
    assert_eq!(run["status"], "Errored", "a variable is not left out as if the body had none");
    // An expression that does not read the body has its value whatever the size of that.
    let fleet = printing(&json!([{"expr": "query.q", "default": "none"}]), &json!({}));
    let mut fleet = fleet;
    fleet["name"] = json!("without-body");
    let (_, hook) = server.fleet_with_webhook(&fleet);
    let run = api.wait_ended(&hook.post(server.hooks(), &[], huge.as_bytes()));
    assert_eq!(api.output(&run, "v"), "none\nREF=unset\n");
}

fn put_yaml(server: &Server, yaml: &str) -> Answer {
    let content = ("application/yaml", yaml.as_bytes().to_vec());
    server.api().call("PUT", "/api/v1/fleets?by=name", Some(content))
}

#[test]
fn an_expression_is_checked_when_the_fleet_is_applied() {
    let server = Server::start();
    for (argument, expected) in [
        (
            "{expr: bdy.ref}",
            "line 4, column 33: vessels.v.command[1].expr: there is no variable `bdy`",
        ),
        ("{expr: 'body.ref =='}", "(character 12 of the expression)"),
        ("{expr: body.ref, defualt: x}", "did you mean `default`?"),
        ("{exp: body.ref}", "expected text, found a mapping"),
    ] {
        let yaml = format!("name: n\nvessels:\n  v:\n    command: [/bin/echo, {argument}]\n");
        let answer = put_yaml(&server, &yaml);
        assert_eq!(answer.status, 422, "{argument}");
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(expected), "{argument}: {message}");
    }
    let yaml = "name: n\nvessels:\n  v:\n    command: [{expr: body.ref}, x]\n";
    let answer = put_yaml(&server, yaml);
    assert!(answer.json()["error"]["message"].as_str().unwrap().contains("which program"));
}

/// A fleet whose webhook wants what `when` says; its URL.
fn filtered(server: &Server, when: &str) -> Hook {
    let mut fleet = true_fleet("filtered");
    fleet["webhook"] = json!({"when": when});
    let id = server.api().apply(&fleet);
    let webhook = format!("/api/v1/fleets/{id}/webhook");
    match server.api().get(&webhook).status {
        200 => Hook::from_url(server.api().get(&webhook).data()["url"].as_str().unwrap()),
        _ => server.api().add_webhook(&id),
    }
}

#[test]
fn a_filter_keeps_requests_from_running_and_a_broken_one_loses_none() {
    let server = Server::start();
    let json_type = ("Content-Type", "application/json");
    let push = ("X-GitHub-Event", "push");
    let main: &[u8] = br#"{"ref": "refs/heads/main", "n": 1}"#;
    for (when, headers, body, is_run) in [
        (
            r#"headers["x-github-event"] == "push" && body.ref == "refs/heads/main""#,
            vec![json_type, push],
            main,
            true,
        ),
        (
            r#"headers["x-github-event"] == "push" && body.ref == "refs/heads/main""#,
            vec![json_type],
            main,
            false,
        ),
        (r#"body.ref == "refs/heads/next""#, vec![json_type], main, false),
        ("body.none.such", vec![json_type], main, false),
        ("has(body.none)", vec![json_type], main, false),
        ("body.n + 'x' == 'y'", vec![json_type], main, true),
        ("body.n", vec![json_type], main, true),
        ("body.ref == 'x'", vec![json_type], b"not json", false),
        ("text == 'not json'", vec![], b"not json", true),
        ("method == 'POST' && query.a == 'b'", vec![], b"", false),
    ] {
        let hook = filtered(&server, when);
        let answer = hook.try_post(server.hooks(), &headers, body).unwrap();
        if is_run {
            answer.expect(201);
            continue;
        }
        let answer = answer.expect(200);
        let id = answer.header("x-request-id").unwrap().to_owned();
        let expected = format!("{{\"request\":{{\"id\":\"{id}\"}},\"data\":null}}");
        assert_eq!(String::from_utf8_lossy(&answer.body), expected, "{when}");
    }
    // What it reads of a body that is too large is unknown: nothing is lost.
    let huge = format!("{{\"ref\": \"x\", \"big\": \"{}\"}}", "x".repeat(1 << 20));
    let hook = filtered(&server, "body.ref == 'y'");
    let run = hook.post(server.hooks(), &[], huge.as_bytes());
    let note = server.api().wait_ended(&run)["note"].clone();
    assert_eq!(note["reason"], "filter_failed");
    let message = note["detail"].as_str().unwrap_or_default();
    assert!(message.contains("more than max_expression_body_bytes"), "{note}");
    let hook = filtered(&server, "method == 'PUT'");
    hook.try_post(server.hooks(), &[], huge.as_bytes()).unwrap().expect(200);
    // A header that is no UTF-8 is the text that vessels are given.
    let hook = filtered(&server, "headers[\"x-name\"] == 'caf\u{e9}'");
    let mut request = post_request(&hook.target(), &[("X-Name", "caf_")], b"");
    let at = request.windows(4).position(|it| it == b"caf_").unwrap() + 3;
    request[at] = 0xe9;
    exchange(server.hooks(), &request).unwrap().expect(201);
    let refused =
        json!({"name": "n", "vessels": {"v": {"run": "x"}}, "webhook": {"when": "body.a = 1"}});
    let content = ("application/json", refused.to_string().into_bytes());
    let answer = server.api().call("PUT", "/api/v1/fleets?by=name", Some(content));
    let message = answer.expect(422).json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("webhook.when: ") && message.contains("(character "), "{message}");
}

/// Bodies that are hard to read or to go through, each below `max_expression_body_bytes`.
fn hostile_bodies() -> Vec<Vec<u8>> {
    let repeated = |text: &str, times: usize| text.repeat(times);
    let list = |item: &str, times: usize| {
        format!("{{\"l\": [{}0]}}", repeated(&format!("{item},"), times))
    };
    vec![
        repeated("[", 500_000),
        repeated("{\"a\":", 150_000),
        format!("{{\"l\": {}1{}}}", repeated("[", 120), repeated("]", 120)),
        list("0", 500_000),
        list("1e400", 100_000),
        list("NaN", 100_000),
        list("-1e-400", 100_000),
        list("123456789012345678901234567890", 30_000),
        list("\"\\ud800\"", 100_000),
        list("{}", 300_000),
        format!("{{{}\"l\": 1}}", repeated("\"l\": [1, 2],", 70_000)),
        format!("{{\"s\": \"{}\"}}", repeated("a", 1_000_000)),
        format!("{{\"s\": \"{}\"}}", repeated("\\u0000", 170_000)),
    ]
    .into_iter()
    .map(String::into_bytes)
    .collect()
}

#[test]
fn hostile_payloads_cost_little_and_are_answered() {
    const PEAK_KIB_MAX: u64 = 400 * 1024;
    let server = Server::builder().setting("workers", "1").start();
    for when in [
        "body.l.all(x, body.l.all(y, x == y))",
        "body.l.map(x, string(x)).join(\",\").contains(\"z\")",
        r#"body.s.matches("^(a|aa)+$") || body.s.matches("(a*)*b")"#,
        r#"text.matches("((a{0,200}){0,200}){0,200}b")"#,
        "[body, body, body].exists(b, b == {\"l\": [body.l]})",
        "body.s.split(\"\").map(c, c + body.s).size() > 3",
    ] {
        let hook = filtered(&server, when);
        for body in hostile_bodies() {
            let answer = hook.try_post(server.hooks(), &[], &body).unwrap();
            let start = String::from_utf8_lossy(&body[..20]).into_owned();
            assert!([200, 201].contains(&answer.status), "{when} over {start}: {}", answer.status);
        }
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < PEAK_KIB_MAX, "{peak} KiB");
}
