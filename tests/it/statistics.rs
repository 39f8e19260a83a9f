//! Statistics against a plain calculation over the list of runs.

use serde_json::{Value, json};

use crate::harness::api::true_fleet;
use crate::harness::server::finish;
use crate::harness::{Api, Server};

const ENDS: [&str; 4] = ["Success", "Errored", "Terminated", "Incomplete"];
const HOUR_MILLIS: i64 = 3_600_000;

fn millis(time: &Value) -> i64 {
    time.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

/// What `runs list --json` says of all runs, or of those of a fleet.
fn listed(server: &Server, fleet: Option<&str>) -> Vec<Value> {
    let mut arguments = vec!["runs", "list", "--json", "--limit", "1000"];
    arguments.extend(fleet.into_iter().flat_map(|fleet| ["--fleet", fleet]));
    let (code, out, err) = finish(server.cli(&arguments));
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).unwrap()
}

fn told(api: &Api, query: &str) -> Value {
    api.get(&format!("/api/v1/statistics{query}")).expect(200).data()
}

/// The value that `percent` of `values` do not exceed.
fn percentile(values: &mut [i64], percent: usize) -> Option<i64> {
    values.sort_unstable();
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied()
}

fn assert_near(told: &Value, exact: Option<i64>, what: &str) {
    match (told.as_i64(), exact) {
        (Some(told), Some(exact)) => {
            assert!((told - exact).abs() <= exact / 16, "{what}: {told} for {exact}");
        }
        (told, exact) => assert_eq!(told, exact, "{what}"),
    }
}

#[track_caller]
fn assert_equal(told: &Value, runs: &[Value]) {
    let ended: Vec<&Value> = runs.iter().filter(|run| run["ended_at"].is_string()).collect();
    let since = millis(&told["since"]);
    for status in ENDS {
        let of = |run: &&&Value| run["status"] == status;
        assert_eq!(told["runs"][status], ended.iter().filter(of).count(), "{status}: {told}");
        let hourly = told["hourly"][status].as_array().unwrap();
        for (at, count) in hourly.iter().enumerate() {
            let is_in = |run: &&&Value| {
                (millis(&run["queued_at"]) - since).div_euclid(HOUR_MILLIS) == at as i64
            };
            let expected = ended.iter().filter(of).filter(is_in).count();
            assert_eq!(count, expected, "{status} in hour {at}");
        }
    }
    let count = |status| ended.iter().filter(|run| run["status"] == status).count() as f64;
    let judged = count("Success") + count("Errored");
    assert_eq!(told["success_rate"].as_f64(), (judged > 0.0).then(|| count("Success") / judged));
    let started = || ended.iter().filter(|run| run["started_at"].is_string());
    let mut took: Vec<i64> = started().map(|run| run["duration_ms"].as_i64().unwrap()).collect();
    let mut waited: Vec<i64> =
        started().map(|run| millis(&run["started_at"]) - millis(&run["queued_at"])).collect();
    for (field, values) in [("duration_ms", &mut took), ("waiting_ms", &mut waited)] {
        assert_near(&told[field]["median"], percentile(values, 50), field);
        assert_near(&told[field]["p95"], percentile(values, 95), field);
    }
}

