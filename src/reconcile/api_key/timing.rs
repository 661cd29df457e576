//! When a key is to be rotated. Times are the same whoever computes them: what is spread over
//! many keys depends on their UIDs alone.

use cronexpr::{Crontab, MakeTimestamp, parse_crontab};
use jiff::{SignedDuration, Timestamp, ToSpan, civil::Time, tz::TimeZone};

use crate::api::{ApiDuration, Rotation, RotationWindow, Weekday};

/// A rotation by schedule happens at most this much later.
const SCHEDULE_SPREAD: SignedDuration = SignedDuration::from_hours(1);

/// No schedule is followed beyond the year 8000.
const END_OF_SCHEDULES: i64 = 190_000_000_000;

/// So many minutes no clock was ever set back by.
const MOST_REPEATED: u32 = 25 * 60;

/// What a `Rotation` says about time, readable.
#[derive(Debug)]
pub(super) struct Calendar {
    interval: Option<SignedDuration>,
    schedule: Option<Schedule>,
    windows: Vec<Window>,
}

/// What else decides when a key is rotated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// When the current key was made.
    pub made: Timestamp,
    /// When it dies.
    pub ends: Option<Timestamp>,
    /// How old the server lets a key become.
    pub within: Option<ApiDuration>,
    /// From 0 to 1; stays with the object.
    pub spread: f64,
}

impl Calendar {
    /// # Errors
    /// What cannot be read, and what would be right.
    pub(super) fn parse(rotation: &Rotation) -> Result<Self, String> {
        let schedule = match &rotation.schedule {
            Some(line) => Some(Schedule::parse(line, rotation.time_zone.as_deref())?),
            None => None,
        };
        let windows: Result<_, _> = rotation.windows.iter().map(Window::parse).collect();
        Ok(Self {
            interval: rotation.interval.map(signed),
            schedule,
            windows: windows?,
        })
    }

    /// When the key is due, whatever windows there are. `None`: never.
    pub(super) fn due(&self, moment: Moment) -> Option<Timestamp> {
        let Moment {
            made,
            ends,
            within,
            spread,
        } = moment;
        let interval = self
            .interval
            .map(|every| plus(made, scaled(every, 0.9 + 0.2 * spread)));
        let schedule = self.fire(made, spread);
        // Never after its end, if it is one that is rotated at all.
        let rotated = interval.or(schedule);
        let in_time = ends
            .filter(|_| rotated.is_some())
            .map(|end| plus(made, scaled(end.duration_since(made), 0.9)));
        let required = within.map(|within| plus(made, scaled(signed(within), 0.8 + 0.2 * spread)));
        let due = [interval, schedule, in_time, required]
            .into_iter()
            .flatten()
            .min()?;
        // Status says it in whole seconds, and must not say it before it is so.
        Timestamp::from_second(due.as_second()).ok()
    }

    /// The first time of the schedule after `made`, up to a tenth of the way to the next later.
    fn fire(&self, made: Timestamp, spread: f64) -> Option<Timestamp> {
        let schedule = self.schedule.as_ref()?;
        let first = schedule.next(made)?;
        let gap = schedule.next(first)?.duration_since(first);
        let late = scaled(gap, 0.1).min(SCHEDULE_SPREAD);
        Some(plus(first, scaled(late, spread)))
    }

    /// The first moment from `at` on that is in a window; `at` itself where there are none.
    pub(super) fn in_window(&self, at: Timestamp) -> Timestamp {
        let opens = self.windows.iter().filter_map(|window| window.opens(at));
        opens.min().unwrap_or(at)
    }
}

/// A crontab line, and the clock on whose wall it is read.
///
/// The library is asked as if that clock were UTC, and what it finds is put into the time zone
/// here: where clocks are set back by half an hour, as on Lord Howe Island, it would search for
/// ever.
#[derive(Debug)]
struct Schedule {
    line: Crontab,
    zone: TimeZone,
}

impl Schedule {
    fn parse(line: &str, zone: Option<&str>) -> Result<Self, String> {
        let zone = time_zone(zone.unwrap_or("UTC"))?;
        if line.split_whitespace().count() != 5 {
            return Err(format!(
                "rotation.schedule {line:?} must have five fields: minute, hour, day of month, \
                 month, day of week; such as \"0 3 1 * *\""
            ));
        }
        let line = parse_crontab(&format!("{line} UTC")).map_err(|_| {
            format!(
                "rotation.schedule {line:?} is no crontab line; write one such as \"0 3 1 * *\""
            )
        })?;
        Ok(Self { line, zone })
    }

