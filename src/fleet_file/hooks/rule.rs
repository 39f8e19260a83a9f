//! Trigger rules: a tree of conditions becomes checks of the sender, networks, and an expression, which must
//! all hold. A tree that is no conjunction of these is refused.

use super::super::cursor::Cursor;
use super::super::node::Position;
use super::Note;
use super::argument::{Reference, Value, literal};
use super::secret::FoundSecrets;
use super::template::Templates;
use crate::model::event::Event;
use crate::model::expression::{EvaluationError, Expression, Payload, Variables};
use crate::model::network::Networks;
use crate::model::variable::SecretName;

/// What the rules ask of a request. All of it must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Guard {
    /// One of them must hold; empty: the sender shows nothing.
    pub checks: Vec<Check>,
    /// Empty: from anywhere.
    pub allow: Vec<String>,
    /// All of them must hold.
    pub when: Vec<String>,
}

/// A check of the sender: schemes of which one must hold, in the form of the fleet file but for the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub schemes: Vec<String>,
    pub secret: SecretName,
}

/// A rule as it was read.
#[derive(Clone, Debug)]
enum Rule {
    Expression(String),
    Check(Check),
    /// A credential that the sender shows as it is. As an expression it would stand in the fleet file.
    Credential {
        check: Check,
        expression: String,
    },
    Networks(Vec<String>),
    All(Vec<Placed>),
    Any(Vec<Placed>),
    Not(Box<Placed>),
}

/// A rule and where it stands.
#[derive(Clone, Debug)]
struct Placed {
    position: Position,
    rule: Rule,
}

/// Reads rules.
pub(super) struct RuleReader<'a> {
    pub id: &'a str,
    pub templates: &'a Templates,
    pub secrets: &'a mut FoundSecrets,
    pub notes: &'a mut Vec<Note>,
}

