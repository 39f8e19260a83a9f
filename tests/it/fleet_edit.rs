//! The command line on fleets: checks and differences before an apply, edits in an editor, copies, and
//! questions before what cannot be taken back.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::Server;
use crate::harness::api::true_fleet;
use crate::harness::server::finish;

const TEXT: &str = "# Sends the site.\nname: site\nvessels:\n  build: {run: 'true'}  # short\n";

fn write(server: &Server, name: &str, text: &str) -> String {
    let path = server.scratch().join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn cli(server: &Server, arguments: &[&str]) -> (i32, String, String) {
    finish(server.cli(arguments))
}

#[track_caller]
fn succeed(server: &Server, arguments: &[&str]) -> (String, String) {
    let (code, stdout, stderr) = cli(server, arguments);
    assert_eq!(code, 0, "{arguments:?}: {stdout}{stderr}");
    (stdout, stderr)
}

fn shown(server: &Server) -> String {
    succeed(server, &["fleet", "show", "site", "--yaml"]).0
}

/// An editor that does `script` to its file `$1`, in that environment variable.
fn editor(server: &Server, script: &str) -> String {
    let path = write(server, "editor", &format!("#!/bin/sh\n{script}\n"));
    format!("sh '{path}'")
}

/// What `fleet edit site` says with this editor, without a terminal.
fn edit(server: &Server, script: &str) -> (i32, String, String) {
    let mut command = server.cli(&["fleet", "edit", "site"]);
    command.env("VISUAL", editor(server, script)).env("EDITOR", "false");
    finish(command)
}

/// The file that a message names.
fn named_file(message: &str) -> PathBuf {
    let name = message.rsplit("your text is in ").next().unwrap().trim();
    PathBuf::from(name)
}

#[test]
fn a_check_says_what_an_apply_would_do_and_stores_nothing() {
    let server = Server::start();
    let file = write(&server, "site.yaml", TEXT);
    let check = |file: &str| cli(&server, &["fleet", "apply", file, "--check"]);
    let (code, said, _) = check(&file);
    assert_eq!((code, said.as_str()), (0, "would create  default/site\n"));
    assert_eq!(server.api().get("/api/v1/fleets").data(), json!([]));
    succeed(&server, &["fleet", "apply", &file]);
    assert_eq!(check(&file).1, "unchanged     default/site\n");
    let changed = write(&server, "changed.yaml", &TEXT.replace("'true'", "'false'"));
    assert_eq!(check(&changed).1, "would update  default/site\n");
    // What the server alone knows: its secrets.
    let asks = write(
        &server,
        "asks.yaml",
        "name: asks\nvessels: {v: {run: x}}\nwebhook: {verify: {preset: github, secret: NONE}}\n",
    );
    let (code, _, problem) = check(&asks);
    assert!(code == 1 && problem.contains("there is no secret `NONE`"), "{problem}");
    let (code, _, problem) = check(&write(&server, "bad.yaml", "name: x\nvessel: {}\n"));
    assert!(code == 1 && problem.contains("line 2"), "{problem}");
    let (as_json, _) = succeed(&server, &["fleet", "apply", &file, "--check", "--json"]);
    let checked: Value = serde_json::from_str(&as_json).unwrap();
    assert_eq!((&checked["outcome"], &checked["warnings"]), (&json!("unchanged"), &json!([])));
    let other_id = TEXT.replace("name:", "_id: 6f1c2d3e-0000-4000-8000-000000000001\nname:");
    let (code, _, problem) = check(&write(&server, "other.yaml", &other_id));
    assert!(code == 1 && problem.contains("does not belong"), "{problem}");
    assert_eq!(shown(&server), TEXT);
}

#[test]
fn a_difference_shows_the_lines_that_an_apply_would_change() {
    let server = Server::start();
    let difference = |text: &str| {
        let file = write(&server, "new.yaml", text);
        succeed(&server, &["fleet", "apply", &file, "--diff"]).0
    };
    assert!(difference(TEXT).contains("+ # Sends the site.\n"));
    succeed(&server, &["fleet", "apply", &write(&server, "site.yaml", TEXT)]);
    assert_eq!(difference(TEXT), "unchanged  default/site\n");
    let changed = difference(&TEXT.replace("'true'", "'false'"));
    assert!(changed.contains("\n-   build: {run: 'true'}  # short\n+   build: {run: 'false'}"));
    assert!(changed.contains("--- default/site version 1\n"), "{changed}");
    // Settings that the file does not name stay, and are no difference.
    server.api().apply(&json!({"name": "site", "vessels": {"build": {"run": "true"}},
        "webhook": {"rate_limit": "5/s"}}));
    assert_eq!(difference(TEXT), "unchanged  default/site\n");
    assert_eq!(server.api().get("/api/v1/fleets").data()[0]["version"], 2);
}

#[test]
fn an_edit_saves_what_the_editor_leaves() {
    let server = Server::start();
    succeed(&server, &["fleet", "apply", &write(&server, "site.yaml", TEXT)]);
    let (code, _, said) = edit(&server, "true");
    assert_eq!((code, said.trim()), (0, "Nothing has changed."));
    let (code, said, _) = edit(&server, "sed -i 's/short/long/' \"$1\"");
    assert_eq!((code, said.as_str()), (0, "saved  default/site  version 2\n"));
    assert_eq!(shown(&server), TEXT.replace("short", "long"));
    let (code, _, problem) = edit(&server, "exit 3");
    assert!(code == 1 && problem.contains("VISUAL or EDITOR"), "{problem}");
    fs::remove_file(named_file(problem.split(": the editor").next().unwrap())).unwrap();
}

#[test]
fn an_edit_that_cannot_be_saved_keeps_its_file() {
    let server = Server::start();
    succeed(&server, &["fleet", "apply", &write(&server, "site.yaml", TEXT)]);
    let (code, _, problem) = edit(&server, "echo 'vessel: x' >> \"$1\"");
    assert!(code == 1 && problem.contains("line 5"), "{problem}");
    let kept = named_file(&problem);
    assert_eq!(fs::read_to_string(&kept).unwrap(), format!("{TEXT}vessel: x\n"));
    fs::remove_file(kept).unwrap();

    // A colleague saves while the editor is open.
    let theirs = write(&server, "theirs.yaml", &TEXT.replace("short", "theirs"));
    let boathook = crate::harness::server::BOATHOOK;
    let script =
        format!("'{boathook}' fleet apply '{theirs}' >/dev/null; sed -i 's/short/mine/' \"$1\"");
    let (code, _, problem) = edit(&server, &script);
    assert!(code == 1 && problem.contains("at version 2 now"), "{problem}");
    assert!(problem.contains("+   build: {run: 'true'}  # theirs"), "{problem}");
    let kept = named_file(&problem);
    assert_eq!(fs::read_to_string(&kept).unwrap(), TEXT.replace("short", "mine"));
    fs::remove_file(kept).unwrap();
    assert_eq!(shown(&server), TEXT.replace("short", "theirs"));
}

#[test]
fn on_a_terminal_a_refused_edit_is_opened_again() {
    let server = Server::start();
    succeed(&server, &["fleet", "apply", &write(&server, "site.yaml", TEXT)]);
    let script = "if grep -q 'vessel: x' \"$1\"; then sed -i '/vessel: x/d; s/short/better/' \"$1\"; \
                  else echo 'vessel: x' >> \"$1\"; fi";
    let editor = editor(&server, script);
    let script = format!(
        "VISUAL=\"{editor}\"; export VISUAL; echo y | cat > /dev/null; \"$0\" fleet edit site"
    );
    let (code, sent) = server.on_terminal_with(&script, "y\n");
    assert!(code == 0 && sent.contains("Edit it again? [Y/n]"), "{sent}");
    assert!(sent.contains("saved  default/site  version 2"), "{sent}");
    assert_eq!(shown(&server), TEXT.replace("short", "better"));
}

#[test]
fn a_copy_has_everything_but_name_ids_and_webhook() {
    let server = Server::start();
    let text = format!("{TEXT}webhook: {{rate_limit: 5/s}}\n");
    succeed(&server, &["fleet", "apply", &write(&server, "site.yaml", &text)]);
    succeed(&server, &["webhook", "add", "site"]);
    let (said, advice) = succeed(&server, &["fleet", "copy", "site", "other"]);
    assert_eq!(said, "created    default/other  version 1\n");
    assert!(advice.contains("no webhook yet"), "{advice}");
    let (copied, _) = succeed(&server, &["fleet", "show", "other", "--yaml"]);
    assert_eq!(copied, text.replace("name: site", "name: other"));
    succeed(&server, &["fleet", "copy", "site", "staging/site"]);
    let (copied, _) = succeed(&server, &["fleet", "show", "staging/site", "--yaml"]);
    assert!(copied.contains("project: staging\n") && copied.contains("# short"), "{copied}");
    let (code, _, problem) = cli(&server, &["fleet", "copy", "default/site", "other"]);
    assert!(code == 1 && problem.contains("already"), "{problem}");
}

#[test]
fn what_cannot_be_taken_back_is_asked_for_on_a_terminal() {
    let server = Server::start();
    let api = server.api();
    let fleet = api.apply(&true_fleet("gone"));
    api.add_webhook(&fleet);
    for (line, question) in [
        ("webhook remove gone", "Remove the webhook of gone?"),
        ("fleet delete gone", "Delete the fleet gone and its webhook?"),
    ] {
        let (code, sent) = server.on_terminal_with(&format!("\"$0\" {line}"), "n\n");
        assert!(code == 1 && sent.contains(question) && sent.contains("called off"), "{sent}");
    }
    api.get(&format!("/api/v1/fleets/{fleet}/webhook")).expect(200);
    let (code, sent) = server.on_terminal("\"$0\" webhook remove gone --yes");
    assert!(code == 0 && sent.contains("removed"), "{sent}");
    let (code, sent) = server.on_terminal_with("\"$0\" fleet delete gone", "y\n");
    assert!(code == 0 && sent.contains("deleted"), "{sent}");
    assert_eq!(api.get("/api/v1/fleets").data(), json!([]));
}

#[test]
fn hints_of_many_fleets_are_one() {
    let server = Server::start();
    let directory = server.scratch().join("many");
    fs::create_dir(&directory).unwrap();
    for number in 0..30 {
        let text = format!(
            "name: f{number}\nvessels: {{v: {{run: x}}}}\nnotifications: {{emails: [a@b.example], after_error: true}}\n"
        );
        fs::write(directory.join(format!("{number}.yaml")), text).unwrap();
    }
    let (said, advice) = succeed(&server, &["fleet", "apply", directory.to_str().unwrap()]);
    assert_eq!(said.lines().count(), 30);
    assert!(advice.contains("30 of them have no webhook yet"), "{advice}");
    assert!(advice.contains("and 10 more warnings"), "{advice}");
    assert!(advice.lines().count() < 30, "{advice}");
}
