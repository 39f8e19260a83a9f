//! Secrets that the server keeps: set, listed and removed by the API and the command line, and shown by
//! neither.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::server::{back_up, finish, read_until, restore_command};
use crate::harness::{Api, Server, sha256};

const FIRST: &str = "correct-horse-battery-staple";
const SECOND: &str = "another-horse-of-this-stable";

/// PUTs `value` as the secret `name`; the status and what went wrong.
fn put(api: &Api, name: &str, value: &[u8]) -> (u16, String) {
    let content = Some(("application/octet-stream", value.to_vec()));
    let answer = api.call("PUT", &format!("/api/v1/secrets/{name}"), content);
    (answer.status, if answer.status == 200 { String::new() } else { answer.error() })
}

fn set(api: &Api, name: &str, value: &str) {
    assert_eq!(put(api, name, value.as_bytes()), (200, String::new()), "{name}");
}

fn names(api: &Api, query: &str) -> Vec<String> {
    let listed = api.get(&format!("/api/v1/secrets{query}")).expect(200).data();
    let names = listed.as_array().unwrap().iter();
    names.map(|secret| secret["name"].as_str().unwrap().to_owned()).collect()
}

/// A fleet whose vessel prints the SHA-256 of the secret `API_KEY` and then the secret.
fn fleet(name: &str) -> Value {
    json!({"name": name, "vessels": {"v": {
        "run": "printf %s \"$KEY\" | sha256sum | cut -c -64; echo \"$KEY\"",
        "environment": {"KEY": {"secret": "API_KEY"}},
    }}})
}

/// Runs `command` with `input` on its standard input: exit code, stdout, stderr.
fn fed(mut command: Command, input: &[u8]) -> (i32, String, String) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that refuses its arguments reads nothing.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// `text` without the line breaks of narrow terminals.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The files below `directory`, without those of secrets, that hold `needle`.
fn holders(directory: &Path, needle: &str) -> Vec<String> {
    let mut found = Vec::new();
    for path in fs::read_dir(directory).unwrap().flatten().map(|entry| entry.path()) {
        if path.is_dir() && !path.ends_with("secrets") {
            found.extend(holders(&path, needle));
        } else if let Ok(bytes) = fs::read(&path)
            && bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
        {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn a_secret_reaches_vessels_at_once_and_is_shown_by_nothing() {
    let mut server = Server::builder().setting("log", "trace").start();
    let api = server.api();
    let id = api.apply(&fleet("keeps"));
    let ended = api.wait_status(&api.start(&id), "Errored");
    let told = api.output(&ended, "v");
    assert!(told.contains("`boathook secret set API_KEY`"), "{told}");

    let mut said = String::new();
    for (value, input) in [(FIRST, format!("{FIRST}\n")), (SECOND, format!("\u{feff}{SECOND}\r\n"))]
    {
        let (code, out, err) = fed(server.cli(&["secret", "set", "API_KEY"]), input.as_bytes());
        assert_eq!((code, out.as_str()), (0, "set  API_KEY\n"), "{err}");
        assert!(err.contains("In use by keeps"), "{err}");
        let ended = api.wait_status(&api.start(&id), "Success");
        let expected = format!("{}\n••••\n", sha256(value.as_bytes()));
        assert_eq!(api.output(&ended, "v"), expected);
        said.push_str(&err);
    }
    let directory = server.data_dir().join("secrets");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&directory), mode(&directory.join("API_KEY"))), (0o700, 0o600));
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "nothing but the value is left");

    let listed = api.get("/api/v1/secrets").expect(200);
    let secret = &listed.data()[0];
    assert_eq!((&secret["name"], &secret["read_only"]), (&json!("API_KEY"), &json!(false)));
    assert_eq!(secret["fleets"][0]["name"], "keeps");
    assert!(secret["set_at"].as_str().unwrap().ends_with('Z'), "{secret}");
    for arguments in [&["secret", "list"][..], &["secret", "list", "--json"], &["doctor"]] {
        let (code, out, err) = finish(server.cli(arguments));
        assert_eq!(code, 0, "{out}{err}");
        said.push_str(&out);
        said.push_str(&err);
    }
    assert!(said.contains("API_KEY"), "{said}");
    said.push_str(&listed.text());
    said.push_str(&api.get("/metrics").expect(200).text());
    for file in ["cmdline", "environ"] {
        let bytes = fs::read(format!("/proc/{}/{file}", server.pid())).unwrap();
        said.push_str(&String::from_utf8_lossy(&bytes));
    }
    let backup = back_up(&server, "all.backup");
    server.stop();
    said.push_str(&server.log());
    for value in [FIRST, SECOND] {
        assert!(!said.contains(value), "a secret is shown");
        assert_eq!(holders(server.data_dir(), value), [""; 0]);
        assert_eq!(holders(backup.parent().unwrap(), value), [""; 0]);
    }
}

