//! Schedules: a fleet runs when it is due, once, whatever becomes of the server meanwhile.

use boathook::internals::Timestamp;
use serde_json::{Value, json};

use crate::clock::{Clock, from_now};
use crate::harness::scrape::Scrape;
use crate::harness::server::finish;
use crate::harness::{Api, Server};

const MINUTE: i64 = 60;
const HOUR: i64 = 3600;

/// A server's clock that shows one or two seconds before the minute `minute` of an hour.
fn clock_before(minute: i64) -> Clock {
    let clock = Clock::ahead_by(0);
    set_before(&clock, minute, 0);
    clock
}

/// Sets the clock to one or two seconds before the minute `minute` of an hour, so many hours later.
fn set_before(clock: &Clock, minute: i64, hours: i64) {
    let now = from_now(0).as_millis() / 1000;
    clock.set_ahead_by((minute * MINUTE - 2 - now).rem_euclid(HOUR) + hours * HOUR);
}

fn fleet(name: &str, schedules: Value) -> Value {
    let run = "printf '%s %s %s' \"$BOATHOOK_TRIGGER\" \"$SHIPYARD_FLEET_SCHEDULED_TIME\" \"$SHIPYARD_VESSEL_SCHEDULED_TIME\"";
    json!({"name": name, "vessels": {"v": {"run": run}}, "schedules": schedules})
}

/// The due times of the runs of a fleet, the newest first.
fn due_times(api: &Api, fleet: &str) -> Vec<Timestamp> {
    let runs = api.get(&format!("/api/v1/runs?trigger=schedule&fleet={fleet}")).expect(200).data();
    let due = |run: &Value| run["scheduled_time"].as_str().unwrap().parse().unwrap();
    runs.as_array().unwrap().iter().map(due).collect()
}

fn seconds_between(later: Timestamp, earlier: Timestamp) -> i64 {
    (later.as_millis() - earlier.as_millis()) / 1000
}

#[test]
fn a_due_fleet_runs_with_its_due_time_and_without_a_request() {
    let clock = clock_before(30);
    let mut server = clock.builder().start();
    let api = server.api();
    let id = api.apply(&fleet("half-past", json!([{"cron": "30 * * * *"}])));
    server.wait_until("it runs", || !due_times(&api, &id).is_empty());
    let due = due_times(&api, &id)[0];
    assert_eq!(due.as_millis() % (HOUR * 1000), 30 * MINUTE * 1000);
    let runs = api.get(&format!("/api/v1/runs?fleet={id}")).expect(200).data();
    let run = api.wait_status(runs[0]["id"].as_str().unwrap(), "Success");
    assert_eq!(run["trigger"], "schedule");
    let queued_at: Timestamp = run["queued_at"].as_str().unwrap().parse().unwrap();
    assert!(queued_at >= due);
    let told = due.to_string().replace(".000Z", "Z");
    assert_eq!(api.output(&run, "v"), format!("schedule {told} {told}"));
    let path = format!("/api/v1/runs/{}/webhook-parameters", run["id"].as_str().unwrap());
    api.get(&path).expect(404);
    let metrics = Scrape::of(&api);
    assert!(metrics.value("boathook_runs_accepted_total{trigger=\"schedule\"}") >= 1.0);
    assert!(metrics.has("boathook_due_times_passed_over_total"));

    let path = format!("/api/v1/schedules?fleet={id}&next=2");
    let shown = api.get(&path).expect(200).data();
    let next = |place: usize| shown[0]["next"][place].as_str().unwrap().parse().unwrap();
    assert_eq!(seconds_between(next(0), due) % HOUR, 0);
    assert_eq!(seconds_between(next(1), next(0)), HOUR);
    assert_eq!(shown[0]["last_due_at"].as_str(), Some(due.to_string().as_str()));
    assert_eq!((&shown[0]["time_zone"], &shown[0]["catch_up"]), (&json!("UTC"), &json!("latest")));
    let (code, stdout, stderr) = finish(server.cli(&["schedule", "list", "--fleet", "half-past"]));
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("half-past  30 * * * *  UTC") && stdout.contains("+00:00"), "{stdout}");

    let overview = api.get("/api/v1/overview").expect(200).data();
    assert_eq!(overview["upcoming"][0]["fleet_name"], "half-past");
    api.get("/api/v1/schedules?next=0").expect(400);
    let none = api.get("/api/v1/schedules?fleet=018bcfe5-6800-7000-8000-000000000001");
    assert_eq!(none.expect(200).data(), json!([]));
    api.delete(&format!("/api/v1/fleets/{id}")).expect(200);
    assert_eq!(api.get("/api/v1/schedules").expect(200).data(), json!([]));
    server.stop();
}

