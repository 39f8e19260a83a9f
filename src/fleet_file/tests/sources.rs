//! Fleets of the hosted system: supported ones are read, the rest is refused by name.

use super::*;
use crate::model::package::Package;
use crate::model::source::{Argument, CloneLocation, Code, GitSource, Language, Origin};
use crate::model::variable::SecretName;

/// Every key that the hosted system writes for a fleet of CODE vessels.
const HOSTED: &str = r#"
name: Example Fleet
_id: 6f1c2d3e-0000-4000-8000-000000000001
vessels:
  First:
    _id: 6f1c2d3e-0000-4000-8000-000000000002
    source:
      type: CODE
      language: PYTHON
      version: 3.10
      file: {name: script.py, content: "print('hi')"}
      file_to_run: script.py
      arguments: [{key: --columns, value: 3.10}, {key: --split}, {value: yes}]
      environment: [{name: A, value: 007}, {name: B, value: {secret: KEY}}]
      packages: [{name: "requests[socks]", version: "==2.0"}, {name: numpy, version: ""}]
      system_packages: [{name: jq}]
    guardrails: {retry_count: 3, retry_wait: 5m0s, runtime_cutoff: 15m0s, exclude_exit_code_ranges: [2, "3-5"]}
    notifications: {emails: [a@example.com], after_error: true, after_on_demand: false}
  Second:
    source:
      type: CODE
      language: BASH
      git: {repository: owner/repo, checkout_point: main, clone_location: CWD}
      file_to_run: run.sh
      packages: []
      system_packages:
connections:
  First: {Second: SUCCESS}
triggers:
  schedules: []
notifications: {emails: [b@example.com], after_error: true}
"#;

fn source_refusal(lines: &str) -> String {
    let indented: String = lines.lines().map(|line| format!("      {line}\n")).collect();
    refusal(&format!("name: n\nvessels:\n  v:\n    source:\n{indented}"))
}

#[test]
fn a_fleet_of_the_hosted_system_is_read() {
    let fleet = parse_yaml(HOSTED).unwrap().definition;
    let [first, second] = &fleet.vessels[..] else { panic!("{:?}", fleet.vessels) };
    let argument = |key: Option<&str>, value: Option<&str>| Argument {
        key: key.map(str::to_owned),
        value: value.map(str::to_owned),
    };
    let expected = Code {
        language: Language::Python,
        version: Some("3.10".into()),
        origin: Origin::File { name: "script.py".into(), content: "print('hi')".into() },
        file_to_run: "script.py".into(),
        arguments: vec![
            argument(Some("--columns"), Some("3.10")),
            argument(Some("--split"), None),
            argument(None, Some("yes")),
        ],
        packages: vec![
            Package { name: "requests[socks]".into(), version: Some("==2.0".into()) },
            Package { name: "numpy".into(), version: None },
        ],
        system_packages: vec!["jq".into()],
    };
    assert_eq!(first.program, Program::Code(Box::new(expected)));
    let secret = VariableValue::from(SecretName::try_from("KEY".to_owned()).unwrap());
    assert_eq!(first.environment, [("A".into(), "007".into()), ("B".into(), secret)]);
    assert_eq!(first.guardrails.retry_wait, Duration::from_secs(300));
    let told = first.notifications.as_ref().unwrap();
    assert_eq!(
        (told.emails.as_slice(), told.after_error),
        (&["a@example.com".to_owned()][..], true)
    );
    let Program::Code(code) = &second.program else { panic!() };
    let expected = GitSource {
        repository: "owner/repo".into(),
        checkout_point: Some("main".into()),
        clone_location: CloneLocation::Cwd,
    };
    assert_eq!(code.origin, Origin::Git(expected));
    assert!(!fleet.notifications.unwrap().after_on_demand);
}

