use std::collections::BTreeSet;

use clap::Parser;

use super::*;
use crate::config;

const README: &str = include_str!("../../../README.md");

/// The calls of `boathook` in the lines of `text` that a shell is given: behind `$ `.
fn calls(text: &str) -> Vec<Vec<String>> {
    let mut calls = Vec::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("$ ")) {
        let line = line.strip_prefix("sudo ").unwrap_or(line);
        for (at, _) in line.match_indices("boathook ") {
            if at == 0 || line[..at].ends_with(['(', ' ']) {
                calls.push(shell_words(&line[at..]));
            }
        }
    }
    calls
}

/// The words up to what ends a simple command.
fn shell_words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for letter in text.chars() {
        match (quote, letter) {
            (Some(open), close) if open == close => quote = None,
            (None, '\'' | '"') => quote = Some(letter),
            (None, '|' | '>' | '<' | ';' | '&' | '#' | ')') => break,
            (None, '$') => words.last_mut().unwrap().push('x'),
            (None, ' ') => words.push(String::new()),
            _ => words.last_mut().unwrap().push(letter),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn every_command_in_the_texts_is_understood() {
    assert_eq!(
        calls(
            "$ x=$(boathook webhook add 'a b') | y\nboathook not\n$ boathook runs logs $(boathook runs list)"
        ),
        [
            vec!["boathook", "webhook", "add", "a b"],
            vec!["boathook", "runs", "logs", "x(boathook", "runs", "list"],
            vec!["boathook", "runs", "list"],
        ]
    );
    let texts = TOPICS.iter().copied().chain([("README.md", README)]);
    for (name, text) in texts {
        for call in calls(text) {
            // A nested call takes the place of one word.
            let nested = call.iter().position(|word| word.starts_with("x("));
            let call = &call[..nested.map_or(call.len(), |at| at + 1)];
            if let Err(error) = Cli::try_parse_from(call) {
                let is_help =
                    matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
                assert!(is_help, "{name}: {call:?}: {error}");
            }
        }
    }
    let commands: usize = TOPICS.iter().map(|(_, text)| calls(text).len()).sum();
    assert!(commands > 5, "{commands}");
}

#[test]
fn topics_are_of_the_form_that_they_should_have() {
    let verbs = Cli::command();
    for (name, text) in TOPICS {
        let document = Document::parse(text);
        assert_eq!(document.name, *name, "the first line is `# {name} - summary`");
        assert!(document.summary.len() < 80 && !document.summary.is_empty(), "{name}");
        assert!(verbs.find_subcommand(name).is_none(), "{name} is a verb: its help comes first");
        assert!(text.ends_with('\n') && !text.contains('\t') && !text.contains("]("), "{name}");
        let mut is_verbatim = false;
        for (number, line) in (1..).zip(text.lines()) {
            if line.starts_with("```") {
                is_verbatim = !is_verbatim;
                continue;
            }
            let known = ["# ", "## ", "- ", "  ", "|"];
            let is_plain =
                line.starts_with(|first: char| first.is_alphanumeric() || "`*({\"".contains(first));
            let is_known =
                line.is_empty() || is_plain || known.iter().any(|it| line.starts_with(it));
            assert!(is_known || is_verbatim, "{name}:{number}: {line}");
            if line.starts_with('|') && !is_verbatim {
                assert_eq!(
                    line.matches(" | ").count() + line.matches("| |").count(),
                    1,
                    "{name}:{number}"
                );
            }
            if is_verbatim {
                assert!(line.chars().count() <= 74, "{name}:{number} is too long for a terminal");
            }
        }
        assert!(!is_verbatim, "{name}: a block does not end");
        let shown = anstream::adapter::strip_str(&terminal::render(&document, 72)).to_string();
        assert!(
            !shown.contains('`') && !shown.contains("**"),
            "{name}: a mark without its partner"
        );
    }
}

/// Verbatim blocks hold their own backquotes; everything else is wrapped.
#[test]
fn the_readme_lists_every_topic() {
    for (name, _) in TOPICS {
        assert!(
            README.contains(&format!("| [`boathook help {name}`](src/cli/help/{name}.md) |")),
            "{name}"
        );
    }
}

#[test]
fn topics_fit_narrow_and_wide_terminals() {
    for (name, text) in TOPICS {
        for width in [40, 80, 100] {
            let shown = terminal::render(&Document::parse(text), width);
            for line in anstream::adapter::strip_str(&shown).to_string().lines().skip(1) {
                // The first word behind an indent or a term has to stand there.
                let is_word = line.rfind(' ').is_none_or(|at| line[..at].ends_with(' '));
                let fits = line.chars().count() <= width || line.starts_with("      ") || is_word;
                assert!(fits, "{name} at {width}: {line}");
            }
        }
    }
}

#[test]
fn every_setting_is_in_the_topic_about_operating() {
    let serve = Cli::command();
    let serve = serve.find_subcommand("serve").unwrap();
    let (_, text) = TOPICS.iter().find(|(name, _)| *name == "operating").unwrap();
    let settings: BTreeSet<_> = serve
        .get_arguments()
        .filter_map(|it| it.get_long())
        .map(|it| it.replace('-', "_"))
        .collect();
    assert!(settings.contains("data_dir"));
    for setting in settings.iter().filter(|it| *it != "config") {
        let is_there = [format!("`{setting}`"), format!("`{setting} ="), format!("`{setting}` ")];
        assert!(is_there.iter().any(|it| text.contains(it)), "{setting} is missing");
    }
    assert!(text.contains(config::SYSTEM_DIRECTORY));
}

#[test]
fn verbs_keep_their_help() {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    for path in ["serve", "fleet", "fleet apply", "webhook replace", "help"] {
        let help = of_command(&words(path)).unwrap();
        let plain = anstream::adapter::strip_str(&help).to_string();
        assert!(plain.contains(&format!("Usage: boathook {path}")), "{path}: {plain}");
    }
    let all = anstream::adapter::strip_str(&of_command(&[]).unwrap()).to_string();
    for (name, _) in TOPICS {
        assert!(all.contains(&format!("\n    {name} ")), "{name} in {all}");
    }
    assert_eq!(of_command(&words("nothing")), None);
    assert_eq!(of_command(&words("fleet nothing")), None);
    let refusal = unknown("nothing");
    assert_eq!(refusal.exit_code(), 2);
    assert!(refusal.to_string().contains("elsewhere") && refusal.to_string().contains("webhook"));
}
