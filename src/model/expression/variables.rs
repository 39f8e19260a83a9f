//! The variables of an expression: one request.

use std::borrow::Cow;
use std::collections::BTreeMap;

use cel::common::ast::{Expr, IdedExpr, LiteralValue, operators};
use cel::common::types::{CelNull, CelTimestamp};
use cel::context::VariableResolver;

use super::json::{self, Boxed};
use super::{Read, meter};
use crate::model::event::Event;

/// Their names.
pub(super) const NAMES: [&str; 9] = [
    "body",
    "text",
    "headers",
    "query",
    "method",
    "remote_addr",
    "received_at",
    "event",
    "trigger",
];

/// A payload as expressions see it.
#[derive(Debug)]
pub struct Payload {
    body: Boxed,
    text: Boxed,
}

/// The values of the variables for one request.
#[derive(Debug)]
pub struct Variables {
    values: BTreeMap<&'static str, Boxed>,
}

impl Payload {
    /// A payload that has no bytes, or more than expressions may read: all of it is null.
    pub fn null() -> Self {
        Self { body: Box::new(CelNull), text: Box::new(CelNull) }
    }

    /// A payload of these bytes and this type. `body` is JSON or the fields of a form, else null.
    pub fn parse(bytes: &[u8], content_type: Option<&str>) -> Self {
        let is_form = content_type.is_some_and(|it| {
            let essence = it.split(';').next().unwrap_or_default().trim();
            essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
        });
        let body = if is_form { Some(form(bytes)) } else { json::parse(bytes) };
        let text = std::str::from_utf8(bytes).ok().map(json::text);
        let or_null = |value: Option<Boxed>| value.unwrap_or_else(|| Box::new(CelNull));
        Self { body: or_null(body), text: or_null(text) }
    }
}

/// The first value of each field. A JSON field named `payload` is parsed as well.
fn form(bytes: &[u8]) -> Boxed {
    let fields = first_values(form_urlencoded::parse(bytes));
    let value = |(name, value): (String, String)| {
        let parsed = (name == "payload").then(|| json::parse(value.as_bytes())).flatten();
        (name, parsed.unwrap_or_else(|| json::text(&value)))
    };
    json::map(fields.into_iter().map(value))
}

fn first_values<'a>(
    pairs: impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)>,
) -> BTreeMap<String, String> {
    let mut first = BTreeMap::new();
    for (name, value) in pairs {
        first.entry(name.into_owned()).or_insert_with(|| value.into_owned());
    }
    first
}

impl Variables {
    /// The variables of a request. `headers` are names in any case with their values in order,
    /// `query` is the query string as received.
    pub fn new<'a>(
        payload: Payload,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
        query: &str,
        event: &Event,
    ) -> Self {
        let mut first = BTreeMap::new();
        for (name, value) in headers {
            first.entry(name.to_ascii_lowercase()).or_insert_with(|| json::text(value));
        }
        let query = first_values(form_urlencoded::parse(query.as_bytes()));
        let query = query.into_iter().map(|(name, value)| (name, json::text(&value)));
        let event = [("preset", event.preset()), ("id", event.id()), ("type", event.kind())];
        let event = event
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), json::text(value?))));
        let Payload { body, text } = payload;
        let values = BTreeMap::from([
            ("body", body),
            ("text", text),
            ("headers", json::map(first)),
            ("query", json::map(query)),
            ("event", json::map(event)),
        ]);
        Self { values }
    }

    /// The method, the sender's address and the word of the trigger.
    #[must_use]
    pub fn with_request(mut self, method: &str, remote_addr: &str, trigger: &str) -> Self {
        let more = [("method", method), ("remote_addr", remote_addr), ("trigger", trigger)];
        self.values.extend(more.map(|(name, value)| (name, json::text(value))));
        self
    }

    /// When the request came, in milliseconds since 1970.
    #[must_use]
    pub fn with_received_at(mut self, millis: i64) -> Self {
        if let Some(time) = chrono::DateTime::from_timestamp_millis(millis) {
            let time = Box::new(CelTimestamp::from(time.fixed_offset()));
            self.values.insert("received_at", time);
        }
        self
    }
}

impl VariableResolver for Variables {
    fn resolve<'b>(&'b self, name: &str) -> Option<cel::common::value::CowVal<'b, 'b>> {
        self.values.get(name).map(|value| cel::common::value::CowVal::Borrowed(value.as_ref()))
    }
}

/// The places of a request that `expr` reads, each once, in order.
pub(super) fn reads(expr: &IdedExpr) -> Vec<Read> {
    let mut found = Vec::new();
    collect_reads(expr, &mut found);
    found
}

fn collect_reads(expr: &IdedExpr, found: &mut Vec<Read>) {
    if let Some(name) = name_of(expr) {
        if !found.iter().any(|read| read.name == name) {
            found.push(Read { name, program: expr.clone() });
        }
        return;
    }
    meter::visit_children(&expr.expr, &mut |child, _| collect_reads(child, found));
}

/// The text of a chain of fields and constant indexes that begins at a variable: `body.a["b"][0]`.
fn name_of(expr: &IdedExpr) -> Option<String> {
    match &expr.expr {
        Expr::Ident(name) => NAMES.contains(&name.as_str()).then(|| name.clone()),
        Expr::Select(select) => Some(format!("{}.{}", name_of(&select.operand)?, select.field)),
        Expr::Call(call) if call.func_name == operators::INDEX => {
            let [operand, index] = call.args.as_slice() else { return None };
            let index = match &index.expr {
                Expr::Literal(LiteralValue::String(key)) => {
                    serde_json::to_string(key.inner()).ok()?
                }
                Expr::Literal(LiteralValue::Int(index)) => index.inner().to_string(),
                _ => return None,
            };
            Some(format!("{}[{index}]", name_of(operand)?))
        }
        _ => None,
    }
}