#[test]
fn a_generated_secret_is_printed_alone_and_once() {
    let server = Server::start();
    let api = server.api();
    let (code, value, err) = finish(server.cli(&["secret", "set", "HOOK", "--generate"]));
    assert_eq!(code, 0, "{err}");
    let value = value.strip_suffix('\n').unwrap();
    assert_eq!(data_encoding::BASE64URL_NOPAD.decode(value.as_bytes()).unwrap().len(), 32);
    assert!(err.contains("Nothing shows it again") && !err.contains(value), "what comes next");
    assert_eq!(fs::read_to_string(server.data_dir().join("secrets/HOOK")).unwrap(), value);
    let (_, other, _) = finish(server.cli(&["secret", "set", "HOOK", "--generate", "--json"]));
    let other: Value = serde_json::from_str(&other).unwrap();
    assert_eq!(other["name"], "HOOK");
    assert!(other["value"].as_str().unwrap().len() == 43 && other["value"] != value);
    assert_eq!(names(&api, ""), ["HOOK"]);
}

#[test]
fn names_and_values_that_cannot_be_used_are_refused_with_words() {
    let server = Server::start();
    let api = server.api();
    let long = "n".repeat(64);
    for name in ["A", "db.password", "-x", ".hidden", "a..", &long] {
        set(&api, name, "value");
    }
    let (longer, letters) = (format!("{long}n"), "letters, digits");
    for (name, status, why) in [
        ("a%2Fb", 422, letters),
        ("a~new", 422, letters),
        ("%2E%2E", 422, letters),
        ("%C3%A9", 422, letters),
        (&longer, 422, letters),
        ("admin.token", 422, "the admin token"),
    ] {
        let (refused, message) = put(&api, name, b"value");
        assert_eq!(refused, status, "{name}: {message}");
        assert!(message.contains(why), "{name}: {message}");
    }
    for (value, status, why) in [
        (vec![b'v'; 64 * 1024], 200, ""),
        (vec![b'v'; 64 * 1024 + 1], 413, ""),
        (Vec::new(), 422, "it is empty"),
        (b"\n".to_vec(), 422, "it is empty"),
        (b"\xef\xbb\xbf\r\n".to_vec(), 422, "it is empty"),
        (b"a\0b".to_vec(), 422, "contains a NUL"),
        (b"\xff\xfe".to_vec(), 422, "UTF-16"),
        (b"a\xff".to_vec(), 422, "not text in UTF-8"),
    ] {
        let (answered, message) = put(&api, "A", &value);
        assert_eq!(answered, status, "{message}");
        assert!(message.contains(why), "{message}");
    }
    let kept = fs::metadata(server.data_dir().join("secrets/A")).unwrap().len();
    assert_eq!(kept, 64 * 1024, "a refused value changes nothing");
    api.delete("/api/v1/secrets/NONE").expect(404);
    api.delete("/api/v1/secrets/a~new").expect(404);
    api.get("/api/v1/secrets/A").expect(405);

    // The command line repeats no value that it refuses.
    let (code, _, err) = finish(server.cli(&["secret", "set", "A", "opensesame"]));
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("standard input") && !err.contains("opensesame"), "{err}");
    let (code, _, err) = finish(server.cli(&["secret", "set", ".."]));
    assert!(code == 2 && err.contains(letters), "{err}");
    let (code, _, err) = fed(server.cli(&["secret", "set", "A"]), &vec![b'v'; 1 << 20]);
    assert!(code == 1 && err.contains("longer than 64 KiB"), "{err}");
    let (code, _, err) = finish(server.cli(&["secret", "set", "A"]));
    assert!(code == 1 && err.contains("it is empty"), "{err}");
}

