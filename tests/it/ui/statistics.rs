//! Statistics in the pages: figures, bars, and the list of runs that a click leads to.

use serde_json::json;

use super::{open, sign_in};
use crate::harness::{Browser, Server};

/// Waits until the hour has a minute left, so that all runs of a test are of the same one.
fn be_within_an_hour() {
    while jiff::Timestamp::now().as_second() % 3600 > 3540 {
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}

#[test]
fn bars_and_figures_of_the_runs_lead_to_the_runs() {
    be_within_an_hour();
    let server = Server::start();
    let api = server.api();
    let fleet = |name: &str, command: &str| {
        api.apply(&json!({"name": name, "vessels": {"v": {"command": [command]}}}))
    };
    let (good, bad) = (fleet("good", "true"), fleet("bad", "false"));
    for (fleet, runs) in [(&good, 3), (&bad, 1)] {
        for _ in 0..runs {
            api.wait_ended(&api.start(fleet));
        }
    }
    let browser = Browser::start();
    sign_in(&browser, &server, "/");
    browser.click("Statistics");
    browser.see("75.0 %");
    let section = "document.querySelector('section[aria-label=Statistics]')";
    let links = format!(
        "return [...{section}.querySelectorAll('.bars a')].map((it) => it.getAttribute('aria-label').split(': ')[1])"
    );
    let labels = browser.script(&links);
    assert_eq!(labels.as_array().unwrap().len(), 24, "{labels}");
    assert!(labels.as_array().unwrap().contains(&json!("1 Errored, 3 Success")), "{labels}");
    // Also as a table.
    browser.click("As a table");
    let row = format!(
        "return [...{section}.querySelectorAll('tbody td')].slice(1).map((it) => it.textContent)"
    );
    assert_eq!(browser.script(&row), json!(["1", "0", "3", "0"]));

    // A bar leads to the runs of its hour, a figure to those of its status.
    browser.script(&format!("{section}.querySelector('.bars a[aria-label*=Errored]').click()"));
    let rows = || browser.script("return document.querySelectorAll('.runs tbody tr').length");
    let title = || browser.script("return document.querySelector('h1').textContent");
    browser.wait("the runs of the hour are listed", || title() == "Runs" && rows() == 4);
    assert!(browser.url().contains("within="), "{}", browser.url());
    browser.type_into("Status", "Success");
    browser.wait("those that succeeded", || rows() == 3);
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn a_fleet_has_statistics_of_its_own_for_each_period() {
    let server = Server::start();
    let api = server.api();
    let never = api.apply(&json!({"name": "never", "vessels": {"v": {"command": ["true"]}}}));
    let bad = api.apply(&json!({"name": "bad", "vessels": {"v": {"command": ["false"]}}}));
    api.wait_ended(&api.start(&bad));
    let browser = Browser::start();
    sign_in(&browser, &server, &format!("/fleets/{bad}"));
    browser.see("Success rate");
    browser.see("0.0 %");
    let bars = || {
        browser.script(
            "return document.querySelectorAll('section[aria-label=Statistics] .bars a').length",
        )
    };
    browser.wait("a bar for each hour", || bars() == 24);
    browser.type_into("Runs", "Last 30 days");
    browser.wait("a bar for each day", || bars() == 30);
    browser.script("document.querySelector('section[aria-label=Statistics] dd a').click()");
    browser.wait("the failed run is listed", || {
        browser.url().contains("status=Errored")
            && browser.script("return document.querySelectorAll('.runs tbody tr').length") == 1
    });
    open(&browser, &server, &format!("/fleets/{never}"));
    browser.see("has not run yet");
    assert!(!browser.text().contains("Success rate"));
    assert_eq!(browser.errors(), Vec::<String>::new());
}
