//! Secrets: who sees which, what may be changed by whom, and that refusals tell nothing.

use axum::{body::Body, http::Method};
use prometheus_client::encoding::text::encode;
use serde_json::{Value, json};
use uuid::Uuid;
use zenop::{
    auth::shelf::{Secret, Uses},
    http::Options,
    store::{
        NotChanged,
        vault::{NotRead, Values},
    },
};
use zeroize::Zeroizing;

use super::{
    canary::Log,
    client::{Answer, Server, bearer, now, request},
    support,
};

const SECRETS: &str = "/api/v1/secrets";
const NOBODY: &str = "00000000-0000-4000-8000-000000000000";

/// A server with administrator `ana`, user `bo` and service account `ci`, all logged in.
struct Scene {
    server: Server,
    ana: String,
    bo: String,
    ci: String,
}

impl Scene {
    async fn new() -> Self {
        Self::with(Options::default()).await
    }

    async fn with(options: Options) -> Self {
        let server = Server::with(options, now);
        server.change(|state| {
            support::add_user(state, 1, "ana", true);
            support::add_user(state, 2, "bo", false);
        });
        let session = async |name: &str| {
            let form = format!("username={name}&password=password+of+{name}");
            let answer = server.post_form("/api/v1/login", &form).await.expect(200);
            answer.json()["access_token"].as_str().unwrap().to_owned()
        };
        let (ana, bo) = (session("ana").await, session("bo").await);
        let ci = server.token().await;
        Self {
            server,
            ana,
            bo,
            ci,
        }
    }

    async fn send(&self, token: &str, method: Method, path: &str, body: &Value) -> Answer {
        self.send_once(token, method, path, body, None).await
    }

    async fn send_once(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: &Value,
        once: Option<Uuid>,
    ) -> Answer {
        let mut request = request(method, path)
            .header("authorization", bearer(token))
            .header("content-type", "application/json")
            .header("x-request-id", "req-1");
        if let Some(once) = once {
            request = request.header("idempotency-key", once.to_string());
        }
        let body = Body::from(body.to_string());
        self.server.send(request.body(body).unwrap()).await
    }

    async fn make(&self, token: &str, body: &Value) -> Value {
        let answer = self.send(token, Method::POST, SECRETS, body).await;
        answer.expect(200).json()
    }

    async fn put(&self, token: &str, path: &str, body: &Value) -> Answer {
        self.send(token, Method::PUT, path, body).await
    }

    async fn get(&self, token: &str, path: &str) -> Answer {
        self.send(token, Method::GET, path, &Value::Null).await
    }

    async fn delete(&self, token: &str, path: &str) -> Answer {
        self.send(token, Method::DELETE, path, &Value::Null).await
    }

    /// The names in a list.
    async fn names(&self, token: &str, query: &str) -> Vec<String> {
        let page = self.get(token, &format!("{SECRETS}?{query}")).await;
        let page = page.expect(200).json();
        let items = page["items"].as_array().unwrap();
        assert_eq!(page["total"], items.len());
        let shown = |item: &Value| {
            assert_eq!(item["body"]["values"], json!({}), "no values in a list");
            item["name"].as_str().unwrap().to_owned()
        };
        items.iter().map(shown).collect()
    }

    /// A secret that is declared in Kubernetes.
    fn declare(&self, n: u64, name: &str, values: &[(&str, &[u8])]) -> String {
        let id = Uuid::from_u128(0x5ec0_0000_0000_4000_8000_0000_0000_0000 + u128::from(n));
        self.server.change(|state| {
            state.directory.put_secret(Secret {
                id,
                object: name.to_lowercase(),
                name: name.into(),
                private: false,
                owner: None,
                created: support::created(),
                updated: support::created(),
                generation: 1,
                observed: 1,
                delivered: None,
                used_by: Uses::default(),
            });
        });
        let value = |(key, value): &(&str, &[u8])| ((*key).into(), Zeroizing::new(value.to_vec()));
        let values = Values(values.iter().map(value).collect());
        self.server.store.deliver(id, values);
        id.to_string()
    }
}

