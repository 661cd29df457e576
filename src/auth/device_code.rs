//! The two codes of a device authorization (RFC 8628), which carry all that is known of it.
//!
//! 1. A device asks to be authorized (3.1). It gets a *user code*, which is in the link that it
//!    shows, and a *device code*, which it keeps (3.2). Both are sealed statements, see
//!    [`seal`](super::seal): nothing is written down, so asking costs nobody anything.
//! 2. A person opens the link. The user code says what is asked, by whom and since when; whoever
//!    is logged in decides on it (3.3). Only an approval is written down.
//! 3. The device polls with its device code (3.4), which says which approval it waits for.
//!
//! Neither code opens as the other. Both end at the same moment.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::{Builder, Uuid};

use super::{keyring::Keyring, seal::Purpose};

/// How many random bytes an authorization takes.
pub const RANDOM: usize = 10 + 12 + 12;
/// No text that a client says of itself is longer, in characters.
const MAX_TEXT: usize = 64;
/// How far the clocks of two replicas may be apart.
const SKEW: SignedDuration = SignedDuration::from_secs(10);

/// What a client says of itself, and where it was seen. Shown to the person who decides; believed
/// by nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The name of its machine.
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Its operating system.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub os: Option<String>,
    /// Its release of ZenML.
    #[serde(rename = "z", default, skip_serializing_if = "Option::is_none")]
    pub zenml_version: Option<String>,
    /// Its release of Python.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub python_version: Option<String>,
    /// The address that its request came from.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
}

impl Origin {
    /// What a `User-Agent` of ZenML says: `Host/vm ZenML/0.98.0 Python/3.11.7 OS/Linux`.
    pub fn new(user_agent: &str, address: Option<IpAddr>) -> Self {
        let piece = |name: &str| {
            let mut pieces = user_agent.split_ascii_whitespace();
            pieces.find_map(|piece| plain(piece.strip_prefix(name)?.strip_prefix('/')?))
        };
        Self {
            hostname: piece("Host"),
            os: piece("OS"),
            zenml_version: piece("ZenML"),
            python_version: piece("Python"),
            address,
        }
    }
}

/// A text that can be shown and logged: visible ASCII, and not too long.
fn plain(text: &str) -> Option<String> {
    let shown = text.chars().filter(char::is_ascii_graphic).take(MAX_TEXT);
    Some(shown.collect::<String>()).filter(|text| !text.is_empty())
}

/// What a user code states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The device's id on the wire, ordered by time (UUID version 7).
    pub device: Uuid,
    /// The id that the client gave itself.
    pub client: Uuid,
    /// When it asked.
    pub started: Timestamp,
    /// From when on it is too late to decide.
    pub expires: Timestamp,
    /// What it says of itself.
    pub origin: Origin,
}

/// What a device code states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The device's id on the wire.
    pub device: Uuid,
    /// The client that it was given to.
    pub client: Uuid,
    /// From when on it is of no use.
    pub expires: Timestamp,
}

/// A device authorization that was begun. Not `Debug`: the codes are secrets.
#[derive(Clone)]
pub struct Codes {
    /// The device's id on the wire.
    pub device: Uuid,
    /// For the person.
    pub user_code: String,
    /// For the device.
    pub device_code: String,
}

/// Where a moment is in the time of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// It may be used.
    Open,
    /// Its time is over.
    Over,
    /// It would live longer than any code does: the clock went back, or codes are shorter now.
    TooLong,
}

/// As it is sealed in a user code; the device code's is of fixed length.
#[derive(Serialize, Deserialize)]
struct Wire {
    d: Uuid,
    c: Uuid,
    s: i64,
    e: i64,
    #[serde(flatten)]
    origin: Origin,
}

/// Begins the authorization of a client's device. `None` if it cannot be sealed, which it can.
pub fn start(
    keyring: &Keyring,
    server: Uuid,
    (client, origin): (Uuid, Origin),
    (now, lifetime): (Timestamp, SignedDuration),
    random: &[u8; RANDOM],
) -> Option<Codes> {
    let (id, nonces) = random.split_first_chunk::<10>()?;
    let (user_nonce, rest) = nonces.split_first_chunk::<12>()?;
    let (device_nonce, _) = rest.split_first_chunk::<12>()?;
    let millis = u64::try_from(now.as_millisecond()).ok()?;
    let device = Builder::from_unix_timestamp_millis(millis, id).into_uuid();
    let expires = now.checked_add(lifetime).ok()?.as_millisecond();
    let stated = Wire {
        d: device,
        c: client,
        s: now.as_millisecond(),
        e: expires,
        origin,
    };
    let request = serde_json::to_vec(&stated).ok()?;
    let claim = [
        &device.as_bytes()[..],
        client.as_bytes(),
        &expires.to_be_bytes(),
    ]
    .concat();
    Some(Codes {
        device,
        user_code: keyring.seal(Purpose::UserCode, server, &request, *user_nonce)?,
        device_code: keyring.seal(Purpose::DeviceCode, server, &claim, *device_nonce)?,
    })
}

/// What a user code of this server states, whether or not its time is over.
pub fn open_user_code(keyring: &Keyring, server: Uuid, code: &str) -> Option<Request> {
    let bytes = keyring.open(Purpose::UserCode, server, code)?;
    let wire: Wire = serde_json::from_slice(&bytes).ok()?;
    Some(Request {
        device: wire.d,
        client: wire.c,
        started: Timestamp::from_millisecond(wire.s).ok()?,
        expires: Timestamp::from_millisecond(wire.e).ok()?,
        origin: wire.origin,
    })
}

