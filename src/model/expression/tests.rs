use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::model::event::Event;

const BODY: &str = r#"{
    "ref": "refs/heads/main", "n": 5, "big": 18446744073709551615, "half": 0.5, "whole": 3.0,
    "ok": true, "none": null, "list": [1, 2, 3], "empty": "",
    "commits": [{"id": "a1", "files": ["x", "y"]}, {"id": "b2", "files": []}],
    "map": {"b": 1, "a": {"c": "d"}}, "umlaut": "Grüße \"quoted\""
}"#;

fn variables(body: &str) -> Variables<'static> {
    let payload = Payload::parse(body.as_bytes(), Some("application/json"));
    let headers = [("X-Github-Event", "push"), ("X-Github-Event", "second"), ("Accept", "*/*")];
    let event = Event::new(Some("github"), None, Some("push"));
    Variables::new(payload, headers, "a=1&b=%20x&a=2", &event)
        .with_request("POST", "192.0.2.1", "webhook")
        .with_received_at(1_700_000_000_000)
}

fn value(text: &str) -> Result<String, EvaluationError> {
    Expression::parse(text)
        .unwrap_or_else(|error| panic!("{text}: {error}"))
        .text_value(&variables(BODY))
}

#[test]
fn values_are_text_as_it_is_and_compact_json() {
    for (text, expected) in [
        ("body.ref", "refs/heads/main"),
        ("body.n", "5"),
        ("body.n + 1", "6"),
        ("body.big", "18446744073709551615"),
        ("body.half", "0.5"),
        ("body.whole", "3.0"),
        ("body.n == 5.0", "true"),
        ("body.ok", "true"),
        ("body.none", "null"),
        ("body.empty", ""),
        ("body.list", "[1,2,3]"),
        ("body.map", r#"{"a":{"c":"d"},"b":1}"#),
        ("body.umlaut", "Grüße \"quoted\""),
        ("[body.umlaut]", r#"["Grüße \"quoted\""]"#),
        ("body.commits[1].id", "b2"),
        ("body[\"map\"].a[\"c\"]", "d"),
        ("body.commits.map(c, c.id)", r#"["a1","b2"]"#),
        ("body.commits.filter(c, size(c.files) > 0).map(c, c.id).join(\",\")", "a1"),
        ("body.commits.exists(c, \"x\" in c.files)", "true"),
        ("headers[\"x-github-event\"]", "push"),
        ("headers[\"x-github-event\"] == \"push\" && body.ref == \"refs/heads/main\"", "true"),
        ("query.a + query.b", "1 x"),
        ("method + \" \" + remote_addr + \" \" + trigger", "POST 192.0.2.1 webhook"),
        ("event.preset + event.type", "githubpush"),
        ("has(event.id)", "false"),
        ("type(body.n)", "int"),
        ("b\"abc\"", "abc"),
        ("received_at - received_at", "0s"),
        ("received_at", "2023-11-14T22:13:20Z"),
        ("received_at > timestamp(\"2023-01-01T00:00:00Z\")", "true"),
        ("received_at.getHours()", "22"),
        ("body.ref.replace(\"refs/heads/\", \"\")", "main"),
        ("body.ref.split(\"/\")[2].upperAscii()", "MAIN"),
        ("body.ref.matches(\"^refs/heads/(main|dev)$\")", "true"),
        ("body.ref.startsWith(\"refs/tags/\") ? \"tag\" : \"branch\"", "branch"),
        ("body.ref.substring(11)", "main"),
        ("text.contains(\"refs\")", "true"),
        ("size(body.list) + size(body.ref)", "18"),
        ("has(body.ref) && !has(body.nope)", "true"),
        ("type(body.n) == int", "true"),
        ("string(body.n) + \"x\"", "5x"),
        ("{\"k\": body.n, \"j\": [body.ok]}", r#"{"j":[true],"k":5}"#),
        ("body.nope == 1 || body.n == 5", "true"),
        ("\"  x \".trim()", "x"),
    ] {
        assert_eq!(value(text), Ok(expected.to_owned()), "{text}");
    }
}

#[test]
fn what_a_request_does_not_have_is_missing() {
    for text in [
        "body.nope",
        "body.map.nope.deeper",
        "body.ref.deeper",
        "body.none.deeper",
        "body.n.x",
        "headers[\"x-nope\"]",
        "query.nope",
        "event.id",
        "body.list[3]",
        "body.nope == 1",
    ] {
        let result = value(text);
        assert!(matches!(result, Err(EvaluationError::Missing(_))), "{text}: {result:?}");
    }
    let not_json = Variables::new(Payload::parse(b"\xff", None), [], "", &Event::default());
    for text in ["body.ref", "body.ref == \"x\""] {
        let result = Expression::parse(text).unwrap().is_true(&not_json);
        assert!(matches!(result, Err(EvaluationError::Missing(_))), "{text}: {result:?}");
    }
}

#[test]
fn operations_that_do_not_go_together_fail_in_words() {
    for text in [
        "body.ref + 1",
        "body.n / 0",
        "int(body.ref)",
        "body.list.matches(\"a\")",
        "-body.ref",
        "!body.n",
        "body.n && true",
        "9223372036854775807 + body.n",
        "body.ref.substring(99)",
        "timestamp(body.ref)",
        "body.ref.matches(\"(\")",
    ] {
        let result = value(text);
        let Err(EvaluationError::Failed(message)) = &result else { panic!("{text}: {result:?}") };
        assert!(message.len() < 300 && !message.contains("refs/heads"), "{text}: {message}");
    }
    let filter = Expression::parse("body.n").unwrap().is_true(&variables(BODY));
    assert_eq!(filter.unwrap_err().to_string(), "the expression gives int, not true or false");
}

#[test]
fn texts_that_are_no_expressions_are_refused_with_their_place() {
    for (text, expected, column) in [
        ("", "cannot be empty", None),
        ("  ", "cannot be empty", None),
        ("body.ref ==", "expecting expression", Some(12)),
        ("body.ref = 1", "", Some(10)),
        ("bdy.ref == 1", "no variable `bdy`", Some(1)),
        ("body.ref == \"ü\" && foo", "no variable `foo`", Some(20)),
        ("body.list.exists(x, y == 1)", "no variable `y`", Some(21)),
        ("lower(body.ref)", "no function `lower`", Some(1)),
        ("body.ref.format([1])", "no function `format`", Some(10)),
        ("@meter", "", None),
        ("'a", "", None),
        ("1 2", "", Some(3)),
    ] {
        let error = Expression::parse(text).expect_err(text);
        assert!(error.message.contains(expected), "{text}: {error:?}");
        if column.is_some() {
            assert_eq!(error.column, column, "{text}: {error:?}");
        }
    }
    let long = format!("\"{}\"", "x".repeat(TEXT_BYTES_MAX));
    assert!(Expression::parse(&long).unwrap_err().message.contains("at most 1024 bytes"));
}

#[test]
fn deep_and_dense_texts_are_refused_quickly() {
    let dense = "!!(!!!!!!(!!!!(((((!!(!!(!!!!((".repeat(5);
    let nested = |open: &str, close: &str, levels: usize| {
        format!("{}1{}", open.repeat(levels), close.repeat(levels))
    };
    for text in [
        dense,
        nested("[", "]", 25),
        nested("[", "]", 400),
        nested("{1: ", "}", 100),
        nested("size([", "])", 60),
        format!("1{}", " + 1".repeat(200)),
        format!("{}true", "!(".repeat(300)),
        format!("{}1", "-(".repeat(300)),
        format!("body{}", ".a".repeat(400)),
        format!("{}1{}", "[1].map(x, ".repeat(30), ")".repeat(30)),
    ] {
        assert!(Expression::parse(&text).is_err(), "{text}");
    }
    assert_eq!(value(&nested("[", "]", 15)).unwrap(), nested("[", "]", 15));
    assert_eq!(value(&nested("(", ")", 15)).unwrap(), "1");
}

#[test]
fn what_costs_too_much_ends() {
    let many =
        format!("{{\"l\": [{}0], \"s\": \"{}\"}}", "0,".repeat(200_000), "x".repeat(500_000));
    let doubling = format!("[body.s]{}[0]", ".map(x, x + x)".repeat(8));
    let doubled_lists = format!("[body.l]{}[0]", ".map(x, x + x)".repeat(8));
    for (text, body) in [
        ("body.l.all(x, body.l.all(y, x == y))", &*many),
        ("body.l.map(x, body.s)", &many),
        ("body.l.map(x, x in body.l)", &many),
        ("body.l.exists(x, body.s.contains(\"y\"))", &many),
        ("body.l.exists(x, body.s == body.s + \"y\")", &many),
        ("body.l.exists(x, text.matches(\"(a|b)*c\"))", &many),
        ("body.s.replace(\"x\", body.s)", &many),
        ("body.s.split(\"\")", &many),
        ("body.l.map(x, \"a\").join(body.s)", &many),
        ("[body.s, body.s, body.s, body.s, body.s, body.s, body.s, body.s, body.s]", &many),
        (&doubling, &many),
        (&doubled_lists, &many),
    ] {
        let result = Expression::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let started = std::time::Instant::now();
        let result = result.text_value(&variables(body)).map(|value| value.len());
        println!("{:?} {}", started.elapsed(), &text[..text.len().min(60)]);
        assert_eq!(result, Err(EvaluationError::TooCostly), "{text}");
    }
    let enough = Expression::parse("body.exists(x, x == 1) || size(body) > 20000").unwrap();
    let list = format!("[{}0]", "0,".repeat(30_000));
    assert_eq!(enough.is_true(&variables(&list)), Ok(true));
}

#[test]
fn odd_payloads_are_null_or_read_as_they_are() {
    let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    for (body, text, expected) in [
        (r#"{"a": 1e400}"#, "body == null", "true"),
        (r#"{"a": NaN}"#, "body == null", "true"),
        (r#"{"a": "\ud800"}"#, "body == null", "true"),
        (&deep, "body == null", "true"),
        ("", "body == null", "true"),
        ("{} {}", "body == null", "true"),
        (r#"{"a": 1, "a": 2}"#, "body.a", "2"),
        (r#"{"a": 123456789012345678901234567890}"#, "body.a > 1.0", "true"),
        (r#"{"a": -9223372036854775808}"#, "body.a", "-9223372036854775808"),
        (r#"{"a": -0.0}"#, "body.a", "-0.0"),
        (r#"{"a": "\u0000"}"#, "size(body.a)", "1"),
        (r#""text""#, "body", "text"),
        ("[1]", "body[0]", "1"),
    ] {
        let result = Expression::parse(text).unwrap().text_value(&variables(body));
        assert_eq!(result, Ok(expected.to_owned()), "{text} of {}", &body[..body.len().min(40)]);
    }
}

#[test]
fn the_fields_of_a_form_are_the_body() {
    let form = b"payload=%7B%22ref%22%3A%22x%22%7D&a=1&a=2&b=+%26";
    let payload = Payload::parse(form, Some("Application/X-WWW-Form-Urlencoded; charset=utf-8"));
    let variables = Variables::new(payload, [], "", &Event::default());
    for (text, expected) in
        [("body.payload.ref", "x"), ("body.a", "1"), ("body.b", " &"), ("size(text)", "48")]
    {
        let result = Expression::parse(text).unwrap().text_value(&variables);
        assert_eq!(result, Ok(expected.to_owned()), "{text}");
    }
}

#[test]
fn what_an_expression_reads_is_shown_with_its_values() {
    let text = "headers[\"x-github-event\"] == \"push\" && body.commits[0].id != body.nope && \
                body.list.exists(x, x == body.n)";
    let expression = Expression::parse(text).unwrap();
    let variables = variables(BODY);
    assert_eq!(expression.is_true(&variables), Ok(false));
    let read = expression.read_values(&variables, 4);
    let expected = [
        ("headers[\"x-github-event\"]", "\"pus…"),
        ("body.commits[0].id", "\"a1\""),
        ("body.list", "[1,2…"),
        ("body.n", "5"),
    ];
    assert_eq!(read, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert!(expression.reads_payload());
    assert!(!Expression::parse("headers.a == method").unwrap().reads_payload());
}

#[test]
fn the_payload_is_read_once_and_only_when_an_expression_looks_at_it() {
    let reads = AtomicUsize::new(0);
    let payload = Payload::read_by(None, 15, 15, || {
        reads.fetch_add(1, Ordering::Relaxed);
        Ok::<_, std::io::Error>(b"{\"ref\": \"main\"}".to_vec())
    });
    let headers = [("X-Github-Event", "ping")];
    let variables = Variables::new(payload, headers, "", &Event::default());
    let parse = |text: &str| Expression::parse(text).unwrap();
    let filter = parse("headers[\"x-github-event\"] == \"push\" && body.ref == \"main\"");
    assert_eq!(filter.is_true(&variables), Ok(false));
    let seen = [("headers[\"x-github-event\"]".to_owned(), "\"ping\"".to_owned())];
    assert_eq!(filter.read_values(&variables, 80), seen, "what it did not see is not shown");
    assert_eq!(reads.load(Ordering::Relaxed), 0);
    for _ in 0..2 {
        assert_eq!(parse("body.ref").present_value(&variables), Ok(Some("main".to_owned())));
        assert_eq!(parse("body.nope").present_value(&variables), Ok(None));
        assert_eq!(parse("size(text)").text_value(&variables), Ok("15".to_owned()));
    }
    assert_eq!(reads.load(Ordering::Relaxed), 1);
    // What cannot be read fails, and is not taken for missing.
    let broken = || Payload::read_by(None, 1, 1, || Err("a broken disk"));
    let variables = Variables::new(broken(), [], "", &Event::default());
    let failed = "the body cannot be read: a broken disk".to_owned();
    let failed = Err(EvaluationError::Failed(failed));
    assert_eq!(parse("body.ref").present_value(&variables), failed);
    // Neither is what is not read, and expressions that do not look at it have their values.
    let long = Payload::read_by(None, 2, 1, || Ok::<_, std::io::Error>(b"{}".to_vec()));
    let variables = Variables::new(long, headers, "", &Event::default());
    assert_eq!(filter.is_true(&variables), Ok(false), "it does not look at the body");
    let reads = "it reads the body, whose 2 bytes are more than max_expression_body_bytes";
    let failed = EvaluationError::Failed(reads.to_owned());
    assert_eq!(parse("body.ref").present_value(&variables), Err(failed.clone()));
    assert_eq!(parse("body.ref == \"main\"").is_true(&variables), Err(failed.clone()));
    assert_eq!(parse("text").text_value(&variables), Err(failed));
    assert_eq!(parse("size(headers)").text_value(&variables), Ok("1".to_owned()));
}

#[test]
fn every_function_that_is_offered_exists() {
    for name in FUNCTIONS {
        for text in [format!("{name}()"), format!("\"a\".{name}()"), format!("{name}(1)")] {
            let Ok(expression) = Expression::parse(&text) else { continue };
            let result = expression.text_value(&variables(BODY));
            let Err(EvaluationError::Failed(message)) = result else { continue };
            assert!(!message.contains("unknown"), "{text}: {message}");
        }
    }
}

/// The examples of `boathook help expressions`, as its table shows them.
#[test]
fn the_examples_of_the_help_are_right() {
    const HELP: &str = include_str!("../../cli/help/expressions.md");
    const BODY: &str = r#"{"ref": "refs/heads/main", "forced": false, "size": 3,
        "repository": {"full_name": "acme/site", "private": true},
        "commits": [{"id": "a1", "added": ["x.md"]}, {"id": "b2", "added": []}],
        "labels": ["bug", "urgent"]}"#;
    let payload = Payload::parse(BODY.as_bytes(), None);
    let headers = [("X-GitHub-Event", "push")];
    let variables = Variables::new(payload, headers, "env=prod", &Event::default());
    let (_, table) = HELP.split_once("| expression | value |").unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix("` |"));
    let mut count = 0;
    for row in rows {
        let (expression, value) = row.split_once("` | `").unwrap();
        let expression = Expression::parse(expression).unwrap();
        assert_eq!(expression.text_value(&variables).as_deref(), Ok(value), "{expression:?}");
        count += 1;
    }
    assert!(count >= 20, "{count} examples");
}
