//! The tutorial of the hosted system: its vessel runs here unchanged.

use std::path::Path;

use serde_json::json;

use crate::harness::{Server, python_directory};

const SCRIPT: &str = include_str!("../data/tutorial_vessel.py");

fn indented(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{}{line}\n", " ".repeat(by))).collect()
}

/// The fleet as the hosted system exports it.
fn shipyard_yaml() -> String {
    format!(
        r#"name: Webhook Tutorial
vessels:
  Print Webhook Params:
    source:
      type: CODE
      language: PYTHON
      file:
        name: print_webhook_params.py
        content: |
{}
      file_to_run: print_webhook_params.py
      environment:
        - name: PATH
          value: {}:/usr/bin:/bin
    guardrails: {{retry_count: 0, retry_wait: 0h0m0s, runtime_cutoff: 1h0m0s}}
"#,
        indented(SCRIPT, 10),
        python_directory()
    )
}

fn check_output(output: &str) {
    let lines: Vec<&str> = output.lines().collect();
    for line in [
        "The header key is Content-Type and the header value is ['application/json']",
        "The header key is Content-Length and the header value is ['50']",
        "The header key is User-Agent and the header value is ['curl/7.68.0']",
        "The header key is Accept and the header value is ['*/*']",
        "The body key is example_key and the body value is example_value",
        "The body key is n and the body value is 1",
    ] {
        assert!(lines.contains(&line), "no line {line:?} in {output}");
    }
}

/// The same script as a program of this machine.
fn local_fleet() -> serde_json::Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tutorial_vessel.py");
    json!({
        "name": "local",
        "vessels": {"Print Webhook Params": {
            "command": ["python3", script],
            "environment": {"PATH": format!("{}:/usr/bin:/bin", python_directory())},
        }},
    })
}

fn check_fleet(server: &Server, fleet: &str) {
    let api = server.api();
    let hook = api.add_webhook(fleet);
    let body = format!("{{\"example_key\":\"example_value\",\"n\":1}}{}", " ".repeat(13));
    assert_eq!(body.len(), 50);
    let headers =
        [("Accept", "*/*"), ("User-Agent", "curl/7.68.0"), ("Content-Type", "application/json")];
    let run = hook.post(server.hooks(), &headers, body.as_bytes());
    let run = api.wait_status(&run, "Success");
    check_output(&api.output(&run, "Print Webhook Params"));

    // Started by hand there is neither file, and the script says nothing.
    let run = api.wait_status(&api.start(fleet), "Success");
    assert_eq!(api.output(&run, "Print Webhook Params"), "");

    // What is no JSON fails loudly, so the fixture does read what it was sent.
    let run = hook.post(server.hooks(), &[], b"not json");
    let run = api.wait_status(&run, "Errored");
    let output = api.output(&run, "Print Webhook Params");
    assert!(output.contains("JSONDecodeError"), "{output}");
}

#[test]
fn the_tutorial_vessel_prints_headers_and_body() {
    let server = Server::start();
    check_fleet(&server, &server.api().apply(&local_fleet()));
}

#[test]
fn the_tutorial_fleet_is_accepted_as_exported() {
    let server = Server::start();
    check_fleet(&server, &server.api().apply_yaml(&shipyard_yaml()));
}
