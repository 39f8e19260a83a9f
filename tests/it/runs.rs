//! Runs as the admin API shows them: versions, lists, fields, and the test endpoint.

use std::collections::BTreeSet;

use boathook::internals::{Change, store};
use serde_json::{Value, json};

use crate::harness::api::true_fleet;
use crate::harness::{Server, assert_error};

#[test]
fn output_that_cannot_be_read_is_no_empty_output() {
    let server = Server::start();
    let api = server.api();
    let long = json!({"name": "long", "vessels": {"v": {"run": "seq 100000"}}});
    let run = api.wait_status(&api.start(&api.apply(&long)), "Success");
    let vessel = run["vessels"][0]["id"].as_str().unwrap();
    let path = format!("/api/v1/vessel-runs/{vessel}/output");
    assert!(api.get(&path).expect(200).text().ends_with("\n100000\n"));
    let directory = server.data_dir().join("output");
    let mut files = std::fs::read_dir(&directory).unwrap();
    let file = files.next().unwrap().unwrap().path();
    std::fs::write(&file, [7; 5_000]).unwrap();
    let refused = api.get(&path).expect(500);
    assert!(refused.error().contains("the output cannot be read"), "{}", refused.error());
    std::fs::remove_file(&file).unwrap();
    api.get(&path).expect(500);
}

#[test]
fn runs_hold_the_version_they_were_accepted_with() {
    let server = Server::builder().setting("workers", "1").start();
    let api = server.api();
    let gate = server.scratch().join("gate");
    let vessel = |text: &str| {
        json!({"name": "held", "vessels": {"v": {"run":
            format!("while [ ! -e {} ]; do sleep 0.02; done; echo {text}", gate.display())}}})
    };
    let fleet = api.apply(&vessel("one"));
    let old: Vec<String> = (0..2).map(|_| api.start(&fleet)).collect();
    api.apply(&vessel("two"));
    let new = api.start(&fleet);
    std::fs::write(&gate, "").unwrap();
    for run in old {
        let run = api.wait_status(&run, "Success");
        assert_eq!(api.output(&run, "v"), "one\n");
    }
    assert_eq!(api.output(&api.wait_status(&new, "Success"), "v"), "two\n");
}

#[test]
fn a_deleted_fleet_leaves_its_runs_their_version() {
    let mut server = Server::builder().setting("workers", "1").start();
    let api = server.api();
    let journal = server.journal("journal");
    let gate = server.scratch().join("gate");
    let script = format!(
        "echo on >> {journal}; while [ ! -e {} ]; do sleep 0.02; done; echo one",
        gate.display()
    );
    let definition = json!({
        "name": "gone", "project": "short-lived",
        "vessels": {"v": {"run": script}, "w": {"run": "echo $SHIPYARD_FLEET_NAME"}},
        "connections": {"v": {"w": "SUCCESS"}},
    });
    let (fleet, hook) = server.fleet_with_webhook(&definition);
    let runs: Vec<String> = (0..2).map(|_| hook.post(server.hooks(), &[], b"x")).collect();
    journal.wait_for_line("on");
    let project = api.run(&runs[0])["project_id"].as_str().unwrap().to_owned();
    api.delete(&format!("/api/v1/fleets/{fleet}")).expect(200);
    api.delete(&format!("/api/v1/projects/{project}")).expect(200);
    assert_eq!(hook.try_post(server.hooks(), &[], b"").unwrap().status, 400);
    // One runs, one waits; both must find their version after a crash.
    server.crash_and_restart();
    std::fs::write(&gate, "").unwrap();
    let api = server.api();
    for run in &runs {
        let run = api.wait_status(run, "Success");
        assert_eq!(run["fleet_version"], 1);
        assert!(api.output(&run, "v").ends_with("one\n"));
        assert_eq!(api.output(&run, "w"), "gone\n");
    }
    // The same name again is another fleet.
    assert_ne!(api.apply(&definition), fleet);
    let listed = api.get(&format!("/api/v1/runs?fleet={fleet}")).expect(200).data();
    assert_eq!(listed.as_array().unwrap().len(), 2);
}