fn path(secret: &Value) -> String {
    format!("{SECRETS}/{}", secret["id"].as_str().unwrap())
}

fn values(answer: &Answer) -> Value {
    answer.json()["body"]["values"].clone()
}

/// With the id that was drawn taken out.
fn shown(secret: &Value) -> String {
    let text = serde_json::to_string_pretty(secret).unwrap();
    text.replace(secret["id"].as_str().unwrap(), "(id)")
}

#[tokio::test]
async fn a_secret_is_made_shown_changed_and_deleted() {
    let scene = Scene::new().await;
    let body = json!({"name": "db_creds", "private": false, "user": NOBODY, "workspace": "x",
                      "values": {"username": "alice", "password": "s3cr3t {x}", "none": null}});
    let made = scene.make(&scene.bo, &body).await;
    insta::assert_snapshot!("secret-made", shown(&made));
    let one = path(&made);
    assert_eq!(scene.get(&scene.ci, &one).await.expect(200).json(), made);
    let short = scene.get(&scene.ci, &format!("{one}?hydrate=false")).await;
    assert_eq!(short.expect(200).json()["metadata"], Value::Null);
    // As the client sends it: merged, and what is null goes, also what is not there.
    let patch = format!("{one}?patch_values=True");
    let change = json!({"name": "db_creds", "values": {"username": "b", "extra": "", "password": null, "x": null}});
    let changed = scene.put(&scene.ana, &patch, &change).await.expect(200);
    assert_eq!(values(&changed), json!({"username": "b", "extra": ""}));
    // Without, all is replaced.
    let change = json!({"values": {"only": "1"}});
    let changed = scene.put(&scene.ana, &one, &change).await.expect(200);
    assert_eq!(values(&changed), json!({"only": "1"}));
    // What is null stays, as what is not sent.
    for body in [
        json!({}),
        json!({"name": null, "private": null, "values": null}),
    ] {
        let unchanged = scene.put(&scene.ana, &one, &body).await.expect(200);
        assert_eq!(unchanged.json(), changed.json(), "{body}");
    }
    let unchanged = scene.put(&scene.ana, &patch, &json!({"values": {}})).await;
    assert_eq!(values(&unchanged), json!({"only": "1"}));
    let emptied = scene.put(&scene.ana, &one, &json!({"values": {}})).await;
    assert_eq!(values(&emptied.expect(200)), json!({}));
    let renamed = scene
        .put(&scene.ana, &patch, &json!({"name": "a b/c"}))
        .await;
    assert_eq!(renamed.expect(200).json()["name"], "a b/c");
    assert_eq!(
        values(&scene.get(&scene.bo, &one).await.expect(200)),
        json!({})
    );
    assert_eq!(scene.delete(&scene.ci, &one).await.expect(200).body, "null");
    scene.get(&scene.ci, &one).await.expect(404);
    assert_eq!(scene.server.store.secrets(), 0);
}

#[tokio::test]
async fn names_are_unique_among_public_ones_and_among_each_owners_private_ones() {
    let scene = Scene::new().await;
    let public = json!({"name": "x", "values": {"k": "public"}});
    let private = json!({"name": "x", "private": true, "values": {"k": "private"}});
    let of_all = scene.make(&scene.bo, &public).await;
    let of_bo = scene.make(&scene.bo, &private).await;
    scene.make(&scene.ana, &private).await;
    scene.make(&scene.ci, &private).await;
    let mut refused = String::new();
    for (token, body) in [(&scene.ana, &public), (&scene.bo, &private)] {
        let answer = scene.send(token, Method::POST, SECRETS, body).await;
        refused += &(answer.expect(409).shown() + "\n");
    }
    let other = scene.make(&scene.bo, &json!({"name": "other"})).await;
    for body in [json!({"name": "x"}), json!({"name": "x", "private": true})] {
        refused += &(scene
            .put(&scene.bo, &path(&other), &body)
            .await
            .expect(409)
            .shown()
            + "\n");
    }
    let answer = scene
        .put(&scene.bo, &path(&of_bo), &json!({"private": false}))
        .await;
    refused += &answer.expect(409).shown();
    insta::assert_snapshot!("secret-exists", refused);
    scene.delete(&scene.bo, &path(&of_all)).await.expect(200);
    let answer = scene
        .put(&scene.bo, &path(&of_bo), &json!({"private": false}))
        .await;
    assert_eq!(answer.expect(200).json()["body"]["private"], false);
    assert_eq!(
        values(&scene.get(&scene.ana, &path(&of_bo)).await.expect(200)),
        json!({"k": "private"})
    );
}

