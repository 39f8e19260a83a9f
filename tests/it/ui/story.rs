//! What an owner does with the pages, from the first fleet to the last click.

use serde_json::{Value, json};

use super::{open, sign_in};
use crate::harness::api::true_fleet;
use crate::harness::{Browser, Hook, Server};

/// The id at the end of the address.
fn id_in(url: &str, before: &str) -> String {
    let (_, rest) = url.split_once(before).unwrap_or_else(|| panic!("{before} in {url}"));
    rest.split(['/', '?']).next().unwrap().to_owned()
}

#[test]
fn from_an_example_to_a_run_and_back_to_no_webhook() {
    let server = Server::start();
    let browser = Browser::start();
    open(&browser, &server, "/new");
    browser.fill("Token", "wrong");
    browser.click("Sign in");
    browser.see("this is not a token of this server");
    browser.fill("Token", &server.token());
    browser.click("Sign in");
    // The page that was asked for.
    browser.see("Back up on request");
    browser.see("Valid: 1 vessel");
    browser.click("Create fleet");
    browser.see("No webhook yet");
    let fleet = id_in(&browser.url(), "/fleets/");

    browser.click("Add Webhook");
    browser.see("Treat this URL like a password");
    assert!(!browser.text().contains(&format!("/hooks/{}", token(&server, &fleet))));
    browser.click("Copy the URL");
    browser.see("Copied the URL");
    let hook = Hook::from_url(&browser.clipboard());
    assert_eq!(hook.token(), token(&server, &fleet));
    browser.click("Reveal");
    browser.see(hook.token());

    // The run turns green while one watches.
    browser.click("Edit");
    browser.see("Valid:");
    let slow = "name: run-a-script\nvessels:\n  script:\n    run: |\n      echo first line\n      \
                while [ ! -e \"$GO\" ]; do sleep 0.05; done\n      echo last line\n    \
                environment:\n      GO: GO-FILE\n";
    let go = server.scratch().join("go");
    browser.fill("Fleet file", "");
    set_editor(&browser, &slow.replace("GO-FILE", go.to_str().unwrap()));
    browser.see("Valid: 1 vessel");
    browser.click("Save");
    browser.see("Saved as version 2");
    let payload = br#"{"action": "new action", "big": 12345678901234567890}"#;
    let run = hook.post(server.hooks(), &[("Content-Type", "application/json")], payload);
    browser.click("Logs");
    browser.see(&run[run.len() - 12..]);
    browser.click(&run[run.len() - 12..]);
    arrive(&browser, "/runs/");
    browser.see("Running");
    let vessel = server.api().run(&run)["vessels"][0]["id"].as_str().unwrap().to_owned();
    browser.follow(&vessel);
    browser.see("first line");
    assert!(!browser.text().contains("last line"));
    std::fs::write(&go, "").unwrap();
    browser.see("last line");
    browser.see("Success");

    open(&browser, &server, &format!("/runs/{run}"));
    browser.click("Webhook Parameters");
    browser.see("\"action\": \"new action\"");
    // To the last digit.
    browser.see("\"big\": 12345678901234567890");
    browser.click("Copy as curl");
    browser.see("Copied the curl command");
    let curl = browser.clipboard();
    assert!(curl.contains(hook.token()) && curl.contains("new action"), "no working curl command");

    open(&browser, &server, &format!("/fleets/{fleet}/triggers"));
    browser.click("Replace");
    browser.see("The old URL works");
    click_in_dialog(&browser, "Replace");
    browser.see("The webhook has a new URL");
    assert_eq!(hook.try_post(server.hooks(), &[], b"").unwrap().status, 400);
    browser.click("Remove");
    browser.see("Remove the webhook?");
    click_in_dialog(&browser, "Cancel");
    assert_eq!(server.api().get(&format!("/api/v1/fleets/{fleet}/webhook")).status, 200);
    browser.click("Remove");
    click_in_dialog(&browser, "Remove");
    browser.see("No webhook yet");
    assert_eq!(server.api().get(&format!("/api/v1/fleets/{fleet}/webhook")).status, 404);

    browser.click("Sign out");
    browser.see("Sign in to Boathook");
    open(&browser, &server, "/");
    browser.see("Sign in to Boathook");
    assert_eq!(browser.errors(), Vec::<String>::new());
}

