//! Packages that code needs: installed from an index of the test's own, once for all runs, and never taken
//! for whole when they are not.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::harness::api::{Api, is_final, vessel_of};
use crate::harness::server::finish;
use crate::harness::{Server, wait_for, wait_until};

/// The index of `packages/index.py`. Ends when dropped.
struct Index {
    process: Child,
    directory: PathBuf,
    port: u16,
}

impl Index {
    fn start(directory: &Path) -> Self {
        let directory = directory.join("index");
        fs::create_dir(&directory).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/packages/index.py");
        let mut process = Command::new("/usr/bin/python3")
            .arg(script)
            .arg(&directory)
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is installed");
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { process, directory, port: line.trim().parse().unwrap() }
    }

    /// Variables that lead pip and npm here, and not to caches or waits of their own.
    fn variables(&self) -> Value {
        json!({
            "PIP_INDEX_URL": format!("http://127.0.0.1:{}/simple", self.port),
            "PIP_RETRIES": "0",
            "npm_config_registry": format!("http://127.0.0.1:{}/npm/", self.port),
            "npm_config_fetch_retries": "0",
        })
    }

    /// How often a package was fetched.
    fn fetched(&self) -> usize {
        let requests = fs::read_to_string(self.directory.join("requests")).unwrap_or_default();
        requests.lines().filter(|line| line.starts_with("/files/")).count()
    }

