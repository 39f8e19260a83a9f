//! The queue in the pages, and what is done to many runs at once.

use serde_json::json;

use super::{open, sign_in};
use crate::harness::{Browser, Server};

#[test]
fn the_queue_says_what_waits_for_what_and_all_of_it_is_stopped_at_once() {
    let server = Server::builder().setting("workers", "2").start();
    let api = server.api();
    let fleet = api.apply(&json!({"name": "one at a time", "concurrency": 1,
        "vessels": {"v": {"command": ["sleep", "600"]}}}));
    let first = api.start(&fleet);
    server.wait_until("it runs", || api.run(&first)["vessels"][0]["status"] == "Running");
    let (second, third) = (api.start(&fleet), api.start(&fleet));
    let browser = Browser::start();
    sign_in(&browser, &server, "/runs");
    let end = first.rsplit('-').next().unwrap();
    browser.see(&format!("waits for run {end}: concurrency 1"));
    let rows = "return [...document.querySelectorAll('section[aria-label=Queue] li a')].map((it) => it.title)";
    assert_eq!(browser.script(rows), json!([second, third]));
    // The page of the run says it, too, and so does that of its fleet.
    open(&browser, &server, &format!("/runs/{second}"));
    browser.see(&format!("Queued: waits for run {end}: concurrency 1"));
    open(&browser, &server, &format!("/fleets/{fleet}"));
    browser.see("waits for run");
    browser.click("Stop all waiting");
    browser.see("Stop 2 runs?");
    browser.click("Cancel");
    browser.wait("the dialog is gone", || !browser.text().contains("Stop 2 runs?"));
    browser.click("Stop all waiting");
    browser.see("Stop 2 runs?");
    browser.click("Stop");
    browser.see("2 runs stopped");
    browser.wait("nothing waits", || !browser.text().contains("waits for run"));
    let status = |run: &str| api.run(run)["status"].clone();
    assert_eq!([&second, &third].map(|run| status(run)), ["Terminated", "Terminated"]);
    assert_eq!(status(&first), "Running");
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn all_failed_runs_of_a_filter_are_replayed_with_their_number_confirmed() {
    let server = Server::start();
    let api = server.api();
    let fleet = |name: &str, command: &str| {
        api.apply(&json!({"name": name, "vessels": {"v": {"command": [command]}}}))
    };
    let (bad, good) = (fleet("bad", "false"), fleet("good", "true"));
    // More than one batch.
    let failed: Vec<String> = (0..53).map(|_| api.start(&bad)).collect();
    failed.iter().for_each(|run| _ = api.wait_status(run, "Errored"));
    api.wait_status(&api.start(&good), "Success");
    let browser = Browser::start();
    sign_in(&browser, &server, "/");
    open(&browser, &server, "/runs?status=Errored");
    browser.click("Replay all failed");
    browser.see("Replay 53 runs?");
    browser.click("Replay");
    browser.see("53 runs replayed");
    let replays = api.get("/api/v1/runs?trigger=replay&limit=1000").expect(200).data();
    let replayed: Vec<&str> = replays
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .map(|run| run["replay_of"].as_str().unwrap())
        .collect();
    assert_eq!(replayed, failed, "the oldest first");
    assert_eq!(browser.errors(), Vec::<String>::new());
}
