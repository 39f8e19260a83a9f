//! Vessels in the hosted system's form: code files of the fleet, git repositories, and the round
//! trip of their fleet files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::api::vessel_of;
use crate::harness::server::finish;
use crate::harness::{Server, processes, python_directory, redacted};

/// The directory that holds `node`.
fn node_directory() -> String {
    let found = Command::new("node").args(["-p", "process.execPath"]).output();
    let path = String::from_utf8(found.expect("node is installed").stdout).unwrap();
    Path::new(path.trim()).parent().unwrap().display().to_string()
}

/// A repository in the server's scratch directory, and the bare repository that vessels clone.
struct Repository {
    tree: PathBuf,
    bare: PathBuf,
}

impl Repository {
    fn new(server: &Server, name: &str) -> Self {
        let tree = server.scratch().join(format!("{name}-tree"));
        let bare = server.scratch().join(format!("{name}.git"));
        fs::create_dir(&tree).unwrap();
        let repository = Self { tree, bare };
        repository.git(&["init", "--quiet", "--initial-branch=main", "."]);
        let bare = repository.bare.to_str().unwrap();
        repository.git(&["init", "--quiet", "--bare", "--initial-branch=main", bare]);
        repository
    }

    #[track_caller]
    fn git(&self, arguments: &[&str]) -> String {
        let done = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.com"])
            .args(arguments)
            .current_dir(&self.tree)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .expect("git is installed");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    /// Commits `content` as `file`, pushes, and returns the commit's id.
    #[track_caller]
    fn commit(&self, file: &str, content: &str) -> String {
        fs::write(self.tree.join(file), content).unwrap();
        self.git(&["add", "."]);
        self.git(&["commit", "--quiet", "-m", content]);
        let bare = self.bare.to_str().unwrap();
        self.git(&["push", "--quiet", bare, "HEAD:main"]);
        self.git(&["push", "--quiet", bare, "--all"]);
        self.git(&["push", "--quiet", bare, "--tags"]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn url(&self) -> String {
        format!("file://{}", self.bare.display())
    }
}

fn git_fleet(name: &str, git: &Value, file_to_run: &str, guardrails: &Value) -> Value {
    json!({"name": name, "vessels": {"v": {
        "source": {
            "type": "CODE", "language": "BASH", "git": git, "file_to_run": file_to_run,
        },
        "guardrails": guardrails,
    }}})
}

#[test]
fn files_of_every_language_run_with_arguments_and_payload() {
    let server = Server::start();
    let path = format!("{}:{}:/usr/bin:/bin", python_directory(), node_directory());
    let yaml = format!(
        r#"
name: languages
vessels:
  shell:
    source:
      type: CODE
      language: BASH
      file:
        name: script.sh
        content: |
          echo "$0 $# $1 $2 $3"
          [[ -n $WHO ]] && echo "hello $WHO"
          cat
          echo 'left = 41' > helper.py
      file_to_run: script.sh
      arguments: [{{key: --columns, value: 3.10}}, {{value: yes}}]
      environment: [{{name: WHO, value: 007}}]
  snake:
    source:
      type: CODE
      language: PYTHON
      file: {{name: main.py, content: "import sys, helper\nprint(sys.argv, helper.left + 1)\n"}}
      arguments: [{{key: -x}}]
      environment: [{{name: PATH, value: "{path}"}}]
  tree:
    source:
      type: CODE
      language: NODE
      file: {{name: main.js, content: "console.log(process.argv.slice(2), process.cwd() == process.env.HOME)\n"}}
      arguments: [{{value: a b}}]
      environment: [{{name: PATH, value: "{path}"}}]
connections:
  shell: {{snake: SUCCESS}}
  snake: {{tree: SUCCESS}}
"#
    );
    let fleet = server.api().apply_yaml(&yaml);
    let hook = server.api().add_webhook(&fleet);
    let run = hook.post(server.hooks(), &[], b"the body\n");
    let ended = server.api().wait_status(&run, "Success");
    let output = |vessel| server.api().output(&ended, vessel);
    assert_eq!(output("shell"), "script.sh 3 --columns 3.10 yes\nhello 007\nthe body\n");
    assert_eq!(output("snake"), "['main.py', '-x'] 42\n");
    assert_eq!(output("tree"), "[ 'a b' ] true\n");
}

#[test]
fn branches_tags_and_commits_are_checked_out() {
    let server = Server::start();
    let api = server.api();
    let repository = Repository::new(&server, "repo");
    let first = repository.commit("run.sh", "echo first");
    repository.git(&["tag", "v1"]);
    repository.git(&["branch", "feature/x"]);
    repository.commit(
        "run.sh",
        "echo second; pwd; echo $SHIPYARD_CLONE_LOCATION; git -C repo log --oneline | wc -l",
    );
    for (point, shown) in [
        (json!("main"), "second"),
        (json!(null), "second"),
        (json!("feature/x"), "first"),
        (json!("v1"), "first"),
        (json!(first), "first"),
    ] {
        let git = json!({"repository": repository.url(), "checkout_point": point});
        let fleet = api.apply(&git_fleet("points", &git, "repo/run.sh", &json!({})));
        let ended = api.wait_status(&api.start(&fleet), "Success");
        let log = api.output(&ended, "v");
        assert!(log.starts_with("HEAD is now at "), "{log}");
        let lines: Vec<_> = log.lines().skip(1).collect();
        assert_eq!(lines[0], shown, "{point}: {log}");
        if shown == "second" {
            assert_eq!(lines[2], format!("{}/repo", lines[1]));
            assert_eq!(lines[3].trim(), "2", "the history is there: {log}");
        }
    }
}

#[test]
fn a_clone_into_the_work_directory_lies_beside_what_is_there() {
    let server = Server::start();
    let api = server.api();
    let repository = Repository::new(&server, "repo");
    repository.commit("run.sh", "cat; cat made data.txt; echo $SHIPYARD_CLONE_LOCATION; pwd");
    repository.commit("data.txt", "data\n");
    let mut fleet = git_fleet(
        "beside",
        &json!({"repository": repository.url(), "clone_location": "CWD"}),
        "run.sh",
        &json!({}),
    );
    let elsewhere = server.scratch().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let before = format!("echo made > made; echo x > data.txt; ln -s {} .git", elsewhere.display());
    fleet["vessels"]["before"] = json!({"run": before});
    fleet["connections"] = json!({"before": {"v": "SUCCESS"}});
    let hook = api.add_webhook(&api.apply(&fleet));
    let run = hook.post(server.hooks(), &[], b"the body\n");
    let ended = api.wait_status(&run, "Success");
    let log = api.output(&ended, "v");
    let lines: Vec<_> = log.lines().skip(1).collect();
    assert_eq!(lines[..3], ["the body", "made", "data"], "{log}");
    assert_eq!(lines[3], lines[4]);
    assert!(fs::read_dir(&elsewhere).unwrap().next().is_none(), "a link was followed");
}

#[test]
fn a_retry_starts_from_a_clean_clone() {
    let server = Server::start();
    let api = server.api();
    let repository = Repository::new(&server, "repo");
    let script = "cd repo; ls; touch litter; echo 'exit 0' > run.sh; [ $BOATHOOK_ATTEMPT = 3 ]";
    repository.commit("run.sh", script);
    let fleet = git_fleet(
        "clean",
        &json!({"repository": repository.url()}),
        "repo/run.sh",
        &json!({"retry_count": 2}),
    );
    let ended = api.wait_status(&api.start(&api.apply(&fleet)), "Success");
    assert_eq!(vessel_of(&ended, "v")["attempt"], 3);
    let log = api.output(&ended, "v");
    assert_eq!(log.lines().skip(1).collect::<Vec<_>>(), ["run.sh"], "{log}");
}

#[test]
fn a_failed_clone_or_a_missing_file_is_errored_with_its_reason() {
    let server = Server::start();
    let api = server.api();
    let repository = Repository::new(&server, "repo");
    repository.commit("run.sh", "echo run");
    let missing = format!("file://{}/missing.git", server.scratch().display());
    for (name, git, file, git_says, reason) in [
        (
            "no-repository",
            json!({"repository": missing}),
            "missing/run.sh",
            "does not appear to be a git repository",
            "could not be cloned: git ended with exit code 128",
        ),
        (
            "no-branch",
            json!({"repository": repository.url(), "checkout_point": "nowhere"}),
            "repo/run.sh",
            "couldn't find remote ref nowhere",
            "could not be cloned: git ended with exit code 128",
        ),
        (
            "no-directory",
            json!({"repository": repository.url()}),
            "run.sh",
            "HEAD is now at",
            "`file_to_run` is run.sh, but the repository is in the directory repo: name repo/run.sh",
        ),
        (
            "no-file",
            json!({"repository": repository.url()}),
            "repo/other.sh",
            "HEAD is now at",
            "the repository has no such file at its checkout point",
        ),
    ] {
        let fleet = api.apply(&git_fleet(name, &git, file, &json!({})));
        let ended = api.wait_status(&api.start(&fleet), "Errored");
        let log = api.output(&ended, "v");
        assert!(log.contains(git_says) && log.contains(reason), "{name}: {log}");
        let vessel = vessel_of(&ended, "v");
        assert!(vessel["reason"].as_str().unwrap().contains(reason), "{vessel:#}");
    }
}

#[test]
fn a_crash_during_a_clone_leaves_nothing_and_clones_again() {
    let mut server = Server::start();
    let journal = server.journal("journal");
    // ssh hangs in the first attempt. In the next one the host is gone.
    let ssh = format!(
        "sh -c '[ $BOATHOOK_ATTEMPT = 1 ] || exit 1; echo up >> {journal}; exec sleep 100000' --"
    );
    let mut fleet = git_fleet(
        "crashes",
        &json!({"repository": "ssh://git@127.0.0.1/srv/repo.git"}),
        "repo/run.sh",
        &json!({}),
    );
    fleet["vessels"]["v"]["source"]["environment"] = json!([
        {"name": "GIT_SSH_COMMAND", "value": ssh},
        {"name": "GIT_SSH_VARIANT", "value": "ssh"},
    ]);
    let run = server.api().start(&server.api().apply(&fleet));
    server.wait_until("git waits for its host", || !journal.lines().is_empty());
    server.crash_and_restart();
    let ended = server.api().wait_status(&run, "Errored");
    assert_eq!(vessel_of(&ended, "v")["attempt"], 2);
    let left = processes::with_environment(&format!("SHIPYARD_FLEET_LOG_ID={run}"));
    assert_eq!(left, Vec::<i32>::new());
}

#[test]
fn a_version_without_an_interpreter_of_its_own_is_accepted_with_a_warning() {
    let server = Server::start();
    let answer = server.api().put(
        "/api/v1/fleets?by=name",
        &json!({
            "name": "hosted", "vessels": {"First": {"source": {
                "type": "CODE", "language": "BASH", "version": "3.9",
                "file": {"name": "script.sh", "content": "echo hi"}, "file_to_run": "script.sh",
            }}},
        }),
    );
    let fleet = answer.expect(201).data();
    let warning = fleet["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("vessels.First.source.version is not looked at"), "{warning}");
    let run =
        server.api().wait_status(&server.api().start(fleet["id"].as_str().unwrap()), "Success");
    assert_eq!(server.api().output(&run, "First"), "hi\n");
}

#[test]
fn references_in_file_and_arguments_become_their_values() {
    let server = Server::start();
    let api = server.api();
    let repository = Repository::new(&server, "repo");
    repository
        .commit("run.sh", r#"printf '<%s>' "$@"; echo; [ "$DB" = hunter2hunter2 ] && echo same"#);
    let git = json!({"repository": repository.url()});
    let mut fleet = git_fleet("refers", &git, "${SHIPYARD_CLONE_LOCATION}/run.sh", &json!({}));
    fleet["vessels"]["v"]["source"]["environment"] = json!([
        {"name": "TARGET", "value": "a b; $(id) ${HOME}"},
        {"name": "DB", "value": "#{PG.PASS}"},
    ]);
    fleet["vessels"]["v"]["source"]["arguments"] = json!([
        {"key": "--to=${TARGET}", "value": "${SHIPYARD_VESSEL_NAME}${NOPE}$TARGET"},
        {"value": "pw=#{PG.PASS}"},
    ]);
    // A secret that is missing refuses the file, and says how to set it.
    let refused = api.put("/api/v1/fleets?by=name", &fleet);
    let (status, why) = (refused.status, refused.error());
    assert_eq!(status, 422, "{why}");
    assert!(
        why.contains("there is no secret `PG.PASS`; set it: boathook secret set PG.PASS"),
        "{why}"
    );
    assert!(why.contains("vessels.v.source."), "{why}");
    let value = Some(("application/octet-stream", b"hunter2hunter2\n".to_vec()));
    api.call("PUT", "/api/v1/secrets/PG.PASS", value).expect(200);
    let applied = api.put("/api/v1/fleets?by=name", &fleet).expect(201).data();
    let warnings = applied["warnings"].to_string();
    assert!(warnings.contains("${NOPE} stays as it is written"), "{warnings}");
    assert!(warnings.contains("`PG.PASS` becomes part of an argument"), "{warnings}");
    let id = applied["id"].as_str().unwrap();
    let used = api.get("/api/v1/secrets").expect(200).data();
    assert_eq!(used[0]["fleets"][0]["name"], "refers", "{used}");
    // A run's own variables count.
    let overrides = json!({"vessel_overrides": [{
        "name": "v", "environment_variable_overrides": {"NOPE": "!"},
    }]});
    for (run, unknown) in [(api.start(id), "${NOPE}"), (api.start_with(id, &overrides), "!")] {
        let ended = api.wait_status(&run, "Success");
        let log = api.output(&ended, "v");
        let arguments = format!("<--to=a b; $(id) ${{HOME}}><v{unknown}$TARGET><pw=••••>\nsame\n");
        assert!(log.ends_with(&arguments), "{log}");
    }
    // A file elsewhere is none of the vessel's.
    fleet["vessels"]["v"]["source"]["file_to_run"] = "${TARGET}".into();
    fleet["vessels"]["v"]["source"]["environment"][0]["value"] = "/bin/ls".into();
    let run = api.start(&api.apply(&fleet));
    let ended = api.wait_status(&run, "Errored");
    let why = vessel_of(&ended, "v")["reason"].as_str().unwrap().to_owned();
    assert!(why.starts_with("`file_to_run` is ${TARGET}, which becomes `/bin/ls`"), "{why}");
}

#[test]
fn a_fleet_file_comes_back_as_it_went_in() {
    let server = Server::start();
    let yaml = r#"
name: hosted
vessels:
  first:
    source:
      type: CODE
      language: PYTHON
      version: "3.10"
      file: {name: a.py, content: "print('a: b')\n\n\n  # tail"}
      file_to_run: a.py
      arguments: [{key: --n, value: 3.10}, {key: --split}, {value: "yes"}]
      environment: [{name: A, value: no}, {name: KEY, value: {secret: KEY}}]
    guardrails: {retry_count: 3, retry_wait: 5m0s, runtime_cutoff: 15m0s, exclude_exit_code_ranges: [2, "3-5"]}
    notifications: {emails: [a@example.com], after_error: true, after_on_demand: false}
  second:
    source:
      type: CODE
      language: BASH
      version: "3.9"
      git: {repository: owner/repo, checkout_point: v1, clone_location: REPO_NAME}
      file_to_run: repo/run.sh
  third: {command: [echo, 0x10], environment: {KEY: {secret: KEY}}}
connections: {first: {second: SUCCESS, third: COMPLETED}}
notifications: {emails: [b@example.com], after_on_demand: true}
"#;
    let file = server.scratch().join("hosted.yaml");
    fs::write(&file, yaml).unwrap();
    let apply = |file: &Path| {
        let (code, stdout, stderr) =
            finish(server.cli(&["fleet", "apply", file.to_str().unwrap()]));
        assert_eq!(code, 0, "{}", redacted(&stderr));
        stdout
    };
    assert!(apply(&file).starts_with("created"));
    let (_, shown, _) = finish(server.cli(&["fleet", "show", "hosted", "--yaml"]));
    fs::write(&file, &shown).unwrap();
    assert!(apply(&file).starts_with("unchanged"), "{shown}");
    let (_, again, _) = finish(server.cli(&["fleet", "show", "hosted", "--yaml"]));
    assert_eq!(again, shown);
    let (_, in_json, _) = finish(server.cli(&["fleet", "show", "hosted", "--yaml", "--json"]));
    let file = file.with_extension("json");
    fs::write(&file, &in_json).unwrap();
    assert!(apply(&file).starts_with("unchanged"), "{in_json}");
    let (_, json, _) = finish(server.cli(&["fleet", "show", "hosted", "--json"]));
    let fleet: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(fleet["version"], 1);
    let first = &fleet["vessels"][0];
    assert_eq!(first["source"]["file"]["content"], "print('a: b')\n\n\n  # tail");
    assert_eq!(first["environment"], json!({"A": "no", "KEY": {"secret": "KEY"}}));
    assert_eq!(first["notifications"]["emails"], json!(["a@example.com"]));
    assert_eq!(fleet["vessels"][1]["source"]["git"]["checkout_point"], "v1");
}

#[test]
fn an_error_in_one_file_of_a_directory_applies_none() {
    let server = Server::start();
    let directory = server.scratch().join("fleets");
    fs::create_dir(&directory).unwrap();
    let write = |name: &str, text: &str| fs::write(directory.join(name), text).unwrap();
    let valid = |name: &str| format!("name: {name}\nvessels: {{v: {{run: x}}}}\n");
    write("a.yaml", &valid("a"));
    write(
        "b.yml",
        "name: b\nvessels:\n  v: {run: x}\ntriggers:\n  schedules: [{how_often: DAILY}]\n",
    );
    write("c.yaml", "name: c\nvessels:\n  v:\n    source: {type: BLUEPRINT, blueprint: x}\n");
    write("d.yaml", "name: d\nvessels:\n  v: {run: [x\n");
    write("e.yaml", &valid("a"));
    write("notes.txt", "not a fleet");
    let apply = || finish(server.cli(&["fleet", "apply", directory.to_str().unwrap()]));
    let (code, stdout, stderr) = apply();
    assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
    for part in [
        "b.yml: line 5, column 15: triggers.schedules[0].at: missing",
        "c.yaml: line 4, column 20: vessels.v.source.type: blueprints are programs of the hosted",
        "d.yaml: line ",
        "e.yaml: describes the same fleet as ",
        "Nothing was applied.",
    ] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    assert_eq!(server.api().get("/api/v1/fleets").expect(200).data(), json!([]));
    for name in ["b.yml", "c.yaml", "d.yaml", "e.yaml"] {
        write(name, &valid(&name[..1]));
    }
    let (code, stdout, stderr) = apply();
    assert_eq!(code, 0, "{stderr}");
    let applied: Vec<_> = stdout.lines().map(|line| line.split_whitespace().nth(1)).collect();
    let names = ["a", "b", "c", "d", "e"].map(|name| format!("default/{name}"));
    assert_eq!(applied, names.iter().map(|name| Some(name.as_str())).collect::<Vec<_>>());
}

#[test]
fn a_branch_goes_before_a_tag_of_its_name() {
    let server = Server::start();
    let api = server.api();
    let repository = Repository::new(&server, "repo");
    repository.commit("run.sh", "echo tagged");
    repository.git(&["tag", "both"]);
    repository.git(&["tag", "-a", "-m", "x", "annotated"]);
    let commit = repository.commit("run.sh", "echo branched");
    repository.git(&["branch", "both"]);
    repository.commit("other", "what is pushed last");
    // `git clone --branch` takes the branch as well.
    let clone = server.scratch().join("clone");
    let (url, place) = (repository.url(), clone.to_str().unwrap().to_owned());
    repository.git(&["clone", "--quiet", "--branch", "both", &url, &place]);
    assert_eq!(fs::read_to_string(clone.join("run.sh")).unwrap(), "echo branched");
    for (point, shown) in [
        ("both", "branched"),
        ("refs/heads/both", "branched"),
        ("refs/tags/both", "tagged"),
        ("annotated", "tagged"),
        (commit.as_str(), "branched"),
    ] {
        let git = json!({"repository": repository.url(), "checkout_point": point});
        let fleet = api.apply(&git_fleet("both", &git, "repo/run.sh", &json!({})));
        let ended = api.wait_status(&api.start(&fleet), "Success");
        let log = api.output(&ended, "v");
        // The search for a branch leaves no line in the log.
        assert_eq!(log.lines().count(), 2, "{point}: {log}");
        assert!(log.ends_with(&format!("\n{shown}\n")), "{point}: {log}");
    }
}

#[test]
fn a_checkout_starts_no_maintenance_in_the_background() {
    let server = Server::start();
    let api = server.api();
    let repository = Repository::new(&server, "repo");
    repository.commit("run.sh", "echo done");
    let git = json!({"repository": repository.url()});
    let mut fleet = git_fleet("maintained", &git, "repo/run.sh", &json!({}));
    fleet["vessels"]["v"]["environment"] = json!({"GIT_TRACE": "1"});
    let ended = api.wait_status(&api.start(&api.apply(&fleet)), "Success");
    let log = api.output(&ended, "v");
    assert!(log.contains("git fetch"), "{log}");
    // What a fetch starts by default, by the version of git.
    for kept_out in ["maintenance run", "gc --auto", "left running"] {
        assert!(!log.contains(kept_out), "{log}");
    }
}

#[test]
fn the_log_names_pointers_of_git_lfs_and_a_script_with_crlf() {
    let server = Server::start();
    let api = server.api();
    let repository = Repository::new(&server, "repo");
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
    repository.commit(".gitattributes", "*.bin filter=lfs -text\n*.txt filter=lfs\n");
    repository.commit("large.bin", pointer);
    repository.commit("whole.txt", "the content\n");
    fs::create_dir(repository.tree.join("sub")).unwrap();
    repository.commit("sub/a b.bin", pointer);
    repository.commit("run.sh", "echo ran");
    repository.commit("crlf.sh", "echo ran #\r\n");
    for (location, directory) in [("REPO_NAME", "repo/"), ("CWD", "")] {
        let git = json!({"repository": repository.url(), "clone_location": location});
        let fleet = git_fleet("large", &git, &format!("{directory}run.sh"), &json!({}));
        let ended = api.wait_status(&api.start(&api.apply(&fleet)), "Success");
        let log = api.output(&ended, "v");
        let told = "boathook: Git LFS has left 2 files as pointers, not as their content, such as large.bin";
        assert!(log.contains(told) && log.contains("git lfs install --system"), "{log}");
        assert!(!log.contains("CRLF") && log.ends_with("\nran\n"), "{log}");
        let fleet = git_fleet("large", &git, &format!("{directory}crlf.sh"), &json!({}));
        let ended = api.wait_status(&api.start(&api.apply(&fleet)), "Success");
        let log = api.output(&ended, "v");
        assert!(log.contains("crlf.sh has CRLF line ends"), "{log}");
    }
}

#[test]
fn a_repository_of_another_user_is_refused_with_a_remedy_that_works() {
    let server = Server::start();
    let api = server.api();
    let repository = Repository::new(&server, "repo");
    repository.commit("run.sh", "echo ran");
    let owner = Command::new("chown").args(["-R", "65534:65534"]).arg(&repository.bare).status();
    if !owner.is_ok_and(|status| status.success()) {
        println!("SKIPPED: only root may give a repository to another user: not tested");
        return;
    }
    let git = json!({"repository": repository.url()});
    let mut fleet = git_fleet("foreign", &git, "repo/run.sh", &json!({}));
    let ended = api.wait_status(&api.start(&api.apply(&fleet)), "Errored");
    let reason = vessel_of(&ended, "v")["reason"].as_str().unwrap().to_owned();
    let setting = format!("--add safe.directory {}", repository.bare.display());
    let advice = format!("run `git config --system {setting}` as root");
    assert!(reason.contains(&advice) && reason.contains("GIT_CONFIG_GLOBAL"), "{reason}");
    // Both remedies work. A variable replaces the machine's own file, so that the test does not
    // change it.
    let file = server.scratch().join("gitconfig");
    let (scope, path) = ("GIT_CONFIG_SYSTEM", file.to_str().unwrap());
    let mut arguments = vec!["config", "--system"];
    arguments.extend(setting.split(' '));
    let done = Command::new("git").args(arguments).env(scope, path).status().unwrap();
    assert!(done.success());
    for variable in [scope, "GIT_CONFIG_GLOBAL"] {
        fleet["vessels"]["v"]["source"]["environment"] = json!([{"name": variable, "value": path}]);
        let ended = api.wait_status(&api.start(&api.apply(&fleet)), "Success");
        assert!(api.output(&ended, "v").ends_with("\nran\n"));
    }
}

/// A file of the shapes that the hosted system publishes, its traps included.
const EXPORTED: &str = "\
name: Exported Fleet
vessels:
    Collect:
\t    source:
            type: BLUEPRINT
            blueprint: HTTP - Download File from URL
            inputs:
                HTTP_FILE_URL: https://example.com/data.csv
        guardrails:
            retry_count: 1
            retry_wait: 0h0m0s
            runtime_cutoff: 4h0m0s
            exclude_exit_code_ranges:
        notifications:
            emails:
            after_error: TRUE
            after_on_demand: False
    Report:
        source:
            type: CODE
            language: BASH
            file:
                name: report.sh
                content: |
                    printf '<%s>' \"$@\"
                    echo \" $SHIPYARD_BLUEPRINT_ID $SHIPYARD_BLUEPRINT_NAME $FLAG $NUMBER\"
            file_to_run: report.sh
            arguments:
                - '--rows': 3.10
                - name: --split
                  value: 'yes'
                - {value: all}
                - --last:
            environment:
                - name: FLAG
                  value: True
                - {name: NUMBER, value: 007}
            packages:
                - name: requests
                  version: '==2.0'
        guardrails:
            exclude_exit_code_ranges:
                - '200'
                - 3-5
connections:
    Collect:
        Report: COMPLETED
triggers:
    schedules:
        - how_often: DAILY
          at: '2:00'
notifications:
    emails:
        - ops@example.com
    after_error: true
";

#[test]
fn an_exported_file_says_what_is_in_its_way_until_it_applies() {
    let server = Server::start();
    let put = |text: &str| {
        let content = ("application/yaml", text.as_bytes().to_vec());
        server.api().call("PUT", "/api/v1/fleets?by=name", Some(content))
    };
    let mut text = EXPORTED.to_owned();
    let error = put(&text).expect(400).error();
    assert!(error.contains("line 4, column 1: a tab cannot indent YAML"), "{error}");
    text = text.replace('\t', "    ");
    assert!(text.contains("\n        source:"), "a tab stood for four spaces");
    let error = put(&text).expect(422).error();
    assert!(
        error.contains("Collect.source.type: blueprints are programs of the hosted"),
        "{error}"
    );
    let (before, rest) = text.split_once("            type: BLUEPRINT\n").unwrap();
    let (_, rest) = rest.split_once("        guardrails:\n").unwrap();
    let own = "            type: CODE\n            language: BASH\n            file: {name: get.sh, content: ':'}\n";
    text = format!("{before}{own}        guardrails:\n{rest}");
    let error = put(&text).expect(422).error();
    assert!(error.contains("`packages` are those of PYTHON and NODE"), "{error}");
    text = text.replace(
        "            packages:\n                - name: requests\n                  version: '==2.0'\n",
        "",
    );
    let applied = put(&text).expect(201).data();
    let api = server.api();
    let run = api.wait_ended(&api.start(applied["id"].as_str().unwrap()));
    assert_eq!(run["status"], "Success");
    let shown = api.output(&run, "Report");
    assert_eq!(shown, "<--rows><3.10><--split><yes><all><--last> bash Bash True 007\n");
}

#[test]
fn an_interpreter_that_is_missing_is_said_when_the_fleet_is_applied() {
    let server = Server::start();
    let code = |version: &str| {
        json!({"name": "old", "vessels": {"v": {"source": {"type": "CODE", "language": "PYTHON",
            "version": version, "file": {"name": "a.py", "content": "print(1)"}}}}})
    };
    let put = |fleet: &Value| {
        let content = ("application/json", fleet.to_string().into_bytes());
        server.api().call("PUT", "/api/v1/fleets?by=name", Some(content)).data()["warnings"].clone()
    };
    let warnings = put(&code("2.1")).to_string();
    assert!(warnings.contains("vessels.v: ") && warnings.contains("python2.1"), "{warnings}");
    let (_, doctor, _) = finish(server.cli(&["doctor"]));
    let said = warnings.split("vessels.v: ").nth(1).unwrap().split(';').next().unwrap();
    let words = doctor.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(said), "{said} in {doctor}");
    assert_eq!(put(&code("3")), Value::Null);
}

#[test]
fn an_archive_beside_the_fleet_file_is_code() {
    let server = Server::start();
    let directory = server.scratch().join("archived");
    fs::create_dir_all(directory.join("project/lib")).unwrap();
    fs::write(directory.join("project/lib/words.sh"), "word=unpacked\n").unwrap();
    fs::write(
        directory.join("project/run.sh"),
        ". ./lib/words.sh; echo $word; ls -l lib/words.sh | cut -c1-10\n",
    )
    .unwrap();
    let packed = Command::new("tar")
        .args(["-czf", "../project.tar.gz", "."])
        .current_dir(directory.join("project"))
        .status()
        .unwrap();
    assert!(packed.success());
    let fleet = directory.join("fleet.yaml");
    let text = "name: archived # kept\nvessels:\n  v:\n    source:\n      type: CODE\n      language: BASH\n      \
                file: {name: project.tar.gz}\n      file_to_run: run.sh\n";
    fs::write(&fleet, text).unwrap();
    let (code, _, stderr) = finish(server.cli(&["fleet", "apply", fleet.to_str().unwrap()]));
    assert_eq!(code, 0, "{stderr}");
    fs::remove_file(directory.join("project.tar.gz")).unwrap();
    let api = server.api();
    let id = api.get("/api/v1/fleets").data()[0]["id"].as_str().unwrap().to_owned();
    for _ in 0..2 {
        let run = api.wait_ended(&api.start(&id));
        assert_eq!(
            (run["status"].as_str(), api.output(&run, "v").as_str()),
            (Some("Success"), "unpacked\n-rw-------\n")
        );
    }
    let (_, yaml, _) = finish(server.cli(&["fleet", "show", "archived", "--yaml"]));
    assert!(yaml.contains("\"archive\": "), "{yaml}");
    assert_eq!(api.apply_yaml(&yaml), id);

    // Without the archive, and with one that leads out.
    let (code, _, stderr) = finish(server.cli(&["fleet", "apply", fleet.to_str().unwrap()]));
    assert!(code == 1 && stderr.contains("cannot read the archive"), "{stderr}");
    let content = ("application/yaml", text.as_bytes().to_vec());
    let error = api.call("PUT", "/api/v1/fleets?by=name", Some(content)).expect(422).error();
    assert!(error.contains("`boathook fleet apply` sends the archive"), "{error}");
    let escaping = "import tarfile, io\nt = tarfile.open('project.tar.gz', 'w:gz')\ni = tarfile.TarInfo('../../x')\n\
                    t.addfile(i, io.BytesIO())\nt.close()\n";
    assert!(
        Command::new("python3")
            .args(["-c", escaping])
            .current_dir(&directory)
            .status()
            .unwrap()
            .success()
    );
    let (code, _, stderr) = finish(server.cli(&["fleet", "apply", fleet.to_str().unwrap()]));
    assert!(code == 1 && stderr.contains("leads out of the run's directory"), "{stderr}");
}

/// A vessel may leave links in the directory that it shares with the next one.
#[test]
fn an_archive_is_unpacked_through_no_link_of_another_vessel() {
    let server = Server::start();
    let outside = server.scratch().join("outside");
    fs::create_dir(&outside).unwrap();
    let make = "import base64, io, zipfile\nb = io.BytesIO()\nz = zipfile.ZipFile(b, 'w')\nz.writestr('lib/x.sh', 'echo x')\n\
                z.close()\nprint(base64.b64encode(b.getvalue()).decode(), end='')\n";
    let made = Command::new("python3").args(["-c", make]).output().unwrap();
    let archive = String::from_utf8(made.stdout).unwrap();
    let api = server.api();
    let fleet = api.apply(&json!({"name": "linked", "vessels": {
        "first": {"run": format!("ln -s {} lib", outside.display())},
        "second": {"source": {"type": "CODE", "language": "BASH", "file_to_run": "lib/x.sh",
            "file": {"name": "a.zip", "archive": archive}}},
    }, "connections": {"first": {"second": "SUCCESS"}}}));
    let run = api.wait_ended(&api.start(&fleet));
    assert_eq!(run["status"], "Errored");
    assert!(api.output(&run, "second").contains("unpack"), "{}", api.output(&run, "second"));
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}
