//! Valid fleet files, and the error for each mistake in one.

mod descriptions;
mod malformed;
mod refusals;
mod round_trip;
mod runners;
mod sources;

use std::time::Duration;

use super::*;
use crate::model::fleet::{Delivery, Program};
use crate::model::graph::{Condition, Path};
use crate::model::guardrails::ExitCodes;
use crate::model::overlap::Overlap;

fn refusal(yaml: &str) -> String {
    parse_yaml(yaml).expect_err(yaml).to_string()
}

/// Checks files that consist of a name and one vessel `v` with the given lines.
#[track_caller]
fn assert_vessel_refusals(cases: &[(&str, &str)]) {
    for (lines, message) in cases {
        assert_eq!(refusal(&format!("name: n\nvessels:\n  v:\n{lines}")), *message);
    }
}

/// The example of the contract, to the letter.
const CONTRACT_EXAMPLE: &str = r#"name: deploy-site
project: default                       # created when missing
vessels:
  build:
    command: [./build.sh, --prod]      # argv; or `run: |` with a script for /bin/sh; or Shipyard's `source`. A bare name is looked up in the vessel's PATH, ./x in its working directory
    working_directory: /srv/site       # default: the run's own directory
    environment: {TARGET: prod}        # map or Shipyard's list
    guardrails: {retry_count: 2, retry_wait: 10s, runtime_cutoff: 15m, exclude_exit_code_ranges: [2, "3-5"]}
  notify: {run: "mail -s 'site failed' me < \"$SHIPYARD_WEBHOOK_BODY_FILE\""}
connections:
  build: {notify: ERRORED}
concurrency: 1                         # runs of this fleet at a time; default: no limit but the workers
delivery: at_least_once
"#;

const CONTRACT_EXAMPLE_JSON: &str = r#"{
    "name": "deploy-site",
    "project": "default",
    "vessels": {
        "build": {
            "command": ["./build.sh", "--prod"],
            "working_directory": "/srv/site",
            "environment": [{"name": "TARGET", "value": "prod"}],
            "guardrails": {"retry_count": 2, "retry_wait": "10s", "runtime_cutoff": "15m",
                "exclude_exit_code_ranges": [2, "3-5"]}
        },
        "notify": {"run": "mail -s 'site failed' me < \"$SHIPYARD_WEBHOOK_BODY_FILE\""}
    },
    "connections": {"build": {"notify": "ERRORED"}},
    "concurrency": 1,
    "delivery": "at_least_once"
}"#;

#[test]
fn the_example_of_the_contract_is_read_as_it_is() {
    let file = parse_yaml(CONTRACT_EXAMPLE).unwrap();
    assert_eq!(file.id, None);
    assert_eq!(file.project.as_deref(), Some("default"));
    let fleet = file.definition;
    assert_eq!(fleet.name, "deploy-site");
    assert_eq!(fleet.concurrency, Some(1));
    assert_eq!(fleet.delivery, Delivery::AtLeastOnce);
    assert_eq!(fleet.paths, [Path { from: 0, to: 1, condition: Condition::Errored }]);
    let [build, notify] = &fleet.vessels[..] else { panic!("{:?}", fleet.vessels) };
    assert_eq!(build.name, "build");
    assert_eq!(build.program, Program::command(["./build.sh", "--prod"]));
    assert_eq!(build.working_directory.as_deref(), Some("/srv/site"));
    assert_eq!(build.environment, [("TARGET".to_owned(), "prod".into())]);
    assert_eq!(build.guardrails.retry_count, 2);
    assert_eq!(build.guardrails.retry_wait, Duration::from_secs(10));
    assert_eq!(build.guardrails.runtime_cutoff, Duration::from_secs(900));
    assert_eq!(
        build.guardrails.exclude_exit_code_ranges,
        [ExitCodes { first: 2, last: 2 }, ExitCodes { first: 3, last: 5 }]
    );
    let script = "mail -s 'site failed' me < \"$SHIPYARD_WEBHOOK_BODY_FILE\"";
    assert_eq!(notify.program, Program::Script(script.into()));
}