/// What a device code of this server states, whether or not its time is over.
pub fn open_device_code(keyring: &Keyring, server: Uuid, code: &str) -> Option<Claim> {
    let bytes = keyring.open(Purpose::DeviceCode, server, code)?;
    let (device, rest) = bytes.split_first_chunk::<16>()?;
    let (client, rest) = rest.split_first_chunk::<16>()?;
    let expires = i64::from_be_bytes(rest.try_into().ok()?);
    Some(Claim {
        device: Uuid::from_bytes(*device),
        client: Uuid::from_bytes(*client),
        expires: Timestamp::from_millisecond(expires).ok()?,
    })
}

/// Whether a code that ends then may be used now, where codes live for `lifetime`.
pub fn span(expires: Timestamp, now: Timestamp, lifetime: SignedDuration) -> Span {
    let rest = expires.duration_since(now);
    if rest <= SignedDuration::ZERO {
        Span::Over
    } else if rest > lifetime.saturating_add(SKEW) {
        Span::TooLong
    } else {
        Span::Open
    }
}

#[cfg(test)]
mod tests {
    use super::{super::keyring::tests::keyring, *};

    const SERVER: Uuid = Uuid::from_u128(9);
    const CLIENT: Uuid = Uuid::from_u128(5);

    fn now() -> Timestamp {
        Timestamp::from_second(1_795_369_358).unwrap()
    }

    fn lifetime() -> SignedDuration {
        SignedDuration::from_mins(5)
    }

    fn origin() -> Origin {
        let address = "2001:db8::1".parse().unwrap();
        Origin::new("Host/vm ZenML/0.98.0 Python/3.11.7 OS/Linux", Some(address))
    }

    fn codes(random: u8) -> Codes {
        let who = (CLIENT, origin());
        let times = (now(), lifetime());
        start(&keyring(1), SERVER, who, times, &[random; RANDOM]).unwrap()
    }

    #[test]
    fn carry_all_that_is_known() {
        let codes = codes(3);
        assert_eq!(codes.device.get_version_num(), 7);
        let request = open_user_code(&keyring(1), SERVER, &codes.user_code).unwrap();
        let wanted = Request {
            device: codes.device,
            client: CLIENT,
            started: now(),
            expires: now() + lifetime(),
            origin: origin(),
        };
        assert_eq!(request, wanted);
        let claim = open_device_code(&keyring(1), SERVER, &codes.device_code).unwrap();
        let wanted = Claim {
            device: codes.device,
            client: CLIENT,
            expires: now() + lifetime(),
        };
        assert_eq!(claim, wanted);
        assert!(codes.user_code.len() < 400, "{}", codes.user_code.len());
    }

    /// attacks.md D26.
    #[test]
    fn d26_are_not_each_other() {
        let Codes {
            user_code,
            device_code,
            ..
        } = codes(3);
        assert_eq!(open_user_code(&keyring(1), SERVER, &device_code), None);
        assert_eq!(open_device_code(&keyring(1), SERVER, &user_code), None);
    }

    #[test]
    fn d13_no_two_are_alike() {
        let (one, other) = (codes(1), codes(2));
        assert_ne!(one.device, other.device);
        assert_ne!(one.user_code, other.user_code);
        assert_ne!(one.device_code, other.device_code);
    }

    /// attacks.md D31: whatever the clock does, a code lives no longer than codes do.
    #[test]
    fn d31_a_clock_that_goes_back_gives_no_time() {
        let expires = now() + lifetime();
        let at = |seconds| {
            let then = now() + SignedDuration::from_secs(seconds);
            span(expires, then, lifetime())
        };
        let seen = [-600, -11, -10, 0, 299, 300, 600].map(at);
        use Span::{Open, Over, TooLong};
        assert_eq!(seen, [TooLong, TooLong, Open, Open, Open, Over, Over]);
    }

    /// attacks.md V04. There is no setting that makes codes short, so none needs to be refused: this
    /// is the chance of who guesses as often as the schema allows, at every replica, for as long as
    /// a code can live, and for a million codes at once.
    #[test]
    fn v04_no_setting_makes_a_guess_likely() {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        let code = URL_SAFE_NO_PAD.decode(codes(3).user_code).unwrap();
        let stated = format!("{CLIENT}").len() + 20;
        assert!(
            code.len() >= 8 + 12 + stated + 16,
            "key id, nonce, statement, tag"
        );
        let a_minute = 9999.0 * 2.0;
        let guesses = a_minute * 30.0 * 1000.0;
        let live = 1e6;
        let chance = guesses * live / 2_f64.powi(128);
        assert!(chance < 1e-6 * 1e-12, "{chance}");
    }

    #[test]
    fn a_user_agent_is_read_as_far_as_it_is_zenmls() {
        let pieces = |text: &str| {
            let origin = Origin::new(text, None);
            [
                origin.hostname,
                origin.zenml_version,
                origin.python_version,
                origin.os,
            ]
            .map(Option::unwrap_or_default)
        };
        assert_eq!(pieces(""), ["", "", "", ""]);
        assert_eq!(pieces("curl/8 Hosts/x Host/ OS/a OS/b"), ["", "", "", "a"]);
        assert_eq!(pieces("Host/a\u{7}\u{202e}b"), ["ab", "", "", ""]);
        let long = format!("Host/{}", "h".repeat(1000));
        assert_eq!(pieces(&long)[0].len(), 64);
    }
}