/// To everybody else, administrators too, it is as if it did not exist: the same bytes, but for the
/// id that was asked for.
#[tokio::test]
async fn somebody_elses_private_secret_is_none() {
    let scene = Scene::new().await;
    let body = json!({"name": "mine", "private": true, "values": {"k": "v"}});
    let mine = scene.make(&scene.bo, &body).await;
    let (mine, none) = (path(&mine), format!("{SECRETS}/{NOBODY}"));
    let mut told = String::new();
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        for body in [
            json!({}),
            json!({"private": false}),
            json!({"name": "mine", "values": {"k": null}}),
        ] {
            for token in [&scene.ana, &scene.ci] {
                let asked = async |path: &str| {
                    let answer = scene.send(token, method.clone(), path, &body).await;
                    answer
                        .expect(404)
                        .shown()
                        .replace(&path[SECRETS.len() + 1..], "(id)")
                };
                told = asked(&mine).await;
                assert_eq!(told, asked(&none).await, "{method} {body}");
            }
        }
    }
    insta::assert_snapshot!("secret-none", told);
    for query in [
        "",
        "private=true",
        "private=True&user=bo",
        "name=mine",
        "name=contains:i&logical_operator=or",
        "user=bo&logical_operator=or&private=true",
        "sort_by=desc:user&private=true",
        "id=isnotnull:",
    ] {
        assert_eq!(scene.names(&scene.ana, query).await, [""; 0], "{query}");
        assert!(
            query.is_empty() || scene.names(&scene.bo, query).await == ["mine"],
            "{query}"
        );
    }
    // Nor is its name taken from others, or its values read for them.
    let reads = scene.server.store.reads();
    scene.make(&scene.ana, &json!({"name": "mine"})).await;
    scene.make(&scene.ana, &body).await;
    assert_eq!(scene.server.store.reads(), reads);
    scene.get(&scene.bo, &mine).await.expect(200);
}

#[tokio::test]
async fn only_its_owner_says_whether_it_is_private() {
    let scene = Scene::new().await;
    let made = scene
        .make(&scene.bo, &json!({"name": "x", "values": {"k": "v"}}))
        .await;
    let one = path(&made);
    for private in [true, false] {
        let answer = scene
            .put(&scene.ana, &one, &json!({"private": private}))
            .await;
        insta::assert_snapshot!("secret-not-owner", answer.expect(403).shown());
    }
    // Its owner stays its owner, whoever else changes it.
    scene
        .put(&scene.ana, &one, &json!({"name": "y"}))
        .await
        .expect(200);
    let answer = scene.put(&scene.bo, &one, &json!({"private": true})).await;
    assert_eq!(answer.expect(200).json()["body"]["private"], true);
    scene.get(&scene.ana, &one).await.expect(404);
    // A declared one without an owner is nobody's to hide.
    let declared = scene.declare(1, "declared", &[("k", b"v")]);
    let one = format!("{SECRETS}/{declared}");
    scene
        .put(&scene.ana, &one, &json!({"private": true}))
        .await
        .expect(403);
}

