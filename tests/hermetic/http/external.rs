//! Login at an OIDC provider that says what it should not, or nothing (features H5; attacks V08,
//! V11, V12, V21, J01, J02, J05 to J09).

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use axum::{
    body::Body,
    http::{Method, Request, Response, header::COOKIE},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as B64},
};
use futures::future::BoxFuture;
use jiff::SignedDuration;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use secrecy::SecretString;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;
use zenop::{
    auth::{
        directory::{Logins, Origin, User},
        scheme::{Provider, Scheme},
    },
    http::{App, Options, Outside, Unreachable},
};

use super::{
    client::{Answer, Server, bearer, now, request},
    support::{self, add_user},
};

const ISSUER: &str = "https://sso.example.org/realm";
const ME: &str = "/api/v1/current-user";
const BEGIN: &str = "/login/external?return_to=/devices/verify%3Fdevice_id%3D1";

/// A provider that says what it is told to.
struct Fake {
    discovery: Mutex<Value>,
    /// What is changed in the claims, the header and the key of the next ID token.
    claims: Mutex<Value>,
    header: Mutex<Header>,
    signer: Mutex<EncodingKey>,
    key_sets: AtomicUsize,
    asked: AtomicUsize,
    down: Mutex<Option<u16>>,
    /// The form and the header of the last exchange, and the nonce that it is to answer with.
    exchange: Mutex<(BTreeMap<String, String>, String)>,
    nonce: Mutex<String>,
}

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn signer(seed: u8) -> EncodingKey {
    EncodingKey::from_ed_der(pair(seed).to_pkcs8v1().unwrap().as_ref())
}

fn header() -> Header {
    let mut header = Header::new(Algorithm::EdDSA);
    header.kid = Some("k1".into());
    header
}

impl Fake {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            discovery: Mutex::new(json!({
                "issuer": ISSUER,
                "authorization_endpoint": format!("{ISSUER}/auth?tenant=1"),
                "token_endpoint": format!("{ISSUER}/token"),
                "jwks_uri": format!("{ISSUER}/keys"),
            })),
            claims: Mutex::new(json!({})),
            header: Mutex::new(header()),
            signer: Mutex::new(signer(1)),
            key_sets: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
            down: Mutex::new(None),
            exchange: Mutex::default(),
            nonce: Mutex::default(),
        })
    }

    fn keys() -> Value {
        let x = B64.encode(pair(1).public_key().as_ref());
        json!({"keys": [
            {"kty": "oct", "kid": "k0", "k": "AAAA"}, {"kty": "something else"},
            {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": "k1", "x": x},
        ]})
    }

    fn token(&self) -> String {
        let at = now().as_second();
        let mut claims = json!({
            "iss": ISSUER, "sub": "00u1", "aud": "zenop", "iat": at, "exp": at + 300,
            "nonce": *self.nonce.lock(), "name": "ana", "email": "ana@example.org",
        });
        for (name, value) in self.claims.lock().as_object().unwrap() {
            claims[name] = value.clone();
        }
        encode(&self.header.lock(), &claims, &self.signer.lock()).unwrap()
    }

    fn answer(&self, request: &Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Unreachable> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let body = match (request.uri().path(), *self.down.lock()) {
            (_, Some(0)) => return Err(Unreachable("no route to host".into())),
            (_, Some(status)) => {
                let answer = Response::builder().status(status);
                return Ok(answer
                    .header("location", "http://169.254.169.254/")
                    .body(vec![])
                    .unwrap());
            }
            ("/realm/.well-known/openid-configuration", _) => self.discovery.lock().clone(),
            ("/realm/keys", _) => {
                self.key_sets.fetch_add(1, Ordering::SeqCst);
                Self::keys()
            }
            ("/realm/token", _) => {
                let form = form_urlencoded::parse(request.body())
                    .into_owned()
                    .collect();
                let header = request.headers().get("authorization");
                let header = header.map(|h| h.to_str().unwrap().to_owned());
                *self.exchange.lock() = (form, header.unwrap_or_default());
                json!({"access_token": "x", "token_type": "Bearer", "id_token": self.token()})
            }
            (other, _) => panic!("asked for {other}"),
        };
        let answer = Response::builder().header("content-type", "application/json");
        Ok(answer.body(body.to_string().into_bytes()).unwrap())
    }
}

