//! Schedules in the pages: what comes, adding and removing one.

use serde_json::json;

use super::{open, sign_in};
use crate::harness::api::true_fleet;
use crate::harness::{Browser, Server};

#[test]
fn a_schedule_is_added_shown_and_removed() {
    let server = Server::start();
    let api = server.api();
    let mut definition = true_fleet("nightly");
    definition["triggers"] = json!({"schedules": [{"how_often": "HOURLY", "at": ":25"}]});
    let fleet = api.apply(&definition);
    let browser = Browser::start();
    sign_in(&browser, &server, &format!("/fleets/{fleet}/triggers"));
    browser.see("HOURLY :25");
    browser.click("Add Schedule");
    browser.fill("Times", "*/5 * * *");
    browser.click("Add");
    // What was typed stays, and nothing is said of files.
    browser.see("xpected five fields");
    assert!(!browser.text().contains("column"));
    browser.fill("Times", "15 6 * * *");
    browser.fill("Time zone", "Asia/Kathmandu");
    browser.click("Add");
    browser.see("The fleet has one more schedule");
    browser.see("Asia/Kathmandu, catches up with the latest");
    let schedules =
        || api.get(&format!("/api/v1/fleets/{fleet}")).expect(200).data()["schedules"].clone();
    let shown = schedules();
    assert_eq!(shown[0]["cron"], "15 6 * * *");
    assert_eq!(shown[1]["how_often"], "HOURLY");

    open(&browser, &server, "/");
    browser.see("Upcoming");
    open(&browser, &server, &format!("/fleets/{fleet}/triggers"));
    let remove = "document.querySelector('[aria-label=\"Remove HOURLY :25\"]').click()";
    browser.see("HOURLY :25");
    browser.script(remove);
    browser.see("Remove the schedule?");
    browser.script("document.querySelector('dialog button[value=yes]').click()");
    browser.see("The schedule is gone");
    assert_eq!(
        schedules(),
        json!([{"cron": "15 6 * * *", "time_zone": "Asia/Kathmandu", "catch_up": "latest"}])
    );
    assert_eq!(browser.errors(), Vec::<String>::new());
}
