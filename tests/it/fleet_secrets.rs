//! Secrets of fleets: read at every start, kept and shown nowhere.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::harness::api::vessel_of;
use crate::harness::server::{finish, read_until};
use crate::harness::{Server, wait_until};

const SECRET: &str = "correct-horse-battery-staple";

/// A server with a directory of secrets, which holds one called `API_KEY`.
fn server() -> (Server, PathBuf, tempfile::TempDir) {
    let secrets = tempfile::tempdir().unwrap();
    let path = secrets.path().to_owned();
    fs::write(path.join("API_KEY"), format!("{SECRET}\n")).unwrap();
    let server = Server::builder()
        .setting("secrets_dir", path.to_str().unwrap())
        .setting("log", "trace")
        .start();
    (server, path, secrets)
}

/// Fails when any file below `directory` holds the secret.
fn assert_not_stored(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            assert_not_stored(&path);
        } else if let Ok(bytes) = fs::read(&path) {
            let found = bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
            assert!(!found, "{} holds the secret", path.display());
        }
    }
}

#[test]
fn a_secret_reaches_the_vessel_and_nobody_else() {
    let (mut server, _, _secrets) = server();
    let api = server.api();
    // Says whether it has it, then gives it away in one piece, in two, and at the very end.
    let script = format!(
        "[ \"$KEY\" = {} ] || exit 9; echo \"key=$KEY.\"; \
         printf correct-horse; sleep 0.1; printf -- \"-battery-staple\\n\"; echo \"$KEY\" >&2; \
         printf \"$KEY\"",
        // Not as it would be looked for.
        SECRET.replace("horse", "\"horse\"")
    );
    let fleet = api.apply(&json!({"name": "keeps", "vessels": {
        "map": {"run": script, "environment": {"KEY": {"secret": "API_KEY"}, "PLAIN": "seen"}},
        "list": {"run": script,
            "environment": [{"name": "KEY", "value": {"secret": "API_KEY"}}]},
        "code": {"source": {"type": "CODE", "language": "BASH",
            "file": {"name": "main.sh", "content": script},
            "environment": [{"name": "KEY", "value": {"secret": "API_KEY"}}]}},
    }}));
    let run = api.start(&fleet);
    let ended = api.wait_status(&run, "Success");
    for vessel in ["map", "list", "code"] {
        assert_eq!(api.output(&ended, vessel), "key=••••.\n••••\n••••\n••••", "{vessel}");
    }
    for path in [
        format!("/api/v1/fleets/{fleet}"),
        format!("/api/v1/fleets/{fleet}/versions"),
        format!("/api/v1/runs/{run}"),
    ] {
        assert!(!api.get(&path).expect(200).text().contains(SECRET), "{path} shows the secret");
    }
    let shown = api.get(&format!("/api/v1/fleets/{fleet}")).data();
    let mut vessels = shown["vessels"].as_array().unwrap().iter();
    let vessel = vessels.find(|vessel| vessel["name"] == "map").unwrap();
    let expected = json!({"KEY": {"secret": "API_KEY"}, "PLAIN": "seen"});
    assert_eq!(vessel["environment"], expected);
    let (_, yaml, _) = finish(server.cli(&["fleet", "show", "keeps", "--yaml"]));
    assert!(yaml.contains("KEY: {secret: API_KEY}") && !yaml.contains(SECRET), "{yaml}");
    server.stop();
    assert!(!server.log().contains(SECRET), "the log shows the secret");
    assert_not_stored(server.data_dir());
}