#[test]
fn runs_are_listed_page_by_page_and_filtered() {
    let server = Server::start();
    let api = server.api();
    let (works, hook) = server.fleet_with_webhook(&true_fleet("works"));
    let fails = json!({"name": "fails", "vessels": {"v": {"command": ["false"]}}});
    let fails = api.apply(&fails);
    let mut started = Vec::new();
    for number in 0..7 {
        started.push(match number % 3 {
            0 => hook.post(server.hooks(), &[], b""),
            1 => api.start(&works),
            _ => api.start(&fails),
        });
    }
    for run in &started {
        api.wait_ended(run);
    }
    started.reverse();
    let list = |query: &str| -> Vec<String> {
        let data = api.get(&format!("/api/v1/runs?{query}")).expect(200).data();
        let ids = data.as_array().unwrap().iter();
        ids.map(|run| run["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(list(""), started, "newest first");
    let mut paged = list("limit=3");
    loop {
        let page = list(&format!("limit=3&before={}", paged.last().unwrap()));
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 3);
        paged.extend(page);
    }
    assert_eq!(paged, started);
    let pick = |numbers: &[usize]| -> Vec<String> {
        numbers.iter().map(|number| started[6 - number].clone()).collect()
    };
    assert_eq!(list("status=Errored"), pick(&[5, 2]));
    assert_eq!(list(&format!("fleet={fails}")), pick(&[5, 2]));
    assert_eq!(list("trigger=webhook"), pick(&[6, 3, 0]));
    assert_eq!(list(&format!("fleet={works}&trigger=on_demand&limit=1")), pick(&[4]));
    assert_eq!(list("status=Running"), Vec::<String>::new());
    assert_eq!(list("until=2001-01-01T00:00:00Z"), Vec::<String>::new());
    assert_eq!(list("since=2001-01-01T00:00:00Z").len(), 7);
    let queued_at = api.run(&started[2])["queued_at"].as_str().unwrap().to_owned();
    let since = list(&format!("since={}", queued_at.replace('+', "%2B")));
    assert!(since.len() >= 3 && since[..3] == started[..3], "{since:?}");

    for wrong in
        ["limit=0", "limit=1001", "limit=x", "status=Lost", "trigger=x", "before=x", "since=x"]
    {
        let answer = api.get(&format!("/api/v1/runs?{wrong}"));
        assert!(matches!(answer.status, 400 | 422), "{wrong}: {}", answer.status);
    }
}

#[test]
fn a_run_in_json_has_the_fields_of_the_contract() {
    let server = Server::start();
    let api = server.api();
    let fleet = api.apply(&true_fleet("fields"));
    let run = api.wait_status(&api.start(&fleet), "Success");
    let keys = |value: &Value| -> BTreeSet<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    let missing = |value: &Value, expected: &str| -> Vec<String> {
        let have = keys(value);
        expected.split(' ').map(str::to_owned).filter(|key| !have.contains(key)).collect()
    };
    let expected = "id fleet_id fleet_name fleet_version project_id trigger status reason \
        replay_of queued_at started_at ended_at duration_ms vessels";
    assert_eq!(missing(&run, expected), Vec::<String>::new(), "{run:#}");
    let expected = "id vessel_id vessel_name status attempt exit_code signal reason started_at \
        ended_at duration_ms";
    assert_eq!(missing(&run["vessels"][0], expected), Vec::<String>::new(), "{run:#}");
    for key in ["queued_at", "started_at", "ended_at"] {
        let time = run[key].as_str().unwrap();
        assert!(time.ends_with('Z') && time.parse::<jiff::Timestamp>().is_ok(), "{key}: {time}");
    }
    assert!(run["duration_ms"].is_u64());
    assert_eq!(run["vessels"][0]["exit_code"], 0);
    assert!(run["reason"].is_null());
}

#[test]
fn the_test_endpoint_does_what_the_webhook_does() {
    let server = Server::start();
    let api = server.api();
    let fleet = api.apply(&json!({"name": "tested", "vessels": {"v": {"command": ["cat"]}}}));
    let content = Some(("text/x-odd", b"a\0b".to_vec()));
    let answer = api.call("POST", &format!("/api/v1/fleets/{fleet}/test?x=1"), content);
    let data = answer.expect(201).data();
    assert_eq!(data["fleet_id"], fleet.as_str());
    let run = api.wait_status(data["fleet_run_id"].as_str().unwrap(), "Success");
    assert_eq!(run["trigger"], "webhook");
    assert_eq!(api.output(&run, "v"), "a\0b");
    let id = run["id"].as_str().unwrap();
    let shown = api.get(&format!("/api/v1/runs/{id}/webhook-parameters")).expect(200).data();
    assert_eq!(shown["headers"]["Content-Type"], json!(["text/x-odd"]), "{shown}");
    assert!(shown["headers"]["Authorization"].is_null(), "the token is kept with a run");
}

#[test]
fn a_damaged_request_is_no_empty_request() {
    let mut server = Server::start();
    let (_, hook) = server.fleet_with_webhook(&true_fleet("sent"));
    let run = hook.post(server.hooks(), &[("X-Kind", "order")], b"hello");
    server.api().wait_status(&run, "Success");
    server.stop();
    let (store, committer) = store::open(server.data_dir()).unwrap();
    let id = run.parse().unwrap();
    let bytes = vec![b'?'; 200];
    store.commit(vec![Change::PutPayload { run: id, chunk: 0, bytes }]).wait();
    drop(store);
    committer.join().unwrap();
    server.start_again();
    let api = server.api();
    let answer = api.get(&format!("/api/v1/runs/{run}/webhook-parameters"));
    assert_error(&answer, 500);
    assert!(answer.error().contains("damaged"), "{}", answer.error());
    assert_eq!(api.run(&run)["status"], "Success", "the run itself is shown");
}