    /// Makes fetches of packages wait, or lets them go on.
    fn hold(&self, holds: bool) {
        let hold = self.directory.join("hold");
        if holds { fs::write(hold, "").unwrap() } else { fs::remove_file(hold).unwrap() }
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Looks for longer than other tests do: `python3 -m venv` takes a minute on a loaded machine.
fn patiently<T>(mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    (0..5).find_map(|_| wait_for(&mut condition))
}

/// The run when it has ended.
#[track_caller]
fn ended(api: &Api, run: &str) -> Value {
    let ended = patiently(|| Some(api.run(run)).filter(is_final));
    ended.unwrap_or_else(|| panic!("the run does not end: {}", api.run(run)))
}

const SAID: &str = "hello from the index\n";

fn vessel(language: &str, name: &str, content: &str, index: &Index) -> Value {
    json!({
        "source": {"type": "CODE", "language": language, "file": {"name": name, "content": content},
            "packages": [{"name": "greet", "version": "==1.0.0"}]},
        "environment": index.variables(),
    })
}

fn python(index: &Index) -> Value {
    vessel("PYTHON", "main.py", "import greet; print(greet.WORD)", index)
}

/// Names of environments below the server's data directory, and of their markers.
fn kept(server: &Server) -> (Vec<String>, Vec<String>) {
    let entries = fs::read_dir(server.data_dir().join("packages")).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    let names = names.filter(|name| !matches!(name.as_str(), "boathook.lock" | "salt"));
    names.partition(|name| !name.contains('.'))
}

#[test]
fn packages_are_installed_once_for_two_vessels_and_for_the_next_server() {
    let mut server = Server::builder().setting("install_packages", "true").start();
    let index = Index::start(server.scratch());
    let mut other = python(&index);
    other["source"]["file"]["name"] = json!("other.py");
    let fleet = json!({"name": "two", "vessels": {"a": python(&index), "b": other}});
    let id = server.api().apply(&fleet);
    let forecast = |server: &Server| {
        let shown = server.api().post(&format!("/api/v1/fleets/{id}/dry-run"), &json!({})).data();
        shown["vessels"][0]["packages"].clone()
    };
    let before = forecast(&server);
    assert_eq!((&before["names"], &before["installed"]), (&json!(["greet==1.0.0"]), &json!(false)));

    let api = server.api();
    let run = ended(&api, &api.start(&id));
    let logs = [api.output(&run, "a"), api.output(&run, "b")];
    assert_eq!(run["status"], "Success", "{logs:?}");
    assert!(logs.iter().all(|log| log.ends_with(SAID)), "{logs:?}");
    let installed = |log: &&String| log.contains("boathook: installing greet==1.0.0\n");
    assert_eq!(logs.iter().filter(installed).count(), 1, "{logs:?}");
    assert_eq!(index.fetched(), 1);
    let (places, markers) = kept(&server);
    assert_eq!((places.len(), markers), (1, vec![format!("{}.json", places[0])]));
    let after = forecast(&server);
    assert_eq!(after["installed"], true);
    let place = server.data_dir().join("packages").join(&places[0]);
    assert_eq!(after["directory"], place.to_str().unwrap());
    let (_, shown, _) = finish(server.cli(&["run", "two", "--dry-run"]));
    assert!(shown.contains("packages") && shown.contains("greet==1.0.0 (installed in "), "{shown}");
    let (_, doctor, _) = finish(server.cli(&["doctor"]));
    let doctor = doctor.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(doctor.contains("/packages: 1 installed, "), "{doctor}");

    server.stop();
    server.start_again();
    let api = server.api();
    let run = ended(&api, &api.start(&id));
    assert_eq!([api.output(&run, "a"), api.output(&run, "b")], [SAID, SAID]);
    assert_eq!(index.fetched(), 1);
}

#[test]
fn a_server_that_is_killed_while_it_installs_leaves_nothing_that_counts_as_whole() {
    let mut server = Server::builder().setting("install_packages", "true").start();
    let index = Index::start(server.scratch());
    index.hold(true);
    let id = server.api().apply(&json!({"name": "killed", "vessels": {"v": python(&index)}}));
    let run = server.api().start(&id);
    assert!(
        patiently(|| (index.fetched() == 1).then_some(())).is_some(),
        "pip fetches the package"
    );
    server.kill();
    let (places, markers) = kept(&server);
    assert_eq!((places.len(), markers.len()), (1, 0));
    fs::write(server.data_dir().join("packages").join(&places[0]).join("half"), "").unwrap();
    index.hold(false);
    server.start_again();
    let api = server.api();
    let ended = ended(&api, &run);
    assert_eq!(ended["status"], "Success", "{}", api.output(&ended, "v"));
    assert!(api.output(&ended, "v").ends_with(SAID));
    assert_eq!(kept(&server).0, places);
    assert!(!server.data_dir().join("packages").join(&places[0]).join("half").exists());
}

#[test]
fn a_stop_and_a_cutoff_end_an_installation_and_leave_nothing_of_it() {
    let server = Server::builder().setting("install_packages", "true").start();
    let index = Index::start(server.scratch());
    index.hold(true);
    let api = server.api();
    let mut cut_off = vessel("NODE", "main.js", "", &index);
    cut_off["guardrails"] = json!({"runtime_cutoff": "1s"});
    let cut_off = api.apply(&json!({"name": "cut off", "vessels": {"v": cut_off}}));
    let run = ended(&api, &api.start(&cut_off));
    assert_eq!(run["status"], "Errored");
    assert_eq!(kept(&server), (Vec::new(), Vec::new()));
    let id = api.apply(
        &json!({"name": "stopped", "vessels": {"v": vessel("NODE", "main.js", "", &index)}}),
    );
    let fetched = index.fetched();
    let run = api.start(&id);
    wait_until("npm fetches the package", || index.fetched() > fetched);
    api.post(&format!("/api/v1/runs/{run}/stop"), &json!({})).expect(200);
    assert_eq!(ended(&api, &run)["status"], "Terminated");
    assert_eq!(kept(&server), (Vec::new(), Vec::new()));
}

#[test]
fn node_finds_its_packages_by_require_and_by_import() {
    let server = Server::builder().setting("install_packages", "true").start();
    let index = Index::start(server.scratch());
    let api = server.api();
    let required = vessel("NODE", "main.js", "console.log(require('greet'))", &index);
    let imported =
        vessel("NODE", "main.mjs", "import word from 'greet'; console.log(word)", &index);
    let id = api
        .apply(&json!({"name": "node", "vessels": {"required": required, "imported": imported},
        "connections": {"required": {"imported": "SUCCESS"}}}));
    let run = ended(&api, &api.start(&id));
    let logs = [api.output(&run, "required"), api.output(&run, "imported")];
    assert_eq!(run["status"], "Success", "{logs:?}");
    assert!(logs[0].ends_with(SAID), "{logs:?}");
    assert_eq!(logs[1], SAID);
    assert_eq!(index.fetched(), 1);

    // Two sets in one directory at the same time would be one.
    let mut other = vessel("NODE", "other.js", "", &index);
    other["source"]["packages"][0]["name"] = json!("other");
    let both = json!({"name": "both", "vessels": {"a": vessel("NODE", "main.js", "", &index), "b": other}});
    let content = ("application/json", both.to_string().into_bytes());
    let error = api.call("PUT", "/api/v1/fleets?by=name", Some(content)).expect(422).error();
    assert!(error.contains("both put their code in `node_modules`"), "{error}");
}

/// A bare repository at `name.git` in the server's scratch directory with these files; its URL.
fn repository(server: &Server, name: &str, files: &[(&str, &str)]) -> String {
    let tree = server.scratch().join(name);
    fs::create_dir(&tree).unwrap();
    files.iter().for_each(|(file, content)| fs::write(tree.join(file), content).unwrap());
    committed(&tree)
}

/// The URL of a repository of the files in `tree`.
fn committed(tree: &Path) -> String {
    let git = "git -c init.defaultBranch=main init -q . && git add . && \
               git -c user.name=t -c user.email=t@example.com commit -q -m x";
    let done = Command::new("/bin/sh").args(["-c", git]).current_dir(tree).status().unwrap();
    assert!(done.success());
    format!("file://{}/.git", tree.display())
}

#[test]
fn packages_of_a_repository_are_installed_where_that_is_allowed() {
    let mut server = Server::builder().setting("install_packages", "true").start();
    let index = Index::start(server.scratch());
    let python = repository(
        &server,
        "py",
        &[
            ("requirements.txt", "-r base.txt\n"),
            ("base.txt", "greet\n"),
            ("main.py", "import greet; print(greet.WORD)"),
        ],
    );
    let node = repository(
        &server,
        "js",
        &[
            (
                "package.json",
                r#"{"scripts": {"postinstall": "exit 1"}, "dependencies": {"greet": "^1"}}"#,
            ),
            ("main.js", "console.log(require('greet'))"),
        ],
    );
    let local = repository(
        &server,
        "local",
        &[("requirements.txt", "greet\n-e .\n"), ("main.py", "print('started')")],
    );
    let vessel = |language: &str, url: &str, file: &str| {
        json!({"source": {"type": "CODE", "language": language, "git": {"repository": url},
            "file_to_run": file}, "environment": index.variables()})
    };
    let api = server.api();
    let id = api.apply(&json!({"name": "cloned", "vessels": {
        "python": vessel("PYTHON", &python, "py/main.py"),
        "node": vessel("NODE", &node, "js/main.js"),
        "local": vessel("PYTHON", &local, "local/main.py"),
    }}));
    let run = ended(&api, &api.start(&id));
    for name in ["python", "node"] {
        let log = api.output(&run, name);
        assert!(log.ends_with(SAID), "{name}: {log}");
    }
    let log = api.output(&run, "local");
    assert!(log.contains("line 2 of requirements.txt: installs from the code itself"), "{log}");
    assert!(!log.contains("-e ."), "{log}");

    // Elsewhere the vessel starts without, and its log says so.
    server.stop();
    let server = Server::start();
    let api = server.api();
    let plain = repository(
        &server,
        "plain",
        &[("requirements.txt", "greet\n"), ("main.py", "print('started')")],
    );
    let id = api.apply(
        &json!({"name": "plain", "vessels": {"v": vessel("PYTHON", &plain, "plain/main.py")}}),
    );
    let run = ended(&api, &api.start(&id));
    let log = api.output(&run, "v");
    assert_eq!(run["status"], "Success", "{log}");
    assert!(log.contains("boathook: requirements.txt is not installed: this server"), "{log}");
    assert!(log.contains("`install_packages = true`") && log.ends_with("started\n"), "{log}");
}

#[test]
fn no_file_outside_of_the_code_is_read_through_a_link() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("shadow"), "root:$6$words\n").unwrap();
    for is_allowed in ["true", "false"] {
        let server = Server::builder().setting("install_packages", is_allowed).start();
        let api = server.api();
        let tree = server.scratch().join("linked");
        fs::create_dir(&tree).unwrap();
        std::os::unix::fs::symlink(outside.path(), tree.join("sub")).unwrap();
        let files =
            [("requirements.txt", "greet\n-r sub/shadow\n"), ("main.py", "print('started')")];
        files.iter().for_each(|(file, content)| fs::write(tree.join(file), content).unwrap());
        let url = committed(&tree);
        let id = api.apply(&json!({"name": "linked", "vessels": {"v": {"source": {"type": "CODE",
            "language": "PYTHON", "git": {"repository": url}, "file_to_run": "linked/main.py"}}}}));
        let run = ended(&api, &api.start(&id));
        let log = api.output(&run, "v");
        let expected = match is_allowed {
            "true" => "leads to sub/shadow, which is no plain file of the code",
            _ => "boathook: requirements.txt is not installed: this server",
        };
        assert!(log.contains(expected) && !log.contains("words"), "{log}");
        let reason = vessel_of(&run, "v").to_string();
        assert!(!reason.contains("words"), "{reason}");
    }
}

