//! The pages: files that are part of the program, and how a browser may use them. What they show
//! comes from the admin API.

use std::sync::LazyLock;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::config::BasePath;
use crate::listener::Response;

/// Nothing from elsewhere, nothing inline, nothing that makes text into script.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; \
    frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// The one document; its placeholder stands for the path of the files, which has [`VERSION`] in it.
const DOCUMENT: &str = include_str!("index.html");
const PLACEHOLDER: &str = "{files}";

macro_rules! files {
    ($($content_type:ident: $($name:literal),+;)+) => {
        /// Everything else: name, content type, content.
        const FILES: &[(&str, &str, &str)] =
            &[$($(($name, $content_type, include_str!(concat!("", $name)))),+),+];
    };
}

files! {
    CSS: "app.css";
    SVG: "icon.svg";
    SCRIPT: "theme.js", "app.js", "dom.js", "api.js", "format.js", "parts.js",
        "sign-in.js", "overview.js", "logbook.js", "fleet.js", "fleet-logs.js", "triggers.js",
        "deliveries.js", "delivery.js", "forecast.js", "sender.js", "try-it.js",
        "versions.js", "editor.js", "new-fleet.js", "run.js", "run-with.js", "parameters.js", "fleet-choice.js",
        "secrets.js", "tokens.js", "projects.js", "starter.js",
        "vessel-log.js", "text-view.js", "text-index.js", "terminal.js", "ansi.js", "graph.js", "gantt.js",
        "diff.js", "runs.js", "search.js", "last-lines.js", "queue.js", "statistics.js", "json.js", "hex.js", "schedules.js", "server.js";
}

/// Tells this content from that of any other build: part of every file's path, so that browsers
/// may keep files for ever and never mix those of two builds.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hash = Sha256::new();
    for (name, _, content) in FILES {
        hash.update([name.as_bytes(), &[0], content.as_bytes(), &[0]].concat());
    }
    hash.update(DOCUMENT);
    HEXLOWER.encode(&hash.finalize()[..8])
});

/// What the program has at `path`: a file, or the document for every path that is a page's. A browser finds
/// both below `base`.
pub fn find(base: &BasePath, path: &str, if_none_match: Option<&[u8]>) -> Option<Response> {
    let version = VERSION.as_str();
    let (content_type, caching, content) = if let Some(rest) = path.strip_prefix("/ui/") {
        let name = rest.strip_prefix(version)?.strip_prefix('/')?;
        let (_, content_type, content) = FILES.iter().find(|(given, _, _)| *given == name)?;
        (*content_type, "public, max-age=31536000, immutable", (*content).to_owned())
    } else if is_page(path) {
        let files = format!("{}/ui/{version}", base.as_str());
        (HTML, "no-cache", DOCUMENT.replace(PLACEHOLDER, &files))
    } else {
        return None;
    };
    let etag = format!("\"{version}{}\"", base.as_str());
    let is_known = if_none_match.is_some_and(|known| names_etag(known, &etag));
    let answer = if is_known {
        Response::new(304, content_type, "")
    } else {
        Response::new(200, content_type, content)
    };
    Some(
        answer
            .with_header("Cache-Control", caching)
            .with_header("ETag", etag)
            .with_header("Content-Security-Policy", CONTENT_SECURITY_POLICY)
            .with_header("Cross-Origin-Opener-Policy", "same-origin"),
    )
}

/// The document for a path that no page has: it says so itself.
pub fn not_found(base: &BasePath) -> Response {
    let document = find(base, "/", None).map(|page| Response { status: 404, ..page });
    document.unwrap_or_else(|| Response::new(404, HTML, ""))
}

/// The first segments of the paths of pages.
const PAGES: [&str; 10] = [
    "",
    "fleets",
    "runs",
    "deliveries",
    "new",
    "projects",
    "secrets",
    "server",
    "tokens",
    "sign-in",
];

/// Whether the pages' own navigation makes something of `path`.
fn is_page(path: &str) -> bool {
    let first = path.strip_prefix('/').and_then(|rest| rest.split('/').next());
    first.is_some_and(|first| PAGES.contains(&first)) && !path.starts_with("//")
}

