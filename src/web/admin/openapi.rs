//! The description of this API, for programs: OpenAPI 3.1, written by hand, as it is beside this file.

use super::{AdminHandler, Call, Outcome, Reply};
use crate::listener::Response;

const DESCRIPTION: &str = include_str!("openapi.json");

pub(super) fn get(_: &AdminHandler, _: &mut Call<'_>) -> Outcome {
    Ok(Reply::Plain(Response::new(200, "application/json", DESCRIPTION)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::super::{ROUTES, SESSION};
    use super::DESCRIPTION;
    use crate::model::server_proof;

    /// What the description has for an operation, besides what goes for all of a path.
    const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];
    /// Answered before any route is looked up.
    const BESIDES: [(&str, &str); 2] = [("GET", "/healthz"), ("GET", server_proof::PATH)];

    fn description() -> Value {
        serde_json::from_str(DESCRIPTION).unwrap()
    }

    /// `/fleets/{fleet}` as the routing table writes it: `/fleets/{}`.
    fn pattern(path: &str) -> String {
        let segments = path.split('/').map(|it| if it.starts_with('{') { "{}" } else { it });
        segments.collect::<Vec<_>>().join("/")
    }

    #[test]
    fn what_is_described_is_what_is_routed() {
        let description = description();
        let mut described = BTreeSet::new();
        for (path, item) in description["paths"].as_object().unwrap() {
            let methods = METHODS.iter().filter(|method| item.get(**method).is_some());
            described.extend(methods.map(|method| (method.to_uppercase(), pattern(path))));
        }
        let routed = ROUTES.iter().map(|(method, path, _)| (*method, *path)).chain(BESIDES);
        let routed: BTreeSet<_> =
            routed.map(|(method, path)| (method.to_owned(), path.to_owned())).collect();
        let missing: Vec<_> = routed.difference(&described).collect();
        assert!(missing.is_empty(), "openapi.json does not describe {missing:?}");
        let invented: Vec<_> = described.difference(&routed).collect();
        assert!(invented.is_empty(), "openapi.json describes what is not there: {invented:?}");
    }

    #[test]
    fn the_roles_of_routes_are_described() {
        let description = description();
        let mut described = BTreeSet::new();
        for (path, item) in description["paths"].as_object().unwrap() {
            for method in METHODS {
                let Some(role) = item[method]["x-role"].as_str() else { continue };
                let is_of_server = item[method]["x-scope"] == "server";
                let (method, pattern) = (method.to_uppercase(), pattern(path));
                described.insert((method, pattern, role.to_owned(), is_of_server));
            }
        }
        let is_open = |method: &str, path: &str| (method, path) == ("POST", SESSION);
        let routed = ROUTES.iter().filter(|(method, path, _)| !is_open(method, path));
        let routed: BTreeSet<_> = routed
            .map(|(method, path, target)| {
                let (role, is_of_server) = target.access.described();
                ((*method).to_owned(), (*path).to_owned(), role.to_owned(), is_of_server)
            })
            .collect();
        let missing: Vec<_> = routed.difference(&described).collect();
        assert!(missing.is_empty(), "openapi.json does not say {missing:?}");
        assert_eq!(routed.len(), described.len());
    }

    #[test]
    fn it_is_of_this_version_and_its_references_lead_somewhere() {
        let description = description();
        assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));
        let mut left = vec![&description];
        let mut used = BTreeSet::new();
        while let Some(value) = left.pop() {
            match value {
                Value::Object(fields) => {
                    if let Some(Value::String(reference)) = fields.get("$ref") {
                        let pointer = reference.strip_prefix('#').unwrap();
                        assert!(description.pointer(pointer).is_some(), "{reference}");
                        used.insert(pointer.to_owned());
                    }
                    left.extend(fields.values());
                }
                Value::Array(items) => left.extend(items),
                _ => {}
            }
        }
        for (kind, components) in description["components"].as_object().unwrap() {
            for name in components.as_object().unwrap().keys().filter(|_| kind != "securitySchemes")
            {
                assert!(used.contains(&format!("/components/{kind}/{name}")), "{name} is unused");
            }
        }
    }
}