#[tokio::test]
async fn what_cannot_be_kept_is_refused_in_words() {
    let scene = Scene::new().await;
    let made = scene
        .make(
            &scene.bo,
            &json!({"name": "x", "values": {"k": "a".repeat(65_000)}}),
        )
        .await;
    let one = format!("{}?patch_values=true", path(&made));
    let many: serde_json::Map<_, _> = (0..65).map(|n| (format!("k{n}"), json!("v"))).collect();
    let make = |body: Value| (Method::POST, SECRETS.to_owned(), body);
    let cases = [
        make(json!({"name": "y", "values": {"k": "é".repeat(32_768)}})),
        (
            Method::PUT,
            one.clone(),
            json!({"values": {"l": "b".repeat(600)}}),
        ),
        make(json!({"name": "y", "values": many})),
        make(json!({"name": "y", "values": {"a b": "v"}})),
        make(json!({"name": "y", "values": {"": "v"}})),
        make(json!({"name": "y", "values": {"..": "v"}})),
        make(json!({"name": "y", "values": {"k".repeat(254): "v"}})),
        make(json!({"name": "n".repeat(256)})),
        make(json!({"values": {}})),
        make(json!({"name": "y", "values": {"k": 1}})),
        make(json!({"name": "y", "values": ["k"]})),
        (
            Method::PUT,
            one.replace("true", "maybe"),
            json!({"name": "y"}),
        ),
        (Method::GET, format!("{SECRETS}/x"), Value::Null),
        (
            Method::GET,
            format!("{SECRETS}?private=equals:true"),
            Value::Null,
        ),
        (
            Method::GET,
            format!("{SECRETS}?sort_by=values"),
            Value::Null,
        ),
        (
            Method::POST,
            SECRETS.to_owned(),
            json!({"name": "y", "values": {"k": "x".repeat(600_000)}}),
        ),
    ];
    let mut told = String::new();
    for (method, path, body) in cases {
        let answer = scene.send(&scene.bo, method.clone(), &path, &body).await;
        let what: String = body.to_string().chars().take(60).collect();
        let path = path.replace(made["id"].as_str().unwrap(), "(id)");
        told += &format!("{method} {path} {what}\n{}\n\n", answer.shown());
    }
    insta::assert_snapshot!("secret-refused", told);
    assert_eq!(scene.server.store.secrets(), 1);
    // What is only just right is kept, however it is written.
    let control = "\u{1}".repeat(65_535);
    let most = json!({"name": "", "values": {"k": control}});
    let made = scene.make(&scene.bo, &most).await;
    assert_eq!(made["body"]["values"]["k"], control);
    assert_eq!(made["name"], "");
}

/// What clients before 0.64 send.
#[tokio::test]
async fn earlier_clients_words_are_taken() {
    let scene = Scene::new().await;
    let of_old = "/api/v1/workspaces/default/secrets";
    let cases = [
        (json!({"name": "a", "scope": "user"}), true),
        (
            json!({"name": "b", "scope": "workspace", "values": {"k": "v"}}),
            false,
        ),
        (json!({"name": "c", "scope": "galaxy"}), false),
        (json!({"name": "e", "scope": ["user"]}), false),
        (
            json!({"name": "d", "scope": "user", "private": false}),
            false,
        ),
    ];
    for (body, private) in cases {
        let answer = scene.send(&scene.bo, Method::POST, of_old, &body).await;
        assert_eq!(
            answer.expect(200).json()["body"]["private"],
            private,
            "{body}"
        );
    }
}

