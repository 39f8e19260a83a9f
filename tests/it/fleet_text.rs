//! The text of a fleet file is kept as its author wrote it, and follows what else edits the fleet.

use std::fs;

use serde_json::{Value, json};

use crate::harness::server::finish;
use crate::harness::{Api, Server};

const TEXT: &str = "# Sends the site.\nname: site\n\nvessels:   # only one\n  build: {run: 'true'}\n\n# \
                    Who may start it.\nwebhook: {allow: [192.0.2.0/24]}\n";

fn shown(server: &Server, fleet: &str) -> String {
    let (code, text, problem) = finish(server.cli(&["fleet", "show", fleet, "--yaml"]));
    assert_eq!(code, 0, "{problem}");
    text
}

fn put(api: &Api, fleet: &str, text: &str) -> Value {
    let content = Some(("application/yaml", text.as_bytes().to_vec()));
    api.call("PUT", &format!("/api/v1/fleets/{fleet}"), content).expect(200).data()
}

/// The text of a version, and of the version list.
fn of_version(api: &Api, fleet: &str, version: u32) -> String {
    let path = format!("/api/v1/fleets/{fleet}/versions");
    let one = api.get(&format!("{path}/{version}")).expect(200).data()["yaml"].clone();
    let list = api.get(&format!("{path}?limit=1000")).expect(200).data();
    let mut list = list.as_array().unwrap().iter();
    assert_eq!(list.find(|it| it["version"] == version).unwrap()["yaml"], one);
    one.as_str().unwrap().to_owned()
}

#[test]
fn a_text_is_given_back_as_written_and_survives_crashes_and_reverts() {
    let mut server = Server::start();
    let api = server.api();
    let fleet = api.apply_yaml(TEXT);
    assert_eq!(shown(&server, &fleet), TEXT);
    assert_eq!(put(&api, &fleet, TEXT)["version"], 1, "identical");
    // Another comment is another text, and the one before stays.
    let other = TEXT.replace("only one", "one alone");
    assert_eq!(put(&api, &fleet, &other)["version"], 2);
    assert_eq!(shown(&server, &fleet), other);
    assert_eq!(of_version(&api, &fleet, 1), TEXT);
    server.crash_and_restart();
    let api = server.api();
    assert_eq!(shown(&server, &fleet), other);
    api.call("POST", &format!("/api/v1/fleets/{fleet}/versions/1/revert"), None).expect(201);
    assert_eq!((shown(&server, &fleet), of_version(&api, &fleet, 3)), (TEXT.into(), TEXT.into()));
    let (code, difference, _) = finish(server.cli(&["fleet", "diff", "site", "2"]));
    assert!(code == 0 && difference.contains("+ vessels:   # only one"), "{difference}");

    // In the same JSON there is nothing new. In another there is no text.
    let (_, as_json, _) = finish(server.cli(&["fleet", "show", "site", "--yaml", "--json"]));
    let content = |text: &str| Some(("application/json", text.as_bytes().to_vec()));
    let path = format!("/api/v1/fleets/{fleet}");
    assert_eq!(api.call("PUT", &path, content(&as_json)).expect(200).data()["version"], 3);
    assert_eq!(shown(&server, &fleet), TEXT);
    let mut changed: Value = serde_json::from_str(&as_json).unwrap();
    changed["priority"] = json!(3);
    assert_eq!(api.call("PUT", &path, content(&changed.to_string())).data()["version"], 4);
    assert_eq!(shown(&server, &fleet), format!("{TEXT}priority: 3\n"));
    // A version without a text takes the first one that describes it.
    let plain = api.apply(&crate::harness::api::true_fleet("plain"));
    let commented = format!("# Mine.\n{}", of_version(&api, &plain, 1));
    assert_eq!(put(&api, &plain, &commented)["version"], 1);
    assert_eq!(shown(&server, &plain), commented);
    server.stop();
}

#[test]
fn a_text_follows_settings_and_projects_that_change_elsewhere() {
    let server = Server::start();
    let api = server.api();
    let fleet = api.apply_yaml(TEXT);
    api.add_webhook(&fleet);
    api.put(&format!("/api/v1/fleets/{fleet}/webhook"), &json!({"rate_limit": "5/s"})).expect(200);
    let followed = TEXT.replace("webhook: {allow: [192.0.2.0/24]}", "webhook:\n  rate_limit: 5/s");
    assert_eq!(shown(&server, &fleet), followed);
    assert_eq!(of_version(&api, &fleet, 1), TEXT);

    let projects = api.get("/api/v1/projects").expect(200).data();
    let project = projects[0]["id"].as_str().unwrap();
    let path = format!("/api/v1/projects/{project}");
    api.put(&path, &json!({"name": "ours"})).expect(200);
    let followed = followed.replace("name: site\n", "name: site\nproject: ours\n");
    // A blank line belongs to what follows it.
    assert_eq!(shown(&server, &fleet), followed);
    let file = server.scratch().join("shown.yaml");
    fs::write(&file, &followed).unwrap();
    let (code, said, _) = finish(server.cli(&["fleet", "apply", file.to_str().unwrap()]));
    assert!(code == 0 && said.contains("ours/site  version 3"), "{said}");
    assert_eq!(api.get("/api/v1/projects").expect(200).data().as_array().unwrap().len(), 1);
}

#[test]
fn texts_of_old_versions_give_way_and_those_of_deleted_fleets_too() {
    let mut server = Server::start();
    let api = server.api();
    let fleet = api.apply_yaml(TEXT);
    for count in 1..=100 {
        put(&api, &fleet, &TEXT.replace("only one", &format!("edit {count}")));
    }
    assert!(!of_version(&api, &fleet, 1).contains('#'));
    assert!(of_version(&api, &fleet, 2).contains("# edit 1\n"));
    let gone = api.apply_yaml(&TEXT.replace("name: site", "name: gone"));
    api.delete(&format!("/api/v1/fleets/{gone}")).expect(200);
    server.crash_and_restart();
    assert_eq!(shown(&server, &fleet), TEXT.replace("only one", "edit 100"));
    server.stop();
}