impl RuleReader<'_> {
    /// The guard that `trigger-rule` describes.
    ///
    /// # Errors
    /// When a part of it cannot be carried over.
    pub fn guard(&mut self, cursor: &Cursor<'_>) -> Result<Guard, Note> {
        let rule = self.rule(cursor)?;
        self.reduce(&rule)
    }

    fn rule(&mut self, cursor: &Cursor<'_>) -> Result<Placed, Note> {
        let position = cursor.position();
        let rules = |this: &mut Self, list: &Cursor<'_>| {
            list.sequence()?.iter().map(|rule| this.rule(rule)).collect::<Result<Vec<_>, _>>()
        };
        // webhook looks for them in this order, and takes the first that is there.
        let rule = if let Some(list) = cursor.entry("and") {
            Rule::All(rules(self, &list)?)
        } else if let Some(list) = cursor.entry("or") {
            Rule::Any(rules(self, &list)?)
        } else if let Some(rule) = cursor.entry("not") {
            Rule::Not(Box::new(self.rule(&rule)?))
        } else if let Some(matched) = cursor.entry("match") {
            return self.matched(&matched);
        } else {
            return Err(Note::refusal(
                position,
                "a rule without `and`, `or`, `not` or `match` never holds",
            ));
        };
        Ok(Placed { position, rule })
    }

    fn matched(&mut self, cursor: &Cursor<'_>) -> Result<Placed, Note> {
        let position = cursor.position();
        let kind = self.text(cursor, "type")?;
        let rule = match kind.as_str() {
            "ip-whitelist" => self.networks(cursor)?,
            "value" => self.value(cursor)?,
            "regex" => self.regex(cursor)?,
            "scalr-signature" => {
                return Err(Note::refusal(
                    position,
                    "scalr-signature is not supported: Scalr signs a date in a form of its own",
                ));
            }
            other => match other.rsplit_once('-') {
                Some(("payload-hmac" | "payload-hash", hash @ ("sha1" | "sha256" | "sha512"))) => {
                    self.signature(cursor, hash)?
                }
                _ => {
                    let message = format!("the match type `{other}` is not known");
                    return Err(Note::refusal(position, message));
                }
            },
        };
        Ok(Placed { position, rule })
    }

    fn networks(&mut self, cursor: &Cursor<'_>) -> Result<Rule, Note> {
        let ranges = self.text(cursor, "ip-range")?;
        let mut networks = Networks::default();
        for range in ranges.split_whitespace() {
            let added = networks.add(range);
            added.map_err(|error| Note::refusal(cursor.position(), error.to_string()))?;
        }
        match networks.is_empty() {
            true => Err(Note::refusal(cursor.position(), "ip-whitelist without an ip-range")),
            false => Ok(Rule::Networks(networks.texts().collect())),
        }
    }

    fn signature(&mut self, cursor: &Cursor<'_>, hash: &str) -> Result<Rule, Note> {
        let parameter = self.parameter(cursor)?;
        if parameter.source != "header" {
            let message = "a signature that does not stand in a header cannot be checked";
            return Err(Note::refusal(parameter.cursor.position(), message));
        }
        let secret = self.secret(cursor)?;
        Ok(Rule::Check(Check { schemes: schemes(&parameter.name, hash), secret }))
    }

    fn value(&mut self, cursor: &Cursor<'_>) -> Result<Rule, Note> {
        let parameter = self.parameter(cursor)?;
        let written = match cursor.entry("value") {
            Some(value) => value.text()?.to_owned(),
            None => String::new(),
        };
        let Value::Computed(place) = &parameter.value else {
            return Err(Note::refusal(cursor.position(), "compares two texts of the file"));
        };
        let is_secret = looks_secret(&parameter.name);
        let is_text = matches!(parameter.source.as_str(), "header" | "url" | "query");
        let credential = match (is_secret && is_text, self.templates.action(&written)) {
            (true, _) | (_, Some(_)) => credential_of(&parameter, &written),
            _ => None,
        };
        if let Some((scheme, text)) = credential {
            // A secret of a template is not known here, and the expression then cannot be written.
            let value = self.templates.resolve(&text).unwrap_or_default();
            let name = self.secrets.name(self.id, &text, cursor.position(), self.templates);
            let secret = name.map_err(|why| Note::refusal(cursor.position(), why))?;
            let check = Check { schemes: vec![scheme], secret };
            return Ok(Rule::Credential { check, expression: equals(place, &value, true) });
        }
        let value = self.templates.resolve(&written);
        let value = value.map_err(|why| Note::refusal(cursor.position(), why))?;
        if is_secret {
            self.notes.push(Note::new(
                cursor.position(),
                format!(
                    "the value of `{}` looks like a secret and stands in the fleet file; a \
                     signature is better, if the sender has one (boathook help senders)",
                    parameter.name
                ),
            ));
        }
        Ok(Rule::Expression(equals(place, &value, is_text || place == "text")))
    }

    fn regex(&mut self, cursor: &Cursor<'_>) -> Result<Rule, Note> {
        let parameter = self.parameter(cursor)?;
        let pattern = self.text(cursor, "regex")?;
        let Value::Computed(place) = &parameter.value else {
            return Err(Note::refusal(cursor.position(), "compares two texts of the file"));
        };
        let pattern = literal(&pattern);
        check_pattern(&pattern).map_err(|why| Note::refusal(cursor.position(), why))?;
        Ok(Rule::Expression(match parameter.source.as_str() {
            "payload" | "entire-payload" | "template" => format!(
                "!(type({place}) in [map, list, null_type]) && string({place}).matches({pattern})"
            ),
            _ => format!("{place}.matches({pattern})"),
        }))
    }

    fn parameter<'c>(&mut self, cursor: &Cursor<'c>) -> Result<Reference<'c>, Note> {
        let Some(parameter) = cursor.entry("parameter") else {
            return Err(Note::refusal(cursor.position(), "the match has no `parameter`"));
        };
        Reference::read(&parameter, self.templates, self.notes)
    }

    fn secret(&mut self, cursor: &Cursor<'_>) -> Result<SecretName, Note> {
        let Some(secret) = cursor.entry("secret").filter(|secret| !secret.is_null()) else {
            return Err(Note::refusal(cursor.position(), "the match has no `secret`"));
        };
        let text = secret.text()?;
        if text.is_empty() {
            return Err(Note::refusal(secret.position(), "an empty secret verifies nothing"));
        }
        let name = self.secrets.name(self.id, text, secret.position(), self.templates);
        name.map_err(|why| Note::refusal(secret.position(), why))
    }

    fn text(&self, cursor: &Cursor<'_>, key: &str) -> Result<String, Note> {
        let Some(value) = cursor.entry(key) else {
            return Err(Note::refusal(cursor.position(), format!("the match has no `{key}`")));
        };
        let text = self.templates.resolve(value.text()?);
        text.map_err(|why| Note::refusal(value.position(), why))
    }

    /// The guard of a tree.
    fn reduce(&mut self, placed: &Placed) -> Result<Guard, Note> {
        if !placed.has_guard() {
            return Ok(Guard { when: vec![placed.expression(self.notes)], ..Guard::default() });
        }
        match &placed.rule {
            Rule::Expression(text) => Ok(Guard { when: vec![text.clone()], ..Guard::default() }),
            Rule::Check(check) | Rule::Credential { check, .. } => {
                Ok(Guard { checks: vec![check.clone()], ..Guard::default() })
            }
            Rule::Networks(allow) => Ok(Guard { allow: allow.clone(), ..Guard::default() }),
            Rule::All(rules) => self.all(rules),
            Rule::Any(rules) => self.any(placed, rules),
            Rule::Not(inner) if !inner.has_signature() => {
                Ok(Guard { when: vec![placed.expression(self.notes)], ..Guard::default() })
            }
            Rule::Not(_) => Err(Note::refusal(
                placed.position,
                "`not` around a signature or an address cannot be carried over",
            )),
        }
    }

    fn all(&mut self, rules: &[Placed]) -> Result<Guard, Note> {
        let mut all = Guard::default();
        for placed in rules {
            let Guard { checks, allow, when } = self.reduce(placed)?;
            if !checks.is_empty() && !all.checks.is_empty() && checks != all.checks {
                let message = "a second signature or credential that must hold as well cannot be \
                               carried over: of the checks in `verify` one has to hold";
                return Err(Note::refusal(placed.position, message));
            }
            if !allow.is_empty() && !all.allow.is_empty() && allow != all.allow {
                let message = "a second list of addresses that must hold as well cannot be carried \
                               over";
                return Err(Note::refusal(placed.position, message));
            }
            if !checks.is_empty() {
                all.checks = checks;
            }
            if !allow.is_empty() {
                all.allow = allow;
            }
            all.when.extend(when);
        }
        Ok(all)
    }

    /// Branches that ask for the same sender and addresses, or for nothing else than a sender or addresses.
    fn any(&mut self, placed: &Placed, rules: &[Placed]) -> Result<Guard, Note> {
        if !placed.has_signature() && !rules.iter().all(Placed::is_credential) {
            // Credentials among other conditions.
            return Ok(Guard { when: vec![placed.expression(self.notes)], ..Guard::default() });
        }
        let branches: Result<Vec<_>, _> = rules.iter().map(|rule| self.reduce(rule)).collect();
        let branches = branches?;
        let Some((first, others)) = branches.split_first() else { return Ok(Guard::default()) };
        let only = |of: fn(&Guard) -> bool| branches.iter().all(of);
        if only(|it| !it.checks.is_empty() && it.allow.is_empty() && it.when.is_empty()) {
            let checks = branches.iter().flat_map(|it| it.checks.clone()).collect();
            return Ok(Guard { checks, ..Guard::default() });
        }
        if only(|it| it.checks.is_empty() && !it.allow.is_empty() && it.when.is_empty()) {
            let allow = branches.iter().flat_map(|it| it.allow.clone()).collect();
            return Ok(Guard { allow, ..Guard::default() });
        }
        if others.iter().all(|it| it.checks == first.checks && it.allow == first.allow) {
            let mut when = Vec::new();
            if only(|it| !it.when.is_empty()) {
                when.push(joined(branches.iter().map(|it| conjunction(&it.when)), " || "));
            }
            let Guard { checks, allow, .. } = first.clone();
            return Ok(Guard { checks, allow, when });
        }
        Err(Note::refusal(
            placed.position,
            "`or` between signatures or addresses and other conditions cannot be carried over; make \
             a fleet of each",
        ))
    }
}

