//! The overview with many fleets, and the box that finds things.

use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use super::gallery::refused_delivery;
use super::{open, sign_in};
use crate::harness::api::true_fleet;
use crate::harness::browser::{Browser, DESK, Look};
use crate::harness::{Api, Server};

const PHONE: Look = Look { width: 390, height: 844, scheme: "light" };
/// Screens that the overview takes up at most.
const SCREENS_MAX: f64 = 4.0;
/// Bytes of all answers of one round of questions, heads included.
const POLL_BYTES_MAX: u64 = 20_000;

/// A number for a run of this test by hand:
/// `BOATHOOK_TEST_FLEETS=10000 BOATHOOK_TEST_RUNS=100000 cargo test --release --test it many_fleets -- --nocapture`
fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Makes `count` fleets in forty projects; their ids.
fn make_fleets(api: &Api, count: usize) -> Vec<String> {
    let all: Vec<usize> = (0..count).collect();
    let made: Vec<Vec<String>> = std::thread::scope(|scope| {
        let parts: Vec<_> = all
            .chunks(count.div_ceil(8))
            .map(|part| {
                scope.spawn(move || {
                    let fleet = |at: &usize| {
                        let mut fleet = true_fleet(&format!("fleet-{at:05}-of-a-customer"));
                        fleet["project"] = json!(format!("customer-{:02}", at % 40));
                        api.apply(&fleet)
                    };
                    part.iter().map(fleet).collect()
                })
            })
            .collect();
        parts.into_iter().map(|part| part.join().unwrap()).collect()
    });
    made.into_iter().flatten().collect()
}

/// Starts `count` runs, fleet by fleet, and waits for their ends.
fn make_runs(server: &Server, fleets: &[String], count: usize) {
    let api = &server.api();
    std::thread::scope(|scope| {
        for part in 0..8 {
            let own = (part..count).step_by(8);
            scope.spawn(move || own.for_each(|at| drop(api.start(&fleets[at % fleets.len()]))));
        }
    });
    server.wait_until("all runs have ended", || {
        api.get("/api/v1/overview").data()["history_runs"].as_u64() >= Some(count as u64)
    });
}

/// Has the page ask anew, and tells how many bytes its requests and their answers take.
fn poll_bytes(browser: &Browser) -> u64 {
    browser.script(
        "performance.clearResourceTimings();
         document.dispatchEvent(new Event('visibilitychange'))",
    );
    let asked =
        "return performance.getEntriesByType('resource').filter((it) => it.name.includes('/api/'))
        .map((it) => it.transferSize)";
    let mut bytes = 0;
    browser.wait("the page has asked anew", || {
        let sizes = browser.script(asked);
        let sizes: Vec<u64> = sizes.as_array().unwrap().iter().filter_map(Value::as_u64).collect();
        bytes = sizes.iter().take(3).sum();
        sizes.len() >= 3 && sizes.iter().all(|size| *size > 0)
    });
    bytes
}

fn screens(browser: &Browser) -> f64 {
    browser.script("return document.documentElement.scrollHeight / innerHeight").as_f64().unwrap()
}

fn names(browser: &Browser) -> Vec<String> {
    let script =
        "return [...document.querySelectorAll('.fleets .name')].map((it) => it.textContent)";
    serde_json::from_value(browser.script(script)).unwrap()
}

