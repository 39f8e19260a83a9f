//! The requests of the hosted system's published CI actions and client, against the admin listener: the
//! headers, targets and bodies that they send.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::harness::api::true_fleet;
use crate::harness::http::exchange;
use crate::harness::{Answer, Server, wait_until};

/// A stand-in of the published programs: they know an organization, a project and a key.
struct Client<'a> {
    server: &'a Server,
    key: String,
    place: String,
}

impl<'a> Client<'a> {
    fn new(server: &'a Server, role: &str) -> Self {
        let api = server.api();
        let token = json!({"name": role, "role": role});
        let made = api.post("/api/v1/tokens", &token).expect(201).data();
        let id = |path: &str| api.get(path).expect(200).data();
        let organization = id("/api/v1/organization")["id"].as_str().unwrap().to_owned();
        let project = id("/api/v1/projects")[0]["id"].as_str().unwrap().to_owned();
        Self {
            server,
            key: made["token"].as_str().unwrap().to_owned(),
            place: format!("/orgs/{organization}/projects/{project}"),
        }
    }

    /// A request as they send it: always with this Content-Type.
    fn send(&self, method: &str, path: &str, content_type: &str, body: &str) -> Answer {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: python-requests/2.31.0\r\n\
             Accept-Encoding: gzip, deflate\r\naccept: application/json\r\nConnection: keep-alive\r\n\
             content-type: {content_type}\r\nX-Shipyard-API-Key: {}\r\nContent-Length: {}\r\n\r\n{body}",
            self.server.admin(),
            self.key,
            body.len()
        );
        exchange(self.server.admin(), request.as_bytes()).unwrap()
    }

    fn start(&self, fleet: &str, overrides: &str) -> Answer {
        let path = format!("{}/fleets/{fleet}/fleetruns", self.place);
        self.send("POST", &path, "application/json", overrides)
    }

    fn csv(&self, path: &str) -> Vec<HashMap<String, String>> {
        let answer = self.send("GET", path, "application/json", "").expect(200);
        assert!(answer.header("content-type").unwrap().starts_with("text/csv"));
        let text = answer.text();
        let mut rows = text.lines().map(|line| line.split(',').map(str::to_owned));
        let columns: Vec<String> = rows.next().unwrap().collect();
        rows.map(|row| columns.iter().cloned().zip(row).collect()).collect()
    }

    /// What the trigger action asks for again and again.
    fn status(&self, fleet: &str, run: &str) -> Option<String> {
        let rows = self.csv(&format!("{}/fleets/{fleet}/fleetruns?days=1", self.place));
        let row = rows.into_iter().find(|row| row["Fleet Log ID"] == run)?;
        Some(row["Status"].clone())
    }
}

#[test]
fn the_trigger_action_starts_a_fleet_and_waits_for_its_end() {
    let server = Server::start();
    let api = server.api();
    let fleet = api.apply(&json!({"name": "nightly, really",
        "vessels": {"v": {"run": "exit $CODE", "environment": {"CODE": "0"}}}}));
    let client = Client::new(&server, "trigger");
    let overrides = r#"{"vessel_overrides": [{"name": "v",
        "environment_variable_overrides": {"CODE": "1"}}]}"#;
    for (overrides, end) in [("", "Success"), (overrides, "Errored")] {
        let started = client.start(&fleet, overrides).expect(201).data();
        for field in ["fleet_id", "project_id", "org_id", "fleet_run_id"] {
            assert!(started[field].is_string(), "{field}");
        }
        let run = started["fleet_run_id"].as_str().unwrap();
        wait_until("the run has ended", || {
            let status = client.status(&fleet, run).expect("the run is in the list");
            !["Scheduled", "Running"].contains(&status.as_str())
        });
        assert_eq!(client.status(&fleet, run).as_deref(), Some(end));
        assert_eq!(api.run(run)["trigger"], "api");
    }
    // By names, too, and with a body that is none.
    let by_name = "/orgs/default/projects/default/fleets/nightly%2C%20really/fleetruns";
    client.send("POST", by_name, "application/json", "").expect(201);
    assert_eq!(client.start(&fleet, "{").status, 400);
    assert_eq!(client.start("nothing", "").status, 404);
}

#[test]
fn a_run_that_never_ran_ends_for_those_who_wait() {
    let server = Server::start();
    let api = server.api();
    let fleet = api.apply(&json!({"name": "f", "concurrency": 1, "overlap": "skip",
        "vessels": {"v": {"run": "exec sleep 100000"}}}));
    let first = api.start(&fleet);
    let client = Client::new(&server, "trigger");
    let skipped = client.start(&fleet, "").expect(201).data();
    let skipped = skipped["fleet_run_id"].as_str().unwrap();
    api.wait_status(skipped, "Incomplete");
    assert_eq!(client.status(&fleet, skipped).as_deref(), Some("Terminated"));
    assert_eq!(client.status(&fleet, &first).as_deref(), Some("Running"));
}

