//! What a fleet asks of its sender: one or more checks. A request is verified when one check holds. A
//! verification is stored, and shown by the API, in the form of the fleet file.

use std::time::Duration;

use super::preset::{Credential, Preset, PresetOption, Rule};
use super::scheme::{
    Algorithm, Encoding, Form, KeyForm, Place, Scheme, TimestampPlace, TimestampRule, Unit,
};
use super::template::Template;
use crate::model::variable::SecretName;

/// Checks of one webhook: each is tried with each request.
pub const CHECKS_MAX: usize = 8;
/// Secrets of one check: a rotation needs two.
pub const SECRETS_MAX: usize = 8;

/// At least one check. A request is verified when one of them holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification(Vec<Check>);

/// A way to verify requests, and its secrets. One secret has to fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub method: Method,
    pub secrets: Vec<SecretName>,
}

/// A preset, or a scheme that the fleet describes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    Preset(&'static Preset, Options),
    Own(OwnScheme),
}

/// What a fleet says to a preset that has more to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub verify_token: Option<SecretName>,
    pub header: Option<String>,
    pub timestamp_header: Option<String>,
    pub name: Option<String>,
    pub tolerance: Option<Duration>,
}

/// A scheme of one's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnScheme {
    pub header: String,
    /// Empty: the signature stands alone.
    pub prefix: String,
    /// A valid template.
    pub signed: String,
    pub algorithm: Algorithm,
    pub encoding: Encoding,
    pub key: KeyForm,
    pub timestamp: Option<OwnTimestamp>,
    pub event_id: Option<OwnPlace>,
    pub event_type: Option<OwnPlace>,
}

/// The timestamp of a scheme of one's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnTimestamp {
    pub header: String,
    pub unit: Unit,
    pub tolerance: Duration,
}

/// A place in a request that a fleet names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnPlace {
    Header(String),
    Body(String),
}

impl OwnPlace {
    /// The same, borrowed.
    pub fn place(&self) -> Place<'_> {
        match self {
            Self::Header(name) => Place::Header(name),
            Self::Body(path) => Place::Body(path),
        }
    }
}

impl Verification {
    /// `None` without a check.
    pub fn new(checks: Vec<Check>) -> Option<Self> {
        (!checks.is_empty()).then_some(Self(checks))
    }

    /// In the order of the file.
    pub fn checks(&self) -> &[Check] {
        &self.0
    }

    /// The names of all secrets that it needs.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretName> {
        self.0.iter().flat_map(|check| check.secrets.iter().chain(check.verify_token()))
    }

    /// The names of the secrets that a handshake brings.
    pub fn brought_secrets(&self) -> impl Iterator<Item = &SecretName> {
        let brings = |check: &&Check| check.preset().is_some_and(Preset::brings_secret);
        self.0.iter().filter(brings).flat_map(|check| &check.secrets)
    }

    /// The credentials that it asks for.
    pub fn credentials(&self) -> impl Iterator<Item = Credential<'_>> {
        self.0.iter().flat_map(Check::rules).filter_map(|rule| match rule {
            Rule::Credential(credential) => Some(credential),
            Rule::Signature(_) | Rule::Url => None,
        })
    }

    /// Whether each check asks for a signature or a credential, and none for the URL alone.
    pub fn needs_secret(&self) -> bool {
        !self.0.iter().flat_map(Check::rules).any(|rule| matches!(rule, Rule::Url))
    }

    /// Whether a handshake of it comes with `method`.
    pub fn has_handshake_by(&self, method: &str) -> bool {
        let mut handshakes = self.0.iter().filter_map(|check| check.preset()?.handshake);
        handshakes.any(|handshake| handshake.methods().contains(&method))
    }
}

impl Check {
    /// A preset without options.
    pub fn of_preset(preset: &'static Preset, secrets: Vec<SecretName>) -> Self {
        Self { method: Method::Preset(preset, Options::default()), secrets }
    }

    /// The preset, if it names one.
    pub fn preset(&self) -> Option<&'static Preset> {
        match &self.method {
            Method::Preset(preset, _) => Some(preset),
            Method::Own(_) => None,
        }
    }

    /// The secret that Meta's handshake shows.
    pub fn verify_token(&self) -> Option<&SecretName> {
        match &self.method {
            Method::Preset(_, options) => options.verify_token.as_ref(),
            Method::Own(_) => None,
        }
    }

    /// The ways to satisfy the check. One of them has to hold.
    pub fn rules(&self) -> Vec<Rule<'_>> {
        match &self.method {
            Method::Preset(preset, options) => {
                preset.rules.iter().map(|rule| with_options(*rule, preset, options)).collect()
            }
            Method::Own(own) => vec![Rule::Signature(own.scheme())],
        }
    }

    /// Where the id of an event may stand.
    pub fn event_id(&self) -> Vec<Place<'_>> {
        match &self.method {
            Method::Preset(preset, _) => preset.event_id.to_vec(),
            Method::Own(own) => own.event_id.iter().map(OwnPlace::place).collect(),
        }
    }

    /// Where the type of an event may stand.
    pub fn event_type(&self) -> Vec<Place<'_>> {
        match &self.method {
            Method::Preset(preset, _) => preset.event_type.to_vec(),
            Method::Own(own) => own.event_type.iter().map(OwnPlace::place).collect(),
        }
    }
}

fn with_options<'a>(rule: Rule<'a>, preset: &Preset, options: &'a Options) -> Rule<'a> {
    let name = options.name.as_deref().filter(|_| preset.options.contains(&PresetOption::Name));
    match (rule, name) {
        (Rule::Credential(Credential::Header(_)), Some(name)) => {
            Rule::Credential(Credential::Header(name))
        }
        (Rule::Credential(Credential::Query(_)), Some(name)) => {
            Rule::Credential(Credential::Query(name))
        }
        (Rule::Signature(mut scheme), _) => {
            if let Some(header) = &options.header {
                scheme.header = header;
            }
            if let Some(header) = &options.timestamp_header {
                scheme.signed = Template::of_table("{ts}:{body}");
                scheme.timestamp = Some(TimestampRule {
                    place: TimestampPlace::Header(header),
                    unit: Unit::Seconds,
                    tolerance: Some(super::scheme::TOLERANCE_DEFAULT),
                });
            }
            if let (Some(timestamp), Some(tolerance)) = (&mut scheme.timestamp, options.tolerance) {
                timestamp.tolerance = Some(tolerance);
            }
            Rule::Signature(scheme)
        }
        (rule, _) => rule,
    }
}

impl OwnScheme {
    /// The scheme that the verifier knows.
    pub fn scheme(&self) -> Scheme<'_> {
        let timestamp = self.timestamp.as_ref().map(|timestamp| TimestampRule {
            place: TimestampPlace::Header(&timestamp.header),
            unit: timestamp.unit,
            tolerance: Some(timestamp.tolerance),
        });
        Scheme {
            header: &self.header,
            form: Form::Prefixed(&self.prefix),
            signed: Template::of_table(&self.signed),
            algorithm: self.algorithm,
            encoding: self.encoding,
            key: self.key,
            timestamp,
            id: match &self.event_id {
                Some(OwnPlace::Header(name)) => Some(name),
                _ => None,
            },
        }
    }
}