#[test]
fn a_source_is_written_in_the_hosted_form() {
    let written = to_yaml(&parse_yaml(HOSTED).unwrap().definition, "default", None);
    let expected = r#"name: Example Fleet
project: default
vessels:
  First:
    source:
      type: CODE
      language: PYTHON
      version: "3.10"
      file:
        name: script.py
        content: "print('hi')"
      file_to_run: script.py
      arguments:
        - {key: --columns, value: "3.10"}
        - {key: --split}
        - {value: "yes"}
      packages:
        - {name: "requests[socks]", version: "==2.0"}
        - {name: numpy}
      system_packages:
        - {name: jq}
      environment:
        - name: A
          value: "007"
        - name: B
          value: {secret: KEY}
    guardrails:
      retry_count: 3
      retry_wait: 5m
      runtime_cutoff: 15m
      exclude_exit_code_ranges: [2, "3-5"]
    notifications:
      emails: [a@example.com]
      after_error: true
  Second:
    source:
      type: CODE
      language: BASH
      git:
        repository: owner/repo
        checkout_point: main
        clone_location: CWD
      file_to_run: run.sh
connections:
  First:
    Second: SUCCESS
notifications:
  emails: [b@example.com]
  after_error: true
"#;
    assert_eq!(written, expected);
}

#[test]
fn references_to_secrets_are_found_with_their_places() {
    let yaml = r##"
name: n
vessels:
  v:
    source:
      type: CODE
      language: BASH
      file: {name: a.sh, content: "echo #{NO.CODE}"}
      arguments: [{key: "--a=#{DB.USER}", value: "#{DB.PASS}"}, {value: "#{DB.PASS}"}]
      environment: [{name: A, value: "#{API.KEY}"}, {name: B, value: "#{no}"}]
  own: {run: "echo", environment: {C: "#{STAYS.TEXT}"}}
"##;
    let file = parse_yaml(yaml).unwrap();
    let found: Vec<_> =
        file.references.iter().map(|it| (it.secret.as_str(), it.missing.to_string())).collect();
    let error = |position: &str, key: &str, name: &str| {
        format!(
            "line {position}: vessels.v.source.{key}: there is no secret `{name}`; set it: \
             boathook secret set {name}"
        )
    };
    assert_eq!(
        found,
        [
            ("API.KEY", error("10, column 38", "environment[0].value", "API.KEY")),
            ("DB.PASS", error("9, column 50", "arguments[0].value", "DB.PASS")),
            ("DB.USER", error("9, column 25", "arguments[0].key", "DB.USER")),
        ]
    );
    let vessels = &file.definition.vessels;
    let secret = VariableValue::from(SecretName::try_from("API.KEY".to_owned()).unwrap());
    assert_eq!(vessels[0].environment, [("A".into(), secret), ("B".into(), "#{no}".into())]);
    assert_eq!(vessels[1].environment, [("C".into(), "#{STAYS.TEXT}".into())]);
    let used: Vec<_> = file.definition.secret_uses().map(|it| it.secret.into_owned()).collect();
    let used: Vec<_> = used.iter().map(SecretName::as_str).collect();
    assert_eq!(used, ["API.KEY", "DB.PASS", "DB.USER"]);
    let part = yaml.replace("\"#{API.KEY}\"", "\"key=#{API.KEY}\"");
    assert!(refusal(&part).contains("a variable is a secret as a whole, as in `#{API.KEY}`"));
}

