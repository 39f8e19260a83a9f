//! What the command line does for people: options in any place, suggestions, completions, tables that fit,
//! settings and where they come from.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::Server;
use crate::harness::api::true_fleet;
use crate::harness::server::{BOATHOOK, finish};

fn alone(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(BOATHOOK);
    command.args(arguments).env_clear().env("HOME", "/nonexistent");
    finish(command)
}

#[test]
fn options_of_the_server_stand_before_the_verb_too() {
    let server = Server::start();
    server.api().apply(&true_fleet("found"));
    let data_dir = server.data_dir().to_str().unwrap();
    for line in [
        ["--data-dir", data_dir, "--json", "fleet", "list"],
        ["fleet", "list", "--data-dir", data_dir, "--json"],
    ] {
        let (code, said, problem) = alone(&line);
        assert_eq!(code, 0, "{problem}");
        assert_eq!(serde_json::from_str::<Value>(&said).unwrap()[0]["name"], "found");
    }
}

#[test]
fn verbs_by_other_names_are_suggested() {
    for (line, meant) in [
        (vec!["run", "logs", "00aa"], "boathook runs logs"),
        (vec!["logs", "00aa"], "boathook runs logs"),
        (vec!["ls"], "boathook fleet list"),
    ] {
        let (code, _, problem) = alone(&line);
        assert!(code == 2 && problem.contains(meant), "{problem}");
    }
    let server = Server::start();
    let (code, _, problem) = finish(server.cli(&["run", "logs"]));
    assert!(code == 1 && problem.contains("did you mean `boathook runs logs`?"), "{problem}");
}

#[test]
fn a_run_that_had_ended_is_said_to_have_ended_and_empty_overrides_are_refused() {
    let server = Server::start();
    let api = server.api();
    let fleet = api.apply(&true_fleet("short"));
    let run = api.start(&fleet);
    api.wait_status(&run, "Success");
    let (code, _, advice) = finish(server.cli(&["runs", "stop", &run]));
    assert!(code == 0 && advice.contains("had ended already"), "{advice}");
    let empty = server.scratch().join("empty");
    fs::write(&empty, " \n").unwrap();
    let file = empty.to_str().unwrap();
    let (code, _, problem) = finish(server.cli(&["run", "short", "--overrides", file]));
    assert!(code == 1 && problem.contains("is empty"), "{problem}");
}

#[test]
fn headings_are_kept_in_a_pipe_on_demand() {
    let server = Server::start();
    let api = server.api();
    let fleet = api.apply(&json!({"name": "two", "vessels": {
        "first": {"run": "echo one"}, "second": {"run": "printf two"}},
        "connections": {"first": {"second": "SUCCESS"}}}));
    let run = api.start(&fleet);
    api.wait_status(&run, "Success");
    let logs = |flags: &[&str]| {
        let (code, said, _) = finish(server.cli(&[&["runs", "logs", &run], flags].concat()));
        assert_eq!(code, 0);
        said
    };
    assert_eq!(logs(&[]), "one\ntwo");
    for flags in [&["--prefix"][..], &["--prefix", "--follow"]] {
        let said = logs(flags);
        let heads: Vec<&str> = said.lines().filter(|line| line.starts_with("== ")).collect();
        assert_eq!(heads.len(), 2, "{said:?}");
        for (name, printed) in [("== first", "\none\n"), ("== second", "\ntwo")] {
            let part = said.split(name).nth(1).unwrap();
            assert!(part.contains(printed) && !said.contains('\u{1b}'), "{said:?}");
        }
    }
}

#[test]
fn a_table_fits_the_terminal_and_a_pipe_gets_all_of_it() {
    let server = Server::start();
    let name = "a-fleet-with-a-name-that-is-far-too-long-for-a-terminal-of-eighty-columns";
    server.api().apply(&true_fleet(name));
    let (_, sent) = server.on_terminal("stty cols 80; \"$0\" fleet list");
    let row = sent.lines().find(|line| line.contains("a-fleet")).unwrap();
    let plain = without_colours(row);
    assert!(plain.contains('…') && plain.trim_end().chars().count() <= 80, "{plain:?}");
    let (_, piped, _) = finish(server.cli(&["fleet", "list"]));
    assert!(piped.contains(name), "{piped}");
}

/// `text` without colours.
fn without_colours(text: &str) -> String {
    let mut plain = String::new();
    let mut parts = text.split('\u{1b}');
    plain.push_str(parts.next().unwrap_or_default());
    for part in parts {
        plain.push_str(part.split_once('m').map_or("", |(_, rest)| rest));
    }
    plain
}

