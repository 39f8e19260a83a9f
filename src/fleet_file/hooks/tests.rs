use super::*;
use crate::fleet_file::{FleetFile, parse_yaml};

fn imported_with(text: &str, wishes: &Wishes) -> ImportedHooks {
    let environment = |name: &str| (name == "SET").then(|| "from \"here\"".to_owned());
    import_hooks(text, wishes, &environment).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn imported(text: &str) -> ImportedHooks {
    imported_with(text, &Wishes::default())
}

/// The only hook of a file, which is carried over.
fn fleet(text: &str) -> (FleetFile, Vec<String>) {
    let hook = imported(text).hooks.pop().unwrap();
    let yaml = hook.yaml.unwrap_or_else(|| panic!("{:?}", hook.notes));
    let notes = hook.notes.into_iter().map(|note| format!("{}: {}", note.line, note.message));
    (parse_yaml(&yaml).unwrap(), notes.collect())
}

/// What keeps the only hook of a file from being carried over.
fn refusal(text: &str) -> String {
    let hook = imported(text).hooks.pop().unwrap();
    assert!(hook.yaml.is_none(), "{:?}", hook.yaml);
    let refusals = hook.notes.into_iter().filter(|note| note.is_refusal);
    let refusals: Vec<_> =
        refusals.map(|note| format!("{}: {}", note.line, note.message)).collect();
    refusals.join("; ")
}

/// A hook with this rule, which is YAML in the flow style.
fn with_rule(rule: &str) -> String {
    format!("- id: x\n  execute-command: /bin/true\n  trigger-rule: {rule}\n")
}

const SIGNED: &str = "{match: {type: payload-hmac-sha256, secret: s1, parameter: {source: header, \
                      name: X-Hub-Signature-256}}}";

fn value(source: &str, name: &str, value: &str) -> String {
    format!(
        "{{match: {{type: value, value: '{value}', parameter: {{source: {source}, name: {name}}}}}}}"
    )
}

/// The settings that a rule becomes: verify as JSON, allow, when.
fn settings(rule: &str) -> (String, Vec<String>, String) {
    let webhook = fleet(&with_rule(rule)).0.definition.webhook;
    let verify = webhook.verify.map(|it| serde_json::to_string(&it).unwrap()).unwrap_or_default();
    let when = webhook.when.map(|it| it.text().to_owned()).unwrap_or_default();
    (verify, webhook.allow.texts().collect(), when)
}

#[test]
fn rules_become_checks_networks_and_expressions() {
    let github = r#"{"preset":"github","secret":"X_SECRET"}"#;
    let main = value("payload", "ref", "refs/heads/main");
    let push = value("header", "X-GitHub-Event", "push");
    let address = "{match: {type: ip-whitelist, ip-range: '192.0.2.0/24 2001:db8::1'}}";
    let is_main = r#"body.ref == "refs/heads/main""#;
    let is_push = r#"headers["x-github-event"] == "push""#;
    let both_networks = vec!["192.0.2.0/24", "2001:db8::1/128"];
    for (rule, verify, allow, when) in [
        (main.clone(), "", vec![], is_main.to_owned()),
        (SIGNED.to_owned(), github, vec![], String::new()),
        (address.to_owned(), "", both_networks.clone(), String::new()),
        (
            format!("{{and: [{SIGNED}, {main}, {{and: [{push}, {address}]}}]}}"),
            github,
            both_networks.clone(),
            format!("{is_main} && {is_push}"),
        ),
        (
            format!("{{and: [{SIGNED}, {{or: [{main}, {push}]}}]}}"),
            github,
            vec![],
            format!("{is_main} || {is_push}"),
        ),
        (
            format!("{{or: [{{and: [{SIGNED}, {main}]}}, {{and: [{push}, {SIGNED}]}}]}}"),
            github,
            vec![],
            format!("{is_main} || {is_push}"),
        ),
        (format!("{{or: [{{and: [{SIGNED}, {main}]}}, {SIGNED}]}}"), github, vec![], String::new()),
        (
            format!("{{not: {{or: [{main}, {push}]}}}}"),
            "",
            vec![],
            format!("!({is_main} || {is_push})"),
        ),
        (
            format!("{{or: [{SIGNED}, {}]}}", SIGNED.replace("s1", "s2")),
            r#"{"preset":"github","secret":["X_SECRET","X_SECRET_2"]}"#,
            vec![],
            String::new(),
        ),
        (
            value("header", "X-Gitlab-Token", "t"),
            r#"{"preset":"gitlab","secret":"X_SECRET"}"#,
            vec![],
            String::new(),
        ),
        (
            value("url", "token", "42"),
            r#"{"preset":"query","name":"token","secret":"X_SECRET"}"#,
            vec![],
            String::new(),
        ),
        (
            value("header", "Authorization", "Bearer abc"),
            r#"{"preset":"bearer","secret":"X_SECRET"}"#,
            vec![],
            String::new(),
        ),
        (
            value("payload", "object_attributes.0.iid", "5"),
            "",
            vec![],
            r#"(body.object_attributes[0].iid == "5" || body.object_attributes[0].iid == 5)"#
                .to_owned(),
        ),
        (value("request", "method", "POST"), "", vec![], r#"method == "POST""#.to_owned()),
    ] {
        let expected = (verify.to_owned(), allow.into_iter().map(str::to_owned).collect(), when);
        assert_eq!(settings(&rule), expected, "{rule}");
    }
    let (verify, ..) = settings(&SIGNED.replace("X-Hub-Signature-256", "X-My"));
    let scheme = |prefix: &str| {
        format!(
            r#"{{"header":"X-My",{prefix}"signed":"{{body}}","algorithm":"sha256","encoding":"hex","secret":"X_SECRET"}}"#
        )
    };
    assert_eq!(verify, format!("[{},{}]", scheme(r#""prefix":"sha256=","#), scheme("")));
}

#[test]
fn a_rule_that_cannot_be_carried_over_is_refused_with_its_line() {
    let main = value("payload", "ref", "main");
    for (rule, expected) in [
        ("{match: {type: scalr-signature, secret: s}}".to_owned(), "3: scalr-signature"),
        (format!("{{or: [{SIGNED}, {main}]}}"), "3: `or` between signatures"),
        (format!("{{not: {SIGNED}}}"), "3: `not` around"),
        (format!("{{and: [{SIGNED}, {}]}}", SIGNED.replace("s1", "s2")), "a second signature"),
        ("{}".to_owned(), "never holds"),
        (SIGNED.replace("secret: s1, ", ""), "no `secret`"),
        (SIGNED.replace("s1", "''"), "an empty secret"),
        (SIGNED.replace("header", "payload"), "does not stand in a header"),
        (SIGNED.replace("sha256,", "md5,"), "`payload-hmac-md5` is not known"),
        (
            SIGNED.replace("name:", "headers-to-add-to-signature-payload: [Date], name:"),
            "signature over headers",
        ),
        ("{match: {type: ip-whitelist, ip-range: x}}".to_owned(), "3: "),
        (
            "{match: {type: regex, regex: '(', parameter: {source: payload, name: a}}}".to_owned(),
            "the pattern is not understood",
        ),
        (value("payload", "app.#text", "a"), "place in XML"),
        (value("context", "a", "a"), "pre-hook-command"),
    ] {
        let refusal = refusal(&with_rule(&rule));
        assert!(refusal.contains(expected), "{rule}: {refusal}");
    }
}

#[test]
fn a_not_is_noted_because_a_part_that_is_missing_makes_it_false() {
    let hook = |rule: &str| imported(&with_rule(rule)).hooks.pop().unwrap();
    let has_note = |rule: &str| {
        let hook = hook(rule);
        assert!(hook.yaml.is_some(), "{hook:?}");
        hook.notes.iter().any(|note| note.line == 3 && note.message.contains("|| !has(...)"))
    };
    let main = value("payload", "ref", "main");
    assert!(has_note(&format!("{{or: [{{not: {main}}}, {main}]}}")));
    assert!(has_note(&format!("{{not: {main}}}")) && !has_note(&main));
}

/// No payload passes the filter by its form: a filter that fails lets a request run.
#[test]
fn conditions_hold_for_what_the_project_takes_and_fail_for_nothing() {
    use crate::model::event::Event;
    use crate::model::expression::{EvaluationError, Payload, Variables};
    let regex = |pattern: &str| {
        format!(
            "{{match: {{type: regex, regex: '{pattern}', parameter: {{source: payload, name: a.b}}}}}}"
        )
    };
    let odd = [
        "",
        "1",
        "[]",
        "{}",
        "{\"a\": 1}",
        "{\"a\": {\"b\": {}}}",
        "{\"a\": {\"b\": []}}",
        "{\"a\": {\"b\": null}}",
        "{\"a\": [1]}",
        "not json",
        "{\"a\": {\"b\": \"no\"}}",
    ];
    for (rule, taken, refused) in [
        (value("payload", "a.b", "x"), vec![r#"{"a": {"b": "x"}}"#], r#"{"a": {"b": "y"}}"#),
        (
            value("payload", "a.b", "5"),
            vec![r#"{"a": {"b": "5"}}"#, r#"{"a": {"b": 5}}"#],
            r#"{"a": {"b": 6}}"#,
        ),
        (
            value("payload", "a.b", "true"),
            vec![r#"{"a": {"b": true}}"#, r#"{"a": {"b": "true"}}"#],
            r#"{"a": {"b": false}}"#,
        ),
        (
            regex("^[0-9x]+$"),
            vec![
                r#"{"a": {"b": "x"}}"#,
                r#"{"a": {"b": 17}}"#,
                r#"{"a": {"b": 18446744073709551615}}"#,
            ],
            r#"{"a": {"b": 1.5}}"#,
        ),
        (
            format!(
                "{{or: [{}, {}]}}",
                value("payload", "none", "x"),
                value("payload", "a.b", "x")
            ),
            vec![r#"{"a": {"b": "x"}}"#],
            r#"{"none": "y"}"#,
        ),
    ] {
        let (_, _, when) = settings(&rule);
        let when = crate::model::expression::Expression::parse(&when).unwrap();
        let truth = |body: &str| {
            let payload = Payload::parse(body.as_bytes(), None);
            when.is_true(&Variables::new(payload, [], "", &Event::default()))
        };
        for body in taken {
            assert_eq!(truth(body), Ok(true), "{} of {body}", when.text());
        }
        for body in odd.into_iter().chain([refused]) {
            let truth = truth(body);
            let is_unwanted = matches!(truth, Ok(false) | Err(EvaluationError::Missing(_)));
            assert!(is_unwanted, "{} of {body}: {truth:?}", when.text());
        }
    }
}

#[test]
fn a_command_gets_arguments_variables_and_files() {
    let text = r#"[{
  "id": "deploy",
  "execute-command": "deploy.sh",
  "command-working-directory": "/srv/site",
  "pass-arguments-to-command": [
    {"source": "string", "name": "--now"},
    {"source": "payload", "name": "head_commit.id"},
    {"source": "header", "name": "X-GitHub-Event"},
    {"source": "url", "name": "a b"},
    {"source": "entire-payload"},
    {"source": "template", "name": "{{ .Payload.ref }}-{{- .Query.q }}"}
  ],
  "pass-environment-to-command": [
    {"source": "payload", "name": "pusher.name"},
    {"source": "payload", "name": "in.x", "envname": "IN"}
  ],
  "pass-file-to-command": [
    {"source": "raw-request-body", "envname": "BODY"},
    {"source": "payload", "name": "data", "base64decode": true}
  ],
  "trigger-signature-soft-failures": true,
  "http-methods": ["post", "GET"],
  "unknown": 1
}]"#;
    let hook = imported(text).hooks.pop().unwrap();
    let yaml = hook.yaml.unwrap();
    let (_, yaml) = yaml.split_once("\nname:").unwrap();
    let script = "set -e; umask 077; BODY=\\\"${SHIPYARD_WEBHOOK_BODY_FILE-}\\\"; export BODY; \
                  HOOK_DATA=\\\"$SHIPYARD_LOG_WORKDIR/hook-file-1\\\"; export HOOK_DATA; printf %s \
                  \\\"${HOOK_FILE_CONTENT_1-}\\\" | base64 -d > \\\"$HOOK_DATA\\\"; unset \
                  HOOK_FILE_CONTENT_1; exec \\\"$0\\\" \\\"$@\\\"";
    let expected = format!(
        r#" deploy
vessels:
  hook:
    command:
      - /bin/sh
      - -c
      - "{script}"
      - ./deploy.sh
      - --now
      - {{expr: body.head_commit.id, default: ""}}
      - {{expr: "headers[\"x-github-event\"]", default: ""}}
      - {{expr: "query[\"a b\"]", default: ""}}
      - {{expr: body, default: ""}}
      - {{expr: "string(body.ref) + \"-\" + query.q", default: ""}}
    working_directory: /srv/site
    environment:
      HOOK_pusher_name: {{expr: body.pusher.name}}
      IN: {{expr: "body[\"in\"].x"}}
      HOOK_FILE_CONTENT_1: {{expr: body.data}}
"#
    );
    assert_eq!(yaml, expected);
    let notes: Vec<_> = hook.notes.iter().map(|it| (it.line, it.message.as_str())).collect();
    let has = |line, part: &str| notes.iter().any(|(at, text)| *at == line && text.contains(part));
    assert!(has(14, "HOOK_pusher_name") && has(18, "directory of the run"), "{notes:?}");
    assert!(has(19, "128 KiB") && has(22, "GET gets 405") && has(23, "`unknown`"), "{notes:?}");
    assert!(!has(18, "128 KiB") && has(21, "soft-failures is not carried over"), "{notes:?}");
}

#[test]
fn what_is_wrong_with_a_hook_is_said_with_its_line() {
    for (keys, expected) in [
        ("execute-command: /bin/true", "1: the hook has no id"),
        ("id: x", "1: the hook has no execute-command"),
        ("id: x\n  execute-command: a\n  command-working-directory: b", "3: the working directory"),
        ("id: x\n  execute-command: a\n  http-methods: [GET]", "3: POST alone"),
        ("id: x\n  execute-command: a\n  pre-hook-command: b", "3: pre-hook-command"),
        (
            "id: x\n  execute-command: a\n  parse-parameters-as-json: [{source: url, name: p}]",
            "`p` is not parsed",
        ),
        (
            "id: x\n  execute-command: a\n  pass-arguments-to-command: [{source: template, name: \
             '{{ range .Payload.a }}{{ end }}'}]",
            "this template decides more",
        ),
        ("id: x\n  execute-command: a\n  success-http-response-code: 99", "`99` is no status"),
        ("id: 123e4567-e89b-12d3-a456-426614174000\n  execute-command: a", "1: name: "),
        (
            "id: x\n  execute-command: a\n  pass-environment-to-command: [{source: string, name: v, \
             envname: BOATHOOK_X}]",
            "BOATHOOK_",
        ),
    ] {
        let refusal = refusal(&format!("- {keys}\n"));
        assert!(refusal.contains(expected), "{keys}: {refusal}");
    }
    let twice = imported("- {id: a/b, execute-command: /x}\n- {id: a-b, execute-command: /x}\n");
    assert!(twice.hooks[0].yaml.is_some() && twice.hooks[1].yaml.is_none());
    assert!(twice.hooks[1].notes.iter().any(|note| note.message.contains("line 1 is the fleet")));
    let environment = |_: &str| None;
    for text in ["", "id: x", "- &a {id: x}", "[{\"id\": {{ getenv \"X\" }}"] {
        assert!(import_hooks(text, &Wishes::default(), &environment).is_err(), "{text}");
    }
}

#[test]
fn a_template_gives_secrets_by_name_and_other_texts_by_value() {
    let text = r#"[{
  "id": "x", "execute-command": "/srv/{{ getenv "SET" | js }}",
  {{/* a comment */}}
  "trigger-rule": {"and": [
    {"match": {"type": "payload-hmac-sha1", "secret": "{{ getenv "HOOK_SECRET" | js }}",
      "parameter": {"source": "header", "name": "X-Hub-Signature"}}},
    {"match": {"type": "value", "value": "main", "parameter": {"source": "payload", "name": "ref"}}}
  ]}
}]"#;
    let wishes = Wishes { is_template: true, keep_paths: true, ..Wishes::default() };
    let imported = imported_with(text, &wishes);
    let yaml = imported.hooks[0].yaml.as_deref().unwrap_or_else(|| panic!("{imported:?}"));
    assert!(yaml.contains(r#"- "/srv/from \"here\"""#), "{yaml}");
    let verify = "{header: X-Hub-Signature, prefix: \"sha1=\", signed: \"{body}\", algorithm: sha1, \
                  encoding: hex, secret: HOOK_SECRET}";
    assert!(yaml.contains(verify) && yaml.contains("keep_path: true"), "{yaml}");
    let [secret] = imported.secrets.as_slice() else { panic!("{imported:?}") };
    assert_eq!((secret.name.as_str(), secret.line), ("HOOK_SECRET", 5));
    assert_eq!(secret.source, SecretSource::Variable("HOOK_SECRET".to_owned(), None));

    let environment = |_: &str| None;
    let failed = |text: &str| import_hooks(text, &wishes, &environment).unwrap_err().to_string();
    assert!(failed("a\n{{ range .x }}").contains("line 2, column 1: of a file's template"));
    assert!(failed("{{ getenv").contains("does not end"));
    let untold = imported_with(
        "[{\"id\": \"{{ getenv \"NONE\" }}\", \"execute-command\": \"/x\"}]",
        &wishes,
    );
    assert!(
        untold.hooks[0].notes.iter().any(|it| it.message.contains("NONE is not set here")),
        "{untold:?}"
    );
    let unaware = import_hooks(text, &Wishes::default(), &environment).unwrap_err().to_string();
    assert!(unaware.contains("--template"), "{unaware}");
}

#[test]
fn secrets_leave_the_file_and_have_one_name_each() {
    let hook = |id: &str, secret: &str| {
        format!(
            "- id: {id}\n  execute-command: /x\n  trigger-rule: {}\n",
            SIGNED.replace("s1", secret)
        )
    };
    let text =
        [hook("a", "one"), hook("b-c", "one"), hook("a!", "two"), hook("a?", "three")].concat();
    let imported = imported(&text);
    let names: Vec<_> = imported.secrets.iter().map(|it| (it.name.as_str(), it.line)).collect();
    assert_eq!(names, [("A_SECRET", 3), ("A__SECRET", 9), ("A__SECRET_2", 12)]);
    for hook in &imported.hooks {
        let yaml = hook.yaml.as_deref().unwrap();
        assert!(!["one", "two", "three"].iter().any(|it| yaml.contains(it)), "{yaml}");
    }
    assert!(!format!("{imported:?}").contains("three"));
}

/// What the loader of the project takes and no fleet can be: nothing panics.
#[test]
fn odd_files_end_in_words() {
    let pieces = [
        "[",
        "]",
        "{",
        "}",
        "\"id\":",
        "- id: x\n",
        "{{",
        "}}",
        "execute-command: y\n",
        ",",
        "\"match\": {\"type\": \"value\"}",
        "trigger-rule:\n",
        "  and:\n",
        "  - ",
        "not: ",
        "null",
        "\u{e000}0\u{e001}",
        "\u{e000}",
        "{{ getenv \"SET\" }}",
        "é",
        "\n",
        "pass-arguments-to-command: [1]\n",
    ];
    let mut random = fastrand::Rng::with_seed(17);
    for _ in 0..5_000 {
        let count = random.usize(1..12);
        let text: String = (0..count).map(|_| pieces[random.usize(..pieces.len())]).collect();
        for is_template in [false, true] {
            let wishes = Wishes { is_template, keep_paths: true, ..Wishes::default() };
            let _ = import_hooks(&text, &wishes, &|_| Some("v".to_owned()));
        }
    }
}
