//! Preview and *Try an expression* in the pages.

use serde_json::json;

use super::{open, sign_in};
use crate::harness::api::true_fleet;
use crate::harness::{Browser, Server};

#[test]
fn a_request_is_previewed_and_an_expression_tried() {
    let server = Server::start();
    let api = server.api();
    let mut fleet = true_fleet("deploy");
    fleet["webhook"] = json!({"when": "body.ref == 'main'", "respond": {"wait": "7s"}});
    let (id, hook) = server.fleet_with_webhook(&fleet);
    hook.try_post(server.hooks(), &[], br#"{"ref": "next"}"#).unwrap().expect(200);
    let browser = Browser::start();
    sign_in(&browser, &server, &format!("/fleets/{id}/triggers"));
    browser.see("the answer of the last vessel that has one, after 7s at most");
    browser.click("Preview");
    browser.see("It would start no run: the fleet does not want it.");
    browser.see("Nothing was started or stored.");
    browser.click("Try it");
    browser.see("body.ref = \"next\"");
    open(&browser, &server, "/");
    assert!(api.all_runs().is_empty(), "nothing is started");
    assert_eq!(browser.errors(), Vec::<String>::new());
}
