//! The fleets in `examples/`: each is applied as it is, and run with a payload of its sender's shape.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::api::vessel_of;
use crate::harness::server::finish;
use crate::harness::{Server, python_directory};

/// One example and a payload for it.
struct Example {
    file: &'static str,
    payload: &'static str,
    /// A vessel, its status, and words of its output. None: the fleet does not want the event.
    expected: &'static [(&'static str, &'static str, &'static str)],
}

const EXAMPLES: [Example; 14] = [
    Example {
        file: "github-deploy",
        payload: r#"{"ref": "refs/heads/main"}"#,
        expected: &[("deploy", "Success", "built")],
    },
    Example {
        file: "github-deploy",
        payload: r#"{"zen": "Keep it logically awesome."}"#,
        expected: &[],
    },
    Example {
        file: "stripe-event",
        payload: r#"{"id": "evt_1", "type": "invoice.paid"}"#,
        expected: &[("read", "Success", "evt_1 invoice.paid"), ("book", "Success", "booked evt_1")],
    },
    Example {
        file: "stripe-event",
        payload: r#"{"id": "evt_2", "type": "invoice.payment_failed"}"#,
        expected: &[("chase", "Success", "about evt_2"), ("book", "Success", "")],
    },
    Example {
        file: "slack-command",
        payload: "command=%2Fserver&text=uptime&user_name=ada",
        expected: &[("answer", "Success", "ada asked for uptime")],
    },
    Example {
        file: "alertmanager",
        payload: r#"{"alerts": [
            {"status": "firing", "labels": {"alertname": "DiskAlmostFull"}},
            {"status": "firing", "labels": {"alertname": "../escape"}},
            {"status": "resolved", "labels": {"alertname": "Gone"}}]}"#,
        expected: &[("remedy", "Success", "DiskAlmostFull: running the remedy\nremedied")],
    },
    Example {
        file: "image-update",
        payload: r#"{"push_data": {"tag": "stable"}}"#,
        expected: &[("pull", "Success", "docker pull --quiet"), ("restart", "Success", "--wait")],
    },
    Example {
        file: "nightly-backup",
        payload: "",
        expected: &[("archive", "Success", "tar.gz"), ("prune", "Success", "")],
    },
    Example {
        file: "fan-out",
        payload: "1234",
        expected: &[("publish", "Success", "publishing 4 bytes"), ("clean-up", "Success", "")],
    },
    Example {
        file: "ask-a-model",
        payload: r#"{"event": "a disk has failed"}"#,
        expected: &[("ask", "Success", "a disk has failed"), ("deliver", "Success", "words")],
    },
    Example {
        file: "slurm-srun",
        payload: r#"{"grid": 7}"#,
        expected: &[("simulate", "Success", r#"srun: large: {"grid": 7}"#)],
    },
    Example {
        file: "slurm-sbatch",
        payload: r#"{"grid": 8}"#,
        expected: &[("simulate", "Success", r#"sbatch: large: {"grid": 8}"#)],
    },
    Example {
        file: "container",
        payload: "",
        expected: &[("job", "Success", "registry.example.com/job:1 /job.sh")],
    },
    Example {
        file: "remote-host",
        payload: r#"{"ref": "main"}"#,
        expected: &[("deploy", "Success", r#"deploying {"ref": "main"}"#)],
    },
];

/// Clients of engines that run the job themselves.
const SRUN: &str = r#"
printf 'srun: '
while [ "${1#-}" != "$1" ]; do shift; done
exec "$@""#;
const SBATCH: &str = r#"
while :; do
    case $1 in --input=*) exec < "${1#*=}" ;; --output=*) exec > "${1#*=}" ;; -*) ;; *) break ;; esac
    shift
done
printf 'sbatch: '
exec sh "$@""#;
const SSH: &str = r#"
while [ "${1#-}" != "$1" ]; do shift; done
shift
exec setsid --wait sh -c "$*""#;

/// An executable file.
fn script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The directories that the examples name, and stand-ins for the programs that they start.
fn prepare(root: &Path) {
    fs::create_dir(root).unwrap();
    for directory in ["bin", "site", "books", "remedies", "data", "backups", "shop", "sim"] {
        fs::create_dir(root.join(directory)).unwrap();
    }
    for (name, answer) in [
        ("git", ""),
        ("docker", "echo docker \"$@\""),
        ("ollama", "cat"),
        ("srun", SRUN),
        ("sbatch", SBATCH),
        ("ssh", SSH),
    ] {
        script(&root.join("bin").join(name), &format!("#!/bin/sh\n{answer}\n"));
    }
    script(&root.join("site/build.sh"), "#!/bin/sh\necho built\n");
    script(&root.join("sim/run.sh"), "#!/bin/sh\nprintf '%s: ' \"$1\"; cat\n");
    script(&root.join("deploy.sh"), "#!/bin/sh\nprintf 'deploying '; cat\n");
    script(&root.join("remedies/DiskAlmostFull"), "#!/bin/sh\necho remedied\n");
    fs::write(root.join("data/file"), "kept").unwrap();
}

/// The definition of `fleet`, with a `PATH` that leads to the stand-ins.
fn with_path(server: &Server, fleet: &str, path: &str) -> Value {
    let (status, shown, _) = finish(server.cli(&["fleet", "show", fleet, "--yaml", "--json"]));
    assert_eq!(status, 0);
    let mut definition: Value = serde_json::from_str(&shown).unwrap();
    for vessel in definition["vessels"].as_object_mut().unwrap().values_mut() {
        let place = if vessel["source"].is_object() { &mut vessel["source"] } else { vessel };
        match place["environment"].as_array_mut() {
            Some(list) => list.push(json!({"name": "PATH", "value": path})),
            None => place["environment"]["PATH"] = json!(path),
        }
    }
    definition
}

#[test]
fn every_example_is_applied_and_does_what_it_says() {
    let server = Server::start();
    let api = server.api();
    let root = server.scratch().join("srv");
    prepare(&root);
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let path = format!("{}/bin:{}:/usr/bin:/bin", root.display(), python_directory());
    for secret in ["GITHUB_HOOK", "STRIPE_HOOK", "SLACK_HOOK", "JOB_TOKEN"] {
        let value = Some(("application/octet-stream", b"a secret".to_vec()));
        api.call("PUT", &format!("/api/v1/secrets/{secret}"), value).expect(200);
    }
    for Example { file, payload, expected } in EXAMPLES {
        let text = fs::read_to_string(examples.join(format!("{file}.yaml"))).unwrap();
        let fleet = api.apply_yaml(&text.replace("/srv/", &format!("{}/", root.display())));
        let fleet = api.apply(&with_path(&server, &fleet, &path));
        api.add_webhook(&fleet);
        // A signed event where the fleet asks for one.
        let signed = api.call(
            "POST",
            &format!("/api/v1/fleets/{fleet}/webhook/send"),
            Some(("application/octet-stream", payload.as_bytes().to_vec())),
        );
        let sent = signed.expect(200).data();
        let Some(run) = sent["fleet_run_id"].as_str() else {
            assert_eq!((&sent["status"], expected.len()), (&json!(200), 0), "{file}: {sent}");
            api.delete(&format!("/api/v1/fleets/{fleet}")).expect(200);
            continue;
        };
        let run = api.wait_ended(run);
        api.delete(&format!("/api/v1/fleets/{fleet}")).expect(200);
        for (vessel, status, words) in expected {
            let output = api.output(&run, vessel);
            assert_eq!(vessel_of(&run, vessel)["status"], *status, "{file}, {vessel}: {output}");
            assert!(output.contains(words), "{file}, {vessel}: {output}");
        }
    }
}

/// The topic shows the same fleets, for a person without the source.
#[test]
fn the_runners_of_the_examples_are_those_of_the_topic() {
    let topic = include_str!("../../src/cli/help/elsewhere.md");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut seen = 0;
    for Example { file, .. } in EXAMPLES {
        let text = fs::read_to_string(examples.join(format!("{file}.yaml"))).unwrap();
        if text.contains("\nrunner:") {
            let lines = text.lines().skip_while(|line| line.starts_with('#'));
            let fleet: String = lines.map(|line| format!("{line}\n")).collect();
            assert!(topic.contains(&format!("```yaml\n{fleet}```")), "{file}.yaml is another one");
            seen += 1;
        }
    }
    assert_eq!(seen, 4);
}

#[test]
fn every_example_is_in_the_test_and_in_the_list() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let list = fs::read_to_string(examples.join("README.md")).unwrap();
    for entry in fs::read_dir(examples).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(file) = name.strip_suffix(".yaml") else { continue };
        assert!(EXAMPLES.iter().any(|example| example.file == file), "{name} is not run");
        assert!(list.contains(&format!("({name})")), "{name} is not in examples/README.md");
    }
}
