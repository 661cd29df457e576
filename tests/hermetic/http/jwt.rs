//! attacks.md J: tokens that nobody issued, each sent to the sidecar as a bearer and as a cookie.
//!
//! Those of keys that rotate are with the operator, in `tests/client/signing.rs`. J05 is of who
//! fetches keys: the sidecar fetches none.

use aws_lc_rs::{
    hmac,
    signature::{Ed25519KeyPair, KeyPair},
};
use axum::{
    body::Body,
    http::{Method, header::COOKIE},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as B64};
use serde_json::{Value, json};

use super::{
    client::{Answer, Server, now, request},
    sockets::Served,
    support,
};

const ME: &str = "/api/v1/current-user";
const JWKS: &str = "/.well-known/jwks.json";

/// The server, a token of it, and its key, which no attacker has.
struct Target {
    server: Server,
    header: Value,
    payload: Value,
    signature: String,
    key: Ed25519KeyPair,
}

impl Target {
    async fn new() -> Self {
        let server = Server::new();
        let token = server.token().await;
        let parts: Vec<_> = token.split('.').collect();
        let json = |part: &str| serde_json::from_slice(&B64.decode(part).unwrap()).unwrap();
        Self {
            header: json(parts[0]),
            payload: json(parts[1]),
            signature: parts[2].to_owned(),
            key: Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap(),
            server,
        }
    }

    fn message(&self, header: &Value, payload: &str) -> String {
        format!("{}.{}", B64.encode(header.to_string()), B64.encode(payload))
    }

    /// A token over any header and payload, signed by the server's own key.
    fn signed(&self, header: &Value, payload: &str) -> String {
        let message = self.message(header, payload);
        let signature = B64.encode(self.key.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }

    fn with_header(&self, member: &str, value: Value) -> String {
        let mut header = self.header.clone();
        header[member] = value;
        self.signed(&header, &self.payload.to_string())
    }

    fn with_payload(&self, member: &str, value: Value) -> String {
        let mut payload = self.payload.clone();
        match value {
            Value::Null => drop(payload.as_object_mut().unwrap().remove(member)),
            value => payload[member] = value,
        }
        self.signed(&self.header, &payload.to_string())
    }

    async fn me(&self, token: &str) -> Answer {
        self.server.get_as(token, ME).await
    }

    async fn refuses(&self, token: &str) {
        let answer = self.me(token).await;
        assert_eq!(answer.status, 401, "{token:.300}");
        let told = "Authentication error: invalid access token";
        assert_eq!(
            answer.json()["detail"],
            json!(["CredentialsNotValid", told])
        );
        let cookie = format!("zenml-server-{}={token}", support::SERVER);
        let request = request(Method::GET, ME).header(COOKIE, cookie);
        let answer = self.server.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, 401, "as a cookie: {token:.300}");
    }

    /// That the tests can make one that is taken, so that what they change is what is refused.
    async fn takes(&self, token: &str) {
        self.me(token).await.expect(200);
    }
}

#[tokio::test]
async fn j01_no_algorithm_is_none() {
    let target = Target::new().await;
    target
        .takes(&target.signed(&target.header, &target.payload.to_string()))
        .await;
    for alg in ["none", "None", "nOnE", "NONE", ""] {
        let mut header = target.header.clone();
        header["alg"] = json!(alg);
        let message = target.message(&header, &target.payload.to_string());
        target.refuses(&format!("{message}.")).await;
        target.refuses(&message).await;
        target.refuses(&target.with_header("alg", json!(alg))).await;
    }
}

#[tokio::test]
async fn j02_the_public_key_is_no_shared_secret() {
    let target = Target::new().await;
    let public = target.key.public_key().as_ref();
    let secrets = [
        public.to_vec(),
        B64.encode(public).into_bytes(),
        hex::encode(public).into_bytes(),
        support::SERVER.to_string().into_bytes(),
        Vec::new(),
    ];
    for (alg, algorithm) in [("HS256", hmac::HMAC_SHA256), ("HS512", hmac::HMAC_SHA512)] {
        let mut header = target.header.clone();
        header["alg"] = json!(alg);
        let message = target.message(&header, &target.payload.to_string());
        for secret in &secrets {
            let tag = hmac::sign(&hmac::Key::new(algorithm, secret), message.as_bytes());
            target
                .refuses(&format!("{message}.{}", B64.encode(tag)))
                .await;
        }
    }
}