impl Placed {
    /// Whether it holds anything but expressions.
    fn has_guard(&self) -> bool {
        self.has(&|rule| !matches!(rule, Rule::Expression(_)))
    }

    /// Whether it holds what no expression can say.
    fn has_signature(&self) -> bool {
        self.has(&|rule| matches!(rule, Rule::Check(_) | Rule::Networks(_)))
    }

    fn is_credential(&self) -> bool {
        matches!(self.rule, Rule::Credential { .. })
    }

    fn has(&self, test: &dyn Fn(&Rule) -> bool) -> bool {
        match &self.rule {
            Rule::All(rules) | Rule::Any(rules) => rules.iter().any(|rule| rule.has(test)),
            Rule::Not(rule) => rule.has(test),
            leaf => test(leaf),
        }
    }

    /// The rule as an expression. It holds no signature and no network.
    fn expression(&self, notes: &mut Vec<Note>) -> String {
        match &self.rule {
            Rule::Expression(text) => text.clone(),
            Rule::Credential { expression, .. } => {
                notes.push(Note::new(
                    self.position,
                    "the value looks like a secret and stands in the fleet file, since other \
                     conditions may take its place",
                ));
                expression.clone()
            }
            Rule::All(rules) if rules.is_empty() => "true".to_owned(),
            Rule::All(rules) => {
                let parts: Vec<_> = rules.iter().map(|rule| rule.expression(notes)).collect();
                conjunction(&parts)
            }
            Rule::Any(rules) if rules.is_empty() => "false".to_owned(),
            Rule::Any(rules) => joined(rules.iter().map(|rule| rule.expression(notes)), " || "),
            Rule::Not(rule) => {
                notes.push(Note::new(
                    self.position,
                    "outside `and`, webhook runs the command where the request lacks what this `not` \
                     looks at; a fleet does not, since a part that is missing makes `when` false: add \
                     `|| !has(...)` for a part that may be missing",
                ));
                format!("!({})", rule.expression(notes))
            }
            // The callers ask `has_signature` first.
            Rule::Check(_) | Rule::Networks(_) => "false".to_owned(),
        }
    }
}