impl Outside for Fake {
    fn ask(
        &self,
        request: Request<Vec<u8>>,
        _: Option<Arc<str>>,
    ) -> BoxFuture<'static, Result<Response<Vec<u8>>, Unreachable>> {
        let answer = self.answer(&request);
        Box::pin(async move { answer })
    }

    fn client_secret(&self) -> Option<SecretString> {
        Some("p@ss wörd".into())
    }
}

/// A server whose people log in at a provider, `ana` among them, who is `00u1` there.
struct Scene {
    server: Server,
    provider: Arc<Fake>,
    ana: Uuid,
}

fn provider(passwords: bool) -> Provider {
    Provider {
        issuer: ISSUER.into(),
        client: "zenop".into(),
        confidential: true,
        scopes: vec!["groups".into()],
        authorities: None,
        name: None,
        passwords,
    }
}

impl Scene {
    fn new() -> Self {
        Self::with(now)
    }

    fn with(clock: fn() -> jiff::Timestamp) -> Self {
        let fake = Fake::new();
        let store = Arc::new(support::empty());
        let (account, key, ana) = store.change(|state| {
            let account = support::add_account(state, 1, "ci");
            let key = support::add_key(state, account, 1, "default");
            add_user(state, 3, "bo", true);
            let id = Uuid::from_u128(77);
            let mut ana = User::new(id, "ana".into(), "ana".into(), support::created());
            ana.origin = Origin::External {
                issuer: ISSUER.into(),
                subject: "00u1".into(),
            };
            state.directory.put_user(ana);
            (account, key, id)
        });
        let mut registry = Registry::default();
        let mut ground = support::ground(&store, clock);
        ground.outside = fake.clone();
        let app = App::new(ground, &mut registry, Options::default());
        let server = Server {
            router: app.router(),
            store,
            registry,
            account,
            key,
        };
        let scene = Self {
            server,
            provider: fake,
            ana,
        };
        scene.turn_to(Scheme::External(Box::new(provider(false))));
        scene
    }

    fn turn_to(&self, scheme: Scheme) {
        self.server.change(|state| {
            let mut settings = support::settings();
            settings.url = "https://zen.example.org".into();
            settings.public_url = Some("https://zen.example.org".into());
            settings.login_rates = "1000/m".parse().unwrap();
            state.directory.set_logins(Logins::of(&scheme));
            settings.scheme = scheme;
            state.settings = Arc::new(settings);
        });
    }

    /// Begins a login: what the provider is asked, and the cookie.
    async fn begin(&self) -> (BTreeMap<String, String>, String) {
        let answer = self.server.get(BEGIN).await.expect(303);
        let place = answer.header("location").unwrap();
        let query = place.split_once('?').unwrap().1;
        let asked: BTreeMap<_, _> = form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect();
        self.provider.nonce.lock().clone_from(&asked["nonce"]);
        (asked, cookie(&answer, "zenop-login"))
    }

    async fn get(&self, path: &str, cookie: &str) -> Answer {
        let request = request(Method::GET, path).header(COOKIE, cookie);
        self.server.send(request.body(Body::empty()).unwrap()).await
    }

    /// Comes back from a login that was begun.
    async fn back(&self) -> Answer {
        let (asked, cookie) = self.begin().await;
        self.get(&callback(&asked["state"]), &cookie).await
    }

    fn asked(&self) -> usize {
        self.provider.asked.load(Ordering::SeqCst)
    }
}

fn callback(state: &str) -> String {
    format!("/login/external/callback?code=abc&state={state}")
}

/// The one of a name that an answer sets, as a request sends it.
fn cookie(answer: &Answer, name: &str) -> String {
    let all = answer.headers.get_all("set-cookie").iter();
    let mut texts = all.map(|value| value.to_str().unwrap());
    let set = texts
        .find(|text| text.contains(name))
        .unwrap_or_else(|| panic!("no {name}"));
    let (pair, rest) = set.split_once(';').unwrap();
    for flag in ["HttpOnly", "Secure", "SameSite=Lax", "Path=/"] {
        assert!(rest.contains(flag), "V08: {set}");
    }
    assert!(
        pair.starts_with("__Host-") && !rest.contains("Domain"),
        "V08: {set}"
    );
    pair.to_owned()
}

