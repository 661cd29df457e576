//! Which requests go to the ZenML server, and as whose.

use axum::http::Method;
use percent_encoding::percent_decode_str;

/// What becomes of a request that is in no row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It is passed on as its account's.
    Account,
    /// It is passed on as nobody's: the dashboard's files, and what proves itself by its own.
    Nobody,
    /// It is answered here, or by nobody.
    Closed,
    /// A path that only reads are known of.
    ReadsOnly,
}

/// What is decided here alone. The ZenML server has routes of these names, too, and none of them is
/// reached: whoever got to them could make keys there, or read what it keeps.
const OURS: [&str; 14] = [
    "activate",
    "api_token",
    "current-user",
    "device_authorization",
    "devices",
    "info",
    "load-info",
    "login",
    "logout",
    "secrets",
    "secrets_operations",
    "service_accounts",
    "users",
    "version",
];

impl Way {
    /// The way of a path, which is read as the ZenML server reads it: with every escape undone. One
    /// that could be read in two ways has none.
    pub(super) fn of(method: &Method, path: &str) -> Self {
        let Some(segments) = segments(path) else {
            return Self::Closed;
        };
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let reads = matches!(*method, Method::GET | Method::HEAD);
        match segments.as_slice() {
            ["api", _, family, ..] if OURS.contains(family) => Self::Closed,
            ["api", _, "workspaces" | "projects", _, "secrets", ..] => Self::Closed,
            // Who brings one of its download tokens, or signs what it sends, is asked by the server.
            ["api", "v1", "artifact_versions", _, "data"]
            | ["api", "v1", "pipeline_snapshots", _, "code"]
                if reads =>
            {
                Self::Nobody
            }
            ["api", "v1", "webhooks", _, _, "events"] if *method == Method::POST => Self::Nobody,
            ["api", ..] => Self::Account,
            _ if reads => Self::Nobody,
            _ => Self::ReadsOnly,
        }
    }
}

/// The parts of a path.
fn segments(path: &str) -> Option<Vec<String>> {
    let all: Option<Vec<String>> = path.strip_prefix('/')?.split('/').map(plain).collect();
    let all = all?;
    // An empty part at the end is that of a folder.
    let empty = all.iter().position(String::is_empty);
    let is_fine = empty.is_none_or(|at| at + 1 == all.len());
    is_fine.then_some(all)
}

/// A part of a path, if it stands for itself alone.
fn plain(part: &str) -> Option<String> {
    let text = percent_decode_str(part).decode_utf8().ok()?;
    let is_odd = |c: char| c.is_control() || matches!(c, '/' | '\\' | '%');
    let is_plain = text != "." && text != ".." && !text.contains(is_odd);
    is_plain.then(|| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(path: &str) -> Way {
        Way::of(&Method::GET, path)
    }

    #[test]
    fn what_is_ours_has_no_way_however_it_is_written() {
        for path in [
            "/api/v1/users",
            "/api/v1/users/",
            "/api/v1/%75sers",
            "/api/v1/users%2Fana",
            "/api/v1/%2575sers",
            "/api/v1/x/../users",
            "/api/v1/x/%2e%2e/users",
            "/api/v1//users",
            "//api/v1/users",
            "/api/v1/service_accounts/ci/api_keys",
            "/api/v1/secrets/x",
            "/api/v2/secrets",
            "/api/v1/workspaces/default/secrets",
            "/api/v1/workspaces/x/secrets/",
            "/api/v1/stacks%00",
            "/api/v1/stacks%0d%0a",
            "/api/v1\\users",
            "/api/v1/%c0%af",
            "api/v1/stacks",
            "*",
            "",
        ] {
            assert_eq!(way(path), Way::Closed, "{path}");
        }
    }

    #[test]
    fn the_rest_is_the_servers() {
        for path in [
            "/api/v1/stacks",
            "/api/v1/runs/1",
            "/api/v1/runs/a%20b",
            "/%61pi/v1/runs",
            "/api",
        ] {
            assert_eq!(way(path), Way::Account, "{path}");
        }
        for path in [
            "/",
            "/projects/default/",
            "/assets/index.js",
            "/api/v1/artifact_versions/1/data",
        ] {
            assert_eq!(way(path), Way::Nobody, "{path}");
        }
        let post = |path| Way::of(&Method::POST, path);
        assert_eq!(post("/projects"), Way::ReadsOnly);
        assert_eq!(post("/api/v1/artifact_versions/1/data"), Way::Account);
        assert_eq!(post("/api/v1/webhooks/github/1/events"), Way::Nobody);
        assert_eq!(way("/api/v1/webhooks/github/1/events"), Way::Account);
    }
}
