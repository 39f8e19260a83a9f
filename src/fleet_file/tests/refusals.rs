//! Files that are well-formed but describe no fleet, each with the whole message that its author
//! gets.

use super::*;

#[test]
fn invalid_files_are_refused() {
    for (yaml, message) in [
        ("", "line 1, column 1: the file is empty; a fleet needs a name"),
        ("# nothing\n", "line 2, column 1: the file is empty; a fleet needs a name"),
        ("- a\n", "line 1, column 1: expected a mapping, found a list"),
        ("name\n", "line 1, column 1: expected a mapping, found a single value"),
        (
            "vessels: {a: {run: x}}\n",
            "line 1, column 1: name: missing; give the fleet a name, as in `name: demo`",
        ),
        (
            "name:\nvessels: {a: {run: x}}\n",
            "line 1, column 1: name: expected text, found nothing; quote it if it is meant literally",
        ),
        (
            "name: n\nvessels: {a: {run: x}}\nname: m\n",
            "line 3, column 1: name: duplicate key, first seen in line 1; keep one of them",
        ),
        (
            "name: n\nvessels: {a: {run: x}}\n---\nname: m\n",
            "line 3, column 1: a second document begins; put each fleet into a file of its own",
        ),
        (
            "name: n\nvessel: {a: {run: x}}\n",
            "line 2, column 1: vessel: unknown key `vessel`; did you mean `vessels`?",
        ),
        (
            "name: n\nimage: x\n",
            "line 2, column 1: image: unknown key `image`; known here: _id, name, project, \
             vessels, connections, concurrency, concurrency_key, overlap, debounce, priority, \
             delivery, notifications, triggers, user, runner, notify, keep_runs, webhook, schedules",
        ),
        (
            "name: n\n",
            "line 1, column 1: vessels: a fleet needs at least one vessel, as in \
             `hello: {run: echo hello}`",
        ),
        (
            "name: n\nvessels: {}\n",
            "line 2, column 10: vessels: a fleet needs at least one vessel, as in \
             `hello: {run: echo hello}`",
        ),
        (
            "name: n\n_id: 6f1c\nvessels: {a: {run: x}}\n",
            "line 2, column 6: _id: not a UUID; remove `_id` to have the fleet found by its name",
        ),
        ("name: a/b\n", "line 1, column 7: name: a name cannot contain `/`; use another character"),
        (
            "name: n\nproject: 6f1c2d3e-0000-4000-8000-000000000001\n",
            "line 2, column 10: project: the name reads like a UUID and would be taken for an id; \
             choose another",
        ),
        (
            "name: n\nkeep_runs: 90\nvessels: {a: {run: x}}\n",
            "line 2, column 12: keep_runs: \"90\" does not say which runs to keep; write how long, \
             how many, or both, such as 90d, `1000 runs` or `90d, 1000 runs`, or `forever`",
        ),
        (
            "name: n\nkeep_runs: {count: 0}\nvessels: {a: {run: x}}\n",
            "line 2, column 20: keep_runs.count: expected a whole number from 1 to 1000000000",
        ),
        (
            "name: n\nkeep_runs: {}\nvessels: {a: {run: x}}\n",
            "line 2, column 12: keep_runs: says neither `age` nor `count`; to keep all, write \
             `forever`",
        ),
        (
            "name: n\nkeep_runs: {age: 0s}\nvessels: {a: {run: x}}\n",
            "line 2, column 12: keep_runs: a run is kept for 1s to 36500d; write `forever` for \
             longer",
        ),
        (
            "name: n\nconcurrency: 0\nvessels: {a: {run: x}}\n",
            "line 2, column 14: concurrency: expected a whole number of at least 1",
        ),
        (
            "name: n\nconcurrency: '2'\nvessels: {a: {run: x}}\n",
            "line 2, column 14: concurrency: expected a whole number of at least 1; remove the quotes",
        ),
        (
            "name: n\noverlap: skipp\nvessels: {a: {run: x}}\n",
            "line 2, column 10: overlap: expected one of queue, skip, replace, cancel; did you mean skip?",
        ),
        (
            "name: n\npriority: 11\nvessels: {a: {run: x}}\n",
            "line 2, column 11: priority: expected a whole number from -10 to 10",
        ),
        (
            "name: n\npriority: '1'\nvessels: {a: {run: x}}\n",
            "line 2, column 11: priority: expected a whole number from -10 to 10",
        ),
        (
            "name: n\ndelivery: at_most_one\n",
            "line 2, column 11: delivery: expected one of at_least_once, at_most_once; did you mean \
             at_most_once?",
        ),
    ] {
        assert_eq!(refusal(yaml), message, "{yaml}");
    }
}