/// Nobody is logged in, and the login that was begun is over.
fn is_over(answer: &Answer) {
    let set = answer.headers.get_all("set-cookie").iter();
    let set: Vec<_> = set.map(|value| value.to_str().unwrap()).collect();
    assert!(set.len() == 1 && set[0].contains("zenop-login"), "{set:?}");
    assert!(set[0].contains("Max-Age=0"), "{set:?}");
}

#[tokio::test]
async fn h5_a_login_is_by_code_with_pkce_state_and_nonce_and_goes_on_where_it_was_to() {
    let scene = Scene::new();
    let (asked, cookie) = scene.begin().await;
    let wanted = [
        ("response_type", "code"),
        ("client_id", "zenop"),
        ("scope", "openid groups"),
        (
            "redirect_uri",
            "https://zen.example.org/login/external/callback",
        ),
        ("code_challenge_method", "S256"),
        ("tenant", "1"),
    ];
    for (name, value) in wanted {
        assert_eq!(asked[name], value, "{asked:?}");
    }
    assert!(
        asked["state"].len() == 43
            && asked["nonce"].len() == 43
            && asked["state"] != asked["nonce"]
    );
    let answer = scene
        .get(&callback(&asked["state"]), &cookie)
        .await
        .expect(303);
    assert_eq!(
        answer.header("location"),
        Some("../../devices/verify?device_id=1")
    );
    let (form, header) = scene.provider.exchange.lock().clone();
    assert_eq!(form["grant_type"], "authorization_code");
    assert_eq!(form["code"], "abc");
    let challenge = B64.encode(Sha256::digest(&form["code_verifier"]));
    assert_eq!(challenge, asked["code_challenge"]);
    let basic = STANDARD.encode("zenop:p%40ss+w%C3%B6rd");
    assert_eq!(header, format!("Basic {basic}"));
    assert!(!form.contains_key("client_secret"));

    let session = super::external::cookie(&answer, "zenml-server");
    let me = scene.get(ME, &session).await.expect(200).json();
    assert_eq!(me["id"], scene.ana.to_string());
    assert_eq!(me["name"], "ana");
    // A page of another site changes nothing with it.
    let put = request(Method::PUT, ME)
        .header(COOKIE, &session)
        .header("sec-fetch-site", "cross-site");
    let put = put.body(Body::from("{}")).unwrap();
    scene.server.send(put).await.expect(403);
    // It holds as long as the user is that person, and that provider is asked.
    scene.turn_to(Scheme::PasswordBearer);
    scene.get(ME, &session).await.expect(401);
    scene.turn_to(Scheme::External(Box::new(provider(true))));
    scene.get(ME, &session).await.expect(200);
    scene.server.change(|state| {
        let mut ana = state.directory.remove_user(scene.ana).unwrap();
        ana.origin = Origin::External {
            issuer: ISSUER.into(),
            subject: "00u2".into(),
        };
        state.directory.put_user(ana);
    });
    scene.get(ME, &session).await.expect(401);
    let unknown = scene.back().await.expect(403);
    is_over(&unknown);
    assert!(unknown.body.contains("00u1"), "{}", unknown.body);
}

#[tokio::test]
async fn v19_who_is_deactivated_is_not_let_in() {
    let scene = Scene::new();
    scene.server.change(|state| {
        let mut ana = state.directory.remove_user(scene.ana).unwrap();
        ana.active = false;
        state.directory.put_user(ana);
    });
    let refused = scene.back().await.expect(401);
    is_over(&refused);
    assert!(refused.body.contains("may not sign in"), "{}", refused.body);
}