/// The expression of parts that must all hold.
pub(super) fn conjunction(parts: &[String]) -> String {
    joined(parts.iter().cloned(), " && ")
}

/// Parts with an operator between them, in brackets where they have operators of their own.
fn joined(parts: impl Iterator<Item = String>, operator: &str) -> String {
    let parts: Vec<_> = parts.collect();
    if let [only] = parts.as_slice() {
        return only.clone();
    }
    let bracketed =
        parts.into_iter().map(|part| match part.contains("&&") || part.contains("||") {
            true => format!("({part})"),
            false => part,
        });
    bracketed.collect::<Vec<_>>().join(operator)
}

/// The expression that compares a place with a text, as the project compares: it writes numbers and truth
/// values as text first.
fn equals(place: &str, value: &str, is_text: bool) -> String {
    let quoted = format!("{place} == {}", literal(value));
    let is_number = value.parse::<f64>().is_ok_and(f64::is_finite)
        && serde_json::from_str::<serde_json::Number>(value).is_ok();
    match !is_text && (is_number || matches!(value, "true" | "false")) {
        true => format!("({quoted} || {place} == {value})"),
        false => quoted,
    }
}

/// The schemes of an HMAC over the body in the header `name`, which the project takes with `<hash>=` in front
/// and without.
fn schemes(name: &str, hash: &str) -> Vec<String> {
    let lower = name.to_ascii_lowercase();
    let preset = match (lower.as_str(), hash) {
        ("x-hub-signature-256", "sha256") => Some("github"),
        ("x-hub-signature", "sha256") => Some("bitbucket"),
        ("x-gitea-signature", "sha256") => Some("gitea"),
        ("x-forgejo-signature", "sha256") => Some("forgejo"),
        _ => None,
    };
    if let Some(preset) = preset {
        return vec![format!("preset: {preset}")];
    }
    let scheme = |prefix: &str| {
        format!("header: {name}, {prefix}signed: \"{{body}}\", algorithm: {hash}, encoding: hex")
    };
    let prefixed = scheme(&format!("prefix: \"{hash}=\", "));
    match lower.as_str() {
        "x-hub-signature" => vec![prefixed],
        "x-gogs-signature" => vec![scheme("")],
        _ => vec![prefixed, scheme("")],
    }
}

/// The scheme that checks a credential, and the secret in it.
fn credential_of(parameter: &Reference<'_>, value: &str) -> Option<(String, String)> {
    let (source, name) = (parameter.source.as_str(), parameter.name.as_str());
    let value = value.to_owned();
    Some(match source {
        "header" if name.eq_ignore_ascii_case("x-gitlab-token") => {
            ("preset: gitlab".to_owned(), value)
        }
        "header" if name.eq_ignore_ascii_case("authorization") => {
            match value.strip_prefix("Bearer ") {
                Some(token) => ("preset: bearer".to_owned(), token.to_owned()),
                None => ("preset: header, name: Authorization".to_owned(), value),
            }
        }
        "header" => (format!("preset: header, name: {name}"), value),
        "url" | "query" => {
            (format!("preset: query, name: {}", super::super::write::scalar(name)), value)
        }
        _ => return None,
    })
}

/// Whether the name of a place says that its value is a secret.
fn looks_secret(name: &str) -> bool {
    const WORDS: [&str; 7] = ["token", "secret", "password", "passwd", "auth", "apikey", "api-key"];
    let last = name.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    let last = last.replace('_', "-");
    last == "key" || WORDS.iter().any(|word| last.contains(word))
}

/// Whether the pattern, a text of CEL, is a regular expression here too: Go knows a few forms more.
fn check_pattern(pattern: &str) -> Result<(), String> {
    let expression = Expression::parse(&format!("text.matches({pattern})"));
    let expression = expression.map_err(|error| error.to_string())?;
    let request = Variables::new(Payload::parse(b"x", None), [], "", &Event::default());
    match expression.is_true(&request) {
        Err(EvaluationError::Failed(why)) => Err(format!("the pattern is not understood: {why}")),
        _ => Ok(()),
    }
}
