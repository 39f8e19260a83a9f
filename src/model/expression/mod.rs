//! Expressions over a request, in CEL (the Common Expression Language). An expression is checked
//! when its fleet is applied. Its evaluation is bounded in steps and memory, whatever the payload.
//!
//! The cel crate parses and evaluates. Its parser for CEL's grammar of ANTLR takes exponential memory
//! for some short texts; its Pratt parser, which is used here, does not. It bounds no evaluation, so
//! [`meter`] rewrites the parsed expression to count what it costs.

mod functions;
mod json;
mod meter;
mod variables;

use std::fmt;
use std::sync::{Arc, LazyLock};

use cel::common::ast::{Expr, IdedExpr};
use cel::common::value::Val;
use cel::parser::PrattParser;
use cel::{Context, Env, ExecutionError, Value};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::variables::{Payload, Variables};

/// Bytes of an expression's text.
pub const TEXT_BYTES_MAX: usize = 1024;
/// Levels of an expression: operands, arguments and members.
pub const DEPTH_MAX: usize = 20;
/// Bytes of an evaluation's result as text.
const RESULT_BYTES_MAX: usize = 1 << 20;

/// What the parser may recurse. Deeper texts are refused by [`DEPTH_MAX`] with a clearer message.
const PARSER_DEPTH_MAX: u16 = 60;

/// Functions and macros that an expression may call, beside operators.
const FUNCTIONS: [&str; 38] = [
    "all",
    "bool",
    "bytes",
    "contains",
    "double",
    "duration",
    "dyn",
    "endsWith",
    "exists",
    "exists_one",
    "filter",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
    "has",
    "int",
    "join",
    "lowerAscii",
    "map",
    "matches",
    "replace",
    "size",
    "split",
    "startsWith",
    "string",
    "substring",
    "timestamp",
    "trim",
    "type",
    "uint",
    "upperAscii",
];

/// The functions of CEL, and those of ours.
static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::default().with_optional_support(false).with_stdlib();
    meter::declare(&mut env);
    functions::declare(&mut env);
    Arc::new(env)
});

/// A checked expression.
#[derive(Clone)]
pub struct Expression {
    text: Arc<str>,
    /// Parsed and metered.
    program: Arc<IdedExpr>,
    /// The places of the request that it reads, to be shown with its result.
    reads: Arc<[Read]>,
}

/// A place of the request that an expression reads, such as `body.ref`.
#[derive(Debug)]
struct Read {
    name: String,
    program: IdedExpr,
}

impl Read {
    /// Whether it is a part of the payload.
    fn is_payload(&self) -> bool {
        let root = self.name.split(['.', '[']).next();
        matches!(root, Some("body" | "text"))
    }
}

/// Why a text is no expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SyntaxError {
    pub message: String,
    /// Characters from the start of the text, from 1, where they are known.
    pub column: Option<usize>,
}

/// Why an expression has no value for a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// The request has no such field, element or header.
    #[error("the request has no {0}")]
    Missing(String),
    /// The operation does not go with the types or values.
    #[error("{0}")]
    Failed(String),
    /// The evaluation takes too many steps or too much memory.
    #[error("the expression costs too much for this request: it goes through too much data")]
    TooCostly,
}

