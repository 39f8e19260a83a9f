//! Files as editors of every system save them: with a byte order mark, with CRLF, as UTF-16 or UTF-32.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::certificate::Certificate;
use crate::harness::server::{BOATHOOK, finish};
use crate::harness::{Server, redacted};

const MARK: &str = "\u{feff}";

fn utf16(text: &str) -> Vec<u8> {
    format!("{MARK}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn utf32(text: &str) -> Vec<u8> {
    format!("{MARK}{text}").chars().map(u32::from).flat_map(u32::to_le_bytes).collect()
}

/// Writes `content` as `name` of the server's scratch directory.
fn write(server: &Server, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = server.scratch().join(name);
    fs::write(&path, content).unwrap();
    path.display().to_string()
}

#[track_caller]
fn succeed(server: &Server, arguments: &[&str]) -> (String, String) {
    let (code, stdout, stderr) = finish(server.cli(arguments));
    assert_eq!(code, 0, "{arguments:?}: {}", redacted(&stderr));
    (stdout, stderr)
}

#[track_caller]
fn fail(server: &Server, arguments: &[&str]) -> String {
    let (code, _, stderr) = finish(server.cli(arguments));
    assert_eq!(code, 1, "{arguments:?}: {}", redacted(&stderr));
    stderr
}

fn fleet(server: &Server, name: &str) -> Value {
    let (stdout, _) = succeed(server, &["fleet", "show", name, "--json"]);
    serde_json::from_str(&stdout).unwrap()
}

#[test]
fn a_mark_is_skipped_in_fleets_and_overrides_and_other_encodings_are_named() {
    let server = Server::start();
    let yaml = "name: marked\r\nvessels:\r\n  v: {run: 'echo $A', environment: {A: x}}\r\n";
    let in_json =
        r#"{"name": "marked", "vessels": {"v": {"run": "echo $A", "environment": {"A": "x"}}}}"#;
    for (name, text) in [("a.yaml", yaml), ("b.json", in_json), ("c.YML", in_json), ("d", in_json)]
    {
        let file = write(&server, name, format!("{MARK}{text}"));
        succeed(&server, &["fleet", "apply", &file]);
        assert_eq!(fleet(&server, "marked")["version"], 1, "{name}");
        let file = write(&server, name, utf16(text));
        let stderr = fail(&server, &["fleet", "apply", &file]);
        assert!(stderr.contains(name) && stderr.contains("it is UTF-16"), "{stderr}");
        let file = write(&server, name, utf32(text));
        let stderr = fail(&server, &["fleet", "apply", &file]);
        assert!(stderr.contains(name) && stderr.contains("it is UTF-32"), "{stderr}");
    }
    let overrides = json!({"vessel_overrides": [
        {"name": "v", "environment_variable_overrides": {"A": "overridden"}},
    ]});
    let file = write(&server, "overrides.json", format!("{MARK}{overrides}"));
    let (stdout, _) = succeed(&server, &["run", "marked", "--overrides", &file, "--follow"]);
    assert!(stdout.contains("overridden"), "{stdout}");
    let file = write(&server, "overrides.json", utf16(&overrides.to_string()));
    let stderr = fail(&server, &["run", "marked", "--overrides", &file]);
    assert!(stderr.contains("it is UTF-16"), "{stderr}");

    // As `curl --data-binary @FILE` sends a file.
    let send = |content_type: &str, body: Vec<u8>| {
        server.api().call("PUT", "/api/v1/fleets?by=name", Some((content_type, body)))
    };
    for (content_type, text) in
        [("application/json", in_json), ("application/yaml", in_json), ("application/yaml", yaml)]
    {
        let answer = send(content_type, format!("{MARK}{text}").into_bytes()).expect(200);
        assert_eq!(answer.data()["version"], 1);
        let answer = send(content_type, utf16(text)).expect(400);
        assert!(answer.text().contains("it is UTF-16"), "{}", answer.text());
    }
}

#[test]
fn json_in_a_file_of_any_name_is_read_as_json() {
    let server = Server::start();
    let script = r#"printf '%s' \"\ud83d\ude00\/\u00e9\""#;
    let text = format!(r#"{{"name": "smile", "vessels": {{"v": {{"run": "{script}"}}}}}}"#);
    for name in ["smile.yaml", "smile.yml", "smile.json", "smile.txt"] {
        let file = write(&server, name, &text);
        succeed(&server, &["fleet", "apply", &file]);
    }
    let mut stdin = server.cli(&["fleet", "apply", "-"]);
    stdin.stdin(fs::File::open(server.scratch().join("smile.txt")).unwrap());
    assert_eq!(finish(stdin).0, 0);
    assert_eq!(fleet(&server, "smile")["version"], 1);
    let (stdout, _) = succeed(&server, &["run", "smile", "--follow"]);
    assert!(stdout.contains("😀/é"), "{stdout}");
    // YAML in one line may begin like JSON, and a mistake in JSON is told as one.
    let file = write(&server, "flow.yaml", "{\"name\": flow, vessels: {v: {run: x}}}\n");
    succeed(&server, &["fleet", "apply", &file]);
    let file = write(&server, "wrong.yaml", "{\"name\": \"a\\ud83d\", \"vessels\": {}}");
    let stderr = fail(&server, &["fleet", "apply", &file]);
    assert!(stderr.contains("line 1") && stderr.contains("escape"), "{stderr}");
}

#[test]
fn a_mark_is_skipped_in_settings_tokens_certificates_and_keys() {
    let scratch = tempfile::tempdir().unwrap();
    let certificate = Certificate::make(scratch.path(), "marked");
    for path in [&certificate.certificate, &certificate.key] {
        let text = fs::read_to_string(path).unwrap();
        fs::write(path, format!("{MARK}{}", text.replace('\n', "\r\n"))).unwrap();
    }
    let data = scratch.path().join("data");
    fs::create_dir(&data).unwrap();
    let settings = format!(
        "tls_cert = {:?}\r\ntls_key = {:?}\r\nmax_followers = 7\r\n",
        certificate.certificate, certificate.key
    );
    fs::write(data.join("boathook.toml"), format!("{MARK}{settings}")).unwrap();
    let mut server = Server::builder().data_dir(&data).start();
    assert!(server.is_tls(), "the settings count");

    // The admin token, by --token-file.
    let token = server.token();
    let url = format!("http://{}", server.admin());
    let with_token = |content: &[u8]| {
        let file = scratch.path().join("token");
        fs::write(&file, content).unwrap();
        let mut list = Command::new(BOATHOOK);
        list.args(["fleet", "list", "--url", &url, "--token-file"]).arg(file);
        finish(list)
    };
    let (code, _, stderr) = with_token(format!("{MARK}{token}\r\n").as_bytes());
    assert_eq!(code, 0, "{}", redacted(&stderr));
    let (code, _, stderr) = with_token(&utf16(&token));
    assert!(code == 1 && stderr.contains("UTF-16"), "{}", redacted(&stderr));
    server.stop();

    fs::write(data.join("boathook.toml"), utf16(&settings)).unwrap();
    assert_names_utf16(&data);
    fs::write(data.join("boathook.toml"), settings).unwrap();
    for path in [&certificate.certificate, &certificate.key] {
        let text = fs::read_to_string(path).unwrap();
        fs::write(path, utf16(text.trim_start_matches(MARK))).unwrap();
        assert_names_utf16(&data);
        fs::write(path, text).unwrap();
    }
    // What a power cut can leave of the server's own file is replaced.
    fs::write(data.join("admin.token"), b"\xff\xfe\0\0").unwrap();
    server.start_again();
    succeed(&server, &["fleet", "list"]);
}

/// A server on `data` does not start, and says why.
#[track_caller]
fn assert_names_utf16(data: &Path) {
    let mut serve = Command::new(BOATHOOK);
    serve.args(["serve", "--hooks-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    let (code, _, stderr) = finish({
        serve.arg("--data-dir").arg(data);
        serve
    });
    assert!(code != 0 && stderr.contains("UTF-16"), "{stderr}");
}

#[test]
fn scripts_with_crlf_run_as_they_were_meant() {
    let server = Server::start();
    let api = server.api();
    let script = "set -e\r\nif true; then\r\n  echo begun\r\nfi\r\nfalse\r\necho 'not reached'\r\n";
    let source = |language: &str, name: &str, content: &str| {
        json!({"source": {"type": "CODE", "language": language,
            "file": {"name": name, "content": content}}})
    };
    let marked = format!("{MARK}{script}");
    for (name, program) in [
        ("run", json!({"run": script})),
        ("run-marked", json!({"run": marked})),
        ("bash", source("BASH", "main.sh", script)),
        ("bash-marked", source("BASH", "main.sh", &marked)),
    ] {
        let fleet = api.apply(&json!({"name": name, "vessels": {"v": program}}));
        let ended = api.wait_status(&api.start(&fleet), "Errored");
        assert_eq!(api.output(&ended, "v"), "begun\n", "{name}");
        assert_eq!(ended["vessels"][0]["exit_code"], 1, "{name}");
    }
    // A file is run by its first line as well, and no language sees another text.
    let tool = "#!/usr/bin/env bash\r\necho \"ran $0\"\r\n";
    let fleet = api.apply(&json!({"name": "first-line", "vessels": {
        "bring": source("BASH", "tool", tool),
        "use": {"command": ["./tool"]},
    }, "connections": {"bring": {"use": "SUCCESS"}}}));
    let ended = api.wait_status(&api.start(&fleet), "Success");
    assert!(api.output(&ended, "use").ends_with("/tool\n"), "{ended:#}");
    // By YAML too, whose double quotes keep the CR.
    let fleet = api
        .apply_yaml("name: yaml\nvessels: {v: {run: \"set -e\\r\\nfalse\\r\\necho x\\r\\n\"}}\n");
    api.wait_status(&api.start(&fleet), "Errored");
    // What is stored stays as it was written.
    let shown = api.get(&format!("/api/v1/fleets/{fleet}")).data();
    assert_eq!(shown["vessels"][0]["run"], "set -e\r\nfalse\r\necho x\r\n");
    // Arguments are passed on byte for byte, so that their author is told.
    let answer = api.put(
        "/api/v1/fleets?by=name",
        &json!({"name": "argv", "vessels": {"v": {"command": ["sh", "-c", script]}}}),
    );
    let warning = answer.data()["warnings"][0].as_str().unwrap().to_owned();
    assert!(warning.starts_with("vessels.v.command has CRLF line ends"), "{warning}");
}

#[test]
fn a_directory_is_applied_without_hidden_files_and_says_what_it_left_out() {
    let server = Server::start();
    let directory = server.scratch().join("fleets");
    fs::create_dir_all(directory.join("sub")).unwrap();
    let valid = |name: &str| format!("name: {name}\nvessels: {{v: {{run: x}}}}\n");
    for name in ["a.YAML", "b.Yml", "c.yaml"] {
        fs::write(directory.join(name), valid(&name[..1])).unwrap();
    }
    let in_json = r#"{"name": "d", "vessels": {"v": {"run": "x"}}}"#;
    fs::write(directory.join("d.JSON"), in_json).unwrap();
    for name in [".hidden.yaml", "._c.yaml", "notes.txt", "c.yaml~"] {
        fs::write(directory.join(name), "not: [a fleet").unwrap();
    }
    let (stdout, stderr) = succeed(&server, &["fleet", "apply", directory.to_str().unwrap()]);
    let applied: Vec<_> =
        stdout.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(applied, ["default/a", "default/b", "default/c", "default/d"], "{stdout}");
    let expected =
        "._c.yaml (hidden), .hidden.yaml (hidden), c.yaml~, notes.txt, sub (a directory)";
    assert!(stderr.contains("Left out of ") && stderr.contains(expected), "{stderr}");
    // A hidden file that is named is meant.
    fs::write(directory.join(".hidden.yaml"), valid("hidden")).unwrap();
    let (stdout, stderr) =
        succeed(&server, &["fleet", "apply", directory.join(".hidden.yaml").to_str().unwrap()]);
    assert!(stdout.contains("default/hidden") && !stderr.contains("Left out"), "{stderr}");
}

#[test]
fn words_and_empty_values_of_yaml_mean_what_they_say() {
    let server = Server::start();
    let file = write(
        &server,
        "told.yaml",
        "name: told\nvessels:\n  v:\n    run: x\n    notifications:\n      emails:\nnotifications:\n  \
         emails:\n  after_error: True\n  after_on_demand: FALSE\n",
    );
    succeed(&server, &["fleet", "apply", &file]);
    let told = fleet(&server, "told");
    let expected = json!({"emails": [], "after_error": true});
    assert_eq!(told["notifications"], expected);
    assert_eq!(told["vessels"][0]["notifications"]["emails"], json!([]));
    let (shown, _) = succeed(&server, &["fleet", "show", "told", "--yaml"]);
    let file = write(&server, "shown.yaml", shown);
    succeed(&server, &["fleet", "apply", &file]);
    assert_eq!(fleet(&server, "told")["version"], 1);
}