#[test]
fn a_secret_in_use_is_removed_by_force_alone() {
    let server = Server::start();
    let api = server.api();
    api.apply(&fleet("uses"));
    api.apply(&json!({"name": "tells", "project": "web", "vessels": {"v": {"run": "true"}},
        "notify": [{"url": "http://localhost/", "secret": "SIGNS", "on": ["ERRORED"]}]}));
    for name in ["API_KEY", "FREE", "SIGNS"] {
        set(&api, name, "value-of-it");
    }
    assert_eq!(names(&api, "?limit=2"), ["API_KEY", "FREE"]);
    assert_eq!(api.get("/api/v1/secrets?limit=2").header("x-next-before"), Some("FREE"));
    assert_eq!(names(&api, "?limit=2&before=FREE"), ["SIGNS"]);
    assert_eq!(names(&api, "?missing=true"), [""; 0]);
    let (code, out, _) = finish(server.cli(&["secret", "list"]));
    let used = |name: &str| out.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert_eq!(code, 0);
    assert!(used("API_KEY").ends_with("uses") && used("SIGNS").ends_with("web/tells"), "{out}");
    assert!(used("FREE").ends_with('-'), "{out}");

    let message = api.delete("/api/v1/secrets/API_KEY").expect(409).error();
    assert!(message.contains("in use by default/uses"), "{message}");
    let (code, _, err) = finish(server.cli(&["secret", "remove", "SIGNS"]));
    assert!(code == 1 && err.contains("web/tells") && err.contains("--force"), "{err}");
    let (code, out, err) = finish(server.cli(&["secret", "remove", "FREE"]));
    assert_eq!((code, out.as_str()), (0, "removed  FREE\n"), "{err}");
    let (code, _, err) = finish(server.cli(&["secret", "remove", "SIGNS", "--force"]));
    assert_eq!(code, 0, "{err}");
    api.delete("/api/v1/secrets/API_KEY?force=true").expect(200);
    assert_eq!(names(&api, ""), [""; 0]);
    assert_eq!(names(&api, "?missing=true"), ["API_KEY", "SIGNS"]);
    let (code, out, err) = finish(server.cli(&["secret", "list"]));
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    assert!(err.contains("API_KEY is missing, and in use by uses"), "{err}");
    let (code, out, _) = finish(server.cli(&["doctor"]));
    let out = unwrapped(&out);
    assert_eq!(code, 1);
    assert!(out.contains("`API_KEY`, which uses, v needs: there is no "), "{out}");
    assert!(out.contains("boathook secret set API_KEY"), "{out}");
}

#[test]
fn credentials_of_systemd_go_first_and_are_read_only() {
    let credentials = tempfile::tempdir().unwrap();
    fs::write(credentials.path().join("API_KEY"), FIRST).unwrap();
    let server =
        Server::builder().variable("CREDENTIALS_DIRECTORY", credentials.path().as_os_str()).start();
    let api = server.api();
    set(&api, "OTHER", "value");
    let (status, message) = put(&api, "API_KEY", SECOND.as_bytes());
    assert!(status == 409 && message.contains("LoadCredential="), "{message}");
    let answer = api.delete("/api/v1/secrets/API_KEY").expect(409);
    assert!(answer.error().contains("LoadCredential="), "{}", answer.error());
    let listed = api.get("/api/v1/secrets").expect(200).data();
    assert_eq!((&listed[0]["name"], &listed[0]["read_only"]), (&json!("API_KEY"), &json!(true)));
    assert_eq!((&listed[1]["name"], &listed[1]["read_only"]), (&json!("OTHER"), &json!(false)));
    let ended = api.wait_status(&api.start(&api.apply(&fleet("reads"))), "Success");
    assert_eq!(api.output(&ended, "v"), format!("{}\n••••\n", sha256(FIRST.as_bytes())));
}

#[test]
fn a_restore_names_the_secrets_that_its_fleets_miss() {
    let server = Server::start();
    let api = server.api();
    api.apply(&fleet("needs"));
    api.apply(&json!({"name": "also", "vessels": {"v": {"run": "true",
        "environment": {"A": {"secret": "THERE"}, "B": {"secret": "GONE"}}}}}));
    for name in ["API_KEY", "THERE", "GONE", "UNUSED"] {
        set(&api, name, FIRST);
    }
    let backup = back_up(&server, "all.backup");
    let target = tempfile::tempdir().unwrap();
    // An operator may bring the secrets first.
    fs::create_dir(target.path().join("secrets")).unwrap();
    fs::write(target.path().join("secrets/THERE"), "value").unwrap();
    let (code, _, err) = finish(restore_command(&backup, target.path()));
    assert_eq!(code, 0, "{err}");
    for name in ["API_KEY", "GONE"] {
        assert!(err.contains(&format!("boathook secret set {name}\n")), "{err}");
    }
    assert!(!err.contains("THERE") && !err.contains("UNUSED"), "{err}");
    assert_eq!(fs::read_to_string(target.path().join("secrets/THERE")).unwrap(), "value");
    let target = tempfile::tempdir().unwrap();
    let mut restore = restore_command(&backup, target.path());
    restore.arg("--json");
    let shown: Value = serde_json::from_str(&finish(restore).1).unwrap();
    assert_eq!(shown["missing_secrets"], json!(["API_KEY", "GONE", "THERE"]));
}