impl Expression {
    /// Checks and prepares `text`.
    ///
    /// # Errors
    /// With the column where that is known: the text is too long, too deep, no CEL, or names an
    /// unknown variable or function.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        let refuse = |message: String| SyntaxError { message, column: None };
        if text.len() > TEXT_BYTES_MAX {
            let length = text.len();
            return Err(refuse(format!(
                "an expression has at most {TEXT_BYTES_MAX} bytes, and this one has {length}"
            )));
        }
        if text.trim().is_empty() {
            return Err(refuse("an expression cannot be empty".into()));
        }
        let parser = PrattParser::new().max_recursion_depth(PARSER_DEPTH_MAX);
        let parsed = parser.parse(text).map_err(|errors| syntax_error(&errors))?;
        if meter::depth(&parsed) > DEPTH_MAX {
            return Err(refuse(format!("an expression is nested at most {DEPTH_MAX} levels deep")));
        }
        check_names(&parsed, text)?;
        let reads = variables::reads(&parsed);
        let program = Arc::new(meter::metered(parsed));
        Ok(Self { text: text.into(), program, reads: reads.into() })
    }

    /// The text, as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the expression reads the payload, which then has to be parsed.
    pub fn reads_payload(&self) -> bool {
        self.reads.iter().any(Read::is_payload)
    }

    /// Whether the payload alone decides its value.
    pub fn reads_only_payload(&self) -> bool {
        self.reads.iter().all(Read::is_payload)
    }

    /// Whether the expression is true for a request.
    ///
    /// # Errors
    /// See [`EvaluationError`]. A value that is neither true nor false is a failure.
    pub fn is_true(&self, variables: &Variables<'_>) -> Result<bool, EvaluationError> {
        self.evaluate(variables, |value| {
            let truth = value.downcast_ref::<cel::common::types::CelBool>();
            truth.map(|it| *it.inner()).ok_or_else(|| {
                let kind = value.get_type().name();
                EvaluationError::Failed(format!("the expression gives {kind}, not true or false"))
            })
        })
    }

    /// The value of the expression for a request: text as it is, anything else as compact JSON.
    ///
    /// # Errors
    /// See [`EvaluationError`].
    pub fn text_value(&self, variables: &Variables<'_>) -> Result<String, EvaluationError> {
        self.evaluate(variables, text_of)
    }

    /// The same; `None` when the request has nothing of the kind, or null.
    ///
    /// # Errors
    /// Any other than that something is missing.
    pub fn present_value(
        &self,
        variables: &Variables<'_>,
    ) -> Result<Option<String>, EvaluationError> {
        let value = self.evaluate(variables, |value| {
            let is_null = value.downcast_ref::<cel::common::types::CelNull>().is_some();
            if is_null { Ok(None) } else { text_of(value).map(Some) }
        });
        match value {
            Err(EvaluationError::Missing(_)) => Ok(None),
            other => other,
        }
    }

    fn evaluate<T>(
        &self,
        variables: &Variables<'_>,
        give: impl FnOnce(&dyn Val) -> Result<T, EvaluationError>,
    ) -> Result<T, EvaluationError> {
        let given = with_context(variables, |context| {
            let value = Value::resolve_val(&self.program, context).map_err(evaluation_error)?;
            give(value.as_ref())
        });
        // Another expression may have looked at the payload in vain.
        match variables.failure().filter(|_| self.reads_payload()) {
            Some(why) => Err(EvaluationError::Failed(why.to_owned())),
            None => given,
        }
    }

    /// What the expression reads of a request, each with its value as JSON of up to `bytes_max`
    /// bytes. A place that the request does not have is left out, and so is the payload if the
    /// evaluation did not look at it.
    pub fn read_values(
        &self,
        variables: &Variables<'_>,
        bytes_max: usize,
    ) -> Vec<(String, String)> {
        with_context(variables, |context| {
            let value_of = |read: &Read| {
                let value = Value::resolve_val(&read.program, context).ok()?;
                Some((read.name.clone(), json::shortened(value.as_ref(), bytes_max)))
            };
            let has_payload = variables.has_read_payload();
            let was_seen = |read: &&Read| has_payload || !read.is_payload();
            self.reads.iter().filter(was_seen).filter_map(value_of).collect()
        })
    }
}

impl Serialize for Expression {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Expression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.text).finish()
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Expression {}

/// Runs `evaluate` with the variables and a full budget.
fn with_context<T>(variables: &Variables<'_>, evaluate: impl FnOnce(&Context) -> T) -> T {
    let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
    context.set_variable_resolver(variables);
    meter::fill(&mut context);
    evaluate(&context)
}

fn text_of(value: &dyn Val) -> Result<String, EvaluationError> {
    json::text_of(value, RESULT_BYTES_MAX).ok_or(EvaluationError::TooCostly)
}