#[test]
fn the_upsert_action_makes_and_updates_a_fleet_by_its_id() {
    let server = Server::start();
    let api = server.api();
    let client = Client::new(&server, "author");
    let file = |id: &str, script: &str| {
        format!(
            "name: Upserted\n{id}vessels:\n  First:\n    source:\n      type: CODE\n      language: BASH\n      \
             file: {{name: script.sh, content: \"{script}\"}}\n      file_to_run: script.sh\n"
        )
    };
    let path = format!("{}/fleets", client.place);
    // The client says JSON and sends YAML.
    let made =
        client.send("PUT", &path, "application/json", &file("", "echo 1")).expect(201).data();
    let id = made["id"].as_str().unwrap().to_owned();
    let with_id = file(&format!("_id: {id}\n"), "echo 2").replace("Upserted", "Renamed");
    let saved = client.send("PUT", &path, "application/yaml", &with_id).expect(200).data();
    assert_eq!((&saved["id"], &saved["version"]), (&json!(id), &json!(2)));
    assert_eq!(saved["name"], "Renamed");
    let own = format!("{path}/{id}");
    let saved =
        client.send("PUT", &own, "application/yaml", &file("", "echo 3")).expect(200).data();
    assert_eq!((&saved["id"], &saved["version"]), (&json!(id), &json!(3)));
    // An unknown id is that of a new fleet.
    let new = "6f1c2a34-0000-4000-8000-000000000001";
    let other = file(&format!("_id: {new}\n"), "echo").replace("Upserted", "Other");
    let made = client.send("PUT", &path, "application/json", &other).expect(201).data();
    assert_eq!(made["id"], new);
    assert_eq!(client.send("PUT", &path, "application/yaml", "name: [").status, 400);
    assert_eq!(client.send("PUT", &path, "application/yaml", "name: x\n").status, 422);
    let elsewhere = file("project: elsewhere\n", "echo");
    assert_eq!(client.send("PUT", &path, "application/yaml", &elsewhere).status, 422);
    assert_eq!(api.get("/api/v1/fleets").data().as_array().unwrap().len(), 2);
}

#[test]
fn the_client_exports_runs_and_voyages_of_what_its_key_reaches() {
    let server = Server::start();
    let api = server.api();
    let fleets = ["one", "two"].map(|name| api.apply(&true_fleet(name)));
    let runs = fleets.clone().map(|fleet| {
        let run = api.start(&fleet);
        api.wait_ended(&run);
        run
    });
    let client = Client::new(&server, "reader");
    let organizations = client.send("GET", "/orgs", "application/json", "").expect(200).data();
    let organization = organizations[0]["id"].as_str().unwrap();
    let voyages = format!("/orgs/{organization}/voyages");
    for path in [voyages.clone(), format!("{voyages}?days=30")] {
        let rows = client.csv(&path);
        let ids: Vec<&str> = rows.iter().map(|row| row["Fleet Log ID"].as_str()).collect();
        assert_eq!(ids, [&runs[1], &runs[0]]);
        assert!(rows.iter().all(|row| row["Status"] == "Success" && row["Trigger"] == "On Demand"));
    }
    let of_one = client.csv(&format!("{}/fleets/{}/runs", client.place, fleets[0]));
    assert_eq!((of_one.len(), &of_one[0]["Fleet Name"]), (1, &"one".to_owned()));
    assert_eq!(client.send("GET", &format!("{voyages}?days=0"), "text/plain", "").status, 400);
    let other = "/orgs/6f1c2a34-0000-4000-8000-000000000001/voyages";
    assert_eq!(client.send("GET", other, "text/plain", "").status, 404);

    let limited = json!({"name": "limited", "role": "reader", "fleet_id": fleets[0]});
    let made = api.post("/api/v1/tokens", &limited).expect(201).data();
    let limited = Client { key: made["token"].as_str().unwrap().to_owned(), ..client };
    assert_eq!(limited.csv(&voyages).len(), 1);
    let of_two = format!("{}/fleets/{}/runs", limited.place, fleets[1]);
    assert_eq!(limited.send("GET", &of_two, "application/json", "").status, 404);
    // A wrong key is what the client calls unauthorized.
    let wrong = Client { key: "wrong".to_owned(), ..limited };
    assert_eq!(wrong.start(&fleets[0], "").status, 401);
    assert_eq!(wrong.send("GET", &voyages, "application/json", "").json()["data"], Value::Null);
}
