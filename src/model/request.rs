//! The part of a triggering request that is kept beside its body.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::overrides::Overrides;

/// Headers in lower case that concern one connection, and that no message is sent on with (RFC 9110 7.6.1).
pub const HOP_BY_HOP_HEADERS: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Headers by canonical name (`X-Github-Event`), each with its values in the order received.
pub type Headers = BTreeMap<String, Vec<String>>;

/// The headers that vessels are given, and that are shown as what they are given. `Host` is not among them,
/// as in the hosted system: it names this server.
pub fn given_headers(headers: &Headers) -> BTreeMap<&str, &[String]> {
    let given = headers.iter().filter(|(name, _)| *name != "Host");
    given.map(|(name, values)| (name.as_str(), values.as_slice())).collect()
}

/// The headers, query and sender of a request: stored in front of its body, shown as "webhook parameters",
/// and given to vessels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestHead {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: Headers,
    /// Without the question mark; empty when there was none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub query: String,
    /// The sender's address; empty when the run was not started over the network.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remote_addr: String,
    /// The overrides of the run.
    #[serde(default, skip_serializing_if = "Overrides::is_empty")]
    pub overrides: Overrides,
}

impl RequestHead {
    /// Adds a header, its name brought into canonical form.
    pub fn push_header(&mut self, name: &str, value: String) {
        self.headers.entry(canonical_name(name)).or_default().push(value);
    }

    /// The first value of the header with this canonical name.
    pub fn header(&self, canonical: &str) -> Option<&str> {
        self.headers.get(canonical)?.first().map(String::as_str)
    }
}

/// `x-gitHub-event` as `X-Github-Event`: the first letter and those after a hyphen in upper case,
/// the others in lower case.
pub fn canonical_name(name: &str) -> String {
    let mut at_start = true;
    name.chars()
        .map(|letter| {
            let cased =
                if at_start { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() };
            at_start = letter == '-';
            cased
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_names_become_canonical() {
        for (given, canonical) in [
            ("content-type", "Content-Type"),
            ("X-GitHub-Event", "X-Github-Event"),
            ("ETAG", "Etag"),
            ("x--y", "X--Y"),
            ("", ""),
        ] {
            assert_eq!(canonical_name(given), canonical);
        }
    }
}