#[test]
fn the_overview_of_many_fleets_is_short_and_asks_for_little() {
    let (fleets, runs) = (number("BOATHOOK_TEST_FLEETS", 90), number("BOATHOOK_TEST_RUNS", 300));
    let server = Server::start();
    let api = server.api();
    let ids = make_fleets(&api, fleets);
    make_runs(&server, &ids, runs);
    let failing =
        json!({"name": "breaks", "project": "zoo", "vessels": {"v": {"command": ["false"]}}});
    let failing = api.apply(&failing);
    api.wait_ended(&api.start(&failing));
    let busy = json!({"name": "lasts", "project": "zoo", "concurrency": 1,
        "vessels": {"v": {"command": ["sleep", "600"]}}});
    let busy = api.apply(&busy);
    let running = api.start(&busy);
    server.wait_until("it runs", || api.run(&running)["status"] == "Running");
    let waiting = api.start(&busy);

    let browser = Browser::start();
    sign_in(&browser, &server, "/");
    let began = Instant::now();
    open(&browser, &server, "/");
    browser.see("fleet-00000-of-a-customer");
    let painted = began.elapsed();
    browser.see("All runs");
    for look in [DESK, PHONE] {
        browser.look(look);
        let screens = screens(&browser);
        assert!(screens < SCREENS_MAX, "{screens} screens of {}x{}", look.width, look.height);
    }
    browser.look(DESK);
    let bytes = poll_bytes(&browser);
    println!("{fleets} fleets, {runs} runs: painted after {painted:?}, {bytes} bytes a poll");
    assert!(bytes < POLL_BYTES_MAX, "{bytes} bytes");

    // Page by page, and by state; a step back returns to the place.
    browser.see(&format!("All {}", with_comma(fleets + 2)));
    let first = names(&browser);
    browser.click("Next");
    browser.wait("the next page is there", || names(&browser)[0] != first[0]);
    let (place, second) = (browser.url(), names(&browser));
    browser.click("Failing 1");
    browser.wait("one fleet fails", || names(&browser) == ["breaks"]);
    browser.script("history.back()");
    browser.wait("the page is back", || names(&browser) == second);
    assert_eq!(browser.url(), place);
    for state in ["Running 1", "Waiting 1"] {
        browser.click(state);
        let chosen = "return document.querySelector('.fleets [aria-current]').textContent";
        browser.wait("the state is chosen", || browser.script(chosen) == state);
        browser.wait("one fleet is at work", || names(&browser) == ["lasts"]);
    }
    browser.see("1 running");
    browser.see("1 waiting");

    // The box finds projects, too.
    browser.type_into("Find a fleet", "zoo");
    let hints =
        "return [...document.querySelectorAll('[role=option] .hint')].map((it) => it.textContent)";
    browser.wait("both are offered", || browser.script(hints) == json!(["zoo", "zoo", "project"]));
    browser.type_into("Find a fleet", "\u{e015}\u{e015}\u{e015}\u{e007}");
    browser.wait("its fleets are there", || names(&browser) == ["breaks", "lasts"]);
    browser.see("The fleets of one project.");
    browser.click("Show all");
    browser.see("fleet-00000-of-a-customer");
    for run in [&waiting, &running] {
        api.call("POST", &format!("/api/v1/runs/{run}/stop"), None).expect(200);
    }
    assert_eq!(browser.errors(), Vec::<String>::new());
}

/// A number below a million as the pages write it.
fn with_comma(number: usize) -> String {
    match number {
        0..1000 => number.to_string(),
        _ => format!("{},{:03}", number / 1000, number % 1000),
    }
}

#[test]
fn a_delivery_is_found_by_the_id_of_its_event_and_links_to_no_deleted_fleet() {
    let secrets = tempfile::tempdir().unwrap();
    let directory = secrets.path().to_str().unwrap().to_owned();
    let server = Server::builder().setting("secrets_dir", &directory).start();
    let (fleet, _) = server.fleet_with_webhook(&true_fleet("hooked"));
    let refused = refused_delivery(&server, Path::new(&directory), &fleet);
    let browser = Browser::start();
    sign_in(&browser, &server, "/");
    browser.type_into("Find a fleet", "72d3162e-cc78-11e3-81ab-4c9367dc0958\n");
    browser.see("Run it after all");
    browser.wait("its own id is in the address", || browser.url().ends_with(&refused));
    let links = "return document.querySelectorAll('main a[href^=\"/fleets\"]').length";
    assert_eq!(browser.script(links), 2);
    browser.type_into("Find a fleet", "no-such-thing-7\n");
    browser.see("Nothing goes by no-such-thing-7.");

    server.api().delete(&format!("/api/v1/fleets/{fleet}")).expect(200);
    open(&browser, &server, &format!("/deliveries/{refused}"));
    browser.see("hooked (deleted)");
    assert_eq!(browser.script(links), 0);
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn runs_are_filtered_by_a_fleet_that_is_typed_and_by_retrying() {
    let server = Server::start();
    let api = server.api();
    let quick = api.apply(&true_fleet("quick"));
    api.wait_ended(&api.start(&quick));
    let retried = api.apply(&json!({"name": "retried", "vessels": {"v": {"command": ["false"],
        "guardrails": {"retry_count": 1, "retry_wait": "1h"}}}}));
    let run = api.start(&retried);
    server.wait_until("it waits for its retry", || api.run(&run)["status"] == "Retrying");
    let browser = Browser::start();
    sign_in(&browser, &server, "/runs");
    let rows = || browser.script("return document.querySelectorAll('.runs tbody tr').length");
    browser.wait("both are there", || rows() == 2);
    browser.type_into("Status", "Retrying");
    browser.wait("one is retried", || rows() == 1);
    assert!(browser.url().contains("status=Retrying"));
    browser.type_into("Fleet", "default/quick");
    browser.see("No run matches these filters.");
    assert!(browser.url().contains(&format!("fleet={quick}")), "{}", browser.url());
    browser.click("Clear the filters");
    browser.wait("both are back", || rows() == 2);
    open(&browser, &server, &format!("/runs?fleet={quick}"));
    browser.wait("one is of the fleet", || rows() == 1);
    let typed = "return document.querySelector('[list]').value";
    browser.wait("the field names it", || browser.script(typed) == "default/quick");
    assert_eq!(browser.errors(), Vec::<String>::new());
}
