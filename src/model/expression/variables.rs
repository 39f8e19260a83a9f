//! The variables of an expression: one request.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

use cel::common::ast::{Expr, IdedExpr, LiteralValue, operators};
use cel::common::types::{CelNull, CelTimestamp};
use cel::context::VariableResolver;

use super::json::{self, Boxed};
use super::{Read, meter};
use crate::model::clock::Timestamp;
use crate::model::event::Event;
use crate::model::request::RequestHead;
use crate::model::run::Trigger;

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

/// A payload as expressions see it. The first expression that looks at it has it read and parsed.
pub struct Payload<'a> {
    /// Reads and parses it. An error is a message for a person.
    read: Box<dyn Fn() -> Result<Parsed, String> + Send + Sync + 'a>,
    parsed: OnceLock<Result<Parsed, String>>,
}

/// A parsed payload.
#[derive(Debug)]
struct Parsed {
    body: Boxed,
    text: Boxed,
}

/// The values of the variables for one request.
#[derive(Debug)]
pub struct Variables<'a> {
    values: BTreeMap<&'static str, Boxed>,
    payload: Payload<'a>,
}

impl<'a> Payload<'a> {
    /// The payload of a run that no request has started: all of it is null.
    pub fn null() -> Self {
        Self::of(|| Ok(Parsed { body: Box::new(CelNull), text: Box::new(CelNull) }))
    }

    /// The payload of this type and `length` that `read` gives. Expressions read no more than `bytes_max`
    /// bytes: one that looks at a longer payload fails, for what that holds is unknown.
    pub fn read_by<E: fmt::Display>(
        content_type: Option<&'a str>,
        length: u64,
        bytes_max: u64,
        read: impl Fn() -> Result<Vec<u8>, E> + Send + Sync + 'a,
    ) -> Self {
        Self::of(move || {
            if length > bytes_max {
                return Err(format!(
                    "it reads the body, whose {length} bytes are more than \
                     max_expression_body_bytes"
                ));
            }
            let bytes = read().map_err(|error| format!("the body cannot be read: {error}"))?;
            Ok(Parsed::of(&bytes, content_type))
        })
    }

    /// The payload of these bytes and this type.
    pub fn parse(bytes: &[u8], content_type: Option<&'a str>) -> Self {
        let bytes = bytes.to_vec();
        Self::of(move || Ok(Parsed::of(&bytes, content_type)))
    }

    fn of(read: impl Fn() -> Result<Parsed, String> + Send + Sync + 'a) -> Self {
        Self { read: Box::new(read), parsed: OnceLock::new() }
    }

    fn parsed(&self) -> Option<&Parsed> {
        self.parsed.get_or_init(|| (self.read)()).as_ref().ok()
    }
}

impl fmt::Debug for Payload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Payload").field(&self.parsed).finish()
    }
}

impl Parsed {
    /// `body` is JSON or the fields of a form, else null.
    fn of(bytes: &[u8], content_type: Option<&str>) -> Self {
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

impl<'a> Variables<'a> {
    /// The variables of a request. `headers` are names in any case with their values in order,
    /// `query` is the query string as received.
    pub fn new<'h>(
        payload: Payload<'a>,
        headers: impl IntoIterator<Item = (&'h str, &'h str)>,
        query: &str,
        event: &Event,
    ) -> Self {
        let mut first = BTreeMap::new();
        for (name, value) in headers {
            first.entry(name.to_ascii_lowercase()).or_insert_with(|| json::text(value));
        }
        let query = first_values(form_urlencoded::parse(query.as_bytes()));
        let query = query.into_iter().map(|(name, value)| (name, json::text(&value)));
        let values = BTreeMap::from([("headers", json::map(first)), ("query", json::map(query))]);
        let mut variables = Self { values, payload };
        variables.set_event(event);
        variables
    }

    /// The variables of a request with this head, as a webhook gets it.
    pub fn of_request(
        head: &RequestHead,
        payload: Payload<'a>,
        event: &Event,
        trigger: Trigger,
        received_at: Timestamp,
    ) -> Self {
        let headers = head.headers.iter();
        let headers =
            headers.filter_map(|(name, values)| Some((name.as_str(), values.first()?.as_str())));
        Self::new(payload, headers, &head.query, event)
            .with_request("POST", &head.remote_addr, trigger.word())
            .with_received_at(received_at.as_millis())
    }

    /// Gives `event` these values.
    pub fn set_event(&mut self, event: &Event) {
        let parts = [("preset", event.preset()), ("id", event.id()), ("type", event.kind())];
        let known = parts
            .into_iter()
            .filter_map(|(name, value)| value.map(|value| (name.to_owned(), json::text(value))));
        self.values.insert("event", json::map(known));
    }

    /// Why the payload could not be read, if an expression has looked at it in vain.
    pub(super) fn failure(&self) -> Option<&str> {
        self.payload.parsed.get()?.as_ref().err().map(String::as_str)
    }

    /// Whether an expression has looked at the payload.
    pub(super) fn has_read_payload(&self) -> bool {
        self.payload.parsed.get().is_some()
    }

    /// The method, the sender's address and the word of the trigger.
    #[must_use]
    pub(super) fn with_request(mut self, method: &str, remote_addr: &str, trigger: &str) -> Self {
        let more = [("method", method), ("remote_addr", remote_addr), ("trigger", trigger)];
        self.values.extend(more.map(|(name, value)| (name, json::text(value))));
        self
    }

    /// When the request came, in milliseconds since 1970.
    #[must_use]
    pub(super) fn with_received_at(mut self, millis: i64) -> Self {
        if let Some(time) = chrono::DateTime::from_timestamp_millis(millis) {
            let time = Box::new(CelTimestamp::from(time.fixed_offset()));
            self.values.insert("received_at", time);
        }
        self
    }
}

impl VariableResolver for Variables<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<cel::common::value::CowVal<'b, 'b>> {
        let value = match name {
            "body" => self.payload.parsed().map(|parsed| &parsed.body),
            "text" => self.payload.parsed().map(|parsed| &parsed.text),
            name => self.values.get(name),
        };
        value.map(|value| cel::common::value::CowVal::Borrowed(value.as_ref()))
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
