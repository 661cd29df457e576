//! Pages of other sites (zenml-wire 13.2, feature H12).

use axum::{body::Body, http::Method};
use zenop::store::Cors;

use super::{
    client::{Answer, Server, request},
    limits::set,
};

const GOOD: &str = "https://dashboard.example.org";
const EVIL: [&str; 7] = [
    "https://evil.example",
    "null",
    "https://dashboard.example.org.evil.example",
    "https://evildashboard.example.org",
    "http://dashboard.example.org",
    "https://dashboard.example.org:444",
    "*",
];

async fn preflight(server: &Server, origin: &str) -> Answer {
    let preflight = request(Method::OPTIONS, "/api/v1/login")
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization, x-any");
    server.send(preflight.body(Body::empty()).unwrap()).await
}

async fn get(server: &Server, path: &str, origin: &str) -> Answer {
    let request = request(Method::GET, path).header("origin", origin);
    server.send(request.body(Body::empty()).unwrap()).await
}

/// Every header that lets a page do something.
fn allowed(answer: &Answer) -> Vec<(String, String)> {
    let pair = |(name, value): (&axum::http::HeaderName, &axum::http::HeaderValue)| {
        (name.to_string(), value.to_str().unwrap().to_owned())
    };
    let mut all: Vec<_> = answer.headers.iter().map(pair).collect();
    all.retain(|(name, _)| name.starts_with("access-control-"));
    all.sort();
    all
}

fn one(name: &str, value: &str) -> (String, String) {
    (format!("access-control-{name}"), value.to_owned())
}

#[tokio::test]
async fn t09_h12_no_other_site_may_call_unless_it_is_named() {
    let server = Server::new();
    for named in [false, true] {
        if named {
            set(&server, |settings| {
                settings.cors = Cors {
                    origins: vec![GOOD.into()],
                    allow_credentials: true,
                };
            });
        }
        let strangers = EVIL.into_iter().chain((!named).then_some(GOOD));
        for origin in strangers {
            let refused = preflight(&server, origin).await.expect(400);
            assert_eq!(refused.body, "Disallowed CORS origin");
            assert_eq!(allowed(&refused), [], "{origin}");
            // A simple request is answered, and the browser keeps the answer from the page.
            for path in ["/api/v1/info", "/nosuch", "/api/v1/current-user"] {
                assert_eq!(allowed(&get(&server, path, origin).await), [], "{origin}");
            }
        }
    }
}

#[tokio::test]
async fn h12_a_named_site_may_call_and_reads_refusals_too() {
    let server = Server::new();
    set(&server, |settings| {
        settings.cors = Cors {
            origins: vec![GOOD.into()],
            allow_credentials: true,
        };
    });
    let told = preflight(&server, GOOD).await.expect(200);
    assert_eq!(told.body, "OK");
    assert_eq!(told.header("vary"), Some("Origin"));
    let methods = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT, QUERY";
    assert_eq!(
        allowed(&told),
        [
            one("allow-credentials", "true"),
            one("allow-headers", "authorization, x-any"),
            one("allow-methods", methods),
            one("allow-origin", GOOD),
            one("max-age", "600"),
        ]
    );
    for (path, status) in [
        ("/api/v1/info", 200),
        ("/nosuch", 404),
        ("/api/v1/current-user", 401),
    ] {
        let answer = get(&server, path, GOOD).await.expect(status);
        let wanted = [one("allow-credentials", "true"), one("allow-origin", GOOD)];
        assert_eq!(allowed(&answer), wanted, "{path}");
    }
}

#[tokio::test]
async fn h12_everybody_may_call_without_credentials() {
    let server = Server::new();
    // The schema refuses this pair; should it be there, credentials are not.
    for allow_credentials in [false, true] {
        set(&server, |settings| {
            settings.cors = Cors {
                origins: vec!["*".into()],
                allow_credentials,
            };
        });
        preflight(&server, "https://any.example").await.expect(200);
        for origin in ["https://any.example", "null", "*"] {
            let answer = get(&server, "/api/v1/info", origin).await;
            assert!(
                !allowed(&answer).contains(&one("allow-credentials", "true")),
                "{origin}"
            );
            assert!(
                allowed(&answer).contains(&one("allow-origin", "*")),
                "{origin}"
            );
        }
    }
}
