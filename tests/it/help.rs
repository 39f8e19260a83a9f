//! What `boathook help` says, against what the server does. The commands in it are checked where they
//! are parsed; here are the fleets and the variables.

use std::fs;
use std::process::Command;

use serde_json::json;

use crate::harness::Server;
use crate::harness::server::{BOATHOOK, finish};

const TOPICS: [(&str, &str); 3] = [
    ("fleet-file", include_str!("../../src/cli/help/fleet-file.md")),
    ("elsewhere", include_str!("../../src/cli/help/elsewhere.md")),
    ("README", include_str!("../../README.md")),
];

fn help(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(BOATHOOK);
    command.arg("help").args(arguments);
    finish(command)
}

#[test]
fn fleets_in_the_texts_are_accepted() {
    let server = Server::start();
    for (topic, text) in TOPICS {
        let mut blocks = text.split("```yaml\n").skip(1).peekable();
        assert!(blocks.peek().is_some(), "{topic} shows a fleet");
        for block in blocks {
            let (fleet, _) = block.split_once("```").unwrap();
            let content = Some(("application/yaml", fleet.as_bytes().to_vec()));
            let checked = server.api().call("POST", "/api/v1/fleets/check", content).data();
            assert!(checked["definition"].is_object(), "{topic}: {checked}\n{fleet}");
        }
    }
}

#[test]
fn every_variable_of_a_vessel_is_explained() {
    const PARTS: [&str; 8] =
        ["YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND", "MILLISECOND", "EPOCH"];
    let topic = include_str!("../../src/cli/help/vessel.md");
    let server = Server::start();
    let (_, hook) = server.fleet_with_webhook(&json!({
        "name": "shows", "vessels": {"v": {"command": ["env", "-0"]}, "w": {"run": "true"}},
        "connections": {"v": {"w": "SUCCESS"}},
    }));
    let run = hook.post(server.hooks(), &[("Content-Type", "text/plain")], b"body");
    let run = server.api().wait_status(&run, "Success");
    let output = server.api().output(&run, "v");
    let names: Vec<_> =
        output.split_terminator('\0').filter_map(|pair| Some(pair.split_once('=')?.0)).collect();
    assert!(names.len() > 40, "{names:?}");
    for name in names {
        let (whole, last) = name.rsplit_once('_').unwrap_or(("", name));
        let name = if PARTS.contains(&last) && whole.ends_with("TIME") { whole } else { name };
        let is_there =
            topic.contains(&format!("`{name}`")) || topic.contains(&format!("`${name}`"));
        assert!(is_there, "{name} is missing");
    }
}

#[test]
fn help_leads_to_topics_and_verbs() {
    let (code, all, _) = help(&[]);
    assert_eq!(code, 0);
    assert!(all.contains("  serve ") && all.contains("  elsewhere "), "{all}");
    let (code, topic, _) = help(&["elsewhere"]);
    assert_eq!(code, 0);
    assert!(topic.starts_with("elsewhere: ") && topic.contains("srun"), "{topic}");
    assert!(!topic.contains('\u{1b}'), "styles are for terminals");
    let (code, verb, _) = help(&["serve"]);
    assert!(code == 0 && verb.contains("Usage: boathook serve"), "{verb}");
    let (code, out, said) = help(&["nothing"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(said.contains("elsewhere") && said.contains("serve"), "{said}");
}

#[test]
fn every_trigger_is_named_where_one_is_asked_for() {
    for verb in [&["runs", "list"][..], &["runs", "replay"]] {
        let (code, text, _) = help(verb);
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let named = "webhook, api, on_demand, replay, schedule";
        assert!(code == 0 && text.contains(named), "{verb:?}: {text}");
    }
}

#[test]
fn the_manual_has_verbs_and_topics() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(BOATHOOK);
    command.arg("manual").arg(directory.path());
    assert_eq!(finish(command).0, 0);
    for page in ["man1/boathook.1", "man1/boathook-fleet-apply.1", "man7/boathook-elsewhere.7"] {
        let page = fs::read_to_string(directory.path().join(page)).unwrap();
        assert!(page.contains(".TH ") && page.contains(".SH NAME"), "{page}");
    }
}
