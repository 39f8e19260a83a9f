//! Texts that are not YAML or JSON, use more of YAML than a fleet file may, or are out of bounds.

use super::*;
use crate::fleet_file::node::DEPTH_MAX;
use crate::model::limits::VESSELS_PER_FLEET_MAX;
use crate::model::name::NAME_BYTES_MAX;

#[test]
fn malformed_text_is_a_syntax_error_and_names_line_and_key() {
    for (yaml, message) in [
        (
            "name: n\nvessels:\n  v:\n    command: [a, b\n    run: x\n",
            "line 5, column 8: vessels.v.command: a colon cannot stand here; is a bracket or a \
             quote open in a line above?",
        ),
        (
            "name: n\nvessels:\n  v: {run: x\nmore: 1\n",
            "line 4, column 5: vessels.v: a comma or the closing } is missing",
        ),
        (
            "name: \"n\n",
            "line 1, column 7: name: the text ends before a quote or a bracket is closed",
        ),
        (
            "name: n\n\tvessels: x\n",
            "line 2, column 1: a tab cannot indent YAML; replace it by spaces",
        ),
        (
            "name: n\nvessels: {v: {run: \"a\0b\"}}\n",
            "line 2, column 22: character U+0000 cannot stand in YAML; write it as an escape",
        ),
        (
            "name: n\nx: *nowhere\n",
            "line 2, column 4: x: put a value that begins with * in quotes; references are not \
             supported",
        ),
    ] {
        let error = parse_yaml(yaml).expect_err(yaml);
        assert!(matches!(error, FleetFileError::Syntax { .. }), "{yaml}: {error:?}");
        assert_eq!(error.to_string(), message, "{yaml}");
    }
}

#[test]
fn yaml_beyond_mappings_lists_and_scalars_is_refused() {
    assert_vessel_refusals(&[
        (
            "    run: &x y\n",
            "line 4, column 10: vessels.v.run: anchors (&name) are not supported; write the value \
             where it is needed",
        ),
        (
            "    environment: {<<: {A: b}}\n    run: x\n",
            "line 4, column 19: vessels.v.environment.<<: merge keys are not supported; write the \
             entries out",
        ),
        (
            "    run: !!str y\n",
            "line 4, column 10: vessels.v.run: tags (!name) are not supported; remove it, values \
             keep their written text",
        ),
        (
            "    ? [a]\n    : b\n",
            "line 4, column 7: vessels.v: a key has to be text, not a list or mapping",
        ),
        (
            "    environment: {: b}\n",
            "line 4, column 19: vessels.v.environment: a key is missing before the colon",
        ),
    ]);
}

#[test]
fn json_is_refused_with_line_and_key_too() {
    for (json, is_syntax, message) in [
        ("", true, "line 1, column 1: EOF while parsing a value"),
        (
            "{\"name\": \"n\",\n \"vessels\": {\"v\": {\"run\": x}}}",
            true,
            "line 2, column 27: vessels.v.run: expected value",
        ),
        ("{\"name\": \"n\" \"vessels\": 1}", true, "line 1, column 14: name: expected `,` or `}`"),
        (
            "{\"name\": \"n\", \"vessels\": {\"a\": {\"run\": \"ä\",}}}",
            true,
            "line 1, column 43: vessels.a: nothing follows this comma; remove it",
        ),
        (
            "{\"name\": \"n\", \"vessels\": {\"a\": {\"command\": [\"x\",\n ] }}}",
            true,
            "line 1, column 48: vessels.a.command: nothing follows this comma; remove it",
        ),
        (
            "{\"name\": \"n\",\n \"vessels\": {\"a\": {\"run\": \"x\"}},\n}\n",
            true,
            "line 2, column 32: nothing follows this comma; remove it",
        ),
        ("{\"n\u{e4}me\": x}", true, "line 1, column 10: näme: expected value"),
        ("{\"name\": \"n\"} x", true, "line 1, column 15: name: trailing characters"),
        (
            "{\"name\": \"\\ud800\"}",
            true,
            "line 1, column 10: name: the string holds an invalid escape",
        ),
        ("[]", false, "line 1, column 1: expected a mapping, found a list"),
        (
            "{\"name\": \"n\",\n \"name\": \"m\"}",
            false,
            "line 2, column 2: name: duplicate key, first seen in line 1; keep one of them",
        ),
        (
            "{\"name\": \"ü\", \"vessels\":\n\t{\"v\": {\"rnu\": \"x\"}}}",
            false,
            "line 2, column 9: vessels.v.rnu: unknown key `rnu`; did you mean `run`?",
        ),
        (
            "{\"name\": \"n\", \"vessels\": {\"v\": {\"run\": null}}}",
            false,
            "line 1, column 40: vessels.v.run: expected text, found nothing; quote it if it is \
             meant literally",
        ),
    ] {
        let error = parse_json(json).expect_err(json);
        assert_eq!(error.to_string(), message);
        assert_eq!(matches!(error, FleetFileError::Syntax { .. }), is_syntax, "{json}");
    }
    // Every prefix of a valid file is malformed, and nothing worse.
    for (end, _) in CONTRACT_EXAMPLE_JSON.char_indices() {
        let error = parse_json(&CONTRACT_EXAMPLE_JSON[..end]).unwrap_err();
        assert!(matches!(error, FleetFileError::Syntax { .. }), "{error}");
    }
}

