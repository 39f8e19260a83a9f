//! A verification in the form of the fleet file: stored, shown by the API, and written into YAML.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::scheme::{Algorithm, Encoding, KeyForm, Unit, word_of};
use super::table;
use super::template::Template;
use super::verification::{
    Check, Method, Options, OwnPlace, OwnScheme, OwnTimestamp, Verification,
};
use crate::model::duration::{format_duration, parse_duration};
use crate::model::variable::SecretName;

/// One, or a list.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum OneOrMore<T> {
    One(T),
    More(Vec<T>),
}

impl<T> OneOrMore<T> {
    fn of(mut items: Vec<T>) -> Self {
        match items.pop() {
            Some(only) if items.is_empty() => Self::One(only),
            last => {
                items.extend(last);
                Self::More(items)
            }
        }
    }

    fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(item) => vec![item],
            Self::More(items) => items,
        }
    }
}

/// All keys that a check may have, in the order in which they are written.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    preset: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    algorithm: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<OneOrMore<SecretName>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verify_token: Option<SecretName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp_header: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tolerance: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<WrittenTimestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<WrittenPlace>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_type: Option<WrittenPlace>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTimestamp {
    header: String,
    unit: String,
    tolerance: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WrittenPlace {
    Header(String),
    Body(String),
}

impl Serialize for Verification {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        OneOrMore::of(self.checks().iter().map(Written::from).collect()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Verification {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = OneOrMore::<Written>::deserialize(deserializer)?.into_vec();
        let checks: Result<Vec<_>, String> = written.into_iter().map(Check::try_from).collect();
        let checks = checks.map_err(serde::de::Error::custom)?;
        Self::new(checks).ok_or_else(|| serde::de::Error::custom("a verification without a check"))
    }
}

impl From<&Check> for Written {
    fn from(check: &Check) -> Self {
        let secrets = &check.secrets;
        let secret = (!secrets.is_empty()).then(|| OneOrMore::of(secrets.clone()));
        match &check.method {
            Method::Preset(preset, options) => {
                let Options { verify_token, header, timestamp_header, name, tolerance } =
                    options.clone();
                Self {
                    preset: Some(preset.name.to_owned()),
                    secret,
                    verify_token,
                    header,
                    timestamp_header,
                    name,
                    tolerance: tolerance.map(format_duration),
                    ..Self::default()
                }
            }
            Method::Own(own) => Self {
                header: Some(own.header.clone()),
                prefix: (!own.prefix.is_empty()).then(|| own.prefix.clone()),
                signed: Some(own.signed.clone()),
                algorithm: Some(word_of(&Algorithm::WORDS, &own.algorithm).to_owned()),
                encoding: Some(word_of(&Encoding::WORDS, &own.encoding).to_owned()),
                key: (own.key != KeyForm::Text)
                    .then(|| word_of(&KeyForm::WORDS, &own.key).to_owned()),
                secret,
                timestamp: own.timestamp.as_ref().map(|timestamp| WrittenTimestamp {
                    header: timestamp.header.clone(),
                    unit: word_of(&Unit::WORDS, &timestamp.unit).to_owned(),
                    tolerance: format_duration(timestamp.tolerance),
                }),
                event_id: own.event_id.as_ref().map(WrittenPlace::from),
                event_type: own.event_type.as_ref().map(WrittenPlace::from),
                ..Self::default()
            },
        }
    }
}

impl TryFrom<Written> for Check {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let secrets = written.secret.map(OneOrMore::into_vec).unwrap_or_default();
        let tolerance = written.tolerance.as_deref().map(parse_duration).transpose()?;
        let method = match written.preset {
            Some(name) => {
                let preset =
                    table::preset(&name).ok_or_else(|| format!("no preset is called {name}"))?;
                let options = Options {
                    verify_token: written.verify_token,
                    header: written.header,
                    timestamp_header: written.timestamp_header,
                    name: written.name,
                    tolerance,
                };
                Method::Preset(preset, options)
            }
            None => Method::Own(OwnScheme {
                header: written.header.ok_or("neither a preset nor a header")?,
                prefix: written.prefix.unwrap_or_default(),
                signed: valid_template(written.signed.as_deref().unwrap_or("{body}"))?,
                algorithm: known(&Algorithm::WORDS, written.algorithm.as_deref())?,
                encoding: known(&Encoding::WORDS, written.encoding.as_deref())?,
                key: known(&KeyForm::WORDS, written.key.as_deref())?,
                timestamp: written.timestamp.map(OwnTimestamp::try_from).transpose()?,
                event_id: written.event_id.map(OwnPlace::from),
                event_type: written.event_type.map(OwnPlace::from),
            }),
        };
        Ok(Self { method, secrets })
    }
}

impl TryFrom<WrittenTimestamp> for OwnTimestamp {
    type Error = String;

    fn try_from(written: WrittenTimestamp) -> Result<Self, String> {
        Ok(Self {
            header: written.header,
            unit: known(&Unit::WORDS, Some(&written.unit))?,
            tolerance: parse_duration(&written.tolerance)?,
        })
    }
}

impl From<&OwnPlace> for WrittenPlace {
    fn from(place: &OwnPlace) -> Self {
        match place {
            OwnPlace::Header(name) => Self::Header(name.clone()),
            OwnPlace::Body(path) => Self::Body(path.clone()),
        }
    }
}

impl From<WrittenPlace> for OwnPlace {
    fn from(written: WrittenPlace) -> Self {
        match written {
            WrittenPlace::Header(name) => Self::Header(name),
            WrittenPlace::Body(path) => Self::Body(path),
        }
    }
}

fn valid_template(text: &str) -> Result<String, String> {
    Template::parse(text).map(|it| it.as_str().to_owned()).map_err(|error| error.to_string())
}

/// The value of `word`; the first of `words` when there is none.
fn known<T: Copy>(words: &[(&str, T)], word: Option<&str>) -> Result<T, String> {
    let found = match word {
        None => words.first(),
        Some(word) => words.iter().find(|(known, _)| *known == word),
    };
    found.map(|(_, value)| *value).ok_or_else(|| format!("unknown word {word:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_the_form_of_the_fleet_file() {
        for json in [
            r#"{"preset":"github","secret":"HOOK"}"#,
            r#"{"preset":"github","secret":["NEW","OLD"]}"#,
            r#"[{"preset":"stripe","secret":"A","tolerance":"10m"},{"preset":"monday"}]"#,
            r#"{"preset":"meta","secret":"A","verify_token":"T"}"#,
            r#"{"header":"X-Time","preset":"grafana","secret":"A","timestamp_header":"X-T"}"#,
            r#"{"algorithm":"sha256","encoding":"hex","event_id":{"header":"X-Id"},"event_type":{"body":"type"},"header":"X-Signature","prefix":"sha256=","secret":"NAME","signed":"{ts}.{body}","timestamp":{"header":"X-Time","tolerance":"5m","unit":"s"}}"#,
            r#"{"algorithm":"ed25519","encoding":"base64","header":"X-S","key":"hex","secret":"N","signed":"{body}"}"#,
        ] {
            let read: Verification = serde_json::from_str(json).unwrap();
            let written = serde_json::to_value(&read).unwrap();
            assert_eq!(written, serde_json::from_str::<serde_json::Value>(json).unwrap());
        }
        for json in [
            "[]",
            "{}",
            r#"{"preset":"githob","secret":"A"}"#,
            r#"{"preset":"github","sekret":"A"}"#,
            r#"{"header":"A","signed":"{ts}","secret":"A"}"#,
        ] {
            assert!(serde_json::from_str::<Verification>(json).is_err(), "{json}");
        }
    }
}