#[tokio::test]
async fn lists_are_filtered_and_sorted() {
    let scene = Scene::new().await;
    for (token, name, private) in [
        (&scene.ana, "c", false),
        (&scene.bo, "a", false),
        (&scene.ci, "b", false),
        (&scene.ana, "d", true),
    ] {
        scene
            .make(
                token,
                &json!({"name": name, "private": private, "values": {"k": "v"}}),
            )
            .await;
    }
    scene.declare(1, "declared", &[("k", b"v")]);
    let ana = scene.get(&scene.ana, "/api/v1/current-user").await.json();
    let of_ana = format!("user={}", ana["id"].as_str().unwrap());
    let cases: [(&str, &[&str]); 12] = [
        ("sort_by=name", &["a", "b", "c", "d", "declared"]),
        (
            "sort_by=desc:name&private=false",
            &["declared", "c", "b", "a"],
        ),
        ("private=True", &["d"]),
        (
            "private=1&private=0&sort_by=name",
            &["a", "b", "c", "declared"],
        ),
        ("sort_by=user&private=false", &["declared", "c", "a", "b"]),
        ("user=ana&sort_by=name", &["c", "d"]),
        (&of_ana, &["c", "d"]),
        ("user=contains:AN&sort_by=name", &["c", "d"]),
        ("user=oneof:[%22bo%22,%22ci%22]&sort_by=name", &["a", "b"]),
        ("user=nobody", &[]),
        (
            "user=bo&name=b&logical_operator=or&sort_by=name",
            &["a", "b"],
        ),
        (
            "name=startswith:d&hydrate=True&sort_by=name",
            &["d", "declared"],
        ),
    ];
    for (query, wanted) in cases {
        assert_eq!(scene.names(&scene.ana, query).await, wanted, "{query}");
    }
}

#[tokio::test]
async fn what_is_declared_is_read_and_not_changed() {
    let scene = Scene::new().await;
    let id = scene.declare(1, "declared", &[("text", "ü".as_bytes()), ("empty", b"")]);
    let one = format!("{SECRETS}/{id}");
    let answer = scene.get(&scene.bo, &one).await.expect(200);
    assert_eq!(values(&answer), json!({"text": "ü", "empty": ""}));
    insta::assert_snapshot!("secret-declared", shown(&answer.json()));
    let mut told = String::new();
    for (method, body) in [
        (Method::PUT, json!({"name": "y"})),
        (Method::PUT, json!({"values": {"k": "v"}})),
        (Method::DELETE, Value::Null),
    ] {
        told += &(scene.send(&scene.ana, method, &one, &body).await.shown() + "\n\n");
    }
    insta::assert_snapshot!("secret-declared-change", told);
    // What is no text cannot be shown by ZenML's API, and is not shown as something else.
    let binary = scene.declare(2, "binary", &[("text", b"t"), ("der", &[0xff, 0])]);
    let answer = scene.get(&scene.bo, &format!("{SECRETS}/{binary}")).await;
    insta::assert_snapshot!("secret-binary", answer.expect(400).shown());
}

#[tokio::test]
async fn what_is_in_use_is_not_deleted() {
    let scene = Scene::new().await;
    let made = scene.make(&scene.bo, &json!({"name": "used"})).await;
    let id: Uuid = made["id"].as_str().unwrap().parse().unwrap();
    scene.server.change(|state| {
        let secret = state.directory.remove_secret(id).unwrap();
        let mut secret = (*secret).clone();
        let first = (0..5).map(|n| format!("ZenComponent c{n}")).collect();
        secret.used_by = Uses { count: 25, first };
        state.directory.put_secret(secret);
    });
    let answer = scene.delete(&scene.bo, &path(&made)).await.expect(403);
    insta::assert_snapshot!("secret-in-use", answer.shown());
    scene.get(&scene.bo, &path(&made)).await.expect(200);
}