#[tokio::test]
async fn j03_a_kid_is_a_name_and_no_more() {
    let target = Target::new().await;
    for kid in [
        json!("../../etc/passwd"),
        json!("' OR 1=1 --"),
        json!(""),
        json!(7),
        json!(["x"]),
        Value::Null,
        json!("A".repeat(43)),
        json!("x".repeat(1 << 20)),
    ] {
        target.refuses(&target.with_header("kid", kid)).await;
    }
}

#[tokio::test]
async fn j04_a_key_that_a_token_brings_along_is_not_used() {
    let target = Target::new().await;
    let attacker = Ed25519KeyPair::from_seed_unchecked(&[66; 32]).unwrap();
    let x = B64.encode(attacker.public_key().as_ref());
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": x});
    let brought = [
        ("jwk", jwk),
        ("jku", json!("http://127.0.0.1:9/jwks.json")),
        ("x5u", json!("http://127.0.0.1:9/x5u")),
        ("x5c", json!([x])),
    ];
    for (member, value) in brought {
        for kid in [target.header["kid"].clone(), json!("evil"), Value::Null] {
            let mut header = target.header.clone();
            header[member] = value.clone();
            header["kid"] = kid;
            let message = target.message(&header, &target.payload.to_string());
            let signature = B64.encode(attacker.sign(message.as_bytes()));
            target.refuses(&format!("{message}.{signature}")).await;
        }
    }
}

#[tokio::test]
async fn j06_a_token_counts_from_its_beginning_to_its_end() {
    let target = Target::new().await;
    let now = now().as_second();
    for (member, taken, refused) in [
        ("exp", json!(now + 1), json!(now)),
        ("iat", json!(now + 10), json!(now + 11)),
        ("nbf", json!(now + 10), json!(now + 11)),
    ] {
        target.takes(&target.with_payload(member, taken)).await;
        target.refuses(&target.with_payload(member, refused)).await;
        target
            .refuses(&target.with_payload(member, json!("1")))
            .await;
    }
    for never in [json!(1e300), json!(-1e300), json!(i64::MAX), json!(0)] {
        target.refuses(&target.with_payload("exp", never)).await;
    }
    target
        .refuses(&target.with_payload("exp", Value::Null))
        .await;
}

#[tokio::test]
async fn j07_j08_j09_issuer_and_audience_are_this_server_and_nobody_else() {
    let target = Target::new().await;
    let (ours, other) = (support::SERVER.to_string(), uuid::Uuid::nil().to_string());
    for member in ["aud", "iss"] {
        target
            .refuses(&target.with_payload(member, Value::Null))
            .await;
        for value in [
            json!(other),
            json!(""),
            json!("*"),
            json!([]),
            json!([ours, other]),
            json!([other, ours]),
            json!({"x": ours}),
        ] {
            target.refuses(&target.with_payload(member, value)).await;
        }
    }
}

#[tokio::test]
async fn j10_a_token_of_another_type_is_no_access_token() {
    let target = Target::new().await;
    for typ in [
        "JWT",
        "id+jwt",
        "rt+jwt",
        "logout+jwt",
        "at+jwt ",
        "AT+JWT",
        "",
    ] {
        target.refuses(&target.with_header("typ", json!(typ))).await;
    }
    target
        .refuses(&target.with_header("typ", Value::Null))
        .await;
    // A device code is a statement of this server, and no token.
    let form = format!("client_id={}", uuid::Uuid::nil());
    let started = target
        .server
        .post_form("/api/v1/device_authorization", &form)
        .await;
    let started = started.expect(200).json();
    for code in ["device_code", "user_code"] {
        target.refuses(started[code].as_str().unwrap()).await;
    }
}