fn token(server: &Server, fleet: &str) -> String {
    let webhook = server.api().get(&format!("/api/v1/fleets/{fleet}/webhook")).expect(200).data();
    webhook["url"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()
}

/// Waits until the page is one whose address has `part` in it.
#[track_caller]
fn arrive(browser: &Browser, part: &str) {
    browser.wait(&format!("one is at {part}"), || browser.url().contains(part));
}

/// Puts `text` into the editor as if it had been pasted.
fn set_editor(browser: &Browser, text: &str) {
    browser.script(&format!(
        "const area = document.querySelector('.yaml'); area.value = {}; area.oninput();",
        Value::from(text)
    ));
}

#[track_caller]
fn click_in_dialog(browser: &Browser, text: &str) {
    browser.click(text);
    browser.wait("the dialog is gone", || {
        browser.script("return !document.querySelector('dialog')") == true
    });
}

#[test]
fn a_run_is_stopped_and_repeated() {
    let server = Server::start();
    let browser = Browser::start();
    let fleet = server.api().apply(&json!({"name": "slow", "vessels": {
        "one": {"run": "echo on its way; sleep 600"}, "two": {"run": "true"}},
        "connections": {"one": {"two": "SUCCESS"}}}));
    sign_in(&browser, &server, &format!("/fleets/{fleet}"));
    browser.see("This fleet has not run yet");
    browser.click("Run now");
    arrive(&browser, "/runs/");
    let run = id_in(&browser.url(), "/runs/");
    browser.click("Webhook Parameters");
    browser.see("This run was not started by a webhook");
    open(&browser, &server, &format!("/runs/{run}"));
    browser.click("Stop");
    browser.see("told to end (SIGTERM");
    click_in_dialog(&browser, "Stop the run");
    browser.see("Terminated");
    assert_eq!(server.api().wait_ended(&run)["status"], "Terminated");
    browser.click("Replay");
    browser.see("A new run starts");
    click_in_dialog(&browser, "Replay");
    browser.wait("there is a new run", || id_in(&browser.url(), "/runs/") != run);
    browser.see("Replay of");
    let again = server.api().run(&id_in(&browser.url(), "/runs/"));
    assert_eq!((&again["trigger"], &again["replay_of"]), (&json!("replay"), &json!(run)));
}

#[test]
fn one_vessel_is_stopped_and_attempts_are_told_apart() {
    let server = Server::start();
    let browser = Browser::start();
    let api = server.api();
    let fleet = api.apply(&json!({"name": "flaky", "vessels": {"v": {
        "run": "echo \"this is try $BOATHOOK_ATTEMPT\"; [ $BOATHOOK_ATTEMPT = 1 ] && exit 7; sleep 600",
        "guardrails": {"retry_count": 1}}}}));
    let run = api.start(&fleet);
    server.wait_until("the second attempt runs", || api.run(&run)["vessels"][0]["attempt"] == 2);
    sign_in(&browser, &server, &format!("/runs/{run}"));
    browser.see("Retrying · attempt 2");
    browser.follow(api.run(&run)["vessels"][0]["id"].as_str().unwrap());
    browser.see("this is try 2");
    browser.type_into("Attempt", "1");
    browser.see("this is try 1");
    browser.wait("the first attempt's end is shown", || browser.text().contains("\n7\n"));
    browser.click("Stop");
    click_in_dialog(&browser, "Stop the vessel");
    assert_eq!(api.wait_ended(&run)["status"], "Terminated");
}

#[test]
fn an_error_is_shown_at_its_line_and_nothing_is_saved() {
    let server = Server::start();
    let browser = Browser::start();
    let fleet = server.api().apply(&true_fleet("mine"));
    sign_in(&browser, &server, &format!("/fleets/{fleet}/edit"));
    browser.see("Valid: 1 vessel");
    set_editor(&browser, "name: mine\nvessels:\n  v:\n    command: [\"true\"]\n    comand: x\n");
    browser.see("Line 5:");
    let at = "const wrong = document.querySelector('.numbers .wrong'); return wrong && [wrong.textContent,
        document.querySelector('.stripe').getBoundingClientRect().top - wrong.getBoundingClientRect().top]";
    assert_eq!(browser.script(at), json!(["5", 0]));
    browser.click("Save");
    browser.wait("the server refuses", || {
        browser.script("return !!document.querySelector('.message.is-error')") == true
    });
    assert_eq!(server.api().get(&format!("/api/v1/fleets/{fleet}")).data()["version"], 1);
    // Leaving asks whether that is meant.
    browser.click("Logs");
    browser.see("Leave without saving?");
    click_in_dialog(&browser, "Cancel");
    set_editor(&browser, "name: mine\nvessels:\n  v:\n    command: [\"false\"]\n");
    browser.see("Valid: 1 vessel");
    browser.click("Save");
    browser.see("Saved as version 2");

    browser.click("Versions");
    browser.see("+     command: [\"false\"]");
    browser.click_beginning("Version 1 ");
    browser.click("Go back to this version");
    click_in_dialog(&browser, "Go back");
    browser.see("The fleet is as it was in version 1");
    assert_eq!(server.api().get(&format!("/api/v1/fleets/{fleet}")).data()["version"], 3);

    browser.click("Edit");
    browser.click("Delete the fleet");
    click_in_dialog(&browser, "Delete the fleet");
    browser.see("No fleets yet");
}

