//! The description that the server gives of its admin API, and whether what was sent and answered
//! is what it says. Every answer that the tests get by [`Api`](super::Api) passes through here.
//!
//! Knows as much of JSON Schema as the description uses, and fails at anything else. Answers are
//! held to more than their schemas say: clients must put up with fields that are not described,
//! but this server has none.

use std::sync::LazyLock;

use regex_lite::Regex;
use serde_json::Value;
use uuid::Uuid;

use super::http::Answer;

/// Refusals that stand for themselves: those that any request may get.
const COMMON: [u16; 13] = [400, 401, 403, 405, 408, 413, 414, 429, 431, 500, 501, 503, 505];

static DESCRIPTION: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../../src/web/admin/openapi.json")).unwrap()
});

/// The ids of all operations.
pub fn operations() -> Vec<&'static str> {
    let items = DESCRIPTION["paths"].as_object().unwrap().values();
    let operations = items.flat_map(|item| item.as_object().unwrap().values());
    operations.filter_map(|operation| operation["operationId"].as_str()).collect()
}

/// The paths, as templates, that have an operation of `method` (lower case).
pub fn paths(method: &str) -> Vec<&'static str> {
    let items = DESCRIPTION["paths"].as_object().unwrap().iter();
    items.filter(|(_, item)| item.get(method).is_some()).map(|(path, _)| path.as_str()).collect()
}

/// Every operation: its method, its path as a template, the role that it takes (`None`: it is open to
/// strangers), and whether the token must be unlimited.
pub fn roles() -> Vec<(String, &'static str, Option<&'static str>, bool)> {
    let mut found = Vec::new();
    for (path, item) in DESCRIPTION["paths"].as_object().unwrap() {
        for (method, operation) in
            item.as_object().unwrap().iter().filter(|it| it.0 != "parameters")
        {
            let is_of_server = operation["x-scope"] == "server";
            let role = operation["x-role"].as_str();
            found.push((method.to_uppercase(), path.as_str(), role, is_of_server));
        }
    }
    found
}

/// Every query parameter of a GET: the path as a template, the name, and the schema.
pub fn query_parameters() -> Vec<(&'static str, &'static str, &'static Value)> {
    let mut found = Vec::new();
    for (path, item) in DESCRIPTION["paths"].as_object().unwrap() {
        let parameters = list(&item["get"]["parameters"]).map(resolved);
        for parameter in parameters.filter(|parameter| parameter["in"] == "query") {
            found.push((path.as_str(), parameter["name"].as_str().unwrap(), &parameter["schema"]));
        }
    }
    found
}

/// Whether `text`, as a parameter of a query, is what `schema` describes.
pub fn takes(schema: &'static Value, text: &str) -> bool {
    let is_number =
        |text: &str| text.trim_start_matches('-').starts_with(|it: char| it.is_ascii_digit());
    let plain = match text {
        "true" | "false" => serde_json::from_str(text).ok(),
        text if is_number(text) => serde_json::from_str(text).ok(),
        _ => None,
    };
    let forms = plain.into_iter().chain([Value::from(text)]);
    forms.into_iter().any(|form| check_value(schema, &form, false, "").is_ok())
}

/// The methods that the path has an operation for, in upper case; HEAD where there is GET.
pub fn methods(path: &str) -> Vec<String> {
    let item = DESCRIPTION["paths"][path].as_object().unwrap();
    let described = item.keys().filter(|key| *key != "parameters").map(|key| key.to_uppercase());
    let mut methods: Vec<String> = described.collect();
    if methods.iter().any(|method| method == "GET") {
        methods.push("HEAD".to_owned());
    }
    methods
}

/// All paths, as templates.
pub fn all_paths() -> Vec<&'static str> {
    DESCRIPTION["paths"].as_object().unwrap().keys().map(String::as_str).collect()
}

/// The id of the operation that `method` and `target` ask for, if it is described.
pub fn operation(method: &str, target: &str) -> Option<&'static str> {
    find(method, target)?.1["operationId"].as_str()
}

/// Fails unless the exchange is as described. What the description does not have at all is left
/// to the test that compares it with the routes.
#[track_caller]
pub fn check(method: &str, target: &str, content: Option<&(&str, Vec<u8>)>, answer: &Answer) {
    let Some((item, operation)) = find(method, target) else { return };
    let mut problems = Vec::new();
    if answer.status < 300 {
        problems.extend(check_query(item, operation, target).err());
        problems.extend(check_body(operation, content).err());
    }
    problems.extend(check_answer(operation, answer).err());
    assert!(
        problems.is_empty(),
        "openapi.json and the server differ in {method} {target}:\n{}",
        super::redacted(&problems.join("\n"))
    );
}