#[tokio::test]
async fn j11_without_its_signature_it_is_none() {
    let target = Target::new().await;
    let message = target.message(&target.header, &target.payload.to_string());
    let signature = &target.signature;
    for spelling in [
        format!("{message}."),
        message.clone(),
        format!("{message}.{}", &signature[..85]),
        format!("{message}.{}", "A".repeat(86)),
        format!("..{signature}"),
        ".".into(),
        "..".into(),
    ] {
        target.refuses(&spelling).await;
    }
}

/// Two signatures of one message would be two tokens; a key of small order fits any.
#[tokio::test]
async fn j12_a_signature_has_one_form_and_no_key_is_weak() {
    let target = Target::new().await;
    let message = target.message(&target.header, &target.payload.to_string());
    let mut bytes = target.key.sign(message.as_bytes()).as_ref().to_vec();
    target
        .takes(&format!("{message}.{}", B64.encode(&bytes)))
        .await;
    // S + L, where L is the order of the base point.
    let order = hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
    let mut carry = 0_u16;
    for (byte, order) in bytes[32..].iter_mut().zip(order.unwrap()) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    assert_eq!(carry, 0);
    target
        .refuses(&format!("{message}.{}", B64.encode(&bytes)))
        .await;
    // R and the key of small order, S zero: they verify under a careless library.
    let mut weak = [0_u8; 64];
    weak[0] = 1;
    let x = B64.encode([&[1_u8][..], &[0; 31]].concat());
    let mut header = target.header.clone();
    header["jwk"] = json!({"kty": "OKP", "crv": "Ed25519", "x": x});
    for header in [&target.header, &header] {
        let message = target.message(header, &target.payload.to_string());
        target
            .refuses(&format!("{message}.{}", B64.encode(weak)))
            .await;
    }
}

#[tokio::test]
async fn j13_signatures_of_zeros_by_other_curves_are_none() {
    let target = Target::new().await;
    for (alg, length) in [("ES256", 64), ("ES384", 96), ("RS256", 256), ("PS256", 256)] {
        let mut header = target.header.clone();
        header["alg"] = json!(alg);
        let message = target.message(&header, &target.payload.to_string());
        let zeros = B64.encode(vec![0; length]);
        target.refuses(&format!("{message}.{zeros}")).await;
    }
}

#[tokio::test]
async fn j14_a_member_that_is_there_twice_is_none() {
    let target = Target::new().await;
    let payload = target.payload.to_string();
    for (member, value) in target.payload.as_object().unwrap() {
        let twice = payload.replacen('{', &format!("{{\"{member}\":{value},"), 1);
        let token = target.signed(&target.header, &twice);
        // The library reads issuer, audience and end once more, and the last one counts: the same.
        let answer = target.me(&token).await;
        assert_eq!(answer.status, 401, "{member}");
    }
    let header = target.header.to_string();
    let twice = header.replacen('{', r#"{"alg":"none","#, 1);
    let message = format!("{}.{}", B64.encode(twice), B64.encode(&payload));
    let signature = B64.encode(target.key.sign(message.as_bytes()));
    target.refuses(&format!("{message}.{signature}")).await;
}

#[tokio::test]
async fn j15_what_must_be_understood_and_is_not_is_refused() {
    let target = Target::new().await;
    for crit in [json!(["exp"]), json!(["b64"]), json!(["x"]), json!([])] {
        target.refuses(&target.with_header("crit", crit)).await;
    }
}

#[tokio::test]
async fn j16_an_encrypted_token_is_none() {
    let target = Target::new().await;
    let header = json!({"alg": "dir", "enc": "A256GCM", "kid": target.header["kid"]});
    let header = B64.encode(header.to_string());
    target.refuses(&format!("{header}..AAAA.AAAA.AAAA")).await;
    let token = target.signed(&target.header, &target.payload.to_string());
    target.refuses(&format!("{token}.AAAA.AAAA")).await;
    target.refuses(&format!("{token}.")).await;
}

#[tokio::test]
async fn j17_a_token_has_one_spelling() {
    let target = Target::new().await;
    let token = target.signed(&target.header, &target.payload.to_string());
    target.takes(&token).await;
    let standard = token.replace('-', "+").replace('_', "/");
    let parts: Vec<_> = token.split('.').collect();
    let mut spellings = vec![
        format!("{token}="),
        format!("{token}=="),
        format!("{}=.{}.{}", parts[0], parts[1], parts[2]),
        format!("{}.{}=.{}", parts[0], parts[1], parts[2]),
        format!("{}\n.{}.{}", parts[0], parts[1], parts[2]).replace('\n', "%0a"),
    ];
    spellings.extend((standard != token).then_some(standard));
    // The last character of a signature has bits that mean nothing.
    let last = token.chars().last().unwrap();
    let alphabet = ('A'..='Z')
        .chain('a'..='z')
        .chain('0'..='9')
        .chain(['-', '_']);
    let others = alphabet.filter(|c| *c != last);
    spellings.extend(others.map(|c| format!("{}{c}", &token[..token.len() - 1])));
    for spelling in spellings {
        target.refuses(&spelling).await;
    }
}

#[tokio::test]
async fn j18_a_huge_token_is_refused_before_it_is_read() {
    let served = Served::start().await;
    let head = format!("GET {ME} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ");
    let huge = [head.as_bytes(), &vec![b'A'; 8 << 20], b"\r\n\r\n"].concat();
    let answer = served.exchange(&huge).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
        "{answer:.200}"
    );
    let served = Served::start().await;
    let longer = format!("{head}{}\r\nconnection: close\r\n\r\n", "A".repeat(5000));
    let answer = served.exchange(longer.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer:.200}");
}