#[tokio::test]
async fn who_owns_secrets_is_not_deleted() {
    let scene = Scene::new().await;
    scene.server.change(|state| {
        let id = support::add_account(state, 7, "bot");
        support::add_key(state, id, 7, "default");
    });
    let bot = scene
        .server
        .login(&support::key_text(7).text())
        .await
        .expect(200)
        .json();
    let bot = bot["access_token"].as_str().unwrap().to_owned();
    scene
        .make(&scene.bo, &json!({"name": "of-bo", "private": true}))
        .await;
    let of_bot = scene.make(&bot, &json!({"name": "of-bot"})).await;
    let mut told = String::new();
    for path in ["/api/v1/users/bo", "/api/v1/service_accounts/bot"] {
        told += &(scene.delete(&scene.ana, path).await.expect(403).shown() + "\n\n");
    }
    insta::assert_snapshot!("secret-owner", told);
    scene.delete(&scene.ana, &path(&of_bot)).await.expect(200);
    // Declared in this test: that is another reason, which comes after.
    let answer = scene
        .delete(&scene.ana, "/api/v1/service_accounts/bot")
        .await;
    assert!(answer.body.contains("declared"), "{}", answer.body);
}

#[tokio::test]
async fn there_is_no_backup_store() {
    let scene = Scene::new().await;
    let mut told = String::new();
    for what in ["backup", "restore"] {
        let path = format!("/api/v1/secrets_operations/{what}?ignore_errors=True");
        for token in [&scene.ana, &scene.bo] {
            told += &(scene.put(token, &path, &Value::Null).await.shown() + "\n\n");
        }
    }
    insta::assert_snapshot!("secret-backup", told);
}

/// Nothing stays of what the operator does not take up.
#[tokio::test]
async fn without_an_operator_nothing_is_made_or_changed() {
    let options = Options {
        seen_within: std::time::Duration::from_millis(50),
        ..Options::default()
    };
    let scene = Scene::with(options).await;
    let made = scene
        .make(&scene.bo, &json!({"name": "x", "values": {"k": "v"}}))
        .await;
    let store = &scene.server.store;
    store.set_operator_away(true);
    let new = json!({"name": "y", "values": {"k": "v"}});
    let answer = scene.send(&scene.bo, Method::POST, SECRETS, &new).await;
    insta::assert_snapshot!("secret-not-taken-up", answer.expect(500).shown());
    assert_eq!(store.secrets(), 1);
    let change = json!({"values": {"k": "w"}});
    scene
        .put(&scene.bo, &path(&made), &change)
        .await
        .expect(500);
    store.set_operator_away(false);
    assert_eq!(
        values(&scene.get(&scene.bo, &path(&made)).await),
        json!({"k": "v"})
    );
    scene.server.change(|state| {
        let mut settings = (*state.settings).clone();
        settings.recipient = None;
        state.settings = settings.into();
    });
    scene
        .send(&scene.bo, Method::POST, SECRETS, &new)
        .await
        .expect(500);
    assert_eq!(store.secrets(), 1);
}

#[tokio::test]
async fn why_values_cannot_be_read_is_told() {
    let scene = Scene::new().await;
    let made = scene
        .make(&scene.bo, &json!({"name": "x", "values": {"k": "v"}}))
        .await;
    let mut told = String::new();
    for why in [
        NotRead::Gone,
        NotRead::Foreign,
        NotRead::Forbidden,
        NotRead::Unreachable,
    ] {
        scene.server.store.set_unreadable(Some(why));
        told += &(scene.get(&scene.bo, &path(&made)).await.shown() + "\n\n");
    }
    scene.server.store.set_unreadable(None);
    for why in [
        NotChanged::Unreachable,
        NotChanged::Forbidden,
        NotChanged::Refused("no".into()),
    ] {
        scene.server.store.set_failure(Some(why));
        let answer = scene
            .put(&scene.bo, &path(&made), &json!({"name": "y"}))
            .await;
        told += &(answer.shown() + "\n\n");
    }
    insta::assert_snapshot!("secret-unreadable", told);
}