/// The first error of the parser, without the picture that it draws of the place.
fn syntax_error(errors: &cel::ParseErrors) -> SyntaxError {
    let Some(first) = errors.errors.first() else {
        return SyntaxError { message: "not an expression".into(), column: None };
    };
    let (_, column) = first.pos;
    let message = first.msg.trim_start_matches("Syntax error: ").to_owned();
    SyntaxError { message, column: usize::try_from(column).ok().filter(|column| *column > 0) }
}

/// Refuses names that no request gives a value.
fn check_names(parsed: &IdedExpr, text: &str) -> Result<(), SyntaxError> {
    let unknown = meter::find(parsed, &|expr, locals| match expr {
        Expr::Ident(name) if !is_variable(name) && !locals.contains(&name.as_str()) => {
            Some((name.clone(), "variable", variables::NAMES.join(", ")))
        }
        Expr::Call(call) if !is_function(&call.func_name) => {
            Some((call.func_name.clone(), "function", FUNCTIONS.join(", ")))
        }
        Expr::Struct(strct) => Some((strct.type_name.clone(), "type", "none".to_owned())),
        _ => None,
    });
    let Some((name, kind, known)) = unknown else { return Ok(()) };
    let message = format!("there is no {kind} `{name}`; there are: {known}");
    Err(SyntaxError { message, column: column_of(&name, text) })
}

fn is_variable(name: &str) -> bool {
    // The parser's own variables of a comprehension begin with @, types are values as well.
    name.starts_with('@') || variables::NAMES.contains(&name) || TYPES.contains(&name)
}

const TYPES: [&str; 9] =
    ["bool", "bytes", "double", "int", "list", "map", "null_type", "string", "uint"];

fn is_function(name: &str) -> bool {
    let is_operator = !name.starts_with(|first: char| first.is_ascii_alphabetic());
    is_operator || FUNCTIONS.contains(&name)
}

/// Where the word `name` stands in `text`, in characters from 1.
fn column_of(name: &str, text: &str) -> Option<usize> {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    let (at, _) = text.match_indices(name).find(|(at, _)| {
        let before = text[..*at].chars().next_back();
        let after = text[at + name.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })?;
    Some(text[..at].chars().count() + 1)
}

fn evaluation_error(error: ExecutionError) -> EvaluationError {
    match error {
        ExecutionError::NoSuchKey(key) => EvaluationError::Missing(key.to_string()),
        ExecutionError::IndexOutOfBounds(index) => {
            EvaluationError::Missing(format!("element {}", json::of_value(&index)))
        }
        ExecutionError::FunctionError { message, .. } if message == meter::EXHAUSTED => {
            EvaluationError::TooCostly
        }
        // What is read of null or of a text has no fields.
        ExecutionError::NoSuchOverload(overload) if overload.function() == "_._" => {
            EvaluationError::Missing("such field".into())
        }
        // The library's texts of these hold the values, which may be long or secret.
        ExecutionError::FunctionError { function, message } => {
            EvaluationError::Failed(format!("{function}: {}", shortened(&message)))
        }
        ExecutionError::NoSuchOverload(overload) => EvaluationError::Failed(format!(
            "{} does not go with {}",
            operator(overload.function()),
            overload.argument_types().join(" and ")
        )),
        ExecutionError::UnsupportedBinaryOperator(operator, left, right) => {
            let kinds = [left, right].map(|value| value.type_of().to_string());
            EvaluationError::Failed(format!("{operator} does not go with {}", kinds.join(" and ")))
        }
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
            EvaluationError::Failed("a division by zero".into())
        }
        ExecutionError::Overflow(..) => EvaluationError::Failed("a number out of range".into()),
        _ => EvaluationError::Failed("the values have types that do not go together".into()),
    }
}

/// The operator of CEL's name for it: `+` for `_+_`.
fn operator(name: &str) -> &str {
    let bare = name.trim_matches('_');
    if bare.is_empty() { name } else { bare }
}

fn shortened(message: &str) -> String {
    const LETTERS: usize = 200;
    message.chars().take(LETTERS).collect()
}

#[cfg(test)]
mod tests;