#[test]
fn invalid_programs_are_refused() {
    assert_vessel_refusals(&[
        (
            "    guardrails: {}\n",
            "line 3, column 3: vessels.v: nothing to run; add `command` (a list of arguments), \
             `run` (a script) or `source` (a file or repository)",
        ),
        (
            "    run: x\n    command: [x]\n",
            "line 4, column 5: vessels.v.run: a vessel has either `command` or `run`; remove one \
             of them",
        ),
        (
            "    command: ./build.sh --prod\n",
            "line 4, column 14: vessels.v.command: expected a list such as [./build.sh, --prod]; \
             for a line of shell use `run`",
        ),
        (
            "    command: []\n",
            "line 4, column 14: vessels.v.command: the list is empty; its first item is the program",
        ),
        (
            "    command: ['']\n",
            "line 4, column 15: vessels.v.command[0]: the program's name is empty",
        ),
        (
            "    command: [ls, ~]\n",
            "line 4, column 19: vessels.v.command[1]: expected text, found nothing; quote it if it \
             is meant literally",
        ),
        (
            "    command: [ls, [a]]\n",
            "line 4, column 19: vessels.v.command[1]: expected text, found a list",
        ),
        (
            "    command: [ls, \"a\\0b\"]\n",
            "line 4, column 19: vessels.v.command[1]: contains a NUL, which no program can be \
             given; remove it",
        ),
        (
            "    run: ' '\n",
            "line 4, column 10: vessels.v.run: the script is empty; write what the vessel should do",
        ),
        (
            "    run: x\n    working_directory: ~/site\n",
            "line 5, column 24: vessels.v.working_directory: expected an absolute path, beginning \
             with `/` (`~` and variables are not expanded); leave it out for the run's own directory",
        ),
        (
            "    run: x\n    comand: [x]\n",
            "line 5, column 5: vessels.v.comand: unknown key `comand`; did you mean `command`?",
        ),
    ]);
    let long = "x".repeat(131_072);
    assert!(
        refusal(&format!("name: n\nvessels: {{v: {{run: {long}}}}}"))
            .contains("vessels.v.run: 131072 bytes")
    );
    assert!(parse_yaml(&format!("name: n\nvessels: {{v: {{run: {}}}}}", &long[1..])).is_ok());
}

