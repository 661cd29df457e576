//! Access tokens: JWTs with ZenML's claims, signed with EdDSA (RFC 7519, RFC 8037, RFC 9068).
//!
//! A token says who and by which key; whether that still holds is asked of the
//! [`Directory`](super::directory::Directory) at each request. So there is no list of revoked
//! tokens: a key that dies takes its tokens along.

use std::time::Duration;

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header, encode};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    api_key::Print,
    keyring::Keyring,
    principal::{By, Principal, Refused},
    user::Stamp,
};

/// The media type of access tokens (RFC 9068, 2.1). Tokens for other purposes get another one.
const TYP: &str = "at+jwt";
/// No token is longer; more is refused unread.
const MAX_TOKEN: usize = 4096;
/// No token that was asked for by `GET /api_token` lives longer.
pub const LONGEST_API_TOKEN: Duration = Duration::from_secs(7 * 24 * 3600);
/// How far the clocks of two replicas may be apart, in seconds.
const SKEW: i64 = 10;

/// What a token states, before anybody looked whether it still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Whom it was issued to.
    pub principal: Principal,
    /// What it is for, if it is for a workload.
    pub workload: Workload,
    /// Whether it was asked for by `GET /api_token`, and not got by a login.
    pub asked_for: bool,
    /// When it was issued.
    pub issued: Timestamp,
    /// From when on it is refused.
    pub expires: Timestamp,
}

/// The schedule, run or deployment of ZenML that a token is for. Only the ZenML server knows whether
/// there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// A schedule.
    #[serde(rename = "schedule_id", skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Uuid>,
    /// A run of a pipeline.
    #[serde(rename = "pipeline_run_id", skip_serializing_if = "Option::is_none")]
    pub pipeline_run: Option<Uuid>,
    /// A deployment.
    #[serde(rename = "deployment_id", skip_serializing_if = "Option::is_none")]
    pub deployment: Option<Uuid>,
}

impl Claims {
    /// What a login states.
    pub fn of_login(principal: Principal, issued: Timestamp, expires: Timestamp) -> Self {
        Self {
            principal,
            workload: Workload::default(),
            asked_for: false,
            issued,
            expires,
        }
    }
}

/// The claims as ZenML names them. `iat` is a float there, `exp` an integer (zenml-wire.md 4).
/// `key_print`, `user_epoch`, `user_print` and `api_token` are ours.
#[derive(Serialize)]
struct Wire<'a> {
    sub: Uuid,
    iss: &'a str,
    aud: &'a str,
    iat: f64,
    exp: i64,
    #[serde(flatten)]
    workload: Workload,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    api_token: bool,
    #[serde(flatten)]
    by: WireBy,
}

/// What it came with: the members of one of the ways, and none of the others. A device of a user
/// is bound to the user's epoch.
#[derive(Serialize)]
#[serde(untagged)]
enum WireBy {
    Key {
        api_key_id: Uuid,
        key_gen: i64,
        key_print: Print,
    },
    Session {
        user_epoch: i64,
        user_print: Print,
        #[serde(skip_serializing_if = "Option::is_none")]
        session_id: Option<Uuid>,
    },
    Device {
        device_id: Uuid,
        #[serde(skip_serializing_if = "Option::is_none")]
        user_epoch: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        user_print: Option<Print>,
    },
    /// No token says so; one that did would be refused.
    Open {},
}

/// Owned, as a decoder wants it.
#[derive(Deserialize)]
struct Read {
    sub: Uuid,
    /// One of each: a token of several issuers or for several audiences, of which one is this
    /// server, is none of ours.
    #[serde(rename = "iss")]
    _issuer: Uuid,
    #[serde(rename = "aud")]
    _audience: Uuid,
    iat: f64,
    /// Ours have none. One that is to count from later on does.
    nbf: Option<f64>,
    exp: i64,
    api_key_id: Option<Uuid>,
    key_gen: Option<i64>,
    key_print: Option<Print>,
    user_epoch: Option<i64>,
    user_print: Option<Print>,
    session_id: Option<Uuid>,
    device_id: Option<Uuid>,
    schedule_id: Option<Uuid>,
    pipeline_run_id: Option<Uuid>,
    deployment_id: Option<Uuid>,
    #[serde(default)]
    api_token: bool,
}

