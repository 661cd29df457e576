//! `GET /api_token` (zenml-wire 7): tokens for machines, which die with what they come from.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as B64};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    canary::Log,
    client::{Answer, Server, now},
    support,
};

const ME: &str = "/api/v1/current-user";
const RUN: Uuid = Uuid::from_u128(0x77);

fn path(query: &str) -> String {
    format!("/api/v1/api_token{query}")
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&B64.decode(payload).unwrap()).unwrap()
}

fn seconds(token: &str) -> i64 {
    claims(token)["exp"].as_i64().unwrap() - now().as_second()
}

async fn asked(server: &Server, token: &str, query: &str) -> String {
    let answer = server.get_as(token, &path(query)).await.expect(200);
    answer.json().as_str().unwrap().to_owned()
}

fn told(answer: &Answer) -> (u16, Value) {
    (answer.status.as_u16(), answer.json()["detail"].clone())
}

#[tokio::test]
async fn a_generic_token_lives_as_long_as_was_asked_for_and_dies_with_its_key() {
    let server = Server::new();
    let token = server.token().await;
    for (query, wanted) in [
        ("", 3600),
        ("?token_type=generic", 3600),
        ("?token_type=generic&expires_in=0", 3600),
        ("?token_type=generic&expires_in=60", 60),
        ("?expires_in=604800&unknown=x", 604_800),
    ] {
        let made = asked(&server, &token, query).await;
        assert_eq!(seconds(&made), wanted, "{query}");
        let (claims, of_login) = (claims(&made), claims(&token));
        for kept in ["sub", "iss", "aud", "api_key_id", "key_gen", "key_print"] {
            assert_eq!(claims[kept], of_login[kept], "{kept}");
        }
        server.get_as(&made, ME).await.expect(200);
    }
    let made = asked(&server, &token, "?expires_in=604800").await;
    server.change_key(|key| key.active = false);
    server.get_as(&made, ME).await.expect(401);
    server.change_key(|key| key.active = true);
    server.get_as(&made, ME).await.expect(200);
    let soon = now() + jiff::SignedDuration::from_secs(90);
    server.change_key(|key| key.window.until = Some(soon));
    assert_eq!(
        seconds(&asked(&server, &token, "?expires_in=604800").await),
        90
    );
}

/// Who steals one has it until it ends, and no longer.
#[tokio::test]
async fn a_token_that_was_asked_for_is_not_renewed() {
    let server = Server::new();
    let token = server.token().await;
    let first = asked(&server, &token, "?expires_in=60").await;
    assert_eq!(
        seconds(&asked(&server, &first, "?expires_in=3600").await),
        60
    );
    assert_eq!(seconds(&asked(&server, &first, "?expires_in=30").await), 30);
    let workload = format!("?token_type=workload&pipeline_run_id={RUN}");
    assert_eq!(seconds(&asked(&server, &first, &workload).await), 60);
}

#[tokio::test]
async fn a_workload_token_stays_with_its_workload() {
    let server = Server::new();
    let token = server.token().await;
    let of = |kind: &str, id: Uuid| format!("?token_type=workload&{kind}={id}");
    for kind in ["schedule_id", "pipeline_run_id", "deployment_id"] {
        let made = asked(&server, &token, &of(kind, RUN)).await;
        assert_eq!(claims(&made)[kind], json!(RUN));
        assert_eq!(seconds(&made), 604_800);
        server.get_as(&made, ME).await.expect(200);
        for query in ["", "?token_type=workload", &of(kind, RUN)] {
            let again = asked(&server, &made, query).await;
            assert_eq!(claims(&again)[kind], json!(RUN), "{query}");
        }
        let other = server.get_as(&made, &path(&of(kind, Uuid::nil()))).await;
        let name = kind.trim_end_matches("_id").replace('_', " ");
        let told_so = format!(
            "Unable to scope API token to {name} {}. The token used to authorize this request is \
             already scoped to {name} {RUN}.",
            Uuid::nil()
        );
        assert_eq!(
            told(&other),
            (401, json!(["AuthorizationException", told_so]))
        );
    }
}