#[test]
fn invalid_sources_are_refused() {
    const FILE: &str = "file: {name: a, content: x}";
    for (lines, message) in [
        ("language: BASH\n", "type: missing; write CODE"),
        ("type: BLUEPRINT\nblueprint: x\n", "type: blueprints are programs of the hosted system"),
        ("type: CODE\ninputs: {}\n", "inputs: belongs to a BLUEPRINT"),
        ("type: CODE\n", "language: missing; expected one of BASH, PYTHON, NODE"),
        ("type: CODE\nlanguage: PYTON\n", "did you mean PYTHON?"),
        ("type: CODE\nlanguage: BASH\n", "source: no code; add `file`"),
        ("type: CODE\nlanguage: BASH\nfile: {name: a}\n", "source.file.content: missing"),
        ("type: CODE\nlanguage: BASH\nfile: {content: a}\n", "source.file.name: missing"),
        (&format!("type: CODE\nlanguage: BASH\nversion: five\n{FILE}\n"), "expected a version"),
        (&format!("type: CODE\nlanguage: NODE\nversion: 1.2.3.4\n{FILE}\n"), "expected a version"),
        (&format!("type: CODE\nlanguage: PYTHON\nversion: 3.9.1\n{FILE}\n"), "version of Python"),
        (&format!("type: CODE\nlanguage: PYTHON\nversion: ../x\n{FILE}\n"), "version of Python"),
        (
            &format!("type: CODE\nlanguage: BASH\n{FILE}\npackages: [{{name: requests}}]\n"),
            "line 8, column 7: vessels.v.source.packages: `packages` are those of PYTHON and NODE",
        ),
        (
            &format!("type: CODE\nlanguage: PYTHON\n{FILE}\npackages: [{{name: --index-url}}]\n"),
            "source.packages[0].name: expected the name of a package of PyPI",
        ),
        (
            &format!(
                "type: CODE\nlanguage: NODE\n{FILE}\npackages: [{{name: a, version: 'file:../a'}}]\n"
            ),
            "source.packages[0].version: expected a version of npm",
        ),
        (
            &format!("type: CODE\nlanguage: BASH\n{FILE}\nsystem_packages: [{{name: a b}}]\n"),
            "source.system_packages[0].name: expected the name of a Debian package",
        ),
        (
            &format!(
                "type: CODE\nlanguage: BASH\n{FILE}\nsystem_packages: [{{name: jq, version: '1'}}]\n"
            ),
            "source.system_packages[0].version: the version of a system package is apt's",
        ),
        (&format!("type: CODE\nlanguage: BASH\n{FILE}\ngit: {{}}\n"), "either `file` or `git`"),
        (&format!("type: CODE\nlanguage: BASH\n{FILE}\narguments: [{{}}]\n"), "expected a `key`"),
        (
            &format!("type: CODE\nlanguage: BASH\n{FILE}\narguments: [{{kee: a}}]\n"),
            "arguments[0].kee: unknown key `kee`; did you mean `key`?",
        ),
        (&format!("type: CODE\nlanguge: BASH\n{FILE}\n"), "did you mean `language`?"),
        (
            "type: CODE\nlanguage: BASH\ngit: {repository: a/b}\n",
            "file_to_run: missing; name the file of the repository",
        ),
    ] {
        let refusal = source_refusal(lines);
        assert!(refusal.contains(message), "{lines}{refusal}");
        assert!(refusal.starts_with("line ") && refusal.contains("vessels.v.source"), "{refusal}");
    }
    let twice = "    source: {type: CODE, language: BASH, file: {name: a, content: x}, \
                 environment: []}\n    environment: {}\n";
    assert_vessel_refusals(&[
        (
            twice,
            "line 5, column 5: vessels.v.environment: the variables are in `source` already; keep \
             them in one place",
        ),
        (
            "    run: x\n    source: {}\n",
            "line 5, column 5: vessels.v.source: a vessel has either `run` or `source`; remove one \
             of them",
        ),
    ]);
}

#[test]
fn files_stay_in_the_runs_directory() {
    for name in ["../x", "/x", "a/../b", "a/b", "..", ".", "-x", "\"\"", "\"a\\nb\"", "\"a\\0\""] {
        let lines = format!("type: CODE\nlanguage: BASH\nfile: {{name: {name}, content: x}}\n");
        let refusal = source_refusal(&lines);
        assert!(
            refusal.starts_with("line 7, column 20: vessels.v.source.file.name: "),
            "{refusal}"
        );
    }
    let long = "x".repeat(151);
    let refusal = source_refusal(&format!(
        "type: CODE\nlanguage: BASH\nfile: {{name: {long}, content: x}}\n"
    ));
    assert!(refusal.contains("longer than 150 bytes"), "{refusal}");
    for path in ["../x", "/x", "a/../../x", "a//b", "a/", "./a", "-x"] {
        let lines = format!(
            "type: CODE\nlanguage: BASH\nfile: {{name: a, content: x}}\nfile_to_run: {path}\n"
        );
        let refusal = source_refusal(&lines);
        assert!(
            refusal.starts_with("line 8, column 20: vessels.v.source.file_to_run: "),
            "{refusal}"
        );
    }
}