#[test]
fn settings_that_a_run_leaves_in_its_directory_do_not_reach_the_package_managers() {
    let server = Server::builder().setting("install_packages", "true").start();
    let index = Index::start(server.scratch());
    let api = server.api();
    let settings = "mkdir -p .config/pip && printf '[global]\\nno-index = true\\n' > .config/pip/pip.conf\n\
                    echo offline=true > .npmrc";
    let node = vessel("NODE", "main.js", "console.log(require('greet'))", &index);
    let id = api.apply(&json!({"name": "left", "vessels": {"settings": {"run": settings},
        "python": python(&index), "node": node},
        "connections": {"settings": {"python": "SUCCESS", "node": "SUCCESS"}}}));
    let run = ended(&api, &api.start(&id));
    let logs = [api.output(&run, "python"), api.output(&run, "node")];
    assert!(logs.iter().all(|log| log.ends_with(SAID)), "{logs:?}");
    let (places, _) = kept(&server);
    assert_eq!(places.len(), 2);
    for place in places {
        let scratch = server.data_dir().join("packages").join(place).join(".installing");
        assert!(!scratch.exists());
    }
}

#[test]
fn nothing_is_installed_for_a_vessel_with_a_runner() {
    let server = Server::builder().setting("install_packages", "true").start();
    let index = Index::start(server.scratch());
    let api = server.api();
    let mut named = python(&index);
    named["runner"] = json!(["env"]);
    let content = json!({"name": "named", "vessels": {"v": named}}).to_string().into_bytes();
    let content = ("application/json", content);
    let error = api.call("PUT", "/api/v1/fleets?by=name", Some(content)).expect(422).error();
    assert!(error.contains("vessels.v.source.packages: the vessel has a runner"), "{error}");

    let files = [("requirements.txt", "greet\n"), ("main.py", "print('started')")];
    let url = repository(&server, "remote", &files);
    let id = api.apply(&json!({"name": "remote", "runner": ["env"], "vessels": {"v": {"source":
        {"type": "CODE", "language": "PYTHON", "git": {"repository": url},
            "file_to_run": "remote/main.py"}}}}));
    let run = ended(&api, &api.start(&id));
    let log = api.output(&run, "v");
    assert_eq!(run["status"], "Success", "{log}");
    let said = "boathook: requirements.txt is not installed: the vessel has a runner";
    assert!(log.contains(said) && log.ends_with("started\n"), "{log}");
    // A fleet from before the operator set a default runner.
    let data_dir = server.scratch().join("other");
    let builder = Server::builder().data_dir(&data_dir).setting("install_packages", "true");
    let mut before = builder.start();
    let id = before.api().apply(&json!({"name": "before", "vessels": {"v": python(&index)}}));
    before.stop();
    let config = server.scratch().join("runner.toml");
    fs::write(&config, "default_runner = \"one\"\n[runners.one]\ncommand = [\"env\"]\n").unwrap();
    let builder = Server::builder().data_dir(&data_dir).setting("install_packages", "true");
    let later = builder.setting("config", config.to_str().unwrap()).start();
    let run = ended(&later.api(), &later.api().start(&id));
    let reason = vessel_of(&run, "v")["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("packages: the vessel has a runner"), "{reason}");
    let (_, doctor, _) = finish(later.cli(&["doctor"]));
    let doctor = doctor.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(doctor.contains("its packages are not installed, as it has a runner"), "{doctor}");
    assert_eq!(index.fetched(), 0);
    assert_eq!(kept(&server).0, Vec::<String>::new());
}

#[test]
fn packages_of_a_fleet_are_refused_where_the_operator_does_not_allow_them() {
    let server = Server::start();
    let index = Index::start(server.scratch());
    let fleet = json!({"name": "refused", "vessels": {"v": python(&index)}});
    let put = |server: &Server| {
        let content = ("application/json", fleet.to_string().into_bytes());
        server.api().call("PUT", "/api/v1/fleets?by=name", Some(content))
    };
    let error = put(&server).expect(422).error();
    assert!(
        error.contains("vessels.v.source.packages: this server installs no packages"),
        "{error}"
    );
    assert!(error.contains("`install_packages = true`"), "{error}");

    // A fleet from before the operator changed that.
    let data_dir = server.scratch().join("other");
    let mut allowed =
        Server::builder().data_dir(&data_dir).setting("install_packages", "true").start();
    let id = put(&allowed).expect(201).data()["id"].as_str().unwrap().to_owned();
    allowed.stop();
    let later = Server::builder().data_dir(&data_dir).start();
    let api = later.api();
    let run = ended(&api, &api.start(&id));
    let reason = vessel_of(&run, "v")["reason"].as_str().unwrap();
    assert!(reason.contains("packages: this server installs no packages"), "{reason}");
}

#[test]
fn what_the_machine_lacks_is_said_at_apply_and_not_blamed_on_the_vessel() {
    let server = Server::builder().setting("install_packages", "true").start();
    let index = Index::start(server.scratch());
    let api = server.api();
    let put = |fleet: &Value| {
        let content = ("application/json", fleet.to_string().into_bytes());
        api.call("PUT", "/api/v1/fleets?by=name", Some(content)).data()
    };
    let reason_of = |applied: &Value| {
        let run = ended(&api, &api.start(applied["id"].as_str().unwrap()));
        assert_eq!(run["status"], "Errored");
        vessel_of(&run, "v")["reason"].as_str().unwrap().to_owned()
    };
    // No npm beside node.
    let only_node = server.scratch().join("bin");
    fs::create_dir(&only_node).unwrap();
    let node = Command::new("node").args(["-p", "process.execPath"]).output().unwrap();
    let node = String::from_utf8(node.stdout).unwrap();
    std::os::unix::fs::symlink(node.trim(), only_node.join("node")).unwrap();
    let mut lacking = vessel("NODE", "main.js", "", &index);
    lacking["environment"]["PATH"] = json!(only_node);
    let applied = put(&json!({"name": "npm", "vessels": {"v": lacking}}));
    let warnings = applied["warnings"].to_string();
    assert!(warnings.contains("vessels.v: this machine lacks npm"), "{warnings}");
    assert!(reason_of(&applied).contains("this machine lacks npm"));
    // No way to the index.
    let mut alone = vessel("NODE", "main.js", "", &index);
    alone["environment"]["npm_config_registry"] = json!("http://127.0.0.1:9/");
    let applied = put(&json!({"name": "alone", "vessels": {"v": alone}}));
    assert_eq!(applied["warnings"], Value::Null);
    let reason = reason_of(&applied);
    assert!(
        reason.contains("The vessel is not at fault: this machine could not reach"),
        "{reason}"
    );
    assert_eq!(kept(&server), (Vec::new(), Vec::new()));
    // A package of the system.
    let system = |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|name| json!({"name": name})).collect();
        json!({"name": "system", "vessels": {"v": {"source": {"type": "CODE", "language": "BASH",
            "file": {"name": "a.sh", "content": "echo started"}, "system_packages": names}}}})
    };
    let said = "system_packages: not installed on this machine: boathook-none";
    let file = serde_json::to_vec(&system(&["dpkg", "boathook-none"])).unwrap();
    let check = "/api/v1/fleets/check?by=name";
    let checked = api.call("POST", check, Some(("application/yaml", file))).expect(200).data();
    assert!(checked["warnings"].to_string().contains(said), "{checked}");
    let applied = put(&system(&["dpkg", "boathook-none"]));
    let warnings = applied["warnings"].to_string();
    assert!(
        warnings.contains(said) && warnings.contains("apt-get install boathook-none"),
        "{warnings}"
    );
    assert!(reason_of(&applied).contains(said));
    let (_, doctor, _) = finish(server.cli(&["doctor"]));
    let doctor = doctor.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(doctor.contains("not installed on this machine: boathook-none"), "{doctor}");
    let applied = put(&system(&["dpkg"]));
    assert_eq!(applied["warnings"], Value::Null);
    let run = ended(&api, &api.start(applied["id"].as_str().unwrap()));
    assert_eq!(api.output(&run, "v"), "started\n");
}