/// The older one counts, also where it may not log in: else who is shut out would be let in as
/// another.
#[tokio::test]
async fn of_two_users_who_are_one_person_the_older_logs_in() {
    let scene = Scene::new();
    let ann = Uuid::from_u128(78);
    scene.server.change(|state| {
        let made = support::created() + SignedDuration::from_secs(1);
        let mut user = User::new(ann, "ann".into(), "ann".into(), made);
        user.origin = state.directory.user(scene.ana).unwrap().origin.clone();
        state.directory.put_user(user);
    });
    let me = async || {
        let session = cookie(&scene.back().await.expect(303), "zenml-server");
        scene.get(ME, &session).await.expect(200).json()["id"].clone()
    };
    let change_ana = |change: fn(&mut User)| {
        scene.server.change(|state| {
            let mut ana = state.directory.remove_user(scene.ana).unwrap();
            change(&mut ana);
            state.directory.put_user(ana);
        });
    };
    assert_eq!(me().await, json!(scene.ana));
    change_ana(|ana| ana.active = false);
    scene.back().await.expect(401);
    change_ana(|ana| ana.active = true);
    // Her name is an older user's, who is somebody else.
    let elder = Uuid::from_u128(79);
    scene.server.change(|state| {
        let made = support::created() - SignedDuration::from_secs(1);
        let user = User::new(elder, "elder".into(), "ana".into(), made);
        state.directory.put_user(user);
    });
    scene.back().await.expect(401);
    scene
        .server
        .change(|state| state.directory.remove_user(elder));
    assert_eq!(me().await, json!(scene.ana));
    scene
        .server
        .change(|state| state.directory.remove_user(scene.ana));
    assert_eq!(me().await, json!(ann));
}

/// V21: a state is of one login, in one browser, for ten minutes, of this server and provider.
#[tokio::test]
async fn v21_what_comes_back_is_of_the_login_that_this_browser_began() {
    let scene = Scene::new();
    let (one, cookie_one) = scene.begin().await;
    let (two, cookie_two) = scene.begin().await;
    let before = scene.asked();
    let other = Scene::new();
    let (_, foreign) = other.begin().await;
    other
        .server
        .change(|state| state.keyring = support::keyring(9));
    let (_, of_other_keys) = other.begin().await;
    let flipped = cookie_one.replace('a', "b");
    for (state, cookie) in [
        (&*one["state"], &*cookie_two),
        (&*two["state"], &*cookie_one),
        (&*one["state"], ""),
        (&*one["state"], &*format!("{cookie_one}; {cookie_one}")),
        (&*one["state"], &*flipped),
        (&*one["state"], &*foreign),
        (&*one["state"], &*of_other_keys),
        ("", &*cookie_one),
        (&*format!("{0}&state={0}", one["state"]), &*cookie_one),
    ] {
        let answer = scene.get(&callback(state), cookie).await.expect(400);
        is_over(&answer);
    }
    assert_eq!(scene.asked(), before, "the provider was asked for nothing");
    let answer = scene.get(&callback(&one["state"]), &cookie_one).await;
    scene.provider.nonce.lock().clone_from(&one["nonce"]);
    answer.expect(502);
    scene
        .get(&callback(&one["state"]), &cookie_one)
        .await
        .expect(303);
}

static MOVED: AtomicUsize = AtomicUsize::new(0);

fn moved() -> jiff::Timestamp {
    now() + SignedDuration::from_secs(i64::try_from(MOVED.load(Ordering::SeqCst)).unwrap())
}

/// J05, and a provider that is down, by the clock of one test.
#[tokio::test]
async fn j05_a_provider_is_asked_seldom_and_a_login_ends_with_its_time() {
    let scene = Scene::with(moved);
    let at = |seconds| MOVED.store(seconds, Ordering::SeqCst);
    scene.back().await.expect(303);
    let key_sets = || scene.provider.key_sets.load(Ordering::SeqCst);
    assert_eq!(key_sets(), 1);
    scene.provider.header.lock().kid = Some("k9".into());
    for _ in 0..50 {
        scene.back().await.expect(502);
    }
    // Read moments ago.
    assert_eq!(key_sets(), 1);
    at(31);
    for _ in 0..50 {
        scene.back().await.expect(502);
    }
    assert_eq!(key_sets(), 2);
    *scene.provider.header.lock() = header();
    scene.back().await.expect(303);
    assert_eq!(key_sets(), 2);

    // What is known counts on while the provider is down; the code cannot be redeemed.
    at(4000);
    *scene.provider.down.lock() = Some(0);
    let asked = scene.asked();
    let refused = scene.back().await.expect(503);
    assert_eq!(refused.header("retry-after"), Some("30"));
    assert!(
        refused.body.contains("cannot be reached"),
        "{}",
        refused.body
    );
    assert!(scene.asked() - asked <= 2);
    *scene.provider.down.lock() = None;
    let (asked, cookie) = scene.begin().await;
    at(4600);
    scene
        .get(&callback(&asked["state"]), &cookie)
        .await
        .expect(400);
}