#[test]
fn followers_and_offsets_count_what_is_shown() {
    let (server, _, _secrets) = server();
    let api = server.api();
    let go = server.scratch().join("go");
    let script = format!(
        "echo \"a $KEY b\"; printf correct; while [ ! -e {} ]; do sleep 0.01; done; \
         i=0; while [ $i -lt 9000 ]; do echo $KEY; i=$((i+1)); done",
        go.display()
    );
    let fleet = api.apply(&json!({"name": "follows", "vessels": {"v": {
        "run": script, "environment": {"KEY": {"secret": "API_KEY"}},
    }}}));
    let run = api.start(&fleet);
    wait_until("the vessel runs", || api.run(&run)["vessels"][0]["attempt"] == 1);
    let mut follower = api.follow(&api.run(&run), "v");
    // What may become a secret is held back, everything before it is not.
    assert_eq!(read_until(&mut follower, "b\n"), "a •••• b\n");
    fs::write(&go, "").unwrap();
    let rest = read_until(&mut follower, "••••\n");
    assert!(rest.starts_with("correct••••\n"), "{rest}");
    drop(follower);
    let ended = api.wait_status(&run, "Success");
    let head = "a •••• b\ncorrect".len();
    let line = "••••\n".len();
    for (offset, expected) in [(0, "a •••• b\n"), (head, "••••\n"), (head + 8000 * line, "••••\n")]
    {
        let answer = api.output_answer(&ended, "v", &format!("?offset={offset}"));
        assert!(answer.text().starts_with(expected), "{offset}");
        assert_eq!(answer.body.len(), head + 9000 * line - offset);
    }
}

#[test]
fn a_changed_secret_counts_from_the_next_start_on() {
    let (server, secrets, _secrets) = server();
    let api = server.api();
    fs::write(secrets.join("API_KEY"), "first").unwrap();
    let script = format!(
        "echo \"$KEY\"; printf second > {}/API_KEY; [ \"$KEY\" = second ]",
        secrets.display()
    );
    let fleet = api.apply(&json!({"name": "rotates", "vessels": {"v": {
        "run": script,
        "environment": {"KEY": {"secret": "API_KEY"}},
        "guardrails": {"retry_count": 1},
    }}}));
    let ended = api.wait_status(&api.start(&fleet), "Success");
    assert_eq!(api.output_answer(&ended, "v", "?attempt=1").text(), "first\n");
    assert_eq!(api.output_answer(&ended, "v", "?attempt=2").text(), "second\n");
}

#[test]
fn a_secret_without_a_value_is_named() {
    let (mut server, secrets, _secrets) = server();
    let api = server.api();
    fs::write(secrets.join("BINARY"), b"a\0b").unwrap();
    let fleet = |name: &str, secret: &str| {
        json!({"name": name, "vessels": {
            "v": {"run": "echo started", "environment": {"KEY": {"secret": secret}}},
            "after": {"run": "echo told"},
        }, "connections": {"v": {"after": "ERRORED"}}})
    };
    for (name, secret, reason) in
        [("gone", "NOT_THERE", "there is no file"), ("odd", "BINARY", "contains a NUL")]
    {
        let run = api.start(&api.apply(&fleet(name, secret)));
        let ended = api.wait_status(&run, "Errored");
        let vessel = vessel_of(&ended, "v");
        let told = vessel["reason"].as_str().unwrap();
        assert!(told.contains(&format!("the secret `{secret}` of KEY: ")), "{told}");
        assert!(told.contains(reason), "{told}");
        assert_eq!(api.output(&ended, "v"), format!("boathook: {told}\n"));
        assert_eq!(vessel_of(&ended, "after")["status"], "Success");
    }
    // A run that has a value of its own needs no secret.
    let run = api.start_with(
        &api.apply(&fleet("gone", "NOT_THERE")),
        &json!({"vessel_overrides": [
            {"name": "v", "environment_variable_overrides": {"KEY": "of this run"}},
        ]}),
    );
    let ended = api.wait_ended(&run);
    assert_eq!(api.output(&ended, "v"), "started\n");
    for secret in ["../API_KEY", "a/b", "..", ""] {
        let answer = api.put("/api/v1/fleets?by=name", &fleet("out", secret));
        assert_eq!(answer.status, 422, "{secret}");
        assert!(answer.error().contains("a secret's name has letters"), "{}", answer.error());
    }
    // Without a setting they are systemd's credentials, and without those there are none.
    server.stop();
    let server = Server::builder().variable("CREDENTIALS_DIRECTORY", secrets.as_os_str()).start();
    let run = server.api().start(&server.api().apply(&fleet("credentials", "API_KEY")));
    server.api().wait_ended(&run);
    let ended = server.api().run(&run);
    assert_eq!(server.api().output(&ended, "v"), "started\n");
    let server = Server::start();
    let run = server.api().start(&server.api().apply(&fleet("nowhere", "API_KEY")));
    let ended = server.api().wait_status(&run, "Errored");
    assert!(server.api().output(&ended, "v").contains("`boathook secret set API_KEY`"));
}