#[test]
fn repositories_are_named_and_reached_in_few_ways() {
    let git = |fields: &str| {
        let lines = format!("type: CODE\nlanguage: BASH\nfile_to_run: r/x\ngit: {{{fields}}}\n");
        let indented: String = lines.lines().map(|line| format!("      {line}\n")).collect();
        parse_yaml(&format!("name: n\nvessels:\n  v:\n    source:\n{indented}"))
    };
    for repository in [
        "owner/repo",
        "https://example.com/a/b.git",
        "https://example.com:8443/a",
        "ssh://git@example.com/a.git",
        "ssh://example.com:22/a",
        "file:///srv/a.git",
    ] {
        git(&format!("repository: {repository}")).unwrap();
    }
    for repository in [
        "-owner/repo",
        "owner/-repo",
        "owner",
        "a/b/c",
        "/srv/repo",
        "../repo",
        "./..",
        "owner/..",
        "http://example.com/a",
        "git://example.com/a",
        "ext::sh -c id",
        "\"ext::sh\"",
        "git@example.com:a/b",
        "https://-x/a",
        "https://example.com",
        "https://example.com/",
        "https://example.com:85218/a",
        "https://example..com/a",
        "https://192.0.2.256/a",
        "ssh://git@example.com:65536/a",
        "https://example.com/.git.git",
        "https://user:password@example.com/a",
        "https://token@example.com/a",
        "ssh://-oProxyCommand=id/a",
        "ssh://-l@example.com/a",
        "ssh://git:password@example.com/a",
        "file://host/a",
        "\"https://example.com/a b\"",
        "\"https://example.com/a\\nb\"",
    ] {
        let refusal = git(&format!("repository: {repository}")).expect_err(repository).to_string();
        assert!(refusal.contains("vessels.v.source.git.repository: "), "{refusal}");
        assert!(!refusal.contains("password@"), "a credential is quoted: {refusal}");
    }
    for point in ["main", "v1.2", "feature/x", "0123456789abcdef0123456789abcdef01234567", "a#b"] {
        git(&format!("repository: a/b, checkout_point: {point}")).unwrap();
    }
    for point in [
        "-x",
        "--upload-pack=id",
        "\"a b\"",
        "a:b",
        "+a",
        "^a",
        "\"*\"",
        "a..b",
        "\"@\"",
        "\"a@{1}\"",
        "a/",
        "/a",
        "a//b",
        "a.lock",
        ".a",
        "a.",
        "\"\"",
        "\"a\\nb\"",
    ] {
        let refusal = git(&format!("repository: a/b, checkout_point: {point}"));
        let refusal = refusal.expect_err(point).to_string();
        assert!(refusal.contains("vessels.v.source.git.checkout_point: "), "{refusal}");
    }
    let refusal = git("repository: a/b, clone_location: HOME").unwrap_err().to_string();
    assert!(refusal.ends_with("expected one of REPO_NAME, CWD"), "{refusal}");
}

#[test]
fn vessels_that_may_run_at_once_are_refused_one_place() {
    let file = |content: &str| {
        format!("{{type: CODE, language: BASH, file: {{name: a.sh, content: {content}}}}}")
    };
    let git = "{type: CODE, language: BASH, git: {repository: o/a}, file_to_run: a/x}".to_owned();
    let fleet = |first: &str, second: &str, connections: &str| {
        parse_yaml(&format!(
            "name: n\nvessels:\n  a: {{source: {first}}}\n  b: {{source: {second}}}\n  c: {{run: x}}\n\
             connections: {connections}\n"
        ))
    };
    let (x, y) = (&file("x"), &file("y"));
    fleet(x, x, "{}").unwrap();
    fleet(x, y, "{a: {c: SUCCESS}, c: {b: SUCCESS}}").unwrap();
    fleet(x, y, "{b: {a: COMPLETED}}").unwrap();
    fleet(&git, &git, "{a: {b: SUCCESS}}").unwrap();
    for (first, second, place) in [(x, y, "a.sh"), (&git, &git, "a")] {
        let refusal = fleet(first, second, "{c: {a: SUCCESS, b: SUCCESS}}").unwrap_err();
        assert_eq!(
            refusal.to_string(),
            format!(
                "line 4, column 3: vessels.b: may run at the same time as `a`, and both put their \
                 code in `{place}` of the run's directory; connect the two, or give one of them \
                 another place"
            )
        );
    }
}

