//! Query strings: names and values, and the refusal of values that make no sense.

use std::collections::BTreeSet;
use std::fmt::{self, Display};
use std::str::FromStr;

use data_encoding::HEXLOWER;
use uuid::Uuid;

use crate::model::limits;
use crate::model::refusal::{Reason, Refusal};

/// The header of a list that tells which `before` leads to the next page; absent from the last page.
pub const NEXT_BEFORE: &str = "X-Next-Before";

/// Part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// The `before` of the next page, when there is one.
    pub next: Option<String>,
}

/// The place of an item in a list that is sorted by name and, among equal names, by id. As a cursor
/// it stays valid when its item is renamed or removed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    name: Vec<u8>,
    id: String,
}

impl Position {
    /// The place of the item with this name and id.
    pub fn new(name: &str, id: impl Display) -> Self {
        Self { name: name.as_bytes().to_vec(), id: id.to_string() }
    }
}

impl Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", HEXLOWER.encode(&self.name), self.id)
    }
}

impl FromStr for Position {
    /// It is no cursor.
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (name, id) = text.split_once('.').ok_or(())?;
        let name = HEXLOWER.decode(name.as_bytes()).map_err(|_| ())?;
        let is_id = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-');
        if id.is_empty() || !id.bytes().all(is_id) {
            return Err(());
        }
        Ok(Self { name, id: id.to_owned() })
    }
}

/// The parameters of a query string, decoded, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `text`, which comes without the question mark. Parameters without a value count as
    /// absent, so that a form can leave its fields empty.
    ///
    /// # Errors
    /// When an escape is broken or does not make UTF-8, or a parameter is given twice.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let (mut parameters, mut names) = (Vec::new(), BTreeSet::new());
        for pair in text.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (decoded(name), decoded(value)) else {
                return Err(Refusal::bad_request("the query string has a broken escape"));
            };
            if !pair.is_empty() && !names.insert(name.clone()) {
                return Err(Refusal::bad_request(format!(
                    "query parameter {name:?}: given twice; give it once"
                )));
            }
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
    pub fn allow_only(&self, known: &[&str]) -> Result<(), Refusal> {
        match self.0.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) => Err(Refusal::bad_request(format!(
                "query parameter {name:?}: unknown; one of {}",
                known.join(", ")
            ))),
        }
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// The value of `name` as a `T`.
    ///
    /// # Errors
    /// When there is one and it is none; names the parameter.
    pub fn parsed<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, Refusal> {
        self.get(name)
            .map(|value| {
                // What parses numbers takes a plus sign; no form of any parameter begins with one.
                if value.starts_with('+') {
                    let message = format!("query parameter {name:?}: leave the plus sign out");
                    return Err(Refusal::bad_request(message));
                }
                value.parse().map_err(|error| {
                    Refusal::bad_request(format!("query parameter {name:?}: {error}"))
                })
            })
            .transpose()
    }

    /// Whether `name` is set; false when it is absent.
    ///
    /// # Errors
    /// When the value is neither `true` nor `false`; names the parameter.
    pub fn flag(&self, name: &str) -> Result<bool, Refusal> {
        Ok(self.parsed(name)?.unwrap_or(false))
    }

    /// How many entries a list may have: `limit`, 1 to 1,000.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn limit(&self) -> Result<usize, Refusal> {
        match self.parsed("limit")? {
            None => Ok(limits::LIST_DEFAULT),
            Some(limit) if (1..=limits::LIST_MAX).contains(&limit) => Ok(limit),
            Some(_) => Err(Refusal::bad_request(format!(
                "query parameter \"limit\": a number from 1 to {}",
                limits::LIST_MAX
            ))),
        }
    }

    /// The part that `limit` and `before` ask for of `items`, which are sorted by `position`:
    /// `before` is the id of an item or the cursor of an earlier page.
    ///
    /// # Errors
    /// When `limit` or `before` makes no sense, or no item has the id `before`.
    pub fn page<T>(
        &self,
        items: Vec<T>,
        position: impl Fn(&T) -> Position,
    ) -> Result<Page<T>, Refusal> {
        self.allow_only(&["limit", "before"])?;
        self.part(items, position)
    }

    /// As [`page`](Self::page), where there are other parameters as well.
    ///
    /// # Errors
    /// As [`page`](Self::page).
    pub fn part<T>(
        &self,
        items: Vec<T>,
        position: impl Fn(&T) -> Position,
    ) -> Result<Page<T>, Refusal> {
        let limit = self.limit()?;
        let skipped = match self.get("before").map(|before| (before, before.parse::<Position>())) {
            None => 0,
            Some((_, Ok(last))) => items.partition_point(|item| position(item) <= last),
            Some((id, Err(()))) => {
                let named = items.iter().position(|item| position(item).id == id);
                named.ok_or_else(|| {
                    let is_id = Uuid::try_parse(id).is_ok();
                    let reason = if is_id { Reason::NotFound } else { Reason::BadRequest };
                    let message = format!(
                        "query parameter \"before\": not in this list; go on from {NEXT_BEFORE} of \
                         the page before"
                    );
                    Refusal::new(reason, message)
                })? + 1
            }
        };
        let mut items: Vec<T> = items.into_iter().skip(skipped).collect();
        let has_more = items.len() > limit;
        items.truncate(limit);
        let last = items.last().filter(|_| has_more);
        let next = last.map(|item| position(item).to_string());
        Ok(Page { items, next })
    }
}