#[test]
fn invalid_guardrails_are_refused() {
    assert_vessel_refusals(&[
        (
            "    guardrails: {retry_cuont: 2}\n    run: x\n",
            "line 4, column 18: vessels.v.guardrails.retry_cuont: unknown key `retry_cuont`; did \
             you mean `retry_count`?",
        ),
        (
            "    run: x\n    guardrails:\n      retry_count: 25\n",
            "line 6, column 20: vessels.v.guardrails.retry_count: expected a whole number from 0 \
             to 24",
        ),
        (
            "    run: x\n    guardrails: {retry_count: -1}\n",
            "line 5, column 31: vessels.v.guardrails.retry_count: expected a whole number from 0 \
             to 24",
        ),
        (
            "    run: x\n    guardrails: {retry_wait: 10}\n",
            "line 5, column 30: vessels.v.guardrails.retry_wait: \"10\" has no unit; for seconds \
             write 10s",
        ),
        (
            "    run: x\n    guardrails: {retry_wait: 1h1s}\n",
            "line 5, column 30: vessels.v.guardrails.retry_wait: longer than 1h",
        ),
        (
            "    run: x\n    guardrails: {retry_backoff: exponential}\n",
            "line 5, column 33: vessels.v.guardrails.retry_backoff: exponential doubles \
             `retry_wait` with every retry, and that is 0; set it, as in `retry_wait: 1s`",
        ),
        (
            "    run: x\n    guardrails: {retry_wait: 1s, retry_backoff: exponental}\n",
            "line 5, column 49: vessels.v.guardrails.retry_backoff: expected one of constant, \
             exponential; did you mean exponential?",
        ),
        (
            "    run: x\n    guardrails: {runtime_cutoff: -5s}\n",
            "line 5, column 34: vessels.v.guardrails.runtime_cutoff: \"-5s\" is negative; a \
             duration is at least 0s",
        ),
        (
            "    run: x\n    guardrails: {exclude_exit_code_ranges: [256]}\n",
            "line 5, column 45: vessels.v.guardrails.exclude_exit_code_ranges[0]: expected an exit \
             code from 0 to 255 or a range such as \"3-5\"",
        ),
        (
            "    run: x\n    guardrails: {exclude_exit_code_ranges: 5-3}\n",
            "line 5, column 44: vessels.v.guardrails.exclude_exit_code_ranges: the range runs \
             backwards; write \"3-5\"",
        ),
        (
            "    run: x\n    guardrails: {exclude_exit_code_ranges: [1, 5-3]}\n",
            "line 5, column 48: vessels.v.guardrails.exclude_exit_code_ranges[1]: the range runs \
             backwards; write \"3-5\"",
        ),
    ]);
    assert_eq!(
        refusal(
            "name: n\ndelivery: at_most_once\nvessels:\n  a: {run: x}\n  build:\n    run: x\n    \
             guardrails: {retry_count: 1}\n"
        ),
        "line 7, column 31: vessels.build.guardrails.retry_count: delivery at_most_once never \
         starts a vessel twice; set retry_count of `build` to 0"
    );
}