#[tokio::test]
async fn nobody_is_sent_to_a_provider_that_does_not_say_who_it_is() {
    type Harm = fn(&Fake);
    let harms: [Harm; 6] = [
        |fake| *fake.down.lock() = Some(0),
        |fake| *fake.down.lock() = Some(500),
        |fake| *fake.down.lock() = Some(302),
        |fake| fake.discovery.lock()["issuer"] = json!("https://sso.example.org"),
        |fake| fake.discovery.lock()["token_endpoint"] = json!("http://sso.example.org/token"),
        |fake| fake.discovery.lock()["jwks_uri"] = json!("file:///etc/passwd"),
    ];
    for (n, harm) in harms.into_iter().enumerate() {
        let scene = Scene::new();
        harm(&scene.provider);
        for _ in 0..20 {
            let answer = scene.server.get(BEGIN).await.expect(503);
            assert_eq!(answer.header("retry-after"), Some("30"), "harm {n}");
        }
        assert_eq!(scene.asked(), 1, "harm {n}");
        // Keys go on as before.
        scene
            .server
            .get_as(&scene.server.key.text(), ME)
            .await
            .expect(200);
    }
}

#[tokio::test]
async fn j01_j02_j06_to_j09_an_id_token_of_another_login_key_time_or_client_is_not_believed() {
    let at = now().as_second();
    let claims = [
        json!({"iss": "https://sso.example.org"}),
        json!({"iss": format!("{ISSUER}/")}),
        json!({"aud": "another"}),
        json!({"aud": []}),
        json!({"aud": ["zenop", "another"]}),
        json!({"aud": ["another"], "azp": "zenop"}),
        json!({"azp": "another"}),
        json!({"exp": at - 61}),
        json!({"iat": at + 61}),
        json!({"nbf": at + 61}),
        json!({"nonce": "of another login"}),
        json!({"nonce": null}),
        json!({"sub": ""}),
        json!({"sub": "x".repeat(256)}),
        json!({"sub": 1}),
    ];
    let scene = Scene::new();
    for harm in claims {
        *scene.provider.claims.lock() = harm.clone();
        let answer = scene.back().await;
        assert_eq!(answer.status.as_u16(), 502, "{harm}");
        is_over(&answer);
    }
    *scene.provider.claims.lock() = json!({"aud": ["zenop", "another"], "azp": "zenop"});
    scene.back().await.expect(303);
    *scene.provider.claims.lock() = json!({});

    *scene.provider.signer.lock() = signer(2);
    scene.back().await.expect(502);
    // The public key as a shared secret.
    *scene.provider.signer.lock() = EncodingKey::from_secret(pair(1).public_key().as_ref());
    let mut shared = Header::new(Algorithm::HS256);
    shared.kid = Some("k1".into());
    *scene.provider.header.lock() = shared.clone();
    scene.back().await.expect(502);
    shared.kid = Some("k0".into());
    *scene.provider.header.lock() = shared;
    *scene.provider.signer.lock() = EncodingKey::from_secret(&[0; 3]);
    scene.back().await.expect(502);
}

/// RFC 9207: whoever answers says who it is.
#[tokio::test]
async fn an_answer_of_another_provider_is_none() {
    let scene = Scene::new();
    let back = async |more: &str| {
        let (asked, cookie) = scene.begin().await;
        let path = format!("{}{more}", callback(&asked["state"]));
        scene.get(&path, &cookie).await
    };
    back("&iss=https://evil.example.org").await.expect(502);
    let own = format!("&iss={ISSUER}");
    back(&own).await.expect(303);
    let says = "authorization_response_iss_parameter_supported";
    let scene = Scene::new();
    scene.provider.discovery.lock()[says] = json!(true);
    scene.back().await.expect(502);
}

#[tokio::test]
async fn errors_of_the_provider_are_told_in_our_words() {
    let scene = Scene::new();
    for (error, status) in [
        ("access_denied", 403),
        ("login_required", 403),
        ("temporarily_unavailable", 503),
        ("invalid_scope", 502),
        ("<script>alert(1)</script>", 403),
    ] {
        let (asked, cookie) = scene.begin().await;
        let told = [
            ("error", error),
            ("error_description", "CANARY"),
            ("state", &asked["state"]),
        ];
        let query = serde_urlencoded::to_string(told).unwrap();
        let path = format!("/login/external/callback?{query}");
        let answer = scene.get(&path, &cookie).await.expect(status);
        is_over(&answer);
        assert!(!answer.body.contains("CANARY") && !answer.body.contains("script"));
    }
}