/// `text` without its percent escapes; `None` when they are broken or not UTF-8. A plus sign stays one: times with an offset have it, and
/// none of our values has spaces.
pub fn decoded(text: &str) -> Option<String> {
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
            let refusal = Query::parse(text).unwrap().limit().unwrap_err();
            assert!(refusal.status() == 400 && refusal.message.contains("limit"), "{refusal:?}");
        }
        let query = Query::parse("limit=1000&folow=true&follow=yes").unwrap();
        assert_eq!(query.limit(), Ok(1000));
        assert!(query.flag("follow").unwrap_err().message.contains("follow"));
        assert!(query.allow_only(&["limit", "follow"]).unwrap_err().message.contains("folow"));
    }

    #[test]
    fn pages_follow_each_other() {
        let page = |text: &str, items: &[(&str, u8)]| {
            let position = |item: &(&str, u8)| Position::new(item.0, item.1);
            let page = Query::parse(text)?.page(items.to_vec(), position)?;
            let ids: Vec<u8> = page.items.iter().map(|item| item.1).collect();
            Ok::<_, Refusal>((ids, page.next))
        };
        let all = [("a", 1), ("b", 2), ("b", 3), ("c", 4), ("d", 5)];
        let (ids, next) = page("limit=2", &all).unwrap();
        assert_eq!(ids, [1, 2]);
        let next = format!("limit=2&before={}", next.unwrap());
        let ids = |text: &str, items: &[_]| page(text, items).map(|(ids, _)| ids);
        assert_eq!(ids(&next, &all), Ok(vec![3, 4]));
        // What has become of the last item of the first page does not matter.
        assert_eq!(ids(&next, &[("a", 1), ("b", 3), ("c", 4), ("z", 2)]), Ok(vec![3, 4]));
        assert_eq!(ids(&next, &[("aa", 9), ("b", 3), ("c", 4)]), Ok(vec![3, 4]));
        assert_eq!(page("limit=5", &all).unwrap().1, None);
        assert_eq!(ids("limit=2&before=2", &all), Ok(vec![3, 4]));
        assert_eq!(ids("before=5", &all), Ok(vec![]));
        for before in ["before=6", "before=%21.6", "before=YQ"] {
            assert_eq!(ids(before, &all).unwrap_err().status(), 400, "{before}");
        }
    }

    #[test]
    fn a_parameter_given_twice_is_refused() {
        for text in ["a=1&a=2", "a=1&a=1", "a=&a=1", "a&a", "%61=1&a=2"] {
            let refusal = Query::parse(text).unwrap_err();
            assert!(refusal.status() == 400 && refusal.message.contains("\"a\""), "{refusal:?}");
        }
        assert!(Query::parse("a=1&&b=2&").is_ok());
    }
}