#[test]
fn invalid_environments_are_refused() {
    let null = "the value is missing; for an empty variable write \"\", and quote `~` or `null` if \
                they are meant literally";
    assert_vessel_refusals(&[
        (
            "    environment: {A: }\n    run: x\n",
            &format!("line 4, column 19: vessels.v.environment.A: {null}"),
        ),
        (
            "    environment: {A: ~}\n    run: x\n",
            &format!("line 4, column 22: vessels.v.environment.A: {null}"),
        ),
        (
            "    environment: {A-B: x}\n    run: x\n",
            "line 4, column 19: vessels.v.environment.A-B: a variable's name has letters, digits \
             and `_`, and begins with no digit; rename it",
        ),
        (
            "    environment: {SHIPYARD_LOG_ID: x}\n    run: x\n",
            "line 4, column 19: vessels.v.environment.SHIPYARD_LOG_ID: SHIPYARD_* variables are \
             set by the server; rename it",
        ),
        (
            "    environment: [{name: BOATHOOK_X, value: y}]\n    run: x\n",
            "line 4, column 26: vessels.v.environment[0].name: BOATHOOK_* variables are set by the \
             server; rename it",
        ),
        (
            "    environment:\n      - {name: A, value: a}\n      - {name: A, value: b}\n    run: x\n",
            "line 6, column 16: vessels.v.environment[1].name: duplicate variable `A`; keep one of \
             them",
        ),
        (
            "    environment: [{name: A}]\n    run: x\n",
            "line 4, column 19: vessels.v.environment[0].value: missing; for an empty variable \
             write value: \"\"",
        ),
        (
            "    environment:\n      A: x\n      A: y\n    run: x\n",
            "line 6, column 7: vessels.v.environment.A: duplicate key, first seen in line 5; keep \
             one of them",
        ),
        (
            "    environment: {A: {secret: ../a}}\n    run: x\n",
            "line 4, column 31: vessels.v.environment.A.secret: a secret's name has letters, \
             digits, `_`, `-` and `.`, and is at most 64 bytes long; it \
             is the name of its file",
        ),
        (
            "    environment: {A: {secert: a}}\n    run: x\n",
            "line 4, column 23: vessels.v.environment.A.secert: unknown key `secert`; did you mean \
             `secret`?",
        ),
        (
            "    environment: {A: {}}\n    run: x\n",
            "line 4, column 22: vessels.v.environment.A: expected a value, {secret: NAME} or {expr: EXPRESSION}",
        ),
        (
            "    environment: {A: [a]}\n    run: x\n",
            "line 4, column 22: vessels.v.environment.A: expected text, found a list",
        ),
    ]);
    let secrets: Vec<_> = (0..65).map(|index| format!("V{index}: {{secret: K}}")).collect();
    let file = |count: usize| {
        let environment = secrets[..count].join(", ");
        format!("name: n\nvessels: {{v: {{run: x, environment: {{{environment}}}}}}}")
    };
    assert!(parse_yaml(&file(64)).is_ok());
    assert!(refusal(&file(65)).contains("environment.V64: more than 64 secrets"));
    let fits = "x".repeat(131_072 - "A=\0".len());
    let file =
        |value: &str| format!("name: n\nvessels: {{v: {{run: x, environment: {{A: {value}}}}}}}");
    assert!(parse_yaml(&file(&fits)).is_ok());
    let message = refusal(&file(&format!("{fits}x")));
    assert!(message.contains("environment.A: name and value are longer"), "{message}");
    assert!(message.len() < 300, "the value was quoted");
}

#[test]
fn invalid_connections_are_refused() {
    let vessels = "name: n\nvessels: {a: {run: x}, b: {run: x}, deploy: {run: x}}\nconnections:\n";
    for (lines, message) in [
        (
            "  a: {c: SUCCESS}\n",
            "line 4, column 7: connections.a.c: unknown vessel `c`; add it under `vessels`",
        ),
        (
            "  a: {deplyo: SUCCESS}\n",
            "line 4, column 7: connections.a.deplyo: unknown vessel `deplyo`; did you mean `deploy`?",
        ),
        (
            "  nowhere: {a: SUCCESS}\n",
            "line 4, column 3: connections.nowhere: unknown vessel `nowhere`; add it under `vessels`",
        ),
        (
            "  a: b\n",
            "line 4, column 6: connections.a: expected the vessels that follow and on what \
             condition, as in `{notify: SUCCESS}`",
        ),
        (
            "  a: {b: success}\n",
            "line 4, column 10: connections.a.b: expected one of SUCCESS, ERRORED, COMPLETED; did you \
             mean SUCCESS?",
        ),
        (
            "  a: {b: }\n",
            "line 4, column 7: connections.a.b: expected one of SUCCESS, ERRORED, COMPLETED",
        ),
        (
            "  a: {b: SUCCESS}\n  b: {deploy: SUCCESS}\n  deploy: {b: ERRORED}\n",
            "line 5, column 7: connections.b.deploy: the connections form a cycle, deploy -> b -> \
             deploy; remove one of them",
        ),
        (
            "  a:\n    a: ERRORED\n",
            "line 5, column 5: connections.a.a: the connections form a cycle, a -> a; remove one \
             of them",
        ),
        (
            "  a: {b: SUCCESS}\n  a: {b: ERRORED}\n",
            "line 5, column 3: connections.a: duplicate key, first seen in line 4; keep one of them",
        ),
    ] {
        assert_eq!(refusal(&format!("{vessels}{lines}")), message);
    }
}