#[tokio::test]
async fn what_is_wrong_is_told_in_zenmls_words() {
    let server = Server::new();
    let token = server.token().await;
    let ask = async |query: String| server.get_as(&token, &path(&query)).await;
    let value = |text: &str| (400, json!(["ValueError", text]));
    let too_long = "The maximum expiration time for generic API tokens allowed by this server is \
                    604800 seconds.";
    assert_eq!(
        told(&ask("?expires_in=604801".into()).await),
        value(too_long)
    );
    let unscoped = "Workload API tokens must be scoped to a schedule, pipeline run or deployment.";
    assert_eq!(
        told(&ask("?token_type=workload".into()).await),
        value(unscoped)
    );
    let scoped = "Generic API tokens cannot be scoped to a schedule, pipeline run or deployment.";
    assert_eq!(
        told(&ask(format!("?schedule_id={RUN}")).await),
        value(scoped)
    );
    for query in [
        "?token_type=other",
        "?expires_in=x",
        "?expires_in=-1",
        "?expires_in=1.5",
        "?expires_in=99999999999999999999",
        "?token_type=workload&schedule_id=x",
        "?token_type=generic&token_type=generic",
    ] {
        let answer = ask(query.into()).await.expect(422);
        assert_eq!(answer.json()[0], "ValueError", "{query}");
    }
    let raw = server.get_as(&server.key.text(), &path("")).await;
    let not = json!(["AuthorizationException", "Not authenticated."]);
    assert_eq!(told(&raw), (401, not));
    assert!(raw.header("www-authenticate").is_none());
    assert_eq!(
        server.get(&path("")).await.expect(401).json()["detail"],
        "Not authenticated"
    );
}

/// L1, K10: which token was given to whom is in the log; the token is not.
#[tokio::test]
async fn who_got_a_token_is_written_down_and_the_token_is_not() {
    let log = Log::default();
    let guard = log.json();
    let server = Server::new();
    let token = server.token().await;
    let query = format!("?token_type=workload&pipeline_run_id={RUN}");
    let made = asked(&server, &token, &query).await;
    server.get_as(&format!("{made}x"), ME).await.expect(401);
    drop(guard);
    let audit = log.audit();
    let line = audit
        .iter()
        .find(|line| line["message"] == "API token")
        .unwrap();
    assert_eq!(line["kind"], "Workload");
    assert_eq!(line["run"], json!(RUN));
    assert_eq!(line["account"], json!(server.account));
    assert_eq!(line["key"], json!(server.key.id));
    for part in made.split('.').skip(1) {
        assert!(!log.text().contains(part));
    }
    let mut metrics = String::new();
    prometheus_client::encoding::text::encode(&mut metrics, &server.registry).unwrap();
    assert!(
        metrics.contains(r#"zenop_api_tokens_total{kind="Workload"} 1"#),
        "{metrics}"
    );
}

/// L3: each credential that is refused is counted; of a flood, a few lines are written.
#[tokio::test]
async fn l3_refused_credentials_are_written_down_and_a_flood_is_not() {
    let log = Log::default();
    let guard = log.json();
    let server = Server::new();
    let token = server.token().await;
    let key = server.key.text().to_string();
    for _ in 0..300 {
        server.get_as("eyJ.eyJ.x", ME).await.expect(401);
        server
            .get_as(&support::key_text(99).text(), ME)
            .await
            .expect(401);
    }
    server.change_key(|key| key.active = false);
    server.get_as(&key, ME).await.expect(401);
    server.get_as(&token, ME).await.expect(401);
    drop(guard);
    let audit = log.audit();
    let lines = audit
        .iter()
        .filter(|line| line["message"] == "credential refused");
    let lines: Vec<_> = lines.collect();
    let of = |reason: &str| {
        lines
            .iter()
            .filter(|l| l["reason"] == reason)
            .collect::<Vec<_>>()
    };
    assert_eq!(of("Bad").len(), 5);
    assert!(of("Bad").iter().all(|line| line["account"] == "-"));
    assert_eq!(of("Bad")[1]["key"], json!(support::key_text(99).id));
    let inactive = of("InactiveKey");
    let kinds: Vec<_> = inactive.iter().map(|line| &line["credential"]).collect();
    assert_eq!(kinds, ["Key", "Token"]);
    for line in inactive {
        assert_eq!(line["key"], json!(server.key.id));
    }
    for secret in [&token, &key[7..], "eyJ.eyJ"] {
        assert!(!log.text().contains(secret));
    }
    let mut metrics = String::new();
    prometheus_client::encoding::text::encode(&mut metrics, &server.registry).unwrap();
    let counted = r#"zenop_refused_credentials_total{credential="Token",reason="Bad"} 300"#;
    assert!(metrics.contains(counted), "{metrics}");
}