#[test]
fn json_says_the_same_as_yaml() {
    let mut json = parse_json(CONTRACT_EXAMPLE_JSON).unwrap();
    let yaml = FleetFile { text: None, ..parse_yaml(CONTRACT_EXAMPLE).unwrap() };
    json.definition.keep_vessel_ids(&yaml.definition);
    assert_eq!(json, yaml);
}

#[test]
fn arguments_and_variables_keep_their_written_text() {
    let words = ["3.10", "yes", "0x10", "1e3", "-1", "true", "007", "2022-01-01", "1_000", ".5"];
    let yaml = format!(
        "name: 1.10\nvessels:\n  v:\n    command: [{}]\n    environment: {{{}}}\n",
        words.join(", "),
        words.iter().enumerate().map(|(i, w)| format!("V{i}: {w}")).collect::<Vec<_>>().join(", "),
    );
    let fleet = parse_yaml(&yaml).unwrap().definition;
    assert_eq!(fleet.name, "1.10");
    assert_eq!(fleet.vessels[0].program, Program::command(words));
    let values: Vec<_> = fleet.vessels[0].environment.iter().map(|(_, it)| it.clone()).collect();
    assert_eq!(values, words.map(VariableValue::from));

    let json = r#"{"name":"n","vessels":{"v":{"command":["a",3.10,1e3,true,"\ud83d\ude00\u0007"],
        "environment":{"A":0.50,"B":""}}}}"#;
    let fleet = parse_json(json).unwrap().definition;
    let arguments = ["a", "3.10", "1e3", "true", "\u{1f600}\u{7}"];
    assert_eq!(fleet.vessels[0].program, Program::command(arguments));
    assert_eq!(fleet.vessels[0].environment[0].1, "0.50".into());
    assert_eq!(fleet.vessels[0].environment[1].1, "".into());
}

#[test]
fn ids_are_taken_over() {
    let yaml = "_id: 6f1c2d3e-0000-4000-8000-000000000001\nname: n\nvessels:\n  \
                a: {_id: 6f1c2d3e-0000-4000-8000-000000000002, run: x}\n  b: {_id: '...', run: x}\n";
    let file = parse_yaml(yaml).unwrap();
    assert_eq!(file.id.unwrap().to_string(), "6f1c2d3e-0000-4000-8000-000000000001");
    let [a, b] = &file.definition.vessels[..] else { panic!() };
    assert_eq!(a.id.to_string(), "6f1c2d3e-0000-4000-8000-000000000002");
    assert_ne!(a.id, b.id);
}

#[test]
fn empty_blocks_change_nothing() {
    let yaml =
        "name: n\nvessels:\n  a:\n    run: x\n    environment:\n    guardrails:\nconnections:\n";
    let fleet = parse_yaml(yaml).unwrap().definition;
    assert!(fleet.paths.is_empty() && fleet.vessels[0].environment.is_empty());
}

#[test]
fn an_overlap_without_a_number_means_one_run_at_a_time() {
    let read = |lines: &str| {
        let yaml = format!("name: n\nvessels: {{a: {{run: x}}}}\n{lines}");
        let fleet = parse_yaml(&yaml).unwrap().definition;
        (fleet.concurrency, fleet.overlap)
    };
    assert_eq!(read(""), (None, Overlap::Queue));
    assert_eq!(read("overlap: skip\n"), (Some(1), Overlap::Skip));
    assert_eq!(read("overlap: queue\n"), (Some(1), Overlap::Queue));
    assert_eq!(read("overlap: replace\nconcurrency: 4\n"), (Some(4), Overlap::Replace));
}

#[test]
fn a_byte_order_mark_and_foreign_line_ends_are_read() {
    let text =
        "\u{feff}---\r\nname: n\r\nvessels:\r\n  a:\r\n    run: |\r\n      x\r\n      y\r\n...\r\n";
    let fleet = parse_yaml(text).unwrap().definition;
    assert_eq!(fleet.vessels[0].program, Program::Script("x\ny\n".into()));
}