#[test]
fn completions_know_fleets_and_runs() {
    let server = Server::start();
    let api = server.api();
    let fleet = api.apply(&true_fleet("de ploy"));
    api.apply(&true_fleet("site"));
    let mut other = true_fleet("deep");
    other["project"] = json!("staging");
    api.apply(&other);
    let run = api.start(&fleet);
    let complete = |words: &[&str]| {
        let (code, said, problem) = finish(server.cli(&[&["complete", "--"], words].concat()));
        assert_eq!((code, problem.as_str()), (0, ""));
        said
    };
    assert_eq!(complete(&["fleet", "show", "de"]), "'de ploy'\n");
    assert_eq!(complete(&["fleet", "show", "st"]), "staging/deep\n");
    assert_eq!(complete(&["runs", "list", "--fleet", "si"]), "site\n");
    let (_, short) = run.rsplit_once('-').unwrap();
    assert_eq!(complete(&["runs", "logs", ""]), format!("{short}\n"));
    assert_eq!(complete(&["fleet", "apply", ""]), "");
    let (code, said, problem) = alone(&["complete", "--", "fleet", "show", ""]);
    assert_eq!((code, said.as_str(), problem.as_str()), (0, "", ""), "no server");

    // As bash does it.
    let (_, script, _) = alone(&["completions", "bash"]);
    fs::write(server.scratch().join("completion.bash"), script).unwrap();
    let directory = server.scratch().join("bin");
    fs::create_dir(&directory).unwrap();
    std::os::unix::fs::symlink(BOATHOOK, directory.join("boathook")).unwrap();
    let press = "source ./completion.bash; PATH=$PWD/bin:$PATH; COMP_WORDS=(boathook fleet show si); \
                 COMP_CWORD=3; _boathook_with_names boathook si show; printf '%s|' \"${COMPREPLY[@]}\"; \
                 COMP_WORDS=(boathook fleet vers); COMP_CWORD=2; _boathook_with_names boathook vers fleet; \
                 printf '%s|' \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", press])
        .current_dir(server.scratch())
        .env("BOATHOOK_DATA_DIR", server.data_dir());
    let (code, said, problem) = finish(bash);
    assert_eq!((code, said.as_str()), (0, "site|versions|"), "{problem}");
}

#[test]
fn settings_are_shown_with_where_they_come_from() {
    let server = Server::start();
    let directory = server.scratch().join("configured");
    fs::create_dir(&directory).unwrap();
    let file = directory.join("boathook.toml");
    fs::write(&file, "# ours\n\nhead_timeout = \"7s\"\nworkers = 3\n").unwrap();
    let data_dir = directory.to_str().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(BOATHOOK);
        command.args(arguments).args(["--data-dir", data_dir]).env_clear();
        command.env("BOATHOOK_WORKERS", "5").env("BOATHOOK_WORKRES", "6");
        finish(command)
    };
    let (code, said, problem) = run(&["config", "show", "--json"]);
    assert_eq!(code, 0, "{problem}");
    let shown: Value = serde_json::from_str(&said).unwrap();
    let find = |name: &str| {
        let mut shown = shown.as_array().unwrap().iter();
        let shown = shown.find(|it| it["name"] == name).unwrap();
        (shown["value"].as_str().unwrap().to_owned(), shown["source"].as_str().unwrap().to_owned())
    };
    assert_eq!(find("head_timeout"), ("7s".into(), format!("{}:3", file.display())));
    assert_eq!(find("workers"), ("5".into(), "BOATHOOK_WORKERS".into()));
    assert_eq!(find("idle_timeout"), ("30s".into(), "default".into()));
    assert_eq!(find("data_dir"), (data_dir.into(), "--data-dir".into()));
    let (code, said, warned) = run(&["config", "check"]);
    assert!(code == 0 && said.starts_with("good "), "{said}{warned}");
    assert!(warned.contains("BOATHOOK_WORKRES") && warned.contains("BOATHOOK_WORKERS"), "{warned}");
    fs::write(&file, "workers = \"many\"\n").unwrap();
    let (code, _, problem) = run(&["config", "check"]);
    assert!(code == 1 && problem.contains("boathook.toml:1: workers"), "{problem}");
}

#[test]
fn the_demo_prints_a_link_to_its_pages() {
    let mut command = Command::new("timeout");
    command.args(["--signal=INT", "60", "sh", "-c"]).arg(format!(
        "'{BOATHOOK}' demo > demo.out & demo=$!; \
         until grep -q 'Serving until' demo.out || ! kill -0 $demo; do sleep 0.1; done; \
         kill -INT $demo; wait $demo; cat demo.out"
    ));
    let scratch = tempfile::tempdir().unwrap();
    command.current_dir(scratch.path());
    let (_, said, problem) = finish(command);
    assert!(
        said.contains("http://127.0.0.1:") && said.contains("/sign-in#link="),
        "{said}{problem}"
    );
}