/// V11, V12: it goes on within this server, and comes back to where it was set up.
#[tokio::test]
async fn v11_v12_a_login_leads_nowhere_else() {
    let scene = Scene::new();
    for place in [
        "//evil",
        "/\\evil",
        "https:evil",
        "%2f%2fevil",
        "javascript:alert(1)",
        "https://evil",
    ] {
        let query = serde_urlencoded::to_string([("return_to", place)]).unwrap();
        let path = format!("/login/external?{query}");
        let request = request(Method::GET, &path)
            .header("host", "evil.example.org")
            .header("x-forwarded-host", "evil.example.org");
        let answer = scene
            .server
            .send(request.body(Body::empty()).unwrap())
            .await
            .expect(303);
        let there = answer.header("location").unwrap();
        assert!(
            there.starts_with(ISSUER) && !there.contains("evil"),
            "{there}"
        );
        let query = there.split_once('?').unwrap().1;
        let asked: BTreeMap<_, _> = form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect();
        scene.provider.nonce.lock().clone_from(&asked["nonce"]);
        let cookie = cookie(&answer, "zenop-login");
        let done = scene
            .get(&callback(&asked["state"]), &cookie)
            .await
            .expect(303);
        assert_eq!(done.header("location"), Some("../../devices"), "{place}");
    }
}

/// H1: service accounts as ever, passwords of no use unless they are let in, for an emergency.
#[tokio::test]
async fn h1_h5_each_credential_under_external() {
    let scene = Scene::new();
    let login = async |form: &str| scene.server.post_form("/api/v1/login", form).await;
    let info = scene.server.get("/api/v1/info").await.expect(200).json();
    assert_eq!(info["auth_scheme"], "EXTERNAL");
    let key = scene.server.key.text();
    scene.server.get_as(&key, ME).await.expect(200);
    let token = scene.server.token().await;
    scene.server.get_as(&token, ME).await.expect(200);
    for nobody in ["junk", &support::key_text(99).text()] {
        scene.server.get_as(nobody, ME).await.expect(401);
    }
    let asked = scene.server.get(ME).await.expect(401);
    assert_eq!(asked.header("www-authenticate"), Some("Bearer"));
    let basic = format!("Basic {}", STANDARD.encode("bo:password of bo"));
    let request = request(Method::GET, ME).header("authorization", basic);
    scene
        .server
        .send(request.body(Body::empty()).unwrap())
        .await
        .expect(401);

    let form = "username=bo&password=password+of+bo";
    let refused = login(form).await.expect(400);
    assert_eq!(
        refused.body,
        r#"{"detail":"Unsupported grant type: password."}"#
    );
    for form in ["", "grant_type=zenml-external"] {
        let answer = login(form).await.expect(200).json();
        let there = "https://zen.example.org/login/external";
        assert_eq!(answer, json!({"authorization_url": there}));
    }

    // In an emergency; it ends with that.
    scene.turn_to(Scheme::External(Box::new(provider(true))));
    let token = login(form).await.expect(200).json();
    let token = token["access_token"].as_str().unwrap().to_owned();
    scene.server.get_as(&token, ME).await.expect(200);
    let create = async || {
        let body = r#"{"name":"eve","is_admin":false,"password":"correct horse"}"#;
        let request = super::client::request(Method::POST, "/api/v1/users")
            .header("authorization", bearer(&token))
            .header("content-type", "application/json");
        scene
            .server
            .send(request.body(Body::from(body)).unwrap())
            .await
    };
    create().await.expect(200);
    scene.turn_to(Scheme::External(Box::new(provider(false))));
    scene.server.get_as(&token, ME).await.expect(401);

    // Elsewhere there is no provider to go to.
    scene.turn_to(Scheme::PasswordBearer);
    scene.server.get(BEGIN).await.expect(404);
    let refused = login("grant_type=zenml-external").await.expect(400);
    assert!(
        refused.body.contains("Unsupported grant type"),
        "{}",
        refused.body
    );
}