#[test]
fn statistics_equal_what_the_list_of_runs_says_also_after_a_crash_and_without_a_fleet() {
    let mut server = Server::builder().setting("workers", "2").start();
    let api = server.api();
    let fleet = |name: &str, script: &str| {
        api.apply(&json!({"name": name, "vessels": {"v": {"run": script}}}))
    };
    let fleets = [fleet("good", "true"), fleet("bad", "exit 3"), fleet("slow", "sleep 0.3")];
    assert_equal(&told(&api, ""), &[]);
    for round in 0..4 {
        for (at, fleet) in fleets.iter().enumerate() {
            for _ in 0..=(round + at) % 3 {
                api.start(fleet);
            }
        }
    }
    let sleeper = fleet("sleeper", "sleep 600");
    let (stopped, waiting) = (api.start(&sleeper), api.start(&sleeper));
    for run in [&waiting, &stopped] {
        api.post(&format!("/api/v1/runs/{run}/stop"), &json!({})).expect(200);
    }
    let mut debounced = true_fleet("debounced");
    debounced["debounce"] = json!({"wait": "1h", "max_wait": "2h"});
    let debounced = api.apply(&debounced);
    for _ in 0..3 {
        api.post(&format!("/api/v1/fleets/{debounced}/runs"), &json!({})).expect(201);
    }
    let has_ended = |run: &Value| run["ended_at"].is_string();
    server.wait_until("all but one have ended", || {
        api.all_runs().iter().filter(|run| !has_ended(run)).count() == 1
    });
    let check = |server: &Server| {
        let api = server.api();
        for period in ["24h", "7d", "30d"] {
            assert_equal(&told(&api, &format!("?period={period}")), &listed(server, None));
        }
        for fleet in fleets.iter().chain([&sleeper, &debounced]) {
            let of_fleet = told(&api, &format!("?fleet={fleet}"));
            assert_equal(&of_fleet, &listed(server, Some(fleet)));
        }
    };
    check(&server);
    let all = told(&api, "?period=30d");
    assert_eq!(all["hourly"]["Success"].as_array().unwrap().len(), 720);
    assert_eq!((&all["runs"]["Terminated"], &all["runs"]["Incomplete"]), (&json!(2), &json!(2)));
    // A run that a crash interrupts counts once.
    let interrupted = api.start(&sleeper);
    server.wait_until("it runs", || api.run(&interrupted)["status"] == "Running");
    server.crash_and_restart();
    server.api().post(&format!("/api/v1/runs/{interrupted}/stop"), &json!({})).expect(200);
    server.api().wait_status(&interrupted, "Terminated");
    check(&server);
    server.api().delete(&format!("/api/v1/fleets/{}", fleets[0])).expect(200);
    check(&server);
    assert_eq!(server.api().get("/api/v1/statistics?period=2h").status, 400);

    let (code, out, _) = finish(server.cli(&["runs", "stats"]));
    assert_eq!((code, out.lines().count()), (0, 4), "{out}");
    let (_, out, _) = finish(server.cli(&["runs", "stats", "--fleet", "bad", "--json"]));
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(shown[0]["success_rate"], 0.0);
    assert_eq!(shown[2]["period"], "30d");
}

#[test]
fn runs_that_are_kept_no_longer_still_count() {
    let server = Server::start();
    let api = server.api();
    let mut fleet = true_fleet("forgetful");
    fleet["keep_runs"] = json!("2 runs");
    let fleet = api.apply(&fleet);
    for _ in 0..6 {
        api.wait_ended(&api.start(&fleet));
    }
    server.wait_until("four are removed", || api.all_runs().len() == 2);
    assert_eq!(told(&api, &format!("?fleet={fleet}"))["runs"]["Success"], 6);
    assert_eq!(told(&api, "")["runs"]["Success"], 6);
}

#[test]
fn a_limited_token_is_told_of_its_project_or_fleet() {
    let server = Server::start();
    let api = server.api();
    let fleet = |name: &str, project: &str| {
        let mut fleet = true_fleet(name);
        fleet["project"] = json!(project);
        api.apply(&fleet)
    };
    let (own, same, other) = (fleet("own", "zoo"), fleet("same", "zoo"), fleet("other", "farm"));
    for (fleet, runs) in [(&own, 1), (&same, 2), (&other, 4)] {
        for _ in 0..runs {
            api.wait_ended(&api.start(fleet));
        }
    }
    let project = api.get(&format!("/api/v1/fleets/{own}")).data()["project_id"].clone();
    for (limit, expected) in
        [(json!({"project_id": project}), 3), (json!({"fleet_id": own}), 1), (json!({}), 7)]
    {
        let mut token = json!({"name": format!("sees {expected}"), "role": "reader"});
        token.as_object_mut().unwrap().extend(limit.as_object().unwrap().clone());
        let token = api.post("/api/v1/tokens", &token).expect(201).data();
        let reader = api.with_token(token["token"].as_str().unwrap());
        assert_eq!(told(&reader, "")["runs"]["Success"], expected, "{limit}");
        let status = reader.get(&format!("/api/v1/statistics?fleet={other}")).status;
        assert_eq!(status, if expected == 7 { 200 } else { 404 }, "{limit}");
    }
}
