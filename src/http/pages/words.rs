//! Times in words, for people.

use jiff::{SignedDuration, Timestamp};

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// `30 days`, `5 minutes`: the largest unit of which there are two, or one that fits; to the
/// nearest.
pub(super) fn span(of: SignedDuration) -> String {
    let seconds = of.as_secs().max(0);
    let (unit, word) = [(DAY, "day"), (HOUR, "hour"), (MINUTE, "minute")]
        .into_iter()
        .find(|(unit, _)| seconds + unit / 2 >= 2 * unit || seconds == *unit)
        .unwrap_or((1, "second"));
    let count = (seconds + unit / 2) / unit;
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {word}{plural}")
}

/// `3 minutes ago`.
pub(super) fn ago(at: Timestamp, now: Timestamp) -> String {
    let passed = now.duration_since(at);
    match passed < SignedDuration::from_secs(2) {
        true => "just now".to_owned(),
        false => format!("{} ago", span(passed)),
    }
}

/// `in 3 minutes`.
pub(super) fn ahead(at: Timestamp, now: Timestamp) -> String {
    let rest = at.duration_since(now);
    match rest <= SignedDuration::ZERO {
        true => ago(at, now),
        false => format!("in {}", span(rest)),
    }
}

/// A thing, if it is known.
pub(super) fn or_unknown(of: Option<impl std::fmt::Display>) -> String {
    of.map_or_else(|| "unknown".to_owned(), |of| of.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_what_a_person_would_say() {
        let said = [
            (0, "0 seconds"),
            (1, "1 second"),
            (60, "1 minute"),
            (89, "89 seconds"),
            (119, "2 minutes"),
            (293, "5 minutes"),
            (300, "5 minutes"),
            (3600, "1 hour"),
            (86_390, "24 hours"),
            (86_400, "1 day"),
            (720 * 3600, "30 days"),
            (35 * 3600, "35 hours"),
        ];
        for (seconds, text) in said {
            assert_eq!(span(SignedDuration::from_secs(seconds)), text);
        }
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let at = |seconds| now + SignedDuration::from_secs(seconds);
        assert_eq!(ago(at(-60), now), "1 minute ago");
        assert_eq!(ago(at(1), now), "just now");
        assert_eq!(ahead(at(7200), now), "in 2 hours");
        assert_eq!(ahead(at(-7200), now), "2 hours ago");
    }
}