#[test]
fn files_that_are_larger_than_they_look_are_refused() {
    let mut laughs = "name: n\nvessels: {v: {run: x}}\na0: &a0 [lol, lol]\n".to_owned();
    for level in 1..60 {
        let below = level - 1;
        laughs.push_str(&format!("a{level}: &a{level} [*a{below}, *a{below}, *a{below}]\n"));
    }
    assert!(
        refusal(&laughs).starts_with("line 3, column 5: a0: anchors (&name) are not supported")
    );
}

#[test]
fn files_beyond_the_bounds_are_refused() {
    let deep = |open: &str, close: &str| {
        format!("{}{}", open.repeat(DEPTH_MAX + 1), close.repeat(DEPTH_MAX + 1))
    };
    assert!(refusal(&deep("[", "]")).contains("nested more than 32 levels deep"));
    let error = parse_json(&format!("{{\"a\": {}}}", deep("[", "]"))).unwrap_err();
    assert!(error.to_string().contains("nested more than 32 levels deep"), "{error}");
    // Deeper than any recursion can go.
    for text in ["[".repeat(1_000_000), "{a: ".repeat(250_000), "- ".repeat(500_000)] {
        parse_yaml(&text).unwrap_err();
        parse_json(&text).unwrap_err();
    }
    let json = format!("{}1{}", "[".repeat(500_000), "]".repeat(500_000));
    assert!(parse_json(&json).unwrap_err().to_string().contains("nested more than"));

    let many = format!("name: [{}]", "a,".repeat(200_000));
    assert!(refusal(&many).contains("the file has more than 100000 values"));
    let large = "x".repeat(FLEET_FILE_BYTES_MAX + 1);
    assert!(refusal(&large).starts_with("the fleet file has 1048577 bytes, more than 1048576"));

    let fleet = |vessels: usize| {
        let lines: String = (0..vessels).map(|n| format!("  v{n}: {{run: x}}\n")).collect();
        format!("name: n\nvessels:\n{lines}")
    };
    assert!(parse_yaml(&fleet(VESSELS_PER_FLEET_MAX)).is_ok());
    assert!(refusal(&fleet(VESSELS_PER_FLEET_MAX + 1)).contains("1001 vessels, more than 1000"));
}

#[test]
fn messages_stay_short_and_on_one_line() {
    let long = "k".repeat(800);
    for yaml in [
        format!("name: n\n{long}: x\n"),
        "name: n\n\"a\\nb\\e[31m\": x\n".to_owned(),
        format!("name: n\nvessels: {{a: {{run: x}}}}\nconnections: {{{long}: {{a: SUCCESS}}}}\n"),
    ] {
        let message = refusal(&yaml);
        assert!(message.len() < 4 * NAME_BYTES_MAX, "{message}");
        assert!(!message.contains(char::is_control), "{message:?}");
    }
}