/// Whether an If-None-Match (RFC 9110 13.1.2) names `etag`.
fn names_etag(header: &[u8], etag: &str) -> bool {
    let header = String::from_utf8_lossy(header);
    header.split(',').any(|given| {
        let given = given.trim();
        given == "*" || given.strip_prefix("W/").unwrap_or(given) == etag
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::ResponseBody;
    use crate::model::delivery::REMARKS;
    use crate::model::refusal::Reason;

    fn find(path: &str, if_none_match: Option<&[u8]>) -> Option<Response> {
        super::find(&BasePath::default(), path, if_none_match)
    }

    fn text(answer: &Response) -> String {
        let ResponseBody::Bytes(bytes) = &answer.body else { panic!("a stream") };
        String::from_utf8(bytes.clone()).unwrap()
    }

    #[test]
    fn the_document_leads_to_files_that_may_be_kept() {
        let document = text(&find("/", None).unwrap());
        let links: Vec<&str> =
            document.split('"').filter(|attribute| attribute.starts_with("/ui/")).collect();
        assert!(links.len() >= 4, "{links:?}");
        for link in links {
            let file = find(link, None).unwrap_or_else(|| panic!("nothing at {link}"));
            assert!(file.headers.iter().any(|(_, value)| value.contains("immutable")));
        }
        assert!(find(&format!("/ui/x{}/app.js", &VERSION[1..]), None).is_none());
        for path in ["/ui/app.js", "/api/v1/fleets", "/healthz", "/metrics", "//evil", "/fleet"] {
            assert!(find(path, None).is_none(), "{path}");
        }
    }

    #[test]
    fn what_a_browser_has_is_not_sent_again() {
        let etag = format!("\"{}\"", *VERSION);
        for known in [etag.clone(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".into()] {
            let answer = find("/fleets/x", Some(known.as_bytes())).unwrap();
            assert_eq!((answer.status, text(&answer).as_str()), (304, ""), "{known}");
        }
        assert_eq!(find("/", Some(b"\"x\"")).unwrap().status, 200);
    }

    #[test]
    fn the_document_is_another_one_below_a_base_path() {
        let base: BasePath = "/boathook".parse().unwrap();
        let document = super::find(&base, "/", None).unwrap();
        let files = format!("\"/boathook/ui/{}/", *VERSION);
        assert_eq!(text(&document).matches(&files).count(), 4);
        let etag = |answer: &Response| {
            let found = answer.headers.iter().find(|(name, _)| *name == "ETag");
            found.unwrap().1.to_string()
        };
        assert_ne!(etag(&document), etag(&find("/", None).unwrap()));
        assert_eq!(super::not_found(&base).status, 404);
    }

    #[test]
    fn every_import_is_a_file_and_every_file_is_used() {
        let mut used = vec!["app.js".to_owned()];
        for (name, _, content) in
            FILES.iter().filter(|(_, content_type, _)| *content_type == SCRIPT)
        {
            for import in content.split("from \"./").skip(1) {
                let import = import.split('"').next().unwrap().to_owned();
                assert!(FILES.iter().any(|(file, _, _)| *file == import), "{name}: {import}");
                used.push(import);
            }
        }
        let scripts = FILES.iter().filter(|(_, content_type, _)| *content_type == SCRIPT);
        for (name, _, _) in scripts {
            assert!(
                DOCUMENT.contains(name) || used.iter().any(|it| it == name),
                "{name} is unused"
            );
        }
    }

    /// Links get the base path where they are made, requests where they are sent.
    #[test]
    fn what_goes_into_the_address_bar_begins_with_the_base_path() {
        for (name, _, content) in FILES {
            for path in [
                "State(history.state, \"\", `/",
                "State(history.state, \"\", \"/",
                "fetch(`/",
                "fetch(\"/",
            ] {
                assert!(!content.contains(path), "{name}: take address(...) of dom.js: {path}");
            }
        }
    }

    /// The pages make nodes of text and never parse it: no content can become markup.
    #[test]
    fn nothing_makes_markup_of_text() {
        for (name, _, content) in FILES {
            for sink in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
            {
                assert!(!content.contains(sink), "{name}: {sink}");
            }
        }
    }

    #[test]
    fn the_filter_of_deliveries_offers_the_reasons_that_they_have() {
        let (_, list) = include_str!("deliveries.js").split_once("REASONS = [").unwrap();
        let offered: Vec<&str> =
            list.split("];").next().unwrap().split('"').skip(1).step_by(2).collect();
        let known = |word: &&str| REMARKS.contains(word) || Reason::from_word(word).is_some();
        assert_eq!(offered.iter().find(|word| !known(word)), None);
        assert_eq!(REMARKS.iter().find(|word| !offered.contains(word)), None);
        let refused = Reason::COUNTED.iter().filter(|it| it.status() == 401 || it.status() == 403);
        let missing = refused.filter(|it| !offered.contains(&it.word()));
        let missing: Vec<_> = missing.collect();
        assert_eq!(missing, [&Reason::Unauthorized, &Reason::Forbidden], "these are the admin's");
    }

    #[test]
    fn the_pages_are_small_enough_to_read() {
        let bytes: usize = FILES.iter().map(|(_, _, content)| content.len()).sum();
        assert!(bytes + DOCUMENT.len() < 220_000, "{bytes} bytes");
    }
}