#[tokio::test]
async fn j20_i07_the_jwks_is_public_bounded_and_changes_with_its_tag() {
    let server = Server::new();
    let answer = server.get(JWKS).await.expect(200);
    assert_eq!(answer.header("cache-control"), Some("public, max-age=300"));
    assert_eq!(
        answer.header("content-type"),
        Some("application/jwk-set+json")
    );
    let keys = answer.json();
    assert_eq!(keys.as_object().unwrap().len(), 1);
    let keys = keys["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 1);
    let key = keys[0].as_object().unwrap();
    let members: Vec<_> = key.keys().map(String::as_str).collect();
    assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x"]);
    let pair = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
    assert_eq!(key["x"], json!(B64.encode(pair.public_key().as_ref())));
    assert!(!answer.body.contains("none") && !answer.body.contains(&hex::encode([1; 32])));

    let tag = answer.header("etag").unwrap().to_owned();
    let ask = async |tags: &str| {
        let request = request(Method::GET, JWKS).header("if-none-match", tags);
        server.send(request.body(Body::empty()).unwrap()).await
    };
    for known in [&*tag, &format!("\"x\", W/{tag}"), "*"] {
        let answer = ask(known).await.expect(304);
        assert_eq!(answer.body, "");
        assert_eq!(answer.header("etag"), Some(&*tag));
        assert_eq!(answer.header("cache-control"), Some("public, max-age=300"));
    }
    ask("\"x\"").await.expect(200);
    server.change(|state| state.keyring = support::keyring(2));
    let other = ask(&tag).await.expect(200);
    assert_ne!(other.header("etag"), Some(&*tag));
    // Nobody needs it with a credential, and nobody is refused for one.
    let answer = server.get_as("x", JWKS).await;
    assert_eq!(answer.expect(200).body, other.body);
}

#[tokio::test]
async fn j19_a_previous_key_verifies_until_its_time_and_no_longer() {
    let server = Server::new();
    let token = server.token().await;
    let second = jiff::SignedDuration::from_secs(1);
    for (until, status, keys) in [(now() + second, 200, 2), (now(), 401, 1)] {
        server.change(|state| state.keyring = support::rotated(1, until, 2));
        server.get_as(&token, ME).await.expect(status);
        let shown = server.get(JWKS).await.expect(200).json();
        assert_eq!(shown["keys"].as_array().unwrap().len(), keys);
        let new = server.token().await;
        server.get_as(&new, ME).await.expect(200);
    }
}