#[test]
fn what_fell_due_while_the_server_was_down_runs_as_catch_up_says_and_once() {
    let clock = clock_before(20);
    let mut server = clock.builder().start();
    let api = server.api();
    let ids = ["latest", "all", "none"].map(|catch_up| {
        let schedule = json!([{"cron": "20 * * * *", "catch_up": catch_up}]);
        api.apply(&fleet(catch_up, schedule))
    });
    server.wait_until("each has run", || ids.iter().all(|id| due_times(&api, id).len() == 1));
    let first = ids.each_ref().map(|id| due_times(&api, id)[0]);
    server.kill();

    // Three hours later.
    set_before(&clock, 19, 4);
    let hours = |api: &Api| {
        [0, 1, 2].map(|place| {
            let due = due_times(api, &ids[place]);
            due.iter().map(|due| seconds_between(*due, first[place]) / HOUR).collect::<Vec<_>>()
        })
    };
    server.start_again();
    let api = server.api();
    server.wait_until("what is caught up has run", || {
        hours(&api)[0].len() == 2 && hours(&api)[1].len() > 2
    });
    let [latest, all, none] = hours(&api);
    assert_eq!(latest[1..], [0]);
    let missed = latest[0];
    assert!((2..=4).contains(&missed), "{latest:?}");
    assert_eq!(all, (0..=missed).rev().collect::<Vec<_>>());
    assert_eq!(none, [0]);

    // Neither a crash nor a stop repeats one.
    server.crash_and_restart();
    server.stop();
    server.start_again();
    let api = server.api();
    assert_eq!(hours(&api), [latest, all, none]);
    let passed_over = Scrape::of(&api).value("boathook_due_times_passed_over_total");
    assert_eq!(passed_over, 0.0, "nothing fell due meanwhile");
    server.stop();
}

#[test]
fn a_due_time_that_finds_the_queue_full_waits_and_runs_late() {
    let clock = clock_before(45);
    let mut server =
        clock.builder().setting("max_queued_runs", "1").setting("workers", "1").start();
    let api = server.api();
    let go = server.scratch().join("go");
    let wait = format!("while [ ! -e '{}' ]; do sleep 0.05; done", go.display());
    let busy = api.apply(&json!({"name": "busy", "vessels": {"v": {"run": wait}}}));
    let id = api.apply(&fleet("late", json!([{"cron": "45 * * * *"}])));
    let first = api.start(&busy);
    server.wait_until("it runs", || api.run(&first)["status"] == "Running");
    api.start(&busy);
    let path = format!("/api/v1/schedules?fleet={id}");
    let waiting = || api.get(&path).expect(200).data()[0]["waiting"].clone();
    server.wait_until("it waits", || waiting() == 1);
    assert_eq!(due_times(&api, &id), []);
    std::fs::write(&go, "").unwrap();
    server.wait_until("it runs late", || due_times(&api, &id).len() == 1);
    assert_eq!(waiting(), 0);
    assert!(Scrape::of(&api).value("boathook_due_times_postponed_total") >= 1.0);
    server.stop();
}

#[test]
fn a_project_with_another_time_zone_has_other_due_times() {
    let mut server = Server::start();
    let api = server.api();
    let project = json!({"name": "east", "time_zone": "Asia/Kathmandu"});
    let project = api.post("/api/v1/projects", &project).expect(201).data();
    let mut east = fleet("morning", json!([{"cron": "0 6 * * *"}]));
    east["project"] = json!("east");
    east["triggers"] = json!({"schedules": [{"how_often": "DAILY", "at": "6:00"}]});
    api.apply(&east);
    let next = || {
        let shown = api.get("/api/v1/schedules?next=1").expect(200).data();
        let of = |it: &Value| it["next"][0].as_str().unwrap()[11..16].to_owned();
        shown.as_array().unwrap().iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(next(), ["00:15", "00:15"], "a schedule given twice is due twice");
    let path = format!("/api/v1/projects/{}", project["id"].as_str().unwrap());
    api.put(&path, &json!({"name": "east", "time_zone": "UTC"})).expect(200);
    assert_eq!(next(), ["06:00", "06:00"]);
    let (code, stdout, stderr) = finish(server.cli(&["fleet", "show", "morning", "--yaml"]));
    assert_eq!(code, 0, "{stderr}");
    for part in
        ["schedules:\n  - {cron: \"0 6 * * *\"}\n", "    - {how_often: DAILY, at: \"6:00\"}\n"]
    {
        assert!(stdout.contains(part), "{stdout}");
    }
    server.stop();
}
