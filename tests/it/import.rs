//! `boathook import hooks`: files of the shapes that adnanh/webhook has, carried over, applied, and called with
//! signed requests.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::{Sha256, Sha512};

use crate::harness::http::{Answer, exchange, post_request};
use crate::harness::server::finish;
use crate::harness::{Hook, Server};

/// A program that prints its arguments, its variables that begin with HOOK_, and the files that these name.
const PROGRAM: &str = "#!/bin/sh
printf 'in %s\\n' \"$PWD\"
printf '<%s>\\n' \"$@\"
env | grep '^HOOK_' | sort
test -z \"$HOOK_DATA\" || sha256sum < \"$HOOK_DATA\"
test -z \"$HOOK_RAW\" || cat \"$HOOK_RAW\"
";

fn write_program(directory: &Path) -> String {
    let program = directory.join("print.sh");
    fs::write(&program, PROGRAM).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program.to_str().unwrap().to_owned()
}

/// A file of hooks in the server's scratch directory. `DIR` stands for that directory.
fn write_hooks(server: &Server, name: &str, text: &str) -> String {
    write_program(server.scratch());
    let path = server.scratch().join(name);
    fs::write(&path, text.replace("DIR", server.scratch().to_str().unwrap())).unwrap();
    path.to_str().unwrap().to_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256(key: &str, body: &[u8]) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    hex(&mac.chain_update(body).finalize().into_bytes())
}

fn sha512(key: &str, body: &[u8]) -> String {
    let mac = Hmac::<Sha512>::new_from_slice(key.as_bytes()).unwrap();
    hex(&mac.chain_update(body).finalize().into_bytes())
}

fn post(server: &Server, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    exchange(server.hooks(), &post_request(target, headers, body)).unwrap()
}

/// The output of the run that an answer names.
fn output(server: &Server, answer: Answer) -> String {
    let run = answer.expect(201).data()["fleet_run_id"].as_str().unwrap().to_owned();
    let run = server.api().wait_ended(&run);
    let output = server.api().output(&run, "hook");
    assert_eq!(run["status"], "Success", "{output}");
    output
}

const HOOKS: &str = r#"[
  {
    "id": "redeploy",
    "execute-command": "print.sh",
    "command-working-directory": "DIR",
    "pass-arguments-to-command": [
      {"source": "payload", "name": "head_commit.id"},
      {"source": "payload", "name": "nowhere"},
      {"source": "string", "name": "a fixed; `text`"}
    ],
    "pass-environment-to-command": [{"source": "payload", "name": "pusher.name"}],
    "trigger-rule": {"and": [
      {"match": {"type": "payload-hmac-sha256", "secret": "first secret",
        "parameter": {"source": "header", "name": "X-Hub-Signature-256"}}},
      {"match": {"type": "regex", "regex": "^refs/heads/(main|next)$",
        "parameter": {"source": "payload", "name": "ref"}}}
    ]}
  },
  {
    "id": "upload",
    "execute-command": "DIR/print.sh",
    "pass-file-to-command": [
      {"source": "payload", "name": "data", "base64decode": true},
      {"source": "raw-request-body", "envname": "HOOK_RAW"}
    ],
    "trigger-rule": {"match": {"type": "payload-hmac-sha512", "secret": "second secret",
      "parameter": {"source": "header", "name": "X-Signature"}}}
  },
  {
    "id": "by-token",
    "execute-command": "DIR/print.sh",
    "pass-arguments-to-command": [{"source": "url", "name": "env"}, {"source": "entire-payload"}],
    "trigger-rule": {"and": [
      {"match": {"type": "value", "value": "third secret", "parameter": {"source": "url", "name": "token"}}},
      {"match": {"type": "ip-whitelist", "ip-range": "127.0.0.1 ::1"}}
    ]}
  },
  {
    "id": "open",
    "execute-command": "DIR/print.sh",
    "trigger-rule": {"match": {"type": "value", "value": "5", "parameter": {"source": "payload", "name": "n"}}}
  },
  {
    "id": "events",
    "execute-command": "DIR/print.sh",
    "trigger-rule": {"match": {"type": "scalr-signature", "secret": "fourth secret"}}
  }
]
"#;