    /// The first time of it after `after`. What is skipped as clocks are set forward comes as much
    /// later; what comes twice as they are set back comes once.
    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        // Beyond, the library's search would run over the end of time.
        let after = Some(after).filter(|after| after.as_second() < END_OF_SCHEDULES)?;
        let mut wall = after.to_zoned(self.zone.clone()).datetime();
        // Whatever clocks do, a time of the wall that is later comes later, or had come before.
        for _ in 0..MOST_REPEATED {
            let from = wall.to_zoned(TimeZone::UTC).ok()?.timestamp();
            let from = MakeTimestamp::from_second(from.as_second()).ok()?;
            wall = self.line.find_next(from).ok()?.datetime();
            let at = self.zone.to_ambiguous_timestamp(wall);
            let found = [at.compatible(), at.later()];
            let found = found.into_iter().flatten().find(|at| *at > after);
            if found.is_some() {
                return found;
            }
        }
        None
    }
}

fn time_zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name)
        .map_err(|_| format!("{name:?} is no IANA time zone; write one such as Europe/Berlin"))
}

/// One of a `Rotation`'s windows, readable.
#[derive(Debug)]
struct Window {
    days: Vec<jiff::civil::Weekday>,
    start: Time,
    end: Time,
    zone: TimeZone,
}

impl Window {
    fn parse(window: &RotationWindow) -> Result<Self, String> {
        let time = |text: &str| {
            Time::strptime("%H:%M", text)
                .map_err(|_| format!("{text:?} in rotation.windows is no time such as 09:00"))
        };
        Ok(Self {
            days: window.days.iter().map(|day| weekday(*day)).collect(),
            start: time(&window.start)?,
            end: time(&window.end)?,
            zone: time_zone(window.time_zone.as_deref().unwrap_or("UTC"))?,
        })
    }

    /// The first moment from `at` on that is in it: a week ahead there is one.
    fn opens(&self, at: Timestamp) -> Option<Timestamp> {
        let today = at.to_zoned(self.zone.clone()).date();
        let overnight = i64::from(self.end < self.start);
        let span = |offset: i64| {
            let day = today.checked_add(offset.days()).ok()?;
            if !self.days.is_empty() && !self.days.contains(&day.weekday()) {
                return None;
            }
            let moment = |day: jiff::civil::Date, time: Time| {
                let zoned = day.to_datetime(time).to_zoned(self.zone.clone()).ok()?;
                Some(zoned.timestamp())
            };
            let start = moment(day, self.start)?;
            let end = moment(day.checked_add(overnight.days()).ok()?, self.end)?;
            Some((start, end))
        };
        (-1..=8)
            .filter_map(span)
            .filter(|(_, end)| at < *end)
            .map(|(start, _)| start.max(at))
            .min()
    }
}

fn weekday(day: Weekday) -> jiff::civil::Weekday {
    match day {
        Weekday::Mon => jiff::civil::Weekday::Monday,
        Weekday::Tue => jiff::civil::Weekday::Tuesday,
        Weekday::Wed => jiff::civil::Weekday::Wednesday,
        Weekday::Thu => jiff::civil::Weekday::Thursday,
        Weekday::Fri => jiff::civil::Weekday::Friday,
        Weekday::Sat => jiff::civil::Weekday::Saturday,
        Weekday::Sun => jiff::civil::Weekday::Sunday,
    }
}

/// A duration of the API, as time is counted here.
pub(super) fn signed(duration: ApiDuration) -> SignedDuration {
    SignedDuration::try_from(duration.0).unwrap_or(SignedDuration::MAX)
}

/// A moment after another; the end of time if there is none.
pub(super) fn plus(at: Timestamp, after: SignedDuration) -> Timestamp {
    at.saturating_add(after).unwrap_or(Timestamp::MAX)
}