/// The item of the path and the operation in it.
fn find(method: &str, target: &str) -> Option<(&'static Value, &'static Value)> {
    let path = target.split('?').next().unwrap_or_default();
    let matches = |template: &str| {
        let is_same =
            |(expected, given): (&str, &str)| expected.starts_with('{') || expected == given;
        template.split('/').count() == path.split('/').count()
            && template.split('/').zip(path.split('/')).all(is_same)
    };
    let paths = DESCRIPTION["paths"].as_object()?;
    // A path without variables goes before one with.
    let item = paths.get(path).filter(|item| item.get(method.to_lowercase()).is_some());
    let item = item
        .or_else(|| paths.iter().find(|(template, _)| matches(template)).map(|(_, item)| item))?;
    Some((item, item.get(method.to_lowercase())?))
}

fn resolved(value: &'static Value) -> &'static Value {
    match value["$ref"].as_str() {
        Some(reference) => {
            let pointer = reference.strip_prefix('#').expect("a reference within the file");
            resolved(DESCRIPTION.pointer(pointer).expect("a reference to something"))
        }
        None => value,
    }
}

fn list(value: &'static Value) -> impl Iterator<Item = &'static Value> {
    value.as_array().into_iter().flatten()
}

fn check_query(
    item: &'static Value,
    operation: &'static Value,
    target: &str,
) -> Result<(), String> {
    let (_, query) = target.split_once('?').unwrap_or_default();
    // Whatever is a webhook's to be sent.
    if operation["requestBody"]["content"].get("*/*").is_some() {
        return Ok(());
    }
    for (name, text) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        let mut known =
            list(&item["parameters"]).chain(list(&operation["parameters"])).map(resolved);
        let parameter = known
            .find(|parameter| parameter["in"] == "query" && parameter["name"] == name)
            .ok_or_else(|| format!("query parameter {name:?} is not described"))?;
        if text.is_empty() {
            continue;
        }
        let text = text.replace("%3A", ":").replace("%2B", "+");
        let schema = resolved(&parameter["schema"]);
        // The other form of each is the empty text.
        let form = list(&schema["anyOf"]).next().map_or(schema, resolved);
        let value = match form["type"].as_str() {
            Some("integer" | "boolean") => {
                serde_json::from_str(&text).map_err(|it| it.to_string())?
            }
            // The server takes these in any case; the description has them as it writes them.
            _ if parameter["name"] == "status" => continue,
            _ => Value::from(text),
        };
        check_value(schema, &value, false, &format!("query parameter {name:?}"))?;
    }
    Ok(())
}

fn check_body(operation: &'static Value, content: Option<&(&str, Vec<u8>)>) -> Result<(), String> {
    // Where none is described, none is read.
    let Some(described) = operation.get("requestBody") else { return Ok(()) };
    let Some((content_type, bytes)) = content.filter(|(_, bytes)| !bytes.is_empty()) else {
        let is_required = described["required"] == true;
        return if is_required { Err("no body, which is required".to_owned()) } else { Ok(()) };
    };
    if described["content"].get("*/*").is_some() {
        return Ok(());
    }
    let media = described["content"]
        .get(media_type(content_type))
        .ok_or_else(|| format!("a body of {content_type} is not described"))?;
    match serde_json::from_slice(bytes) {
        Ok(value) if content_type.ends_with("json") => {
            check_value(&media["schema"], &value, false, "the body")
        }
        _ => Ok(()),
    }
}

fn check_answer(operation: &'static Value, answer: &Answer) -> Result<(), String> {
    let responses = &operation["responses"];
    let response = match responses.get(answer.status.to_string()) {
        Some(response) => resolved(response),
        None if COMMON.contains(&answer.status) => resolved(&responses["default"]),
        None => return Err(format!("the status {} is not described", answer.status)),
    };
    let content_type = answer.header("content-type").unwrap_or_default();
    let media = response["content"]
        .get(media_type(content_type))
        .ok_or_else(|| format!("an answer of {content_type} is not described"))?;
    for (name, header) in response["headers"].as_object().into_iter().flatten() {
        let is_conditional =
            resolved(header)["description"].as_str().is_some_and(|text| text.starts_with("With "));
        if !is_conditional && answer.header(&name.to_lowercase()).is_none() {
            return Err(format!("the header {name} is missing"));
        }
    }
    let Some(schema) = media.get("schema") else { return Ok(()) };
    let value = if media_type(content_type).ends_with("json") {
        serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?
    } else {
        Value::from(answer.text())
    };
    check_value(schema, &value, true, "the answer")
}

fn media_type(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// Whether `value` is what `schema` describes. `is_closed`: objects have no fields but those that
/// are described.
fn check_value(
    schema: &'static Value,
    value: &Value,
    is_closed: bool,
    at: &str,
) -> Result<(), String> {
    let check = |schema, value: &Value, at: &str| check_value(schema, value, is_closed, at);
    let ensure = |holds: bool, what: &dyn std::fmt::Display| {
        if holds { Ok(()) } else { Err(format!("{at}: expected {what}, found {value}")) }
    };
    let length = || match value {
        Value::String(text) => text.chars().count() as u64,
        Value::Array(items) => items.len() as u64,
        Value::Object(fields) => fields.len() as u64,
        _ => 0,
    };
    for (keyword, rule) in schema.as_object().expect("a schema") {
        let matching = || list(rule).filter(|it| check(it, value, at).is_ok()).count();
        match keyword.as_str() {
            "description" | "default" => {}
            "$ref" => check(resolved(schema), value, at)?,
            "type" => {
                let is_any = match rule {
                    Value::Array(types) => types.iter().any(|it| has_type(it, value)),
                    one => has_type(one, value),
                };
                ensure(is_any, rule)?;
            }
            "const" => ensure(value == rule, rule)?,
            "enum" => ensure(list(rule).any(|it| it == value), rule)?,
            "anyOf" => ensure(matching() > 0, rule)?,
            "oneOf" => ensure(matching() == 1, rule)?,
            "minimum" => ensure(is_null_or(value, value.as_f64() >= rule.as_f64()), rule)?,
            "maximum" => ensure(is_null_or(value, value.as_f64() <= rule.as_f64()), rule)?,
            "minLength" | "minItems" | "minProperties" => {
                ensure(is_null_or(value, Some(length()) >= rule.as_u64()), schema)?;
            }
            "maxLength" | "maxItems" | "maxProperties" => {
                ensure(Some(length()) <= rule.as_u64(), schema)?;
            }
            "pattern" => {
                let pattern = Regex::new(rule.as_str().unwrap()).unwrap();
                ensure(value.as_str().is_none_or(|text| pattern.is_match(text)), rule)?;
            }
            "format" => ensure(value.as_str().is_none_or(|text| has_format(rule, text)), rule)?,
            "prefixItems" => {
                for (rule, item) in list(rule).zip(value.as_array().into_iter().flatten()) {
                    check(rule, item, at)?;
                }
            }
            "items" => {
                let first = schema["prefixItems"].as_array().map_or(0, Vec::len);
                let items = value.as_array().into_iter().flatten().enumerate();
                for (index, item) in items.skip(first) {
                    check(rule, item, &format!("{at}[{index}]"))?;
                }
            }
            "required" => {
                for name in list(rule).filter_map(Value::as_str) {
                    let is_there = value.get(name).is_some() || !value.is_object();
                    ensure(is_there, &format_args!("a field {name:?}"))?;
                }
            }
            "properties" | "additionalProperties" => {}
            "propertyNames" => {
                for name in value.as_object().into_iter().flat_map(|fields| fields.keys()) {
                    check(rule, &Value::from(name.as_str()), &format!("{at}: {name}"))?;
                }
            }
            other => panic!("openapi.json uses {other:?}, which is not known here"),
        }
    }
    let fields = value.as_object().into_iter().flatten();
    if schema.get("properties").is_some() || schema.get("additionalProperties").is_some() {
        for (name, field) in fields {
            let at = format!("{at}.{name}");
            match (schema["properties"].get(name), &schema["additionalProperties"]) {
                (Some(schema), _) => check(schema, field, &at)?,
                (None, Value::Bool(true)) => {}
                (None, Value::Object(_)) => check(&schema["additionalProperties"], field, &at)?,
                (None, Value::Null) if !is_closed => {}
                (None, _) => return Err(format!("{at}: not described")),
            }
        }
    }
    Ok(())
}

/// Rules about sizes are only for values that have one.
fn is_null_or(value: &Value, holds: bool) -> bool {
    value.is_null() || holds
}

fn has_type(name: &Value, value: &Value) -> bool {
    match name.as_str().expect("the name of a type") {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no such type: {other}"),
    }
}

fn has_format(name: &Value, text: &str) -> bool {
    match name.as_str().expect("the name of a format") {
        "uuid" => Uuid::try_parse(text).is_ok() && text.len() == 36,
        "date-time" => text.parse::<jiff::Timestamp>().is_ok(),
        "uri" => text.starts_with("http"),
        other => panic!("no such format: {other}"),
    }
}
