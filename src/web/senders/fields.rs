//! Fields of the JSON in a body, found while it is read: memory is bounded whatever the body's size.

use std::fmt;
use std::io::{BufReader, Read};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Bytes of a body in which fields are looked for. Providers that number their events in the body send far
/// less.
const SEARCHED_BYTES_MAX: u64 = 4 << 20;
/// Bytes of a field that anything asks for.
const FIELD_BYTES_MAX: usize = 1024;

/// The texts of the fields at `paths`, keys with dots between them: of strings, numbers and truth values.
/// Whatever is not there, too long or no JSON at all is `None`. Of a key that comes twice the first counts.
pub fn fields(body: impl Read, paths: &[&str]) -> Vec<Option<String>> {
    let mut found = vec![None; paths.len()];
    let wanted: Vec<_> =
        paths.iter().enumerate().map(|(index, path)| (index, Some(*path))).collect();
    if !wanted.is_empty() {
        let reader = BufReader::new(body.take(SEARCHED_BYTES_MAX));
        let mut json = serde_json::Deserializer::from_reader(reader);
        // Ends with an error when all is found, and when it is no JSON: what was found counts.
        let _ = Search { wanted, found: &mut found }.deserialize(&mut json);
    }
    found
}

/// What is searched for in one value: the rests of the paths that lead to it.
struct Search<'a, 'p> {
    /// `None`: the value itself.
    wanted: Vec<(usize, Option<&'p str>)>,
    found: &'a mut [Option<String>],
}

impl Search<'_, '_> {
    fn scalar<E: Error>(self, text: &str) -> Result<(), E> {
        for (index, rest) in self.wanted {
            let slot = self.found.get_mut(index).filter(|slot| rest.is_none() && slot.is_none());
            if let Some(slot) = slot
                && text.len() <= FIELD_BYTES_MAX
            {
                *slot = Some(text.to_owned());
            }
        }
        match self.found.iter().all(Option::is_some) {
            true => Err(E::custom("all is found")),
            false => Ok(()),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Search<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Search<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.scalar(&value.to_string())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.scalar(&value.to_string())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.scalar(&value.to_string())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.scalar(&value.to_string())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.scalar(value)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        while sequence.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            let below = self.wanted.iter().filter_map(|(index, path)| {
                let path = (*path)?;
                let (first, rest) = match path.split_once('.') {
                    Some((first, rest)) => (first, Some(rest)),
                    None => (path, None),
                };
                (first == key).then_some((*index, rest))
            });
            let wanted: Vec<_> = below.collect();
            if wanted.is_empty() {
                map.next_value::<IgnoredAny>()?;
            } else {
                map.next_value_seed(Search { wanted, found: &mut *self.found })?;
            }
        }
        Ok(())
    }
}

/// What the notifications of Microsoft Graph say of `clientState`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientState {
    /// A notification has none, or there is no notification.
    Missing,
    /// They say different things.
    Different,
    One(String),
}

/// The `clientState` of all entries of `value`.
pub fn client_state(body: impl Read) -> ClientState {
    let mut states = States { count: 0, seen: None, is_mixed: false };
    let reader = BufReader::new(body.take(SEARCHED_BYTES_MAX));
    let mut json = serde_json::Deserializer::from_reader(reader);
    let whole = Notifications(&mut states).deserialize(&mut json).and_then(|()| json.end());
    match (whole, states) {
        (Err(_), _) | (_, States { count: 0, .. } | States { seen: None, .. }) => {
            ClientState::Missing
        }
        (_, States { is_mixed: true, .. }) => ClientState::Different,
        (_, States { seen: Some(state), .. }) => ClientState::One(state),
    }
}

struct States {
    count: u64,
    seen: Option<String>,
    is_mixed: bool,
}

/// The object around the notifications.
struct Notifications<'a>(&'a mut States);

/// The list of notifications.
struct List<'a>(&'a mut States);

#[derive(serde::Deserialize)]
struct Notification {
    #[serde(rename = "clientState", default)]
    client_state: Option<String>,
}

impl<'de> DeserializeSeed<'de> for Notifications<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Notifications<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `value`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "value" => map.next_value_seed(List(&mut *self.0))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of notifications")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        while let Some(Notification { client_state }) = sequence.next_element()? {
            let state = client_state.ok_or_else(|| A::Error::custom("no clientState"))?;
            self.0.count += 1;
            self.0.is_mixed |= self.0.seen.as_ref().is_some_and(|seen| *seen != state);
            self.0.seen = Some(state);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_at_their_paths() {
        let body = br#"{"a": {"b": [1, {"id": 9}], "id": "x"}, "id": 17, "t": true, "n": null,
            "id": "late", "deep": {"er": {"still": -1.5}}}"#;
        let found =
            fields(&body[..], &["id", "a.id", "t", "n", "deep.er.still", "a", "none", "a.b.id"]);
        let expected = [Some("17"), Some("x"), Some("true"), None, Some("-1.5"), None, None, None];
        assert_eq!(found.iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
        for body in ["", "[]", "x", "{\"id\"", "{\"id\":", "\"id\"", "{\"id\":[\"x\"]}"] {
            assert_eq!(fields(body.as_bytes(), &["id"]), [None], "{body}");
        }
        // What comes before the end of a broken body counts.
        assert_eq!(fields(&b"{\"id\": \"x\", "[..], &["id", "b"]), [Some("x".into()), None]);
        let long = format!("{{\"id\": \"{}\", \"b\": 1}}", "x".repeat(5000));
        assert_eq!(fields(long.as_bytes(), &["id", "b"]), [None, Some("1".into())]);
    }

    #[test]
    fn all_notifications_must_carry_the_client_state() {
        for (body, expected) in [
            (r#"{"value":[{"clientState":"s","x":1}]}"#, ClientState::One("s".into())),
            (
                r#"{"value":[{"clientState":"s"},{"clientState":"s"}]}"#,
                ClientState::One("s".into()),
            ),
            (r#"{"value":[{"clientState":"s"},{"clientState":"t"}]}"#, ClientState::Different),
            (r#"{"value":[{"clientState":"s"},{}]}"#, ClientState::Missing),
            (r#"{"value":[{"clientState":null}]}"#, ClientState::Missing),
            (r#"{"value":[]}"#, ClientState::Missing),
            (r#"{"clientState":"s"}"#, ClientState::Missing),
            (r#"{"value":[{"clientState":"s"}]} x"#, ClientState::Missing),
            ("", ClientState::Missing),
        ] {
            assert_eq!(client_state(body.as_bytes()), expected, "{body}");
        }
    }
}
