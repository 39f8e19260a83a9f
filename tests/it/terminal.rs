//! What a terminal is sent of texts that senders, vessels, fleet files and backups have chosen; and what a
//! pipe is sent.

use std::fs;

use boathook::internals::Timestamp;
use boathook::internals::backup::{Header, Writer};
use boathook::internals::store::SCHEMA;
use serde_json::json;

use crate::harness::Server;

/// Colours, then one of each kind that a terminal would obey.
const OUTPUT: &[u8] = b"\x1b[1;31mred\x1b[0m \x1b]52;c;cm0gLXJm\x07\x1b]0;title\x1b\\\x1b[2J\x1b[6n\x1b[?1049h\
    \x1bP+q544e\x1b\\\x1b[>4;1m\x9b2J\xc2\x9b2J\xc2\x9d0;x\xc2\x9c\xe2\x80\xae\x07\x08\xff end\r\nover\rwrite\n";
/// What a terminal gets of it, after the line discipline.
const SHOWN: &str = "\u{1b}[1;31mred\u{1b}[0m \u{fffd}2J\u{fffd}2J\u{fffd}0;x\u{fffd}\u{fffd}\
    \u{2407}\u{2408}\u{fffd} end\r\nover\r\nwrite\r\n";

/// Fails if `sent` has anything but text, colours and line ends.
#[track_caller]
fn assert_harmless(what: &str, sent: &str) {
    let mut rest = sent;
    while let Some(at) = rest.find('\u{1b}') {
        let sequence = &rest[at + 1..];
        let end = sequence.find(|it: char| !"[0123456789;:".contains(it));
        let end = end.unwrap_or_else(|| panic!("{what}: {sent:?}"));
        // The bar of the progress is ours: it clears its line.
        let is_ours = sequence.starts_with("[K");
        assert!(is_ours || sequence[end..].starts_with('m'), "{what}: {sent:?}");
        rest = &sequence[end..];
    }
    let is_plain =
        |letter: char| !letter.is_control() || matches!(letter, '\n' | '\r' | '\t' | '\u{1b}');
    assert!(sent.chars().all(is_plain), "{what}: {sent:?}");
    assert!(!sent.contains('\u{202e}') && !sent.contains('\u{2066}'), "{what}: {sent:?}");
}