/// The answer to a repeated creation shows what the secret holds now: no value was kept for it.
#[tokio::test]
async fn a_repeated_request_is_answered_from_what_is_there() {
    let scene = Scene::new().await;
    let (once, body) = (
        Some(Uuid::from_u128(7)),
        json!({"name": "x", "values": {"k": "v"}}),
    );
    let make = async || {
        scene
            .send_once(&scene.bo, Method::POST, SECRETS, &body, once)
            .await
            .expect(200)
    };
    let first = make().await;
    assert_eq!(scene.server.store.reads(), 0);
    assert_eq!(make().await.json(), first.json());
    assert_eq!(scene.server.store.reads(), 1);
    let change = json!({"values": {"k": "w"}});
    scene
        .put(&scene.bo, &path(&first.json()), &change)
        .await
        .expect(200);
    assert_eq!(values(&make().await), json!({"k": "w"}));
    scene
        .delete(&scene.bo, &path(&first.json()))
        .await
        .expect(200);
    let again = scene
        .send_once(&scene.bo, Method::POST, SECRETS, &body, once)
        .await;
    again.expect(404);
}

/// Each change and each reading is one line with ids. No value, key or name is in the log, whatever
/// the request, nor in a metric; nor is a value in a refusal.
#[tokio::test]
async fn a_value_is_in_no_log_refusal_or_metric() {
    const VALUE: &str = "canary-5a17-value";
    const KEY: &str = "canary-5a17-key";
    const NAME: &str = "canary-5a17-name";
    let scene = Scene::new().await;
    let log = Log::default();
    let guard = log.json();
    let body = json!({"name": NAME, "values": {(KEY): VALUE}});
    let made = scene.make(&scene.bo, &body).await;
    let one = path(&made);
    let mut refused = String::new();
    let odd = [
        (Method::POST, SECRETS.to_owned(), body.clone()),
        (
            Method::POST,
            SECRETS.to_owned(),
            json!({"name": [VALUE], "values": {(KEY): [VALUE]}}),
        ),
        (
            Method::POST,
            SECRETS.to_owned(),
            json!({"name": "n", "values": {(VALUE.replace('-', " ")): VALUE}}),
        ),
        (
            Method::PUT,
            one.clone(),
            json!({"values": {"k": VALUE.repeat(5000)}}),
        ),
        (Method::PUT, format!("{SECRETS}/{NOBODY}"), body.clone()),
        (
            Method::PUT,
            format!("{one}?patch_values={VALUE}"),
            body.clone(),
        ),
    ];
    for (method, path, body) in odd {
        let answer = scene.send(&scene.bo, method, &path, &body).await;
        assert!(answer.status.is_client_error(), "{path} {body}");
        refused += &answer.body;
    }
    let patch = format!("{one}?patch_values=true");
    scene
        .put(&scene.ci, &patch, &json!({"values": {"l": VALUE}}))
        .await
        .expect(200);
    scene.get(&scene.ana, &one).await.expect(200);
    scene
        .get(&scene.ana, &format!("{SECRETS}/{NOBODY}"))
        .await
        .expect(404);
    scene.delete(&scene.ana, &one).await.expect(200);
    drop(guard);
    assert!(!refused.contains(VALUE), "{refused}");
    let mut metrics = String::new();
    encode(&mut metrics, &scene.server.registry).unwrap();
    for word in ["canary", "5a17"] {
        assert!(!log.text().contains(word), "in the log");
        assert!(!metrics.contains(word), "in a metric");
    }
    let id = made["id"].as_str().unwrap();
    let lines = log.audit();
    let told: Vec<_> = lines
        .iter()
        .filter(|line| line["of"] == id)
        .map(|line| format!("{} {} {}", line["message"], line["what"], line["outcome"]))
        .collect();
    let wanted = [
        r#""change" "CreateSecret" "Done""#,
        r#""change" "UpdateSecret" "Done""#,
        r#""secret read" null "Done""#,
        r#""change" "DeleteSecret" "Done""#,
    ];
    assert_eq!(told, wanted);
    for line in [
        "zenop_secret_reads_total{outcome=\"Done\"} 1",
        "{outcome=\"Refused\"} 1",
        "zenop_changes_total{change=\"CreateSecret\",outcome=\"Done\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}