#[test]
fn invalid_notifications_are_refused() {
    let address = "expected an e-mail address, such as ops@example.com";
    assert_vessel_refusals(&[
        (
            "    run: x\n    notifications: {after_error: true}\n",
            "line 5, column 5: vessels.v.notifications.emails: missing; list who is to be told",
        ),
        (
            "    run: x\n    notifications: {emails: [a@b], after_error: yes}\n",
            "line 5, column 49: vessels.v.notifications.after_error: expected true or false, \
             without quotes",
        ),
        (
            "    run: x\n    notifications: {emails: [ops]}\n",
            &format!("line 5, column 30: vessels.v.notifications.emails[0]: {address}"),
        ),
        (
            "    run: x\n    notifications: {emails: [\"a@b\\r\\nBcc: c@d\"]}\n",
            &format!("line 5, column 30: vessels.v.notifications.emails[0]: {address}"),
        ),
        (
            "    run: x\n    notifications: {emails: [a@b, a@b]}\n",
            "line 5, column 35: vessels.v.notifications.emails[1]: this address comes twice; keep \
             one of them",
        ),
    ]);
    let many: Vec<_> = (0..101).map(|index| format!("a{index}@b")).collect();
    let yaml = format!(
        "name: n\nnotifications: {{emails: [{}]}}\nvessels: {{v: {{run: x}}}}\n",
        many.join(", ")
    );
    assert!(refusal(&yaml).contains("notifications.emails[100]: more than 100 addresses"));
}

#[test]
fn invalid_confinements_are_refused() {
    let below = |line: &str, message: &str| {
        let yaml = format!("name: n\nvessels:\n  v:\n    run: x\n{line}");
        assert_eq!(refusal(&yaml), format!("line {message}"));
    };
    below(
        "    limits: {memory: 1kb}\n",
        "5, column 22: vessels.v.limits.memory: not a size: \"1kb\"; write a number of bytes, or \
         one with KiB, MiB or GiB",
    );
    below(
        "    limits:\n      memory: 100\n",
        "6, column 15: vessels.v.limits.memory: less than 1048576 bytes, with which no program \
         starts",
    );
    below(
        "    limits: {cpu_time: 500ms}\n",
        "5, column 24: vessels.v.limits.cpu_time: expected a duration of whole seconds, at least 1s",
    );
    below(
        "    limits: {open_files: 2}\n",
        "5, column 26: vessels.v.limits.open_files: expected a whole number from 8 to 1073741824",
    );
    below(
        "    limits: {threads: 2}\n",
        "5, column 14: vessels.v.limits.threads: unknown key `threads`; known here: memory, \
         cpu_time, open_files, processes, file_size",
    );
    below("    nice: 20\n", "5, column 11: vessels.v.nice: expected a whole number from -20 to 19");
    for mask in ["22", "0o22", "1000", "028", "-22"] {
        below(
            &format!("    umask: {mask}\n"),
            "5, column 12: vessels.v.umask: expected three octal digits, such as 027",
        );
    }
    for user in ["\"\"", "a b", "\"root:x\"", "\"a\\0b\""] {
        assert_eq!(
            refusal(&format!("name: n\nuser: {user}\nvessels: {{v: {{run: x}}}}\n")),
            "line 2, column 7: user: expected the name of a user of this machine"
        );
    }
}

#[test]
fn invalid_turns_are_refused() {
    let below = |line: &str, message: &str| {
        let yaml = format!("name: n\nvessels: {{v: {{run: x}}}}\n{line}\n");
        assert_eq!(refusal(&yaml), format!("line 3, column {message}"));
    };
    below(
        "concurrency_key: body.ref + head",
        "18: concurrency_key: there is no variable `head`; there are: body, text, headers, query, \
         method, remote_addr, received_at, event, trigger (character 12 of the expression)",
    );
    below(
        "debounce: 0s",
        "11: debounce: no time at all; to start each run at once, remove `debounce`",
    );
    below("debounce: 25h", "11: debounce: longer than 24h");
    below(
        "debounce: {max_wait: 2m}",
        "1: debounce.wait: missing; say how long to wait for more, as in `wait: 10s`",
    );
    below("debounce: {wait: 10s, max_wait: 5s}", "33: debounce.max_wait: shorter than `wait`, 10s");
    below("debounce: {wait: 10s, max_wait: 8d}", "33: debounce.max_wait: longer than 168h");
}