#[test]
fn a_terminal_gets_the_colours_of_a_vessel_and_nothing_else_that_it_obeys() {
    let server = Server::start();
    let file = server.scratch().join("output");
    fs::write(&file, OUTPUT).unwrap();
    // Byte by byte, so that sequences arrive in pieces.
    let script = format!(
        "file={}; size=$(wc -c < $file); at=0; while [ $at -lt $size ]; do \
         dd if=$file bs=1 skip=$at count=1 2>/dev/null; at=$((at + 1)); done",
        file.display()
    );
    let api = server.api();
    api.apply(&json!({"name": "f", "vessels": {
        "v": {"run": script}, "w": {"run": format!("cat {}; printf '\\033[7;8m'", file.display())},
    }}));
    let (code, sent) = server.on_terminal("\"$0\" run f --follow");
    assert_eq!(code, 0, "{sent}");
    assert_harmless("run --follow", &sent);
    assert!(sent.contains("\u{1b}[1;31mred\u{1b}[0m"), "{sent:?}");
    let run = api.all_runs()[0]["id"].as_str().unwrap().to_owned();
    for (vessel, end) in [("v", ""), ("w", "\u{1b}[7;8m\u{1b}[0m")] {
        for flag in ["", " --follow"] {
            let (code, sent) =
                server.on_terminal(&format!("\"$0\" runs logs {run} --vessel {vessel}{flag} 2>&-"));
            assert_eq!((code, sent), (0, format!("{SHOWN}{end}")), "{vessel}{flag}");
        }
    }
    let (_, sent) = server.on_terminal(&format!("\"$0\" runs logs {run}"));
    assert_harmless("runs logs", &sent);
    let (_, sent) = server.on_terminal(&format!("\"$0\" runs logs {run} --json"));
    assert_harmless("runs logs --json", &sent);
    // A pipe gets every byte.
    let output = server.cli(&["runs", "logs", &run, "--vessel", "v"]).output().unwrap();
    assert!(output.stdout == OUTPUT, "{:?}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn a_terminal_gets_a_body_that_it_does_not_obey_and_a_pipe_gets_the_body() {
    let server = Server::start();
    let (_, hook) =
        server.fleet_with_webhook(&json!({"name": "f", "vessels": {"v": {"command": ["true"]}}}));
    let run = hook.post(server.hooks(), &[("X-A", "a\u{9b}2J\u{202e}b")], OUTPUT);
    let (code, sent) = server.on_terminal(&format!("\"$0\" runs body {run}"));
    assert_eq!((code, sent.as_str()), (0, SHOWN));
    let (_, sent) = server.on_terminal(&format!("\"$0\" runs body {run} --json"));
    assert!(sent.contains("X-A"), "{sent}");
    assert_harmless("runs body --json", &sent);
    let output = server.cli(&["runs", "body", &run]).output().unwrap();
    assert!(output.stdout == OUTPUT);
    let (_, sent) = server.on_terminal(&format!("\"$0\" runs body {run} | cat > body"));
    assert_eq!(sent, "");
    assert!(fs::read(server.scratch().join("body")).unwrap() == OUTPUT);
}

#[test]
fn names_reasons_and_errors_are_shown_and_not_obeyed() {
    let server = Server::start();
    let evil = "x\u{9d}0;t\u{9c}y";
    let api = server.api();
    let reason = format!("./no{evil}");
    let fleet = api.apply(&json!({"name": "f", "vessels": {"v": {"command": [reason]}}}));
    api.wait_status(&api.start(&fleet), "Errored");
    let run = api.all_runs()[0]["id"].as_str().unwrap().to_owned();
    let bad = format!("name: z\nvessels: {{\"{evil}\u{202e}\": {{comand: [a]}}}}\n");
    fs::write(server.scratch().join("bad.yaml"), bad).unwrap();
    fs::write(server.scratch().join("override"), "\u{1b}]0;t\u{7}").unwrap();
    for script in [
        "\"$0\" runs list".to_owned(),
        format!("\"$0\" runs show {run}"),
        format!("\"$0\" runs show {run} --json"),
        "\"$0\" fleet show f --yaml".to_owned(),
        "\"$0\" fleet show f --json".to_owned(),
        "\"$0\" fleet apply bad.yaml".to_owned(),
        "\"$0\" run f --overrides override".to_owned(),
        format!("\"$0\" fleet show '{evil}'"),
        "\"$0\" doctor".to_owned(),
    ] {
        let (_, sent) = server.on_terminal(&script);
        assert!(!sent.trim().is_empty(), "{script}");
        assert_harmless(&script, &sent);
    }
}

#[test]
fn a_backup_chooses_nothing_that_a_terminal_obeys() {
    let server = Server::start();
    let evil = "1\u{1b}]52;c;eA==\u{7}\u{202e}\n\u{9b}2J";
    let write = |name: &str, schema: u32, end: fn(Writer<&mut Vec<u8>>)| {
        let header = Header::new(schema, Timestamp::default(), 0);
        let mut backup = Vec::new();
        end(Writer::begin(&mut backup, &Header { version: evil.to_owned(), ..header }).unwrap());
        fs::write(server.scratch().join(name), &backup).unwrap();
    };
    let whole: fn(Writer<&mut Vec<u8>>) = |writer| {
        writer.finish().unwrap();
    };
    write("b", SCHEMA, whole);
    write("newer", 99, whole);
    write("abandoned", SCHEMA, |writer| writer.abandon("\u{1b}]0;t\u{7}\u{9b}2J").unwrap());
    for script in ["\"$0\" restore --verify b", "\"$0\" restore --verify b --json"] {
        let (code, sent) = server.on_terminal(script);
        assert_eq!(code, 0, "{sent}");
        assert_harmless(script, &sent);
    }
    for script in ["\"$0\" restore newer --data-dir new", "\"$0\" restore --verify abandoned"] {
        let (code, sent) = server.on_terminal(script);
        assert_eq!(code, 1, "{sent}");
        assert_harmless(script, &sent);
    }
}