#[test]
fn a_crash_leaves_the_old_value_or_the_new_one() {
    let mut server = Server::start();
    let values: Vec<String> =
        (b'a'..=b'd').map(|it| char::from(it).to_string().repeat(60_000)).collect();
    let path = server.data_dir().join("secrets/API_KEY");
    set(&server.api(), "API_KEY", &values[0]);
    for round in 0..6 {
        let api = server.api();
        std::thread::scope(|scope| {
            let writers: Vec<_> = values
                .iter()
                .map(|value| {
                    let (api, content) = (&api, ("text/plain", value.as_bytes().to_vec()));
                    scope.spawn(move || {
                        let put = || {
                            let content = Some((content.0, content.1.clone()));
                            api.try_call("PUT", "/api/v1/secrets/API_KEY", content)
                        };
                        while put().is_ok_and(|answer| answer.status == 200) {}
                    })
                })
                .collect();
            let first = fs::metadata(&path).unwrap().modified().unwrap();
            server.wait_until("values are written", || {
                fs::metadata(&path).is_ok_and(|found| found.modified().unwrap() != first)
            });
            server.kill();
            for writer in writers {
                writer.join().unwrap();
            }
        });
        let kept = fs::read_to_string(&path).unwrap();
        assert!(values.contains(&kept), "round {round}: a torn value of {} bytes", kept.len());
        // As a crash between write and rename leaves it.
        fs::write(path.with_file_name("API_KEY~new"), "torn").unwrap();
        server.start_again();
        assert_eq!(names(&server.api(), ""), ["API_KEY"]);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(&path).unwrap(), kept);
    }
}

#[test]
fn a_terminal_is_asked_and_does_not_show_the_value() {
    let server = Server::start();
    let ask = |words: &str, wait_for: &str, typed: &[u8]| {
        let script = format!("exec script -qec \"'$0' {words}\" /dev/null");
        let mut child = server
            .shell(&script)
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script is installed");
        let mut out = child.stdout.take().unwrap();
        let mut shown = read_until(&mut out, wait_for);
        let mut input = child.stdin.take().unwrap();
        input.write_all(typed).unwrap();
        input.flush().unwrap();
        std::io::Read::read_to_string(&mut out, &mut shown).unwrap();
        (child.wait().unwrap().code().unwrap(), shown)
    };
    let (code, shown) = ask("secret set KEY", "(not shown): ", b"wrong\x15open sesame\r");
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("set  KEY") && !shown.contains("sesame"), "{shown}");
    let path = server.data_dir().join("secrets/KEY");
    assert_eq!(fs::read_to_string(&path).unwrap(), "open sesame");
    let (code, shown) = ask("secret set KEY", "(not shown): ", b"other\x03");
    assert!(code == 1 && shown.contains("called off"), "{shown}");
    let (code, shown) = ask("secret remove KEY", "[y/N] ", b"n\n");
    assert!(code == 1 && shown.contains("called off"), "{shown}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "open sesame");
    let (code, shown) = ask("secret remove KEY", "[y/N] ", b"y\n");
    assert_eq!(code, 0, "{shown}");
    assert!(!path.exists());
}

#[test]
fn doctor_finds_secrets_that_other_users_may_read() {
    let server = Server::start();
    set(&server.api(), "API_KEY", "value");
    let directory = server.data_dir().join("secrets");
    let chmod = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let doctor = || unwrapped(&finish(server.cli(&["doctor"])).1);
    assert!(!doctor().contains("API_KEY"));
    chmod(&directory, 0o755);
    chmod(&directory.join("API_KEY"), 0o640);
    let out = doctor();
    assert!(out.contains("secrets has mode 0755: other users may look into it"), "{out}");
    assert!(out.contains("`API_KEY`: its group may read its file (mode 640)"), "{out}");
    set(&server.api(), "API_KEY", "value");
    assert!(!doctor().contains("API_KEY"), "a value that is set anew is private again");
}

#[test]
fn secrets_that_cannot_be_listed_are_not_said_to_be_absent() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("secrets");
    fs::create_dir(&path).unwrap();
    let server = Server::builder().setting("secrets_dir", path.to_str().unwrap()).start();
    let api = server.api();
    set(&api, "API_KEY", FIRST);
    let aside = scratch.path().join("aside");
    fs::rename(&path, &aside).unwrap();
    fs::write(&path, "").unwrap();
    let refused = api.delete("/api/v1/secrets/API_KEY").expect(500);
    assert!(refused.error().contains("the secrets cannot be listed"), "{}", refused.error());
    fs::remove_file(&path).unwrap();
    fs::rename(&aside, &path).unwrap();
    api.delete("/api/v1/secrets/API_KEY").expect(200);
}
