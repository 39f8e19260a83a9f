//! The key `runner`: its forms, its refusals, and which of several counts.

use super::*;
use crate::model::runner::{Runner, RunnerChoice, Runners};

fn runner(name: &str) -> Runner {
    Runner { command: vec![name.to_owned()], ..Runner::default() }
}

#[test]
fn a_vessels_runner_goes_before_the_fleets_and_that_before_the_default() {
    let named = ["a", "b"].map(|name| (name.to_owned(), runner(name))).into();
    let runners = Runners { named, default: Some("b".to_owned()) };
    let without = Runners { default: None, ..runners.clone() };
    for (fleet, vessel, expected) in [
        ("", "", "b"),
        ("none", "", ""),
        ("a", "", "a"),
        ("[x]", "", "x"),
        ("a", "none", ""),
        ("none", "[y]", "y"),
        ("[x]", "b", "b"),
    ] {
        let key = |choice: &str| match choice {
            "" => String::new(),
            choice => format!("runner: {choice}, "),
        };
        let yaml = format!("{{{}name: f, vessels: {{v: {{{}run: x}}}}}}", key(fleet), key(vessel));
        let fleet = parse_yaml(&yaml).unwrap().definition;
        let of = |runners: &Runners| {
            let found = runners.of(&fleet, &fleet.vessels[0]).unwrap();
            found.map(|it| it.command.join(" ")).unwrap_or_default()
        };
        assert_eq!(of(&runners), expected, "{yaml}");
        let expected =
            if fleet.runner.is_none() && fleet.vessels[0].runner.is_none() { "" } else { expected };
        assert_eq!(of(&without), expected, "{yaml}");
    }
}

#[test]
fn a_runner_is_words_a_mapping_a_name_or_none() {
    let words = |words: &[&str]| words.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    let own = |command: &[&str], cleanup: &[&str], seconds| {
        let cleanup_timeout = Duration::from_secs(seconds);
        let (command, cleanup) = (words(command), words(cleanup));
        Some(RunnerChoice::Own(Runner { command, cleanup, cleanup_timeout }))
    };
    for (written, expected) in [
        (
            "[srun, \"--job-name=${SHIPYARD_LOG_ID}\", 3.10]",
            own(&["srun", "--job-name=${SHIPYARD_LOG_ID}", "3.10"], &[], 60),
        ),
        ("{command: [a], cleanup: [b, c], cleanup_timeout: 90s}", own(&["a"], &["b", "c"], 90)),
        ("{cleanup: [b]}", own(&[], &["b"], 60)),
        ("slurm", Some(RunnerChoice::Named("slurm".to_owned()))),
        ("none", Some(RunnerChoice::None)),
        ("", None),
    ] {
        let yaml =
            format!("name: f\nrunner: {written}\nvessels:\n  v: {{run: x, runner: {written}}}\n");
        let read = parse_yaml(&yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"));
        let definition = read.definition;
        assert_eq!((&definition.runner, &definition.vessels[0].runner), (&expected, &expected));
        let again = parse_yaml(&to_yaml(&definition, "default", None)).unwrap().definition;
        assert_eq!((&again.runner, &again.vessels[0].runner), (&expected, &expected), "{yaml}");
    }
}

#[test]
fn runners_that_do_nothing_or_are_no_runners_are_refused() {
    for (written, message) in [
        ("[]", "runner: has neither `command` nor `cleanup`"),
        ("{}", "runner: has neither `command` nor `cleanup`"),
        ("[\"\"]", "runner: the program's name is empty"),
        ("a b", "runner: a runner's name has letters"),
        ("{command: x}", "runner.command: expected a list, found a single value"),
        ("{comand: [x]}", "unknown key `comand`; did you mean `command`?"),
        ("{command: [x], cleanup_timeout: 5s}", "runner.cleanup_timeout: there is no `cleanup`"),
        ("{cleanup: [x], cleanup_timeout: 2h}", "runner.cleanup_timeout: longer than 1h"),
        ("{cleanup: [x], cleanup_timeout: 0}", "`cleanup_timeout` is more than 0 and up to 1h"),
        ("[{expr: body.ref}]", "runner[0]: expected text"),
    ] {
        let fleet = refusal(&format!("name: f\nrunner: {written}\nvessels: {{v: {{run: x}}}}\n"));
        assert!(fleet.contains(message), "{written}: {fleet}");
        let vessel = refusal(&format!("name: f\nvessels:\n  v: {{run: x, runner: {written}}}\n"));
        assert!(vessel.contains(message), "{written}: {vessel}");
    }
}

#[test]
fn exit_codes_are_excluded_or_alone_retried_and_not_both() {
    let of = |guardrails: &str| {
        format!("name: f\nvessels:\n  v:\n    run: x\n    guardrails: {guardrails}\n")
    };
    let both = refusal(&of("{exclude_exit_code_ranges: [3], retry_on_exit_codes: [111]}"));
    assert!(both.contains("guardrails.retry_on_exit_codes: says which exit codes alone"), "{both}");
    let alone =
        parse_yaml(&of("{retry_count: 1, retry_on_exit_codes: [111, \"240-255\"]}")).unwrap();
    let written = to_yaml(&alone.definition, "default", None);
    assert!(written.contains("retry_on_exit_codes: [111, \"240-255\"]"), "{written}");
    assert_eq!(
        parse_yaml(&written).unwrap().definition.vessels[0].guardrails,
        alone.definition.vessels[0].guardrails
    );
}
