//! JSON to values of CEL, and values to text.

use std::collections::HashMap;
use std::fmt;

use cel::common::types::{
    CelBool, CelBytes, CelDouble, CelDuration, CelInt, CelList, CelMap, CelMapKey, CelNull,
    CelString, CelTimestamp, CelType, CelUInt,
};
use cel::common::value::Val;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::model::text::prefix;

/// A value of any type.
pub(super) type Boxed = Box<dyn Val>;

/// The value of a JSON text; `None` when it is none that can be represented.
pub(super) fn parse(text: &[u8]) -> Option<Boxed> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = Seed.deserialize(&mut deserializer).ok()?;
    deserializer.end().ok()?;
    Some(value)
}

struct Seed;

impl<'de> DeserializeSeed<'de> for Seed {
    type Value = Boxed;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Boxed, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed {
    type Value = Boxed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Boxed, E> {
        Ok(Box::new(CelBool::from(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Boxed, E> {
        Ok(Box::new(CelInt::from(value)))
    }

    /// A number is an int where it fits, so that `body.n + 1` works.
    fn visit_u64<E>(self, value: u64) -> Result<Boxed, E> {
        Ok(match i64::try_from(value) {
            Ok(value) => Box::new(CelInt::from(value)),
            Err(_) => Box::new(CelUInt::from(value)),
        })
    }

    fn visit_f64<E>(self, value: f64) -> Result<Boxed, E> {
        Ok(Box::new(CelDouble::from(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Boxed, E> {
        Ok(text(value))
    }

    fn visit_unit<E>(self) -> Result<Boxed, E> {
        Ok(Box::new(CelNull))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Boxed, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element_seed(Seed)? {
            list.push(element);
        }
        Ok(Box::new(CelList::from(list)))
    }

    /// Of fields of one name the last counts.
    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Boxed, A::Error> {
        let mut map = HashMap::new();
        while let Some(key) = fields.next_key::<String>()? {
            map.insert(CelMapKey::from(key), fields.next_value_seed(Seed)?);
        }
        Ok(Box::new(CelMap::from(map)))
    }
}

/// A text as a value.
pub(super) fn text(value: &str) -> Boxed {
    Box::new(CelString::from(value.to_owned()))
}

/// A map with these fields.
pub(super) fn map(fields: impl IntoIterator<Item = (String, Boxed)>) -> Boxed {
    let fields: HashMap<_, _> =
        fields.into_iter().map(|(key, value)| (CelMapKey::from(key), value)).collect();
    Box::new(CelMap::from(fields))
}

/// Text as it is, anything else as compact JSON with sorted keys. `None` beyond `bytes_max` bytes.
pub(super) fn text_of(value: &dyn Val, bytes_max: usize) -> Option<String> {
    if let Some(text) = value.downcast_ref::<CelString>() {
        return (text.inner().len() <= bytes_max).then(|| text.inner().to_owned());
    }
    let mut written = String::new();
    match as_text(value) {
        Some(text) => written.push_str(&text),
        None => write(value, &mut written, bytes_max),
    }
    (written.len() <= bytes_max).then_some(written)
}

/// Compact JSON, cut after `bytes_max` bytes.
pub(super) fn shortened(value: &dyn Val, bytes_max: usize) -> String {
    let mut written = String::new();
    write(value, &mut written, bytes_max);
    match written.len() > bytes_max {
        true => format!("{}…", prefix(&written, bytes_max)),
        false => written,
    }
}

/// Adds `value` as compact JSON, and stops soon after `bytes_max` bytes.
fn write(value: &dyn Val, written: &mut String, bytes_max: usize) {
    if written.len() > bytes_max {
        return;
    }
    if let Some(value) = value.downcast_ref::<CelString>() {
        write_text(value.inner(), written);
    } else if let Some(list) = value.downcast_ref::<CelList>() {
        written.push('[');
        for (at, element) in list.inner().iter().enumerate() {
            if at > 0 {
                written.push(',');
            }
            write(element.as_ref(), written, bytes_max);
        }
        written.push(']');
    } else if let Some(map) = value.downcast_ref::<CelMap>() {
        let mut fields: Vec<(String, &dyn Val)> =
            map.inner().iter().map(|(key, value)| (key_text(key), value.as_ref())).collect();
        fields.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
        written.push('{');
        for (at, (key, value)) in fields.into_iter().enumerate() {
            if at > 0 {
                written.push(',');
            }
            write_text(&key, written);
            written.push(':');
            write(value, written, bytes_max);
        }
        written.push('}');
    } else {
        written.push_str(&scalar(value));
    }
}

fn scalar(value: &dyn Val) -> String {
    if let Some(value) = value.downcast_ref::<CelBool>() {
        value.inner().to_string()
    } else if let Some(value) = value.downcast_ref::<CelInt>() {
        value.inner().to_string()
    } else if let Some(value) = value.downcast_ref::<CelUInt>() {
        value.inner().to_string()
    } else if let Some(value) = value.downcast_ref::<CelDouble>() {
        serde_json::Number::from_f64(*value.inner()).map_or("null".into(), |it| it.to_string())
    } else {
        let mut written = String::new();
        match as_text(value) {
            Some(text) => write_text(&text, &mut written),
            None => written.push_str("null"),
        }
        written
    }
}

/// What JSON knows as text: bytes, times as RFC 3339, durations in seconds, names of types.
fn as_text(value: &dyn Val) -> Option<String> {
    if let Some(value) = value.downcast_ref::<CelBytes>() {
        Some(String::from_utf8_lossy(value.inner()).into_owned())
    } else if let Some(time) = value.downcast_ref::<CelTimestamp>() {
        Some(time.inner().to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
    } else if let Some(duration) = value.downcast_ref::<CelDuration>() {
        Some(format!("{}s", duration.inner().as_seconds_f64()))
    } else {
        value.downcast_ref::<CelType>().map(|name| name.name().to_owned())
    }
}

fn key_text(key: &CelMapKey<'_>) -> String {
    let key = key.inner();
    key.downcast_ref::<CelString>().map_or_else(|| scalar(key), |text| text.inner().to_owned())
}

fn write_text(text: &str, written: &mut String) {
    // Text is always representable.
    written.push_str(&serde_json::to_string(text).unwrap_or_default());
}

/// An index as text.
pub(super) fn of_value(value: &cel::Value) -> String {
    match value {
        cel::Value::Int(index) => index.to_string(),
        cel::Value::UInt(index) => index.to_string(),
        _ => "of that number".into(),
    }
}
