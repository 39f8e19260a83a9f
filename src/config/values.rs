//! Types of settings, which are written the same way in flags, environment and file.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer};

use super::smtp::SmtpUrl;
use super::url::{BasePath, PublicUrl, ServiceUrl};
use crate::model::duration::parse_duration;
use crate::model::network::{NetworkError, Networks};
use crate::model::run::Status;
use crate::model::size::parse_size;
use crate::model::text_value;

/// A whole number from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(NonZeroUsize);

/// What [`Count`] and [`whole_number`] take.
const WHOLE_NUMBER: &str = "a whole number from 1";

/// A whole number from 1, as a flag has it.
///
/// # Errors
/// What to write instead, for a person.
pub fn whole_number<N: TryFrom<u64>>(text: &str) -> Result<N, String> {
    let number: Option<u64> = text.parse().ok().filter(|number| *number > 0);
    number.and_then(|number| number.try_into().ok()).ok_or_else(|| format!("write {WHOLE_NUMBER}"))
}

impl Count {
    /// `None` for zero.
    pub fn new(number: usize) -> Option<Self> {
        NonZeroUsize::new(number).map(Self)
    }
}

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number: usize = whole_number(text)?;
        Self::new(number).ok_or_else(|| format!("write {WHOLE_NUMBER}"))
    }
}

/// A number of bytes: `26214400` or `25MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_size(text).map(ByteSize)
    }
}

/// A duration: `10s`, `1h30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period(pub Duration);

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_duration(text).map(Period)
    }
}

/// An address to listen on: `127.0.0.1:9000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenAddress(pub SocketAddr);

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(ListenAddress).map_err(|_| {
            format!(
                "not an address: {text:?}; write IP:PORT, such as 127.0.0.1:9000, \
                 0.0.0.0:9000 or [::1]:9000"
            )
        })
    }
}

/// Proxies whose forwarding headers count: in a flag or variable separated by commas, in the file also a
/// list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedProxies(pub Networks);

impl FromStr for TrustedProxies {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        text.parse().map(TrustedProxies)
    }
}

impl<'de> Deserialize<'de> for TrustedProxies {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Names(texts) = Names::deserialize(deserializer)?;
        let networks = Networks::parse(texts.iter().map(String::as_str));
        networks.map(TrustedProxies).map_err(de::Error::custom)
    }
}

/// Names of hosts, without ports: `boat.example.com,boat.lan`; in the file also a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostNames(pub Vec<String>);

impl FromStr for HostNames {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().and_then(|Names(names)| Self::checked(&names))
    }
}

impl HostNames {
    fn checked(names: &[String]) -> Result<Self, String> {
        let checked = names.iter().map(|name| {
            let is_name = !name.is_empty()
                && name.chars().all(|it| it.is_ascii_alphanumeric() || "-._".contains(it));
            is_name.then(|| name.to_ascii_lowercase()).ok_or_else(|| {
                format!("not the name of a host: {name:?}; write it without scheme and port")
            })
        });
        checked.collect::<Result<_, _>>().map(HostNames)
    }
}

impl<'de> Deserialize<'de> for HostNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Names(names) = Names::deserialize(deserializer)?;
        Self::checked(&names).map_err(de::Error::custom)
    }
}

/// The least important level that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLevel(pub log::LevelFilter);

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(LogLevel).map_err(|_| {
            format!("no such level: {text:?}; one of off, error, warn, info, debug, trace")
        })
    }
}

/// Which work directories stay after the end of their runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum KeepWorkdir {
    Never,
    /// Those of runs that did not end as Success.
    OnFailure,
    Always,
}

impl FromStr for KeepWorkdir {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = <Self as clap::ValueEnum>::from_str(text, false);
        known.map_err(|_| format!("{text:?} is none of never, on_failure and always"))
    }
}

impl KeepWorkdir {
    /// Whether the work directory of a run that ended as `status` stays.
    pub fn keeps(self, status: Status) -> bool {
        match self {
            Self::Never => false,
            Self::OnFailure => status != Status::Success,
            Self::Always => true,
        }
    }
}

/// Names: `deploy, backup` in a flag or a variable, in the file also `["deploy", "backup"]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(pub Vec<String>);

impl FromStr for Names {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        Ok(Self(names.map(str::to_owned).collect()))
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged, expecting = "expected a list such as [\"a\", \"b\"]")]
        enum TextOrList {
            Text(String),
            List(Vec<String>),
        }
        match TextOrList::deserialize(deserializer)? {
            TextOrList::Text(text) => text.parse().map_err(de::Error::custom),
            TextOrList::List(names) => Ok(Self(names)),
        }
    }
}

macro_rules! deserialize_from_text {
    ($($name:ident: $form:expr;)*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                text_value::deserialize(deserializer, $form)
            }
        }
    )*};
}

deserialize_from_text! {
    Count: WHOLE_NUMBER;
    ByteSize: "a number of bytes, or a size in quotes, such as \"25MiB\"";
    Period: "a duration in quotes, such as \"10s\"";
    ListenAddress: "IP:PORT in quotes, such as \"127.0.0.1:9000\"";
    LogLevel: "a level in quotes: \"off\", \"error\", \"warn\", \"info\", \"debug\" or \"trace\"";
    KeepWorkdir: "\"never\", \"on_failure\" or \"always\"";
    BasePath: "a path in quotes, such as \"/boathook\"";
    PublicUrl: "a URL in quotes, such as \"https://hooks.example.com\"";
    ServiceUrl: "a URL in quotes, such as \"https://api.github.com\"";
    SmtpUrl: "a URL in quotes, such as \"smtps://mail.example.com\"";
}

/// The type that [`super::Settings`] has for a value.
macro_rules! values_of_settings {
    ($($given:ident: $value:ty = $of:expr;)*) => {$(
        impl From<$given> for $value {
            fn from(given: $given) -> Self {
                $of(given.0)
            }
        }
    )*};
}

values_of_settings! {
    Count: usize = NonZeroUsize::get;
    Count: u32 = |number| u32::try_from(NonZeroUsize::get(number)).unwrap_or(u32::MAX);
    ByteSize: u64 = u64::from;
    Period: Duration = Duration::from;
    ListenAddress: SocketAddr = SocketAddr::from;
    TrustedProxies: Networks = Networks::from;
    HostNames: Vec<String> = Vec::from;
    Names: Vec<String> = Vec::from;
    LogLevel: log::LevelFilter = log::LevelFilter::from;
}