#[test]
fn the_logbook_filters_turns_pages_and_finds() {
    let server = Server::start();
    let browser = Browser::start();
    let api = server.api();
    let good = api.apply(&true_fleet("good"));
    let bad = api.apply(&json!({"name": "bad", "vessels": {"v": {"command": ["false"]}}}));
    let failed = api.start(&bad);
    api.wait_ended(&failed);
    let runs: Vec<String> = (0..30).map(|_| api.start(&good)).collect();
    for run in &runs {
        api.wait_ended(run);
    }
    sign_in(&browser, &server, "/runs");
    let rows = || browser.script("return document.querySelectorAll('.runs tbody tr').length");
    browser.wait("a page of runs is there", || rows() == 25);
    browser.click("Older");
    browser.wait("the rest is there", || rows() == 6);
    browser.click("Newest");
    browser.wait("the first page is back", || rows() == 25);
    browser.type_into("Status", "Errored");
    browser.wait("only one run has failed", || rows() == 1);
    assert!(browser.url().contains("status=Errored"));
    browser.type_into("Trigger", "Webhook");
    browser.see("No run matches these filters");
    browser.click("Clear the filters");
    browser.wait("all are back", || rows() == 25);
    browser.type_into("Find a fleet", &format!("{}\n", &failed[failed.len() - 8..]));
    browser.see("exit code 1");
    assert!(browser.url().ends_with(&failed));

    open(&browser, &server, &format!("/fleets/{good}"));
    browser.wait("every run counts", || {
        let figures = "return [...document.querySelectorAll('section[aria-label=Statistics] dd')]
            .map((it) => it.textContent)[1]";
        browser.script(figures) == "30"
    });
    browser.click("Triggers");
    browser.fill("Body", "sent by hand");
    browser.fill("Another header", "X-Hand: left");
    browser.click("Send");
    arrive(&browser, "/runs/");
    browser.click("Webhook Parameters");
    browser.see("sent by hand");
    browser.see("X-Hand");
}
