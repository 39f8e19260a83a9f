//! Starting a fleet with parameters, and making one fleet of another.

use serde_json::json;

use super::sign_in;
use crate::harness::{Browser, Server};

/// The output of a vessel of a run.
fn output(server: &Server, run: &str, vessel: usize) -> String {
    let run = server.api().run(run);
    let id = run["vessels"][vessel]["id"].as_str().unwrap();
    server.api().get(&format!("/api/v1/vessel-runs/{id}/output")).expect(200).text()
}

#[test]
fn a_run_with_parameters_has_their_variables_skips_and_body() {
    let server = Server::start();
    let api = server.api();
    let fleet = api.apply(&json!({
        "name": "deploy",
        "vessels": {
            "build": {
                "run": "echo \"$TARGET ${EXTRA-none} ${GONE-none} $BOATHOOK_TRIGGER\"; cat",
                "environment": {"TARGET": "prod", "GONE": "here", "LINES": "a\nb"},
            },
            "publish": {"command": ["false"]},
        },
        "connections": {"build": {"publish": "SUCCESS"}},
    }));
    let browser = Browser::start();
    sign_in(&browser, &server, &format!("/fleets/{fleet}"));
    let started = || {
        browser.wait("the run is shown", || browser.url().contains("/runs/"));
        browser.url().rsplit('/').next().unwrap().to_owned()
    };
    browser.click("Run with parameters");
    let shown = "return document.querySelector('dialog textarea').value";
    assert_eq!(browser.script(shown), "GONE=here\nLINES=\"a\\nb\"\nTARGET=prod");
    browser.fill("Variables of build", "TARGET=tést a=b\nEXTRA \nLINES=\"a\\nb\"");
    browser.click("Run");
    browser.see("write NAME=value");
    browser.fill("Variables of build", "TARGET=tést a=b\nEXTRA=\"1\\n2\"\nLINES=\"a\\nb\"");
    browser.type_into("Vessel publish", "Is skipped, as a success");
    browser.fill("Body", "sent along");
    browser.click("Run");
    let run = started();
    assert_eq!(api.wait_ended(&run)["status"], "Success");
    assert_eq!(output(&server, &run, 0), "tést a=b 1\n2 none webhook\nsent along");
    let sent = api.get(&format!("/api/v1/runs/{run}/webhook-parameters")).expect(200).data();
    assert_eq!(sent["headers"]["Content-Type"], json!(["application/json"]));
    assert_eq!(sent["headers"]["Boathook-Overrides"], json!(null));

    // Without a body it is a run on demand.
    browser.click("deploy");
    browser.click("Run with parameters");
    browser.fill("Variables of build", "GONE=here\nLINES=\"a\\nb\"\nTARGET=prod");
    browser.click("Run");
    let run = started();
    assert_eq!(api.wait_ended(&run)["status"], "Errored");
    assert_eq!(output(&server, &run, 0), "prod none here on_demand\n");
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn a_fleet_is_made_of_another_one_and_of_a_former_version() {
    let server = Server::start();
    let api = server.api();
    let text = "# Builds the site.\nname: site\nproject: web\nvessels: {v: {run: echo one}}\n";
    let fleet = api.apply_yaml(text);
    api.apply_yaml(&text.replace("one", "two"));
    let browser = Browser::start();
    sign_in(&browser, &server, &format!("/fleets/{fleet}"));
    browser.click("Duplicate");
    browser.see("Version 2 of another fleet");
    browser.see("Valid: 1 vessel");
    browser.click("Create fleet");
    browser.see("site-2 is ready");
    browser.click("Versions");
    browser.see("# Builds the site.");
    browser.see("run: echo two");

    browser.script(&format!(
        "document.querySelector('nav a').click(); location.href = '/fleets/{fleet}/versions'"
    ));
    browser.see("What changed since version 1");
    browser.click_beginning("Version 1 ");
    let link = format!("document.querySelector('a[href$=\"from={fleet}&version=1\"]').click()");
    browser.script(&link);
    browser.see("Version 1 of another fleet");
    browser.see("Valid: 1 vessel");
    browser.click("Create fleet");
    browser.see("site-3 is ready");
    let made = api.get("/api/v1/fleets?name=web/site-").expect(200).data();
    let scripts: Vec<_> =
        made.as_array().unwrap().iter().map(|it| it["vessels"][0]["run"].clone()).collect();
    assert_eq!(scripts, ["echo two", "echo one"]);
    assert_eq!(browser.errors(), Vec::<String>::new());
}