fn scaled(duration: SignedDuration, by: f64) -> SignedDuration {
    SignedDuration::try_from_secs_f64(duration.as_secs_f64() * by).unwrap_or(duration)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn calendar(rotation: Value) -> Result<Calendar, String> {
        Calendar::parse(&serde_json::from_value(rotation).unwrap())
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn moment(made: &str, spread: f64) -> Moment {
        Moment {
            made: at(made),
            ends: None,
            within: None,
            spread,
        }
    }

    #[test]
    fn an_interval_is_spread_by_a_tenth_either_way() {
        let calendar = calendar(json!({"interval": "100h"})).unwrap();
        for (spread, hours) in [(0.0, 90), (0.5, 100), (1.0, 110)] {
            let due = calendar.due(moment("2026-01-01T00:00:00Z", spread));
            let expected = at("2026-01-01T00:00:00Z") + SignedDuration::from_hours(hours);
            assert_eq!(due, Some(expected));
        }
    }

    #[test]
    fn ten_thousand_keys_of_one_moment_are_spread_out() {
        let calendar = calendar(json!({"schedule": "0 3 1 * *"})).unwrap();
        let mut minutes = std::collections::BTreeMap::<i64, u32>::new();
        for n in 0..10_000 {
            let moment = moment("2026-01-15T00:00:00Z", f64::from(n) / 10_000.0);
            let due = calendar.due(moment).unwrap();
            *minutes.entry(due.as_second() / 60).or_default() += 1;
        }
        let most = minutes.values().max().unwrap();
        assert!(minutes.len() >= 60 && *most <= 200, "{minutes:?}");
    }

    #[test]
    fn a_schedule_has_a_time_zone_and_knows_summer_time() {
        let schedule = json!({"schedule": "30 2 * * *", "timeZone": "Europe/Berlin"});
        let calendar = calendar(schedule).unwrap();
        for (made, due) in [
            ("2026-01-10T00:00:00Z", "2026-01-10T01:30:00Z"),
            ("2026-07-10T00:00:00Z", "2026-07-10T00:30:00Z"),
        ] {
            assert_eq!(calendar.due(moment(made, 0.0)), Some(at(due)), "{made}");
        }
    }

    /// Half an hour comes twice on Lord Howe Island, an hour in Berlin, and is left out.
    #[test]
    fn a_schedule_gets_over_the_days_on_which_clocks_are_set() {
        for (zone, line, after, fires) in [
            (
                "Australia/Lord_Howe",
                "0 3 * * *",
                "2026-04-04T00:00:00Z",
                ["2026-04-04T16:30:00Z", "2026-04-05T16:30:00Z"],
            ),
            (
                "Australia/Lord_Howe",
                "45 1 * * *",
                "2026-04-04T00:00:00Z",
                ["2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"],
            ),
            (
                "Australia/Lord_Howe",
                "45 1 * * *",
                "2026-04-04T15:00:00Z",
                ["2026-04-04T15:15:00Z", "2026-04-05T15:15:00Z"],
            ),
            (
                "Europe/Berlin",
                "30 2 * * *",
                "2026-10-24T12:00:00Z",
                ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
            ),
            (
                "Europe/Berlin",
                "30 2 * * *",
                "2026-03-28T12:00:00Z",
                ["2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"],
            ),
        ] {
            let schedule = Schedule::parse(line, Some(zone)).unwrap();
            let first = schedule.next(at(after)).unwrap();
            let found = [first, schedule.next(first).unwrap()];
            assert_eq!(found, fires.map(at), "{zone} {line} {after}");
        }
    }

    /// Crontab lines that may be read, or nearly.
    fn line() -> impl Strategy<Value = String> {
        let number = || prop_oneof![0..70_u32, Just(u32::MAX)];
        let field = prop_oneof![
            Just("*".to_owned()),
            number().prop_map(|n| n.to_string()),
            (number(), number()).prop_map(|(a, b)| format!("{a}-{b}")),
            (number(), number()).prop_map(|(a, b)| format!("{a},{b}")),
            number().prop_map(|n| format!("*/{n}")),
            (number(), number(), number()).prop_map(|(a, b, n)| format!("{a}-{b}/{n}")),
            "(JAN|feb|DEC|MON|sun|L|15W|FRIL|5#3|H|\\?)",
            "[0-9*/,#LWHa-zA-Z-]{1,6}",
        ];
        let fields = prop::collection::vec(field, 5).prop_map(|fields| fields.join(" "));
        let plain = (
            0..60_u32,
            0..24_u32,
            "(\\*|31|29|1)",
            "(\\*|2|4|10)",
            "(\\*|0|FRI)",
        );
        let plain = plain.prop_map(|(m, h, d, month, w)| format!("{m} {h} {d} {month} {w}"));
        prop_oneof![4 => fields, 4 => plain, 1 => any::<String>(), 1 => "[ -~]{0,128}"]
    }

    fn zone() -> impl Strategy<Value = Option<String>> {
        const NAMES: &[&str] = &[
            "UTC",
            "Europe/Berlin",
            "Australia/Lord_Howe",
            "Antarctica/Troll",
            "Asia/Kathmandu",
            "Pacific/Apia",
            "America/Sao_Paulo",
            "Africa/Casablanca",
            "America/Nuuk",
            "Asia/Gaza",
        ];
        prop_oneof![
            1 => Just(None),
            8 => prop::sample::select(NAMES).prop_map(|name| Some(name.to_owned())),
            1 => any::<String>().prop_map(Some),
            1 => "[A-Za-z/_+0-9.-]{0,64}".prop_map(Some),
        ]
    }

    fn moments() -> impl Strategy<Value = Timestamp> {
        let seconds = prop_oneof![
            8 => 1_767_225_600..4_000_000_000_i64,
            1 => Timestamp::MIN.as_second()..=Timestamp::MAX.as_second(),
        ];
        (seconds, 0..1_000_000_000)
            .prop_map(|(second, nano)| Timestamp::new(second, nano).unwrap_or(Timestamp::MAX))
    }

    proptest! {
        /// That it ends at all is part of it.
        #[test]
        fn fuzz_a_schedule_of_any_text_is_refused_or_fires_in_the_future(
            line in line(), zone in zone(), after in moments(), spread in 0.0..=1.0_f64,
        ) {
            let rotation = json!({"schedule": line, "timeZone": zone});
            let Ok(calendar) = calendar(rotation) else { return Ok(()) };
            let schedule = calendar.schedule.as_ref().unwrap();
            if let Some(next) = schedule.next(after) {
                prop_assert!(next > after, "{next}");
                prop_assert!(next.duration_since(after).as_hours() < 4 * 366 * 24 + 48, "{next}");
                // Before time zones, clocks were set by seconds.
                let shown = next.to_zoned(schedule.zone.clone());
                prop_assert!(shown.second() == 0 || shown.year() < 1980, "{shown}");
                prop_assert_eq!(shown.subsec_nanosecond(), 0);
            }
            if let Some(due) = calendar.fire(after, spread) {
                prop_assert!(due > after);
            }
        }

        #[test]
        fn fuzz_a_window_of_any_times_opens_now_or_within_nine_days(
            days in prop::collection::vec(0..7_usize, 0..4), times in ["[0-2][0-9]:[0-5][0-9]", "[0-9:]{0,5}"],
            zone in zone(), from in moments(),
        ) {
            let names = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
            let days: Vec<_> = days.into_iter().map(|day| names[day]).collect();
            let window = json!({"days": days, "start": times[0], "end": times[1], "timeZone": zone});
            let Ok(calendar) = calendar(json!({"windows": [window]})) else { return Ok(()) };
            let opens = calendar.in_window(from);
            prop_assert!(opens >= from);
            prop_assert!(opens.duration_since(from).as_hours() <= 9 * 24, "{opens}");
        }
    }

    #[test]
    fn what_is_rotated_is_rotated_before_it_dies_and_as_the_server_requires() {
        let made = "2026-01-01T00:00:00Z";
        let end = Some(at("2026-01-11T00:00:00Z"));
        let slow = calendar(json!({"interval": "1000h"})).unwrap();
        let due = slow.due(Moment {
            ends: end,
            ..moment(made, 0.5)
        });
        assert_eq!(due, Some(at("2026-01-10T00:00:00Z")));

        let never = calendar(json!({})).unwrap();
        assert_eq!(
            never.due(Moment {
                ends: end,
                ..moment(made, 0.5)
            }),
            None
        );
        let within = Some(ApiDuration::from_secs(100 * 3600));
        let due = never.due(Moment {
            within,
            ..moment(made, 1.0)
        });
        assert_eq!(due, Some(at(made) + SignedDuration::from_hours(100)));
    }

    #[test]
    fn windows_open_on_their_days_in_their_zone_and_over_midnight() {
        let window = |window: Value| calendar(json!({"windows": [window]})).unwrap();
        let office = window(json!({
            "days": ["Mon", "Tue"], "start": "09:00", "end": "16:00", "timeZone": "Europe/Berlin",
        }));
        let night = window(json!({"days": ["Fri"], "start": "22:00", "end": "04:00"}));
        for (calendar, from, opens) in [
            // 2026-11-22 is a Sunday.
            (&office, "2026-11-22T12:00:00Z", "2026-11-23T08:00:00Z"),
            (&office, "2026-11-23T10:00:00Z", "2026-11-23T10:00:00Z"),
            (&office, "2026-11-23T15:00:00Z", "2026-11-24T08:00:00Z"),
            (&office, "2026-11-24T16:00:00Z", "2026-11-30T08:00:00Z"),
            (&night, "2026-11-28T03:59:00Z", "2026-11-28T03:59:00Z"),
            (&night, "2026-11-28T04:00:00Z", "2026-12-04T22:00:00Z"),
        ] {
            assert_eq!(calendar.in_window(at(from)), at(opens), "{from}");
        }
        let always = calendar(json!({})).unwrap();
        assert_eq!(
            always.in_window(at("2026-11-22T12:00:00Z")),
            at("2026-11-22T12:00:00Z")
        );
    }

    #[test]
    fn what_cannot_be_read_says_what_would_be_right() {
        for (rotation, told) in [
            (json!({"schedule": "every day"}), "five fields"),
            (json!({"schedule": "0 0 0 * * *"}), "five fields"),
            (json!({"schedule": "99 3 1 * *"}), "no crontab line"),
            (
                json!({"schedule": "0 3 1 * *", "timeZone": "Mars/Olympus"}),
                "IANA time zone",
            ),
            (
                json!({"windows": [{"start": "09:00", "end": "10:00", "timeZone": "x"}]}),
                "IANA",
            ),
        ] {
            let error = calendar(rotation.clone()).unwrap_err();
            assert!(error.contains(told), "{rotation}: {error}");
        }
    }
}
