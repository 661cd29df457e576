//! The security headers of every answer (zenml-wire 13.1): ZenML's set, each on, off or custom.

use std::{mem, sync::Arc};

use axum::http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, SERVER, STRICT_TRANSPORT_SECURITY,
        VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};
use axum::response::Response;
use parking_lot::RwLock;

use crate::store::Settings;

const HSTS: &str = "max-age=63072000; includeSubdomains";
const XFO: &str = "SAMEORIGIN";
const CONTENT: &str = "nosniff";
/// Nothing that we answer is a page that loads anything.
const CSP: &str = "default-src 'none'; frame-ancestors 'none'";
const REFERRER: &str = "no-referrer-when-downgrade";
const CACHE: &str = "no-store, no-cache, must-revalidate";
const PERMISSIONS: &str = "accelerometer=(), autoplay=(), camera=(), encrypted-media=(), \
     geolocation=(), gyroscope=(), magnetometer=(), microphone=(), midi=(), payment=(), \
     sync-xhr=(), usb=()";
const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");

/// The headers, made once for each change of the settings.
#[derive(Debug, Default)]
pub(in crate::http) struct SecureHeaders {
    made: RwLock<Option<Made>>,
}

#[derive(Debug)]
struct Made {
    /// Of which settings. Held, so that no others get the same address.
    of: Option<Arc<Settings>>,
    headers: Arc<HeaderMap>,
}

impl Made {
    fn is_of(&self, settings: Option<&Arc<Settings>>) -> bool {
        match (&self.of, settings) {
            (Some(of), Some(settings)) => Arc::ptr_eq(of, settings),
            (None, None) => true,
            _ => false,
        }
    }
}

impl SecureHeaders {
    /// Puts the headers of these settings on an answer; the defaults while there are none.
    /// What the answer set itself stays.
    pub(in crate::http) fn put(&self, settings: Option<Arc<Settings>>, response: &mut Response) {
        let headers = self.of(settings);
        // The fewer headers go into the map of the more.
        let own = mem::replace(response.headers_mut(), (*headers).clone());
        response.headers_mut().extend(own);
    }

    /// Takes out of an answer that is passed on what is said here in its place. What a page loads and
    /// how long it may be kept only who made it knows, unless the settings say it.
    pub(in crate::http) fn take_over(
        &self,
        settings: Option<Arc<Settings>>,
        answer: &mut HeaderMap,
    ) {
        for (name, chosen, _) in rows(settings.as_deref()) {
            let is_theirs = matches!(name, CONTENT_SECURITY_POLICY | CACHE_CONTROL);
            if chosen.is_some() || !is_theirs {
                answer.remove(name);
            }
        }
    }

    fn of(&self, settings: Option<Arc<Settings>>) -> Arc<HeaderMap> {
        if let Some(made) = &*self.made.read()
            && made.is_of(settings.as_ref())
        {
            return Arc::clone(&made.headers);
        }
        let headers = Arc::new(headers(settings.as_deref()));
        *self.made.write() = Some(Made {
            of: settings,
            headers: Arc::clone(&headers),
        });
        headers
    }
}

fn headers(settings: Option<&Settings>) -> HeaderMap {
    let said = rows(settings)
        .into_iter()
        .filter_map(|(name, chosen, default)| Some((name, value(chosen, default)?)));
    said.chain([(VARY, HeaderValue::from_static("Origin"))])
        .collect()
}

/// A header that is decided upon here: its name, what the settings say, and what it is by default.
type Row<'a> = (HeaderName, Option<&'a str>, Option<HeaderValue>);

fn rows(settings: Option<&Settings>) -> [Row<'_>; 8] {
    let chosen = settings.map(|settings| &settings.headers);
    let id = settings.and_then(|settings| HeaderValue::try_from(settings.id.to_string()).ok());
    let fixed = |text| Some(HeaderValue::from_static(text));
    [
        (SERVER, chosen.and_then(|c| c.server.as_deref()), id),
        (
            STRICT_TRANSPORT_SECURITY,
            chosen.and_then(|c| c.hsts.as_deref()),
            fixed(HSTS),
        ),
        (
            X_FRAME_OPTIONS,
            chosen.and_then(|c| c.xfo.as_deref()),
            fixed(XFO),
        ),
        (
            X_CONTENT_TYPE_OPTIONS,
            chosen.and_then(|c| c.content.as_deref()),
            fixed(CONTENT),
        ),
        (
            CONTENT_SECURITY_POLICY,
            chosen.and_then(|c| c.csp.as_deref()),
            fixed(CSP),
        ),
        (
            REFERRER_POLICY,
            chosen.and_then(|c| c.referrer.as_deref()),
            fixed(REFERRER),
        ),
        (
            CACHE_CONTROL,
            chosen.and_then(|c| c.cache.as_deref()),
            fixed(CACHE),
        ),
        (
            PERMISSIONS_POLICY,
            chosen.and_then(|c| c.permissions.as_deref()),
            fixed(PERMISSIONS),
        ),
    ]
}

/// What a setting makes of a header. A text that cannot be one counts as none.
fn value(chosen: Option<&str>, default: Option<HeaderValue>) -> Option<HeaderValue> {
    match chosen.map(str::to_ascii_lowercase).as_deref() {
        Some("off" | "no" | "none" | "false" | "disabled") => None,
        None | Some("on" | "yes" | "true" | "enabled") => default,
        Some(_) => chosen
            .and_then(|text| HeaderValue::from_str(text).ok())
            .or(default),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(chosen: Option<&str>) -> Option<String> {
        let default = HeaderValue::from_static("default");
        value(chosen, Some(default)).map(|v| v.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_setting_is_on_off_or_a_text() {
        for off in ["off", "no", "none", "false", "disabled", "OFF"] {
            assert_eq!(shown(Some(off)), None, "{off}");
        }
        for on in ["on", "yes", "true", "enabled", "True"] {
            assert_eq!(shown(Some(on)).unwrap(), "default", "{on}");
        }
        assert_eq!(shown(None).unwrap(), "default");
        assert_eq!(shown(Some("DENY")).unwrap(), "DENY");
        assert_eq!(shown(Some("a\r\nb: c")).unwrap(), "default");
    }

    #[test]
    fn are_made_once_for_the_same_settings() {
        let headers = SecureHeaders::default();
        let none = headers.of(None);
        assert!(Arc::ptr_eq(&none, &headers.of(None)));
        assert!(!none.contains_key(SERVER));
        assert_eq!(none.len(), 8);
    }
}
