//! Logs in the pages: as a terminal shows them, and as they were written; and how attempts and paths of a
//! run are drawn.

use serde_json::json;

use super::{open, sign_in};
use crate::harness::{Browser, Server};

/// 600 frames of a progress bar, a corrected word, a colour that lasts, and a long line.
const OUTPUT: &str = r"
    for frame in $(seq 1 600); do printf '\rpacked %d of 600' $frame; done; echo
    printf 'helo\blo, \033[32mgreen\033[0m\n'
    printf 'all of this goes\033[2K\rgone\033[20Gfar\n'
    head -c 600 /dev/zero | tr '\0' w; echo
    echo the end";

const ROWS: &str =
    "return [...document.querySelectorAll('.row .content')].map((it) => it.textContent)";

#[test]
fn a_log_is_shown_as_a_terminal_does_and_raw_and_its_lines_have_addresses() {
    let server = Server::start();
    let api = server.api();
    let fleet = api.apply(&json!({"name": "packs", "vessels": {
        "first": {"run": OUTPUT}, "second": {"command": ["true"]}},
        "connections": {"first": {"second": "SUCCESS"}}}));
    let ended = api.wait_status(&api.start(&fleet), "Success");
    let run = ended["id"].as_str().unwrap();
    let vessel = |at: usize| ended["vessels"][at]["id"].as_str().unwrap();
    let browser = Browser::start();
    let page = format!("/runs/{run}/vessels/{}", vessel(0));
    sign_in(&browser, &server, &page);
    browser.see("packed 600 of 600");
    let wide = "w".repeat(600);
    assert_eq!(
        browser.script(ROWS),
        json!(["packed 600 of 600", "hello, green", "gone               far", wide, "the end"])
    );

    browser.click("Raw");
    browser.see("packed 2 of 600");
    browser
        .script("const it = document.querySelector('.scroller'); it.scrollTop = it.scrollHeight");
    browser.see("helo\u{2408}lo");
    browser.see("\u{241b}[32mgreen");
    browser.click("Raw");
    browser.wait("the frames are one row again", || browser.script(ROWS)[0] == "packed 600 of 600");

    browser.click("Wrap");
    browser.wait("the long line takes several rows", || {
        browser.script(ROWS).as_array().unwrap().len() > 6
    });
    let widths =
        "const it = document.querySelector('.scroller'); return it.scrollWidth <= it.clientWidth";
    assert_eq!(browser.script(widths), true, "wrapped rows are wider than their place");
    browser.click("Copy");
    browser.see("Copied output");
    assert!(browser.clipboard().ends_with(&format!("{wide}\nthe end")), "{}", browser.clipboard());

    browser.script("document.querySelector('.number[data-line=\"2\"]').click()");
    browser.wait("the address has the line", || browser.url().ends_with("#L2"));
    open(&browser, &server, &format!("{page}#L5"));
    let current = "return document.querySelector('.row.current .content')?.textContent";
    browser.wait("the line is marked", || browser.script(current) == "the end");

    browser.click("→");
    browser.see("This attempt wrote nothing.");
    browser.click("←");
    browser.see("packed 600 of 600");
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn attempts_waits_and_taken_paths_of_a_run_are_drawn() {
    let server = Server::start();
    let api = server.api();
    let name = "a vessel whose name takes more room than any box in a picture has";
    let flaky = "test \"$BOATHOOK_ATTEMPT\" = 3";
    let fleet = api.apply(&json!({"name": "drawn", "vessels": {
        name: {"run": flaky, "guardrails": {"retry_count": 2, "retry_wait": "1s"}},
        "next": {"command": ["true"]}, "alarm": {"command": ["true"]}},
        "connections": {name: {"next": "SUCCESS", "alarm": "ERRORED"}}}));
    let run = api.start(&fleet);
    api.wait_status(&run, "Success");
    let browser = Browser::start();
    sign_in(&browser, &server, &format!("/runs/{run}"));
    let drawn =
        "return [...document.querySelector('.lane .track').children].map((it) => it.className)";
    browser.wait("each attempt is drawn", || {
        browser.script(drawn)
            == json!([
                "bar-of-time is-Errored",
                "wait",
                "bar-of-time is-Errored",
                "wait",
                "bar-of-time is-Success"
            ])
    });
    let paths = "return [...document.querySelectorAll('.edge')].map((it) => it.getAttribute('class')).sort()";
    assert_eq!(
        browser.script(paths),
        json!(["edge is-errored is-ruled-out", "edge is-success is-taken"])
    );
    let fits = "return [...document.querySelectorAll('.node')].every((node) => {
        const box = node.querySelector('rect').getBoundingClientRect();
        return [...node.querySelectorAll('text')].every((it) => it.getBoundingClientRect().right <= box.right);
    })";
    assert_eq!(browser.script(fits), true, "a name leaves its box");

    // A run that has not started has no axis.
    let paused = api.apply(&json!({"name": "waits", "concurrency": 1,
        "vessels": {"v": {"command": ["sleep", "600"]}}}));
    let (running, waiting) = (api.start(&paused), api.start(&paused));
    open(&browser, &server, &format!("/runs/{waiting}"));
    browser.see("Queued: waits for run ");
    assert_eq!(browser.script("return !!document.querySelector('.axis')"), false);
    for run in [&waiting, &running] {
        api.call("POST", &format!("/api/v1/runs/{run}/stop"), None).expect(200);
        api.wait_status(run, "Terminated");
    }
    assert_eq!(browser.errors(), Vec::<String>::new());
}