#[test]
fn what_the_hosted_system_hides_stays_what_it_is_here() {
    let (server, _, _secrets) = server();
    let api = server.api();
    let yaml = |value: &str| {
        format!(
            "name: hides\nvessels:\n  v:\n    source:\n      type: CODE\n      language: BASH\n      \
             file: {{name: a.sh, content: x}}\n      environment:\n        - name: KEY\n          \
             value: {value}\n        - name: OTHER\n          value: SHIPYARD_HIDDEN\n"
        )
    };
    let hidden = yaml("SHIPYARD_HIDDEN");
    let refused = |text: &str| {
        let content = ("application/yaml", text.as_bytes().to_vec());
        api.call("PUT", "/api/v1/fleets?by=name", Some(content)).expect(422).error()
    };
    let message = refused(&hidden);
    assert!(
        message
            .contains("line 10, column 18: vessels.v.source.environment[0].value: SHIPYARD_HIDDEN"),
        "{message}"
    );
    assert!(message.contains("{secret: KEY}"), "{message}");
    api.apply_yaml(
        &hidden
            .replacen("SHIPYARD_HIDDEN", "{secret: API_KEY}", 1)
            .replace("SHIPYARD_HIDDEN", "known"),
    );
    let fleet = api.apply_yaml(&hidden);
    let shown = api.get(&format!("/api/v1/fleets/{fleet}")).data();
    let environment = &shown["vessels"][0]["environment"];
    assert_eq!(*environment, json!({"KEY": {"secret": "API_KEY"}, "OTHER": "known"}));
    assert_eq!(shown["version"], 1);
    let message = refused(&hidden.replace("name: OTHER", "name: NEW"));
    assert!(message.contains("environment[1].value"), "{message}");
}

#[test]
fn what_editors_add_to_a_secret_is_no_part_of_it() {
    let (server, secrets, _secrets) = server();
    let api = server.api();
    let script = "printf '%s' \"$KEY\" | od -An -c | tr -d ' \\n'; echo; \
                  printf '%s\\n' \"$KEY\"; cat \"$KEY_FILE\"; \
                  printf '%s\\n' \"$KEY\" | while read -r line; do echo \"<$line>\"; done";
    let fleet = api.apply(&json!({"name": "edited", "vessels": {"v": {"run": script,
        "environment": {"KEY": {"secret": "EDITED"},
            "KEY_FILE": secrets.join("EDITED").to_str().unwrap()}}}}));
    for (content, value, shown) in [
        // Written by an editor of another system: mark and CRLF are not passed on.
        ("\u{feff}opensesame\r\n", "opensesame", "••••\n••••\r\n<••••>\n"),
        ("opensesame\r\n", "opensesame", "••••\n••••\r\n<••••>\n"),
        // A blank at the end is part of the value, and without it the value is as secret.
        ("open sesame \n", "opensesame", "••••\n••••\n<••••>\n"),
        // Each line of a longer one.
        (
            "first line\r\nshort\r\n\tthe last line\r\n",
            "firstline\\r\\nshort\\r\\n\\tthelastline",
            "••••\n••••\r\n<••••\r>\n<short\r>\n<••••>\n",
        ),
    ] {
        fs::write(secrets.join("EDITED"), content).unwrap();
        let ended = api.wait_status(&api.start(&fleet), "Success");
        let expected = if value == "opensesame" && !content.contains(' ') {
            // `od` writes the value itself.
            format!("••••\n{shown}")
        } else {
            format!("{value}\n{shown}")
        };
        assert_eq!(api.output(&ended, "v"), expected, "{content:?}");
    }
}

#[test]
fn a_secret_in_utf16_is_named_and_not_shown() {
    let (server, secrets, _secrets) = server();
    let api = server.api();
    let wide: Vec<u8> = "\u{feff}opensesame".encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(secrets.join("API_KEY"), wide).unwrap();
    let fleet = api.apply(&json!({"name": "wide", "vessels": {"v": {"run": "echo \"$KEY\"",
        "environment": {"KEY": {"secret": "API_KEY"}}}}}));
    let ended = api.wait_status(&api.start(&fleet), "Errored");
    let log = api.output(&ended, "v");
    assert!(log.contains("`API_KEY`") && log.contains("UTF-16"), "{log}");
}