#[test]
fn invalid_webhook_settings_are_refused() {
    let below = |line: &str, message: &str| {
        let yaml = format!("name: n\nvessels: {{v: {{run: x}}}}\nwebhook:\n  {line}\n");
        assert_eq!(refusal(&yaml), format!("line 4, column {message}"));
    };
    below("mode: watch", "9: webhook.mode: expected one of enforce, observe");
    below("mode: \"\"", "9: webhook.mode: expected one of enforce, observe");
    below(
        "deduplicate: on",
        "16: webhook.deduplicate: expected `off`, or a window as in {window: 3d}",
    );
    below(
        "deduplicate: {window: 0s}",
        "25: webhook.deduplicate.window: no time at all; write `deduplicate: off`",
    );
    below("deduplicate: {window: 31d}", "25: webhook.deduplicate.window: longer than 720h");
    below(
        "deduplicate: {ids: x}",
        "17: webhook.deduplicate.ids: unknown key `ids`; did you mean `id`?",
    );
    below(
        "deduplicate: {id: body.id +}",
        "21: webhook.deduplicate.id: mismatched input '<EOF>' expecting expression (character 10 of \
         the expression)",
    );
    below("allow: 192.0.2.7", "10: webhook.allow: expected a list, found a single value");
    below(
        "allow: [10.0.0.0/8, 10.0.0.1/8]",
        "23: webhook.allow[1]: \"10.0.0.1/8\" is an address within 10.0.0.0/8; write that, or the \
         address alone",
    );
    below("respond: thanks", "12: webhook.respond: expected a mapping, found a single value");
    below(
        "respond: {}",
        "12: webhook.respond: says nothing; write {status: 200, body: thanks} or {wait: 25s}",
    );
    below("respond: {wait: 301s}", "19: webhook.respond.wait: longer than 5m");
    below(
        "respond: {wait: 0s}",
        "19: webhook.respond.wait: no time at all; without `respond`, senders get the ids at once",
    );
    below(
        "respond: {wait: 1s, body: x}",
        "23: webhook.respond.body: is for an answer that is always the same; with `wait` the vessel answers",
    );
    below(
        "respond: {wait: 1s, vessel: w}",
        "31: webhook.respond.vessel: there is no vessel \"w\"; there are v",
    );
    below(
        "respond: {status: 100}",
        "21: webhook.respond.status: expected a whole number from 200 to 599",
    );
    below("respond: {status: 304, body: x}", "32: webhook.respond.body: an answer 304 has no body");
    below(
        "respond: {content_type: text}",
        "27: webhook.respond.content_type: no type of content; write one such as text/plain",
    );
    let many = vec!["10.0.0.1"; 65].join(", ");
    below(&format!("allow: [{many}]"), "10: webhook.allow: at most 64 networks");
    below(
        "rate_limit: fast",
        "15: webhook.rate_limit: not a rate: \"fast\"; write a number from 1 to 1000000 per s, m, h \
         or d, such as 100/m, or 100/m burst 20 (a burst is at most what a year allows)",
    );
    below(
        "answer: {status: 200}",
        "3: webhook.answer: unknown key `answer`; known here: verify, mode, deduplicate, when, respond, allow, rate_limit, keep_path",
    );
}