impl Read {
    /// A token that mixes two ways to come is none of ours.
    fn by(&self) -> Option<By> {
        let key = (self.api_key_id, self.key_gen, self.key_print);
        let stamp = (self.user_epoch, self.user_print);
        let stamp = match stamp {
            (Some(epoch), Some(password)) => Some(Stamp { epoch, password }),
            (None, None) => None,
            _ => return None,
        };
        match (key, stamp, self.session_id, self.device_id) {
            ((Some(key), Some(generation), Some(print)), None, None, None) => Some(By::Key {
                key,
                generation,
                print,
            }),
            ((None, None, None), Some(stamp), session, None) => {
                Some(By::Session { stamp, session })
            }
            ((None, None, None), stamp, None, Some(device)) => Some(By::Device { device, stamp }),
            _ => None,
        }
    }
}

impl From<By> for WireBy {
    fn from(by: By) -> Self {
        match by {
            By::Key {
                key,
                generation,
                print,
            } => Self::Key {
                api_key_id: key,
                key_gen: generation,
                key_print: print,
            },
            By::Session { stamp, session } => Self::Session {
                user_epoch: stamp.epoch,
                user_print: stamp.password,
                session_id: session,
            },
            By::Device { device, stamp } => Self::Device {
                device_id: device,
                user_epoch: stamp.map(|stamp| stamp.epoch),
                user_print: stamp.map(|stamp| stamp.password),
            },
            By::Open => Self::Open {},
        }
    }
}

/// Signs a token of `server`.
///
/// # Errors
/// If the signing key cannot sign, which a key that was read as one can.
pub fn issue(
    keyring: &Keyring,
    server: Uuid,
    claims: &Claims,
) -> Result<String, jsonwebtoken::errors::Error> {
    let (kid, key) = keyring.signing();
    let mut header = Header::new(Algorithm::EdDSA);
    header.typ = Some(TYP.into());
    header.kid = Some(kid.to_owned());
    let server = server.to_string();
    let wire = Wire {
        sub: claims.principal.account,
        iss: &server,
        aud: &server,
        iat: seconds(claims.issued),
        exp: claims.expires.as_second(),
        workload: claims.workload,
        api_token: claims.asked_for,
        by: claims.principal.by.into(),
    };
    encode(&header, &wire, key)
}

/// Checks signature, type, issuer, audience and times of a token of `server`.
///
/// # Errors
/// [`Refused::BadToken`], whatever is wrong.
pub fn verify(
    keyring: &Keyring,
    server: Uuid,
    token: &str,
    now: Timestamp,
) -> Result<Claims, Refused> {
    let claims = verify_signed(keyring, server, token).ok_or(Refused::BadToken)?;
    claims.check_time(now).map(|()| claims)
}

impl Claims {
    /// Whether the token's time has come and is not over. Clocks of replicas may differ by ten
    /// seconds, so one from the near future is taken; one that is over is over.
    ///
    /// # Errors
    /// [`Refused::BadToken`].
    pub fn check_time(&self, now: Timestamp) -> Result<(), Refused> {
        let begun = self.issued.as_second() <= now.as_second().saturating_add(SKEW);
        if begun && now < self.expires {
            Ok(())
        } else {
            Err(Refused::BadToken)
        }
    }
}

fn verify_signed(keyring: &Keyring, server: Uuid, token: &str) -> Option<Claims> {
    if token.len() > MAX_TOKEN {
        return None;
    }
    let header = decode_header(token).ok()?;
    if header.typ.as_deref() != Some(TYP) || header.crit.is_some() {
        return None;
    }
    let (key, until) = keyring.verifying(header.kid.as_deref()?)?;
    let read = decode::<Read>(token, key, &validation(server)).ok()?.claims;
    let expires = Timestamp::from_second(read.exp).ok()?;
    Some(Claims {
        principal: Principal {
            account: read.sub,
            by: read.by()?,
        },
        workload: Workload {
            schedule: read.schedule_id,
            pipeline_run: read.pipeline_run_id,
            deployment: read.deployment_id,
        },
        asked_for: read.api_token,
        issued: timestamp(read.nbf.map_or(read.iat, |nbf| nbf.max(read.iat)))?,
        // Whoever remembers this remembers no more than its key vouches for.
        expires: until.map_or(expires, |until| expires.min(until)),
    })
}

/// The library checks `iss`, `aud` and the rest only where they are present, unless they are
/// required; and it reads the clock itself, so times are checked by us.
fn validation(server: Uuid) -> Validation {
    let server = server.to_string();
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_required_spec_claims(&["sub", "iss", "aud", "exp"]);
    validation.set_issuer(&[&server]);
    validation.set_audience(&[&server]);
    validation.validate_exp = false;
    validation
}

