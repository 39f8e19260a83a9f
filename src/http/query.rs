//! Query strings: names and values, and the refusal of values that make no sense.

use std::fmt::Display;
use std::str::FromStr;

use crate::http::respond::Problem;
use crate::limits;

/// The parameters of a query string, decoded, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `text`, which comes without the question mark. Parameters without a value count as
    /// absent, so that a form can leave its fields empty.
    ///
    /// # Errors
    /// When an escape is broken or does not make UTF-8.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let mut parameters = Vec::new();
        for pair in text.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (decoded(name), decoded(value)) else {
                return Err(Problem::bad_request("the query string has a broken escape"));
            };
            if !value.is_empty() {
                parameters.push((name, value));
            }
        }
        Ok(Self(parameters))
    }

    /// Refuses parameters other than `known`: a typing error must not widen a search in silence.
    ///
    /// # Errors
    /// Naming the parameter.
    pub fn allow_only(&self, known: &[&str]) -> Result<(), Problem> {
        match self.0.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) => Err(Problem::bad_request(format!(
                "query parameter {name:?}: unknown; one of {}",
                known.join(", ")
            ))),
        }
    }

    /// The first value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// The value of `name` as a `T`.
    ///
    /// # Errors
    /// When there is one and it is none; names the parameter.
    pub fn parsed<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, Problem> {
        self.get(name)
            .map(|value| {
                value.parse().map_err(|error| {
                    Problem::bad_request(format!("query parameter {name:?}: {error}"))
                })
            })
            .transpose()
    }

    /// Whether `name` is set; false when it is absent.
    ///
    /// # Errors
    /// When the value is neither `true` nor `false`; names the parameter.
    pub fn flag(&self, name: &str) -> Result<bool, Problem> {
        Ok(self.parsed(name)?.unwrap_or(false))
    }

    /// How many entries a list may have: `limit`, 1 to 1,000.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn limit(&self) -> Result<usize, Problem> {
        match self.parsed("limit")? {
            None => Ok(limits::LIST_DEFAULT),
            Some(limit) if (1..=limits::LIST_MAX).contains(&limit) => Ok(limit),
            Some(_) => Err(Problem::bad_request(format!(
                "query parameter \"limit\": a number from 1 to {}",
                limits::LIST_MAX
            ))),
        }
    }

    /// The part of `items` that `limit` and `before` ask for: those that come after the item whose
    /// id is `before` in the order of the list.
    ///
    /// # Errors
    /// When `limit` makes no sense or no item has the id `before`.
    pub fn page<T>(&self, items: Vec<T>, id: impl Fn(&T) -> String) -> Result<Vec<T>, Problem> {
        self.allow_only(&["limit", "before"])?;
        let limit = self.limit()?;
        let skipped = match self.get("before") {
            None => 0,
            Some(before) => {
                let position = items.iter().position(|item| id(item) == before);
                position.ok_or_else(|| {
                    Problem::bad_request("query parameter \"before\": not in this list")
                })? + 1
            }
        };
        Ok(items.into_iter().skip(skipped).take(limit).collect())
    }
}

/// `text` without its percent escapes. A plus sign stays one: times with an offset have it, and
/// none of our values has spaces.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            bytes.push((high * 16 + low) as u8);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded() {
        let query =
            Query::parse("a=%41b&since=2024-01-01T00:00:00%2B02:00&empty=&bare&+=+").unwrap();
        assert_eq!(query.get("a"), Some("Ab"));
        assert_eq!(query.get("since"), Some("2024-01-01T00:00:00+02:00"));
        assert_eq!(query.get("+"), Some("+"));
        assert_eq!((query.get("empty"), query.get("bare")), (None, None));
        assert_eq!(Query::parse(""), Ok(Query::default()));
        for broken in ["a=%", "a=%4", "a=%zz", "a=%ff", "%=1"] {
            assert!(Query::parse(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn refusals_name_the_parameter() {
        for text in ["limit=0", "limit=1001", "limit=-1", "limit=x", "limit=99999999999999999999"] {
            let problem = Query::parse(text).unwrap().limit().unwrap_err();
            assert!(problem.status == 400 && problem.message.contains("limit"), "{problem:?}");
        }
        let query = Query::parse("limit=1000&folow=true&follow=yes").unwrap();
        assert_eq!(query.limit(), Ok(1000));
        assert!(query.flag("follow").unwrap_err().message.contains("follow"));
        assert!(query.allow_only(&["limit", "follow"]).unwrap_err().message.contains("folow"));
    }

    #[test]
    fn pages_follow_each_other() {
        let page = |text: &str| {
            Query::parse(text).unwrap().page(vec![1, 2, 3, 4, 5], |item| item.to_string())
        };
        assert_eq!(page("limit=2"), Ok(vec![1, 2]));
        assert_eq!(page("limit=2&before=2"), Ok(vec![3, 4]));
        assert_eq!(page("before=5"), Ok(vec![]));
        assert_eq!(page("before=6").unwrap_err().status, 400);
    }
}
