//! Names of fleets, vessels and projects: seen as they are, one however they are encoded, and
//! printed so that a command with them works.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::Server;
use crate::harness::api::vessel_of;
use crate::harness::server::{BOATHOOK, finish};

const COMPOSED: &str = "d\u{e9}ploy";
const DECOMPOSED: &str = "de\u{301}ploy";

fn named(fleet: &str, project: &str, vessel: &str) -> Value {
    json!({"name": fleet, "project": project, "vessels": {vessel: {"run": "echo ran"}}})
}

#[test]
fn what_cannot_be_seen_is_refused_in_every_name() {
    let server = Server::start();
    let api = server.api();
    for character in
        "\u{200b}\u{200d}\u{2060}\u{ad}\u{a0}\u{61c}\u{180e}\u{202e}\u{feff}\u{e0041}".chars()
    {
        let name = format!("a{character}b");
        let code = format!("U+{:04X}", u32::from(character));
        for fleet in
            [named(&name, "default", "v"), named("n", &name, "v"), named("n", "default", &name)]
        {
            let answer = api.put("/api/v1/fleets?by=name", &fleet).expect(422);
            assert!(answer.text().contains(&code), "{}", answer.text());
        }
        let answer = api.post("/api/v1/projects", &json!({"name": name})).expect(422);
        assert!(answer.text().contains(&code), "{}", answer.text());
        let address = json!({"name": "n", "vessels": {"v": {"run": "x"}},
            "notifications": {"emails": [format!("a{character}@example.com")]}});
        api.put("/api/v1/fleets?by=name", &address).expect(422);
    }
    assert_eq!(api.get("/api/v1/fleets").data(), json!([]));
}

#[test]
fn a_name_is_one_however_its_accents_are_encoded() {
    let server = Server::start();
    let api = server.api();
    let put = |fleet: &Value| api.put("/api/v1/fleets?by=name", fleet);
    let first = put(&named(DECOMPOSED, DECOMPOSED, DECOMPOSED)).expect(201).data();
    assert_eq!(first["name"], COMPOSED);
    let again = put(&named(COMPOSED, COMPOSED, COMPOSED)).expect(200).data();
    assert_eq!((&again["id"], &again["version"]), (&first["id"], &json!(1)));
    assert_eq!(again["vessels"][0]["id"], first["vessels"][0]["id"]);
    api.post("/api/v1/fleets", &named(COMPOSED, DECOMPOSED, "v")).expect(409);
    api.post("/api/v1/projects", &json!({"name": DECOMPOSED})).expect(409);
    // Two vessels of one name; connections and overrides in another encoding.
    let twice = json!({"name": "n", "vessels": {COMPOSED: {"run": "x"}, DECOMPOSED: {"run": "x"}}});
    put(&twice).expect(422);
    let connected = json!({"name": "n", "vessels": {COMPOSED: {"run": "echo $A",
        "environment": {"A": "no"}}, "after": {"run": "x"}},
        "connections": {DECOMPOSED: {"after": "SUCCESS"}}});
    let connected = put(&connected).expect(201).data()["id"].as_str().unwrap().to_owned();
    let overrides = json!({"vessel_overrides": [
        {"name": DECOMPOSED, "environment_variable_overrides": {"A": "overridden"}},
    ]});
    let run = api.start_with(&connected, &overrides);
    let ended = api.wait_ended(&run);
    assert_eq!(api.output(&ended, COMPOSED), "overridden\n");
    let replay = api.post(&format!("/api/v1/runs/{run}/replay"), &json!({"from": DECOMPOSED}));
    let replay = replay.expect(201).data()["fleet_run_id"].as_str().unwrap().to_owned();
    assert_eq!(vessel_of(&api.wait_ended(&replay), COMPOSED)["status"], "Success");
    // The command line takes either.
    for (project, name) in [(COMPOSED, COMPOSED), (DECOMPOSED, DECOMPOSED)] {
        let fleet = format!("{project}/{name}");
        let (code, shown, stderr) = finish(server.cli(&["fleet", "show", &fleet, "--json"]));
        assert_eq!(code, 0, "{stderr}");
        assert!(shown.contains(first["id"].as_str().unwrap()), "{shown}");
        let logs = ["runs", "logs", &run, "--vessel", name];
        assert_eq!(finish(server.cli(&logs)), (0, "overridden\n".to_owned(), String::new()));
    }
}

#[test]
fn two_files_of_one_fleet_in_two_encodings_are_a_mistake() {
    let server = Server::start();
    let directory = server.scratch().join("fleets");
    fs::create_dir(&directory).unwrap();
    for (file, name) in [("a.yaml", COMPOSED), ("b.yaml", DECOMPOSED)] {
        let text = format!("name: {name}\nvessels: {{v: {{run: x}}}}\n");
        fs::write(directory.join(file), text).unwrap();
    }
    let (code, _, stderr) = finish(server.cli(&["fleet", "apply", directory.to_str().unwrap()]));
    assert!(code == 1 && stderr.contains("describes the same fleet as"), "{stderr}");
}

/// Runs the command that `advice` shows for `verb`, as a shell runs what is pasted: its stdout.
#[track_caller]
fn paste(advice: &str, verb: &str) -> String {
    let line = advice.lines().find(|line| line.contains(&format!("boathook {verb}")));
    let line = line.unwrap_or_else(|| panic!("no command: {advice}")).trim();
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(line.replacen("boathook", BOATHOOK, 1));
    let (code, stdout, stderr) = finish(shell);
    assert_eq!(code, 0, "{line}: {stderr}");
    stdout
}

#[test]
fn names_that_begin_like_an_option_are_printed_so_that_the_command_works() {
    let server = Server::start();
    for (project, name) in
        [("default", "-x"), ("default", "--json"), ("-p", "--data-dir"), ("web", "it's $HOME")]
    {
        let file = server.scratch().join("fleet.json");
        fs::write(&file, named(name, project, "-v").to_string()).unwrap();
        let apply = ["fleet", "apply", file.to_str().unwrap()];
        let (code, _, stderr) = finish(server.cli(&apply));
        assert_eq!(code, 0, "{stderr}");
        let url = paste(&stderr, "webhook add");
        assert!(url.starts_with("http://"), "{name}");
        let (_, id, _) = finish(server.cli(&["run", "--json", "--", &format!("{project}/{name}")]));
        let id: Value = serde_json::from_str(&id).unwrap();
        let id = id["fleet_run_id"].as_str().unwrap();
        server.api().wait_status(id, "Success");
        let logs = ["runs", "logs", id, "--vessel", "-v"];
        assert_eq!(finish(server.cli(&logs)).1, "ran\n");
        let listed = finish(server.cli(&["runs", "list", "--json", "--fleet", name]));
        assert!(listed.1.contains(id), "{}", listed.2);
    }
}
