//! Content that would like to be more than content: it is shown as the text it is.

use serde_json::json;

use super::{open, sign_in};
use crate::harness::{Browser, Server};

const MARKUP: &str =
    r#""><img src=x onerror="document.title='owned'"><script>document.title='owned'</script>"#;

#[track_caller]
fn assert_harmless(browser: &Browser) {
    let found = "return [document.title, document.querySelectorAll('main img, main script, main iframe').length]";
    let found = browser.script(found);
    assert_eq!(found[1], 0);
    assert_ne!(found[0], "owned");
}

#[test]
fn markup_in_payloads_headers_names_and_output_is_text() {
    let server = Server::start();
    let browser = Browser::start();
    let api = server.api();
    let name = "\"><img src=x onerror=alert(1)>";
    let (fleet, hook) = server.fleet_with_webhook(&json!({"name": name, "vessels": {
        "<b>v": {"run": "cat; printf '\\033]0;owned\\007\\033[31mred\\033[0m \\033[2J\\377\\376 \\007end\\n'"},
        "w": {"run": "exit 1"}},
        "connections": {"<b>v": {"w": "SUCCESS"}}}));
    let headers = [("Content-Type", "text/html"), ("X-Evil", MARKUP)];
    let run = hook.post(server.hooks(), &headers, MARKUP.as_bytes());
    let ended = api.wait_ended(&run);

    sign_in(&browser, &server, "/");
    browser.see(name);
    assert_harmless(&browser);
    for (path, sign) in [
        (format!("/fleets/{fleet}"), name),
        (format!("/fleets/{fleet}/vessels"), "<b>v"),
        (format!("/fleets/{fleet}/versions"), "<b>v"),
        (format!("/fleets/{fleet}/edit"), "Valid:"),
        (format!("/runs/{run}"), "<b>v"),
        (format!("/runs/{run}/parameters"), MARKUP),
        (format!("/runs/{run}/vessels/{}", ended["vessels"][0]["id"].as_str().unwrap()), MARKUP),
        ("/runs/%3Cimg%20src=x%20onerror=alert(1)%3E".to_owned(), "o such run"),
    ] {
        open(&browser, &server, &path);
        browser.see(sign);
        assert_harmless(&browser);
    }
    // Colours are colours, commands to the terminal are left out, other bytes can be seen.
    open(
        &browser,
        &server,
        &format!("/runs/{run}/vessels/{}", ended["vessels"][0]["id"].as_str().unwrap()),
    );
    browser.see("red \u{fffd}\u{fffd} \u{2407}end");
    let colour = "return [...document.querySelectorAll('.content span')].find((it) => it.textContent === 'red')
        .style.color";
    assert_eq!(browser.script(colour), "var(--ansi-1)");
    // What the API itself answers with is no page either.
    let id = ended["vessels"][0]["id"].as_str().unwrap();
    for path in [format!("/api/v1/vessel-runs/{id}/output"), format!("/api/v1/runs/{run}/body")] {
        let answer = api.get(&path).expect(200);
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        let kind = answer.header("content-type").unwrap();
        assert!(kind.starts_with("text/plain") || kind == "application/octet-stream", "{kind}");
        assert!(answer.header("content-security-policy").unwrap().contains("default-src 'none'"));
    }
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn ten_megabytes_and_endless_lines_leave_the_page_responsive() {
    let server = Server::start();
    let browser = Browser::start();
    let api = server.api();
    // Some 9 MB in 150,000 lines, then 1 MB in one.
    let script = "seq -f 'line %09.0f of a log that goes on and on, and on and on' 1 150000; \
                  head -c 1000000 /dev/zero | tr '\\0' x; echo; echo the end";
    let fleet = api.apply(&json!({"name": "loud", "vessels": {"v": {"run": script}}}));
    let ended = api.wait_status(&api.start(&fleet), "Success");
    let id = ended["vessels"][0]["id"].as_str().unwrap();
    sign_in(&browser, &server, "/");
    // The longest time between two frames tells how long the page hung.
    open(&browser, &server, &format!("/runs/{}/vessels/{id}", ended["id"].as_str().unwrap()));
    browser.see("line 000000001 of a log");
    let rows = "return document.querySelectorAll('.row').length";
    assert!(browser.script(rows).as_u64().unwrap() < 200, "every row is a node");
    browser.type_into("Search in: Output", "line 000149999");
    browser.see("1 of 1");
    browser.see("line 000149999 of a log");
    browser
        .script("const it = document.querySelector('.scroller'); it.scrollTop = it.scrollHeight");
    browser.see("the end");
    let widest = "return Math.max(...[...document.querySelectorAll('.row')].map((it) => it.textContent.length))";
    assert!(browser.script(widest).as_u64().unwrap() < 3000, "one row holds a whole megabyte");
    // The number of the last line: pieces of a long line are not counted.
    browser.wait("lines are counted as they were written", || {
        browser.script("return [...document.querySelectorAll('.number')].at(-1).dataset.line")
            == "150002"
    });
}