#[test]
fn invalid_checks_of_senders_are_refused() {
    let below = |value: &str, message: &str| {
        let yaml = format!("name: n\nvessels: {{v: {{run: x}}}}\nwebhook:\n  verify: {value}\n");
        let refusal = refusal(&yaml);
        assert!(refusal.starts_with("line 4, column ") && refusal.contains(message), "{refusal}");
    };
    below("github", "webhook.verify: expected a preset and its secret");
    below("[]", "webhook.verify: the list is empty");
    below(
        "{preset: githbu, secret: A}",
        "preset: no such preset; did you mean github? there are asana,",
    );
    below(
        "{preset: sns, secret: A}",
        "preset: `sns` is not supported yet: Amazon SNS signs with certificates",
    );
    below("{preset: github}", "webhook.verify.secret: missing; name the secret");
    below("{preset: github, secret: []}", "webhook.verify.secret: the list is empty");
    below("{preset: github, secret: \"a b\"}", "write its name here, never its value");
    below("{preset: github, secret: A, tolerance: 5m}", "unknown key `tolerance`");
    below("{preset: mailchimp, secret: A}", "unknown key `secret`");
    below(
        "{preset: header, secret: A}",
        "webhook.verify.name: missing; the preset `header` needs it",
    );
    below("{preset: stripe, secret: A, tolerance: 0s}", "tolerance: no time at all");
    below(
        "{preset: grafana, secret: A, tolerance: 5m}",
        "tolerance: belongs to a `timestamp_header`",
    );
    below("{secret: A, signed: \"{body}\"}", "webhook.verify.header: missing; name a `preset`, or");
    below("{header: X, secret: A}", "webhook.verify.signed: missing; say what is signed");
    below("{header: X, secret: A, signed: \"{ts}\"}", "webhook.verify.signed: ");
    below("{header: X, secret: A, signed: \"{boby}\"}", "webhook.verify.signed: ");
    below("{header: X, secret: A, signed: \"{ts}{body}\"}", "has {ts}; say where that stands");
    below("{header: X, secret: A, signed: \"{id}{body}\"}", "has {id}; say where that stands");
    below("{header: \"X Y\", secret: A, signed: \"{body}\"}", "header: no name of a header");
    below(
        "{header: X, secret: A, signed: \"{body}\", algorithm: md5}",
        "algorithm: expected one of sha256, sha1, sha512, ed25519, ecdsa-p256",
    );
    below(
        "{header: X, secret: A, signed: \"{body}\", encoding: raw}",
        "expected one of hex, base64",
    );
    below(
        "{header: X, secret: A, signed: \"{body}\", algorithm: ed25519, key: hex}",
        "key: is for HMAC",
    );
    below(
        "{header: X, secret: A, signed: \"{body}\", timestamp: {header: T}}",
        "timestamp: is not signed, so that anyone could change it",
    );
    below(
        "{header: X, secret: A, signed: \"{body}\", event_id: {body: a..b}}",
        "event_id.body: expected the way to a field",
    );
    below("{preset: github, secret: [A, B, C, D, E, F, G, H, I]}", "more than 8 secrets");
}

#[test]
fn only_a_file_with_the_key_has_webhook_settings() {
    let read = |line: &str| {
        let file = parse_yaml(&format!("name: n\nvessels: {{v: {{run: x}}}}\n{line}")).unwrap();
        (file.has_webhook_settings, file.definition.webhook)
    };
    let usual = WebhookSettings::default;
    assert_eq!(read(""), (false, usual()));
    for empty in ["webhook:\n", "webhook: {}\n", "webhook: {allow: [], rate_limit: null}\n"] {
        assert_eq!(read(empty), (true, usual()), "{empty}");
    }
    let (has_settings, settings) = read("webhook: {deduplicate: {window: 3d}, rate_limit: 9/s}\n");
    assert!(has_settings && settings.allow.is_empty());
    assert_eq!(settings.deduplicate.window(), Some(Duration::from_secs(259_200)));
    assert_eq!(settings.rate_limit, Some("9/s".parse().unwrap()));
    assert_eq!(read("webhook: {deduplicate: off}\n").1.deduplicate.window(), None);
    assert_eq!(usual().deduplicate.window(), Some(Duration::from_secs(259_200)));
}
