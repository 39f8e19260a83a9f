//! Values that are written as text: durations, rates, addresses. A file may hold a number in the place of
//! the text, and the error then says what to write.

use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

/// Reads a value from its text. A number or a truth value counts as its text where that is unambiguous
/// (`0` is a duration). `form` says what to write, for a person: `a duration in quotes, such as "10s"`.
///
/// # Errors
/// When the value is no `T`.
pub fn deserialize<'de, D, T>(deserializer: D, form: &'static str) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
    T::Err: Display,
{
    if deserializer.is_human_readable() {
        return deserializer.deserialize_any(Written { form, value: PhantomData });
    }
    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
}

struct Written<T> {
    form: &'static str,
    value: PhantomData<T>,
}

impl<T: FromStr> Written<T> {
    fn of_other<E: de::Error>(&self, found: impl Display) -> Result<T, E> {
        let refusal = |_| E::custom(format_args!("expected {}, not {found}", self.form));
        found.to_string().parse().map_err(refusal)
    }
}

impl<T: FromStr> Visitor<'_> for Written<T>
where
    T::Err: Display,
{
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.form)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.of_other(number)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.of_other(number)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        self.of_other(number)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<T, E> {
        self.of_other(value)
    }
}
