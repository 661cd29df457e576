//! Times and spans of time as people write and read them: `30d`, `12h`, `2027-03-31`, `3d ago`.

use std::{fmt, str::FromStr, time::Duration};

use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};

use crate::api::ApiDuration;

/// A span of time as people write it: numbers with `w`, `d`, `h`, `m`, `s`, such as `30d` or
/// `1h30m`. A day is 24 hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Span {
    /// As the API has it, in hours, minutes or seconds.
    pub const fn to_api(self) -> ApiDuration {
        ApiDuration(self.0)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_api().fmt(f)
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a span of time such as 30d, 12h, 90m or 1h30m");
        let mut seconds: u64 = 0;
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, tail) = rest.split_at(digits);
            let number: u64 = number.parse().map_err(|_| wrong())?;
            let mut tail = tail.chars();
            let unit = match tail.next() {
                Some('w') => 7 * 24 * 3600,
                Some('d') => 24 * 3600,
                Some('h') => 3600,
                Some('m') => 60,
                Some('s') => 1,
                _ => return Err(wrong()),
            };
            let part = number.checked_mul(unit).ok_or_else(wrong)?;
            seconds = seconds.checked_add(part).ok_or_else(wrong)?;
            rest = tail.as_str();
        }
        match text {
            "" => Err(wrong()),
            _ => Ok(Self(Duration::from_secs(seconds))),
        }
    }
}

/// Reads `2027-03-31T12:00:00Z`, or `2027-03-31` for midnight in UTC with which that day begins.
///
/// # Errors
/// If it is neither.
pub fn moment(text: &str) -> Result<Timestamp, String> {
    let day = |date: Date| date.to_zoned(TimeZone::UTC).ok().map(|z| z.timestamp());
    let read = text
        .parse::<Timestamp>()
        .ok()
        .or_else(|| text.parse::<Date>().ok().and_then(day));
    read.ok_or_else(|| format!("{text:?} is not a time such as 2027-03-31T12:00:00Z or 2027-03-31"))
}

/// How far a time is from now: `3d ago`, `in 29d`.
pub fn relative(at: Timestamp, now: Timestamp) -> String {
    let since = now.duration_since(at);
    match since.as_secs() {
        0.. => format!("{} ago", rough(since)),
        _ => format!("in {}", rough(-since)),
    }
}

/// One number: `45s`, `12m`, `26h`, `29d`. Rounded down.
fn rough(span: SignedDuration) -> String {
    let seconds = span.as_secs();
    match (seconds, seconds / 60, seconds / 3600, seconds / 86_400) {
        (s @ 0..120, ..) => format!("{s}s"),
        (_, m @ 0..120, ..) => format!("{m}m"),
        (_, _, h @ 0..48, _) => format!("{h}h"),
        (_, _, _, d) => format!("{d}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_people_write_and_says_what_the_api_reads() {
        let cases = [
            ("30d", "720h"),
            ("12h", "12h"),
            ("90m", "90m"),
            ("1d12h", "36h"),
            ("1h30m", "90m"),
            ("2w", "336h"),
            ("45s", "45s"),
            ("0s", "0h"),
        ];
        for (text, api) in cases {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.to_string(), api, "{text}");
        }
        for text in [
            "",
            "30",
            "d",
            "-1d",
            "1.5h",
            "30 d",
            "1M",
            "99999999999999999999d",
            "1dd",
        ] {
            let said = text.parse::<Span>().unwrap_err();
            assert!(said.contains("such as 30d"), "{said}");
        }
    }

    #[test]
    fn a_date_is_the_midnight_with_which_it_begins() {
        for text in [
            "2027-03-31",
            "2027-03-31T00:00:00Z",
            "2027-03-31T02:00:00+02:00",
        ] {
            assert_eq!(moment(text).unwrap().to_string(), "2027-03-31T00:00:00Z");
        }
        for text in ["", "tomorrow", "2027-02-30", "31.3.2027"] {
            assert!(moment(text).is_err(), "{text}");
        }
    }

    #[test]
    fn tells_past_from_future() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let cases = [
            ("2026-11-22T11:59:30Z", "30s ago"),
            ("2026-11-22T12:00:00Z", "0s ago"),
            ("2026-11-22T10:30:00Z", "90m ago"),
            ("2026-11-20T12:00:00Z", "2d ago"),
            ("2026-11-22T12:05:00Z", "in 5m"),
            ("2027-11-22T12:00:00Z", "in 365d"),
        ];
        for (at, text) in cases {
            assert_eq!(relative(at.parse().unwrap(), now), text, "{at}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[0-9wdhms .-]{0,40}") {
            if let Ok(span) = text.parse::<Span>() {
                prop_assert_eq!(span.to_string().parse(), Ok(span.to_api()));
            }
        }
    }
}
