//! Times as ZenML writes them: UTC, without a zone, microseconds unless they are zero.

use std::{borrow::Cow, fmt};

use jiff::{Timestamp, tz::Offset};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

/// A moment as ZenML writes it: `2026-11-22T17:41:04.803275`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub Timestamp);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = Offset::UTC.to_datetime(self.0);
        match shown.subsec_nanosecond() / 1000 {
            0 => write!(f, "{shown:.0}"),
            _ => write!(f, "{shown:.6}"),
        }
    }
}

impl JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "UTC, without a zone.",
            "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{6})?$",
        })
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_as_zenml_does() {
        let cases = [
            ("2026-11-22T17:41:04.803275Z", "2026-11-22T17:41:04.803275"),
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00"),
            ("2026-01-01T00:00:00.5Z", "2026-01-01T00:00:00.500000"),
            ("2026-01-01T00:00:00.0000009Z", "2026-01-01T00:00:00"),
            (
                "2026-01-01T01:00:00.1234567+01:00",
                "2026-01-01T00:00:00.123456",
            ),
        ];
        for (at, shown) in cases {
            let at: Timestamp = at.parse().unwrap();
            assert_eq!(Time(at).to_string(), shown);
        }
    }
}