#[test]
fn hooks_run_as_fleets_for_the_same_requests() {
    let server = Server::start();
    let hooks = write_hooks(&server, "hooks.json", HOOKS);
    let fleets = server.scratch().join("fleets");
    let directory = fleets.to_str().unwrap();
    let import = ["import", "hooks", &hooks, "--output", directory, "--keep-paths", "--secrets"];
    let (code, stdout, stderr) = finish(server.cli(&import));
    assert_eq!(code, 1, "one hook is not imported: {stderr}");
    assert_eq!(stdout.lines().count(), 4, "{stdout}");
    assert!(
        stderr.contains("events: not imported") && stderr.contains("scalr-signature"),
        "{stderr}"
    );
    assert!(
        stderr.contains("open, line 38") && stderr.contains("/hooks/open: nothing but"),
        "{stderr}"
    );
    for secret in ["first", "second", "third"] {
        assert!(!stderr.contains(secret) && !stdout.contains(secret), "{stderr}");
        for file in fs::read_dir(&fleets).unwrap() {
            let text = fs::read_to_string(file.unwrap().path()).unwrap();
            assert!(!text.contains(secret), "{text}");
        }
    }
    let (code, _, stderr) = finish(server.cli(&["fleet", "apply", directory]));
    assert_eq!(code, 0, "{stderr}");
    for fleet in ["redeploy", "upload", "by-token"] {
        let (code, _, stderr) = finish(server.cli(&["webhook", "add", fleet]));
        assert_eq!(code, 0, "{stderr}");
    }
    // They run again without harm, and overwrite nothing.
    let (code, _, stderr) = finish(server.cli(&import));
    assert!(code == 1 && stderr.contains("there already"), "{stderr}");

    let body = br#"{"ref": "refs/heads/main", "head_commit": {"id": "abc $(id)"}, "pusher": {"name": "eva"}}"#;
    let signature = format!("sha256={}", sha256("first secret", body));
    let signed = [("X-Hub-Signature-256", signature.as_str())];
    let shown = output(&server, post(&server, "/hooks/redeploy", &signed, body));
    let expected = format!(
        "in {}\n<abc $(id)>\n<>\n<a fixed; `text`>\nHOOK_pusher_name=eva\n",
        server.scratch().canonicalize().unwrap().display()
    );
    assert_eq!(shown, expected);
    let other = br#"{"ref": "refs/tags/main"}"#;
    let signature = format!("sha256={}", sha256("first secret", other));
    let answer = post(&server, "/hooks/redeploy", &[("X-Hub-Signature-256", &signature)], other);
    assert_eq!(answer.expect(200).json()["data"], Value::Null);
    assert_eq!(post(&server, "/hooks/redeploy", &signed, other).status, 401);

    let body = json!({"data": "AAEC/w=="}).to_string();
    for prefix in ["sha512=", ""] {
        let signature = format!("{prefix}{}", sha512("second secret", body.as_bytes()));
        let answer =
            post(&server, "/hooks/upload", &[("X-Signature", &signature)], body.as_bytes());
        let shown = output(&server, answer);
        // Of the bytes 0, 1, 2 and 255.
        let hash = "3d1f57c984978ef98a18378c8166c1cb8ede02c03eeb6aee7e2f121dfeee3e56";
        assert!(shown.ends_with(&body) && shown.contains(hash), "{shown}");
        assert!(!shown.contains("HOOK_FILE_CONTENT"), "{shown}");
    }
    let plain = sha512("another secret", body.as_bytes());
    assert_eq!(
        post(&server, "/hooks/upload", &[("X-Signature", &plain)], body.as_bytes()).status,
        401
    );

    let target = "/hooks/by-token?env=prod&token=third%20secret";
    let shown = output(&server, post(&server, target, &[], br#"{"b": 1, "a": [true]}"#));
    assert!(shown.ends_with("<prod>\n<{\"a\":[true],\"b\":1}>\n"), "{shown}");
    assert_eq!(post(&server, "/hooks/by-token?token=x", &[], b"{}").status, 401);
    assert_eq!(post(&server, "/hooks/open", &[], br#"{"n": 5}"#).status, 400);
}

#[test]
fn hooks_in_yaml_and_templates_go_to_standard_output() {
    let server = Server::start();
    let text = "- id: one\n  execute-command: '{{ getenv \"WHERE\" }}'\n  trigger-rule:\n    match:\n      \
                type: payload-hmac-sha256\n      secret: '{{ getenv \"HOOK_KEY\" | js }}'\n      parameter:\n        \
                source: header\n        name: X-Gitea-Signature\n";
    let hooks = write_hooks(&server, "hooks.yaml", text);
    let mut command = server.cli(&["import", "hooks", &hooks, "--template", "--project", "moved"]);
    let (code, stdout, stderr) = finish({
        command.env("WHERE", "/bin/true").env("HOOK_KEY", "the value");
        command
    });
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("project: moved") && stdout.contains("- /bin/true"), "{stdout}");
    let line = "printf %s \"$HOOK_KEY\" | boathook secret set HOOK_KEY # the variable in line 6";
    assert!(stderr.contains(line) && !stderr.contains("the value"), "{stderr}");
    let fleet = stdout;

    let mut command = server.cli(&["import", "hooks", &hooks, "--template", "--json", "--secrets"]);
    let (code, stdout, stderr) = finish({
        command.env("WHERE", "/bin/true").env("HOOK_KEY", "the value");
        command
    });
    assert_eq!(code, 0, "{stderr}");
    let shown: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(shown["secrets"], json!([{"name": "HOOK_KEY", "line": 6, "stored": true}]));
    assert_eq!(shown["hooks"][0]["id"], "one");
    assert_eq!(server.api().apply_yaml(&fleet).len(), 36);
    let kept = server.data_dir().join("secrets/HOOK_KEY");
    assert_eq!(fs::read_to_string(kept).unwrap(), "the value");

    let (code, _, stderr) = finish(server.cli(&["import", "hooks", "/nowhere"]));
    assert!(code == 1 && stderr.contains("cannot read /nowhere"), "{stderr}");
}

#[test]
fn senders_get_the_responses_of_their_hooks() {
    let server = Server::start();
    let text = r#"[
  {"id": "thanks", "execute-command": "DIR/print.sh", "response-message": "Thank you!",
   "success-http-response-code": 202,
   "response-headers": [{"name": "Content-Type", "value": "text/x-thanks"}, {"name": "X-Other", "value": "1"}]},
  {"id": "asks", "execute-command": "DIR/print.sh", "response-message": "not sent",
   "include-command-output-in-response": true,
   "pass-arguments-to-command": [{"source": "payload", "name": "q"}]}
]"#;
    let hooks = write_hooks(&server, "hooks.json", text);
    let fleets = server.scratch().join("fleets");
    let directory = fleets.to_str().unwrap();
    let (code, _, stderr) = finish(server.cli(&["import", "hooks", &hooks, "--output", directory]));
    assert_eq!(code, 0, "{stderr}");
    for said in
        ["line 4: the header X-Other", "line 6: the sender waits up to 5 minutes", "with 500"]
    {
        assert!(stderr.contains(said), "{said}: {stderr}");
    }
    let (code, _, stderr) = finish(server.cli(&["fleet", "apply", directory]));
    assert_eq!(code, 0, "{stderr}");
    let url = |fleet: &str| {
        let (code, stdout, stderr) = finish(server.cli(&["webhook", "add", fleet]));
        assert_eq!(code, 0, "{stderr}");
        Hook::from_url(stdout.trim())
    };
    let answer = url("thanks").try_post(server.hooks(), &[], b"{}").unwrap().expect(202);
    assert_eq!(
        (answer.text().as_str(), answer.header("content-type")),
        ("Thank you!", Some("text/x-thanks"))
    );
    let answer =
        url("asks").try_post(server.hooks(), &[], br#"{"q": "why?"}"#).unwrap().expect(200);
    assert!(answer.text().ends_with("<why?>\n"), "{}", answer.text());
}