#[expect(
    clippy::cast_precision_loss,
    reason = "microseconds since 1970 fit a float until 2255"
)]
fn seconds(at: Timestamp) -> f64 {
    at.as_microsecond() as f64 / 1e6
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a float too large saturates, and is refused"
)]
fn timestamp(seconds: f64) -> Option<Timestamp> {
    Timestamp::from_microsecond((seconds * 1e6) as i64).ok()
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as B64};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{
        super::keyring::{
            Role,
            tests::{keyring, known, material},
        },
        *,
    };

    const SERVER: Uuid = Uuid::from_u128(9);

    fn now() -> Timestamp {
        Timestamp::from_second(1_795_369_358).unwrap()
    }

    fn print() -> Print {
        serde_json::from_str("9007199254740991").unwrap()
    }

    fn claims() -> Claims {
        Claims {
            principal: Principal {
                account: Uuid::from_u128(1),
                by: By::Key {
                    key: Uuid::from_u128(2),
                    generation: 3,
                    print: print(),
                },
            },
            workload: Workload::default(),
            asked_for: false,
            issued: now(),
            expires: now() + jiff::SignedDuration::from_hours(1),
        }
    }

    fn token() -> String {
        issue(&keyring(1), SERVER, &claims()).unwrap()
    }

    /// A token signed with the right key over any header and payload.
    fn signed(header: &Value, payload: &str) -> String {
        let ring = keyring(1);
        let message = format!("{}.{}", B64.encode(header.to_string()), B64.encode(payload));
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), ring.signing().1, Algorithm::EdDSA);
        format!("{message}.{}", signature.unwrap())
    }

    fn header() -> Value {
        json!({"alg": "EdDSA", "typ": "at+jwt", "kid": keyring(1).signing().0})
    }

    fn payload() -> Value {
        let server = SERVER.to_string();
        json!({"sub": Uuid::from_u128(1), "iss": server, "aud": server, "iat": 1795369358.5,
               "exp": 1795372958, "api_key_id": Uuid::from_u128(2), "key_gen": 3,
               "key_print": print()})
    }

    fn refused(token: &str) -> bool {
        verify(&keyring(1), SERVER, token, now()) == Err(Refused::BadToken)
    }

    #[test]
    fn reads_what_it_issues() {
        assert_eq!(verify(&keyring(1), SERVER, &token(), now()), Ok(claims()));
        assert!(!refused(&signed(&header(), &payload().to_string())));
    }

    fn session(session: Option<u128>) -> Claims {
        let by = By::Session {
            stamp: Stamp {
                epoch: 4,
                password: print(),
            },
            session: session.map(Uuid::from_u128),
        };
        let principal = Principal {
            by,
            ..claims().principal
        };
        Claims {
            principal,
            ..claims()
        }
    }

    #[test]
    fn reads_the_sessions_that_it_issues() {
        for claims in [session(None), session(Some(5))] {
            let token = issue(&keyring(1), SERVER, &claims).unwrap();
            assert_eq!(verify(&keyring(1), SERVER, &token, now()), Ok(claims));
        }
    }

    #[test]
    fn reads_what_it_is_for() {
        let some = Some(Uuid::from_u128(8));
        let workload = Workload {
            schedule: some,
            pipeline_run: None,
            deployment: some,
        };
        let claims = Claims {
            workload,
            asked_for: true,
            ..claims()
        };
        let token = issue(&keyring(1), SERVER, &claims).unwrap();
        assert_eq!(verify(&keyring(1), SERVER, &token, now()), Ok(claims));
    }

    #[test]
    fn reads_the_device_tokens_that_it_issues() {
        let stamp = Stamp {
            epoch: 4,
            password: print(),
        };
        for stamp in [None, Some(stamp)] {
            let device = Uuid::from_u128(7);
            let by = By::Device { device, stamp };
            let principal = Principal {
                by,
                ..claims().principal
            };
            let claims = Claims {
                principal,
                ..claims()
            };
            let token = issue(&keyring(1), SERVER, &claims).unwrap();
            assert_eq!(verify(&keyring(1), SERVER, &token, now()), Ok(claims));
        }
    }

    #[test]
    fn refuses_who_comes_in_two_ways_or_in_none() {
        let others = [
            ("user_epoch", json!(4)),
            ("user_print", json!(4)),
            ("session_id", json!(SERVER)),
            ("device_id", json!(SERVER)),
        ];
        for (member, value) in others {
            let mut mixed = payload();
            mixed[member] = value;
            assert!(refused(&signed(&header(), &mixed.to_string())), "{mixed}");
        }
        let mut none = payload();
        for member in ["api_key_id", "key_gen", "key_print"] {
            none.as_object_mut().unwrap().remove(member);
        }
        assert!(refused(&signed(&header(), &none.to_string())));
        none["user_epoch"] = json!(4);
        assert!(refused(&signed(&header(), &none.to_string())));
        none["user_print"] = json!(4);
        assert!(!refused(&signed(&header(), &none.to_string())));
        none["session_id"] = json!(SERVER);
        none["device_id"] = json!(SERVER);
        assert!(refused(&signed(&header(), &none.to_string())));
    }

    #[test]
    fn is_over_at_its_end_and_not_before_its_beginning() {
        let at = |seconds| {
            let then = now() + jiff::SignedDuration::from_secs(seconds);
            verify(&keyring(1), SERVER, &token(), then).is_ok()
        };
        assert_eq!(
            [-11, -10, 0, 3599, 3600].map(at),
            [false, true, true, true, false]
        );
    }

    /// Whoever remembers what was verified forgets it with the key.
    #[test]
    fn j19_ends_with_its_key() {
        let until = now() + jiff::SignedDuration::from_mins(5);
        let roles = [known(1, Role::Previous(until)), known(2, Role::Current)];
        let rotated = material(1, &[1, 2]).keyring(&roles).unwrap();
        let read = verify(&rotated, SERVER, &token(), now()).unwrap();
        assert_eq!(read.expires, until);
        assert_eq!(read.check_time(until), Err(Refused::BadToken));
        assert!(verify(&rotated, SERVER, &token(), until).is_err());
    }

    #[test]
    fn refuses_tokens_of_other_servers_and_keys() {
        assert_eq!(
            verify(&keyring(2), SERVER, &token(), now()),
            Err(Refused::BadToken)
        );
        assert_eq!(
            verify(&keyring(1), Uuid::nil(), &token(), now()),
            Err(Refused::BadToken)
        );
    }

    /// attacks.md J01, J03, J04, J10, J15.
    #[test]
    fn refuses_headers_that_are_not_ours() {
        let changes = [
            ("alg", json!("none")),
            ("alg", json!("nOnE")),
            ("alg", json!("HS256")),
            ("alg", json!("ES256")),
            ("typ", json!("JWT")),
            ("typ", Value::Null),
            ("kid", json!("../../x")),
            ("kid", Value::Null),
            ("crit", json!(["exp"])),
        ];
        for (member, value) in changes {
            let mut changed = header();
            changed[member] = value;
            assert!(
                refused(&signed(&changed, &payload().to_string())),
                "{changed}"
            );
        }
    }

    /// attacks.md J06 to J09, J14.
    #[test]
    fn refuses_payloads_that_lack_something() {
        for member in [
            "sub",
            "iss",
            "aud",
            "iat",
            "exp",
            "api_key_id",
            "key_gen",
            "key_print",
        ] {
            let mut changed = payload();
            changed.as_object_mut().unwrap().remove(member);
            assert!(
                refused(&signed(&header(), &changed.to_string())),
                "without {member}"
            );
            changed[member] = json!("x");
            assert!(
                refused(&signed(&header(), &changed.to_string())),
                "bad {member}"
            );
        }
        let twice = payload()
            .to_string()
            .replacen('{', &format!(r#"{{"sub":"{SERVER}","#), 1);
        assert!(refused(&signed(&header(), &twice)), "duplicate member");
    }

    /// attacks.md J11, J16 to J18.
    #[test]
    fn refuses_other_spellings() {
        let token = token();
        let (message, signature) = token.rsplit_once('.').unwrap();
        let spellings = [
            format!("{message}."),
            message.to_owned(),
            format!("{token}="),
            format!("{token}.x"),
            format!("{token}.x.y"),
            format!(" {token}"),
            format!("{message}.{}", "A".repeat(86)),
            format!("{message}.{}", &signature[1..]),
            "x".repeat(8 << 20),
            String::new(),
        ];
        assert!(spellings.iter().all(|s| refused(s)));
    }

    proptest! {
        #[test]
        fn refuses_any_flipped_bit(index: prop::sample::Index, bit in 0..7u8) {
            let mut bytes = token().into_bytes();
            let at = index.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(refused(std::str::from_utf8(&bytes).unwrap()));
        }
    }
}
