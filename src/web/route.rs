//! From a method and a path to what answers it.

/// One line of a routing table: a method, a path with `{}` for each segment that varies, and what
/// answers.
pub type Route<E> = (&'static str, &'static str, E);

/// What a routing table says about a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<E> {
    /// It is answered by `endpoint`; the segments that varied, in order.
    Endpoint {
        endpoint: E,
        segments: Vec<String>,
    },
    /// The path is known, but only with these methods.
    OtherMethods(Vec<&'static str>),
    Nothing,
}

/// Looks up `method` and `path` in `routes`. HEAD leads where GET does (RFC 9110 9.3.2).
pub fn find<E: Copy>(routes: &[Route<E>], method: &str, path: &str) -> Found<E> {
    let asked = if method == "HEAD" { "GET" } else { method };
    // `/fleets/check` is no fleet of that name.
    let is_fixed = routes.iter().any(|(_, pattern, _)| *pattern == path);
    let mut methods = Vec::new();
    for (route_method, pattern, endpoint) in routes {
        let Some(segments) = matched(pattern, path) else { continue };
        if is_fixed && *pattern != path {
            continue;
        }
        if *route_method == asked {
            return Found::Endpoint { endpoint: *endpoint, segments };
        }
        methods.push(*route_method);
        if *route_method == "GET" {
            methods.push("HEAD");
        }
    }
    if methods.is_empty() { Found::Nothing } else { Found::OtherMethods(methods) }
}

/// The segments of `path` where `pattern` has `{}`; `None` when they do not match.
fn matched(pattern: &str, path: &str) -> Option<Vec<String>> {
    let mut segments = Vec::new();
    let mut given = path.split('/');
    for expected in pattern.split('/') {
        match (expected, given.next()?) {
            ("{}", "") => return None,
            ("{}", segment) => segments.push(segment.to_owned()),
            (expected, segment) if expected == segment => {}
            _ => return None,
        }
    }
    given.next().is_none().then_some(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &[Route<u8>] = &[
        ("GET", "/runs", 1),
        ("GET", "/runs/{}", 2),
        ("DELETE", "/runs/{}", 3),
        ("POST", "/runs/{}/stop", 4),
        ("POST", "/runs/check", 6),
        ("POST", "/fleets/{}/versions/{}/revert", 5),
    ];

    fn endpoint(endpoint: u8, segments: &[&str]) -> Found<u8> {
        Found::Endpoint { endpoint, segments: segments.iter().map(|s| (*s).to_owned()).collect() }
    }

    #[test]
    fn methods_and_paths_lead_to_endpoints() {
        for (method, path, expected) in [
            ("GET", "/runs", endpoint(1, &[])),
            ("GET", "/runs/a", endpoint(2, &["a"])),
            ("HEAD", "/runs/a", endpoint(2, &["a"])),
            ("HEAD", "/runs/a/stop", Found::OtherMethods(vec!["POST"])),
            ("DELETE", "/runs/a", endpoint(3, &["a"])),
            ("POST", "/runs/a/stop", endpoint(4, &["a"])),
            ("POST", "/fleets/f/versions/3/revert", endpoint(5, &["f", "3"])),
            ("POST", "/runs/a", Found::OtherMethods(vec!["GET", "HEAD", "DELETE"])),
            ("get", "/runs", Found::OtherMethods(vec!["GET", "HEAD"])),
            ("POST", "/runs/check", endpoint(6, &[])),
            ("GET", "/runs/check", Found::OtherMethods(vec!["POST"])),
            ("GET", "/runs/", Found::Nothing),
            ("GET", "/runs/a/", Found::Nothing),
            ("GET", "/runs/a/b", Found::Nothing),
            ("GET", "runs", Found::Nothing),
            ("GET", "", Found::Nothing),
        ] {
            assert_eq!(find(ROUTES, method, path), expected, "{method} {path}");
        }
    }
}