#[test]
fn files_of_an_archive_count_as_places() {
    let archive = |names: &[&str]| {
        let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for name in names {
            writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        }
        let bytes = writer.finish().unwrap().into_inner();
        crate::model::archive::Archive::from(bytes).to_base64()
    };
    let of_archive = |language: &str, names: &[&str]| {
        format!(
            "{{type: CODE, language: {language}, file: {{name: a.zip, archive: {}}}, file_to_run: x}}",
            archive(names)
        )
    };
    let file = "{type: CODE, language: BASH, file: {name: a.sh, content: x}}";
    let node =
        "{type: CODE, language: NODE, file: {name: main.js, content: x}, packages: [{name: b}]}";
    let cwd =
        "{type: CODE, language: NODE, git: {repository: o/a, clone_location: CWD}, file_to_run: x}";
    let fleet = |first: &str, second: &str, connections: &str| {
        parse_yaml(&format!(
            "name: n\nvessels:\n  a: {{source: {first}}}\n  b: {{source: {second}}}\n\
             connections: {connections}\n"
        ))
    };
    for (first, second, place) in [
        (of_archive("BASH", &["x", "a.sh"]), file, "a.sh"),
        (of_archive("BASH", &["x", "a.sh/b"]), file, "a.sh"),
        (of_archive("NODE", &["x", "package.json"]), node, "node_modules"),
        (of_archive("BASH", &["x", "node_modules/b/index.js"]), node, "node_modules"),
        (cwd.to_owned(), node, "node_modules"),
    ] {
        let error = fleet(&first, second, "{}").unwrap_err().to_string();
        assert!(error.contains(&format!("both put their code in `{place}`")), "{error}");
        fleet(&first, second, "{a: {b: SUCCESS}}").unwrap();
    }
    for (first, second) in [
        (of_archive("BASH", &["x", "sub/a.sh"]), file),
        (of_archive("BASH", &["x", "package.json"]), node),
        (of_archive("NODE", &["x"]), node),
    ] {
        fleet(&first, second, "{}").unwrap();
    }
}

#[test]
fn hidden_variables_keep_their_values() {
    let read = |environment: &str| {
        parse_yaml(&format!("name: n\nvessels: {{v: {{run: x, environment: {environment}}}}}\n"))
            .unwrap()
    };
    let previous = read("{A: a, B: {secret: KEY}}").definition;
    for hidden in [
        "{B: SHIPYARD_HIDDEN, A: SHIPYARD_HIDDEN}",
        "[{name: B, value: SHIPYARD_HIDDEN}, {name: A, value: SHIPYARD_HIDDEN}]",
    ] {
        let mut file = read(hidden);
        assert_eq!(file.hidden.len(), 2);
        file.keep_hidden_values(Some(&previous)).unwrap();
        let mut environment = file.definition.vessels[0].environment.clone();
        environment.reverse();
        assert_eq!(environment, previous.vessels[0].environment);
        assert!(file.hidden.is_empty());
    }
    for previous in [None, Some(&previous)] {
        let mut file = read("{C: SHIPYARD_HIDDEN}");
        assert_eq!(
            file.keep_hidden_values(previous).unwrap_err().to_string(),
            "line 2, column 40: vessels.v.environment.C: SHIPYARD_HIDDEN stands for the value that \
             the variable has here already, and it has none; write the value, or name a secret \
             that holds it: {secret: C}"
        );
    }
}
