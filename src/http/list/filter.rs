//! One condition of a filter: `<operator>:<operand>`, or an operand that is to be equal.
//!
//! As in SQL, what is not there fulfils nothing but `isnull`.

use jiff::{Timestamp, civil::DateTime, tz::Offset};
use uuid::{Uuid, fmt::Simple};

use super::{Holds, Value, pattern::Pattern, query::flag};
use crate::http::Refusal;

/// The longest operand that is a pattern.
const MAX_PATTERN: usize = 255;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equals,
    NotEquals,
    Contains,
    NotContains,
    StartsWith,
    EndsWith,
    OneOf,
    NotOneOf,
    IsNull,
    IsNotNull,
    Compare(Comparison),
    In,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Gt,
    Gte,
    Lt,
    Lte,
}

impl Comparison {
    fn holds<T: PartialOrd>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Gt => left > right,
            Self::Gte => left >= right,
            Self::Lt => left < right,
            Self::Lte => left <= right,
        }
    }
}

impl Operator {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "equals" => Self::Equals,
            "notequals" => Self::NotEquals,
            "contains" => Self::Contains,
            "notcontains" => Self::NotContains,
            "startswith" => Self::StartsWith,
            "endswith" => Self::EndsWith,
            "oneof" => Self::OneOf,
            "notoneof" => Self::NotOneOf,
            "isnull" => Self::IsNull,
            "isnotnull" => Self::IsNotNull,
            "gt" => Self::Compare(Comparison::Gt),
            "gte" => Self::Compare(Comparison::Gte),
            "lt" => Self::Compare(Comparison::Lt),
            "lte" => Self::Compare(Comparison::Lte),
            "in" => Self::In,
            _ => return None,
        })
    }

    /// Operator and operand of a parameter. What is no operator is part of the operand.
    fn split(value: &str) -> (Self, &str) {
        value
            .split_once(':')
            .and_then(|(name, operand)| Some((Self::named(name)?, operand)))
            .unwrap_or((Self::Equals, value))
    }
}

/// What a condition asks of a value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Test {
    IsNull(bool),
    Bool {
        wanted: bool,
        equal: bool,
    },
    Id {
        wanted: Option<Uuid>,
        equal: bool,
    },
    Time(Comparison, Timestamp),
    TimeIs {
        wanted: Timestamp,
        equal: bool,
    },
    TimeIn(Timestamp, Timestamp),
    Text {
        wanted: String,
        equal: bool,
    },
    Like {
        pattern: Pattern,
        like: bool,
    },
    Among {
        wanted: Vec<String>,
        among: bool,
    },
    Number(Comparison, f64),
    /// Of somebody: holds of the id, or of one of the names.
    Either {
        id: Box<Test>,
        name: Box<Test>,
    },
    /// Refused, but after everything else that may be wrong.
    NotANumber,
}

const NO_OPERATOR: Refusal =
    Refusal::Filter("This datatype can not be filtered using this operation.");
const NO_OPERAND: Refusal = Refusal::Filter(
    "When using 'isnull:'/'isnotnull:', use the explicit 'operator:' form without a value \
     (e.g. 'isnull:').",
);
const NOT_A_LIST: Refusal = Refusal::Filter(
    "When you are using the 'oneof:'/'notoneof:' filtering make sure that the provided value is a \
     json formatted list.",
);
const NOT_A_TIME: Refusal = Refusal::Filter(
    "The datetime filter only works with values in the following format: %Y-%m-%d %H:%M:%S",
);
const NOT_TWO_TIMES: Refusal =
    Refusal::Filter("Two comma separated datetime values are required for the `in` operator.");
const NOT_A_BOOL: Refusal = Refusal::Filter("The bool filter only works with boolean values.");
const NOT_A_FLAG: Refusal = Refusal::Malformed("The parameter must be true or false.");
const TOO_LONG: Refusal = Refusal::Filter("A pattern has at most 255 characters.");

impl Test {
    /// Reads a parameter of a column that holds `holds`.
    pub(super) fn read(holds: Holds, value: &str) -> Result<Self, Refusal> {
        if holds == Holds::Flag {
            let wanted = flag(value).ok_or(NOT_A_FLAG)?;
            return Ok(Self::Bool {
                wanted,
                equal: true,
            });
        }
        let (operator, operand) = Operator::split(value);
        if let Operator::IsNull | Operator::IsNotNull = operator {
            let null = operator == Operator::IsNull;
            return match operand {
                "" => Ok(Self::IsNull(null)),
                _ => Err(NO_OPERAND),
            };
        }
        match holds {
            Holds::Bool | Holds::Flag => Self::bool(operator, operand),
            Holds::Person => Ok(Self::Either {
                id: Box::new(Self::id(operator, operand)?),
                name: Box::new(Self::text(operator, operand)?),
            }),
            Holds::Time => Self::time(operator, operand),
            Holds::Text => Self::text(operator, operand),
            Holds::Id => Self::id(operator, operand),
        }
    }

    fn bool(operator: Operator, operand: &str) -> Result<Self, Refusal> {
        let equal = equality(operator).ok_or(NO_OPERATOR)?;
        let wanted = flag(operand.trim()).ok_or(NOT_A_BOOL)?;
        Ok(Self::Bool { wanted, equal })
    }

    fn time(operator: Operator, operand: &str) -> Result<Self, Refusal> {
        if operator == Operator::In {
            let (from, to) = operand.split_once(',').ok_or(NOT_TWO_TIMES)?;
            return Ok(Self::TimeIn(moment(from)?, moment(to)?));
        }
        let wanted = moment(operand)?;
        match operator {
            Operator::Compare(comparison) => Ok(Self::Time(comparison, wanted)),
            _ => equality(operator)
                .map(|equal| Self::TimeIs { wanted, equal })
                .ok_or(NO_OPERATOR),
        }
    }

    fn text(operator: Operator, operand: &str) -> Result<Self, Refusal> {
        let like = |before: &str, after: &str, like| {
            if operand.chars().count() > MAX_PATTERN {
                return Err(TOO_LONG);
            }
            let pattern = Pattern::new(&format!("{before}{operand}{after}"));
            Ok(Self::Like { pattern, like })
        };
        match operator {
            Operator::Equals | Operator::NotEquals => Ok(Self::Text {
                wanted: operand.to_owned(),
                equal: operator == Operator::Equals,
            }),
            Operator::Contains => like("%", "%", true),
            Operator::NotContains => like("%", "%", false),
            Operator::StartsWith => like("", "%", true),
            Operator::EndsWith => like("%", "", true),
            Operator::OneOf => Self::among(operand, true),
            Operator::NotOneOf => Self::among(operand, false),
            Operator::Compare(comparison) => Ok(match operand.trim().parse() {
                Ok(number) => Self::Number(comparison, number),
                Err(_) => Self::NotANumber,
            }),
            Operator::In | Operator::IsNull | Operator::IsNotNull => Err(NO_OPERATOR),
        }
    }

    /// Ids are equal or not as ids; for the rest they are texts of 32 digits.
    fn id(operator: Operator, operand: &str) -> Result<Self, Refusal> {
        if let Some(equal) = equality(operator) {
            let wanted = Uuid::try_parse(operand).ok();
            return Ok(Self::Id { wanted, equal });
        }
        let test = Self::text(operator, &operand.replace('-', ""))?;
        Ok(match test {
            Self::Among { wanted, among } => Self::Among {
                wanted: wanted.iter().map(|text| text.replace('-', "")).collect(),
                among,
            },
            test => test,
        })
    }

    fn among(operand: &str, among: bool) -> Result<Self, Refusal> {
        let list: Vec<serde_json::Value> = serde_json::from_str(operand).map_err(|_| NOT_A_LIST)?;
        let text = |value: serde_json::Value| match value {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        let wanted = list.into_iter().map(text).collect();
        Ok(Self::Among { wanted, among })
    }

    /// Whether it compares a text to something else than a number.
    pub(super) fn is_not_a_number(&self) -> bool {
        match self {
            Self::NotANumber => true,
            Self::Either { id, name } => id.is_not_a_number() || name.is_not_a_number(),
            _ => false,
        }
    }

    /// Whether a value of the column fulfils the condition.
    pub(super) fn holds(&self, value: Value<'_>) -> bool {
        match (self, value) {
            (Self::IsNull(null), value) => (value == Value::Null) == *null,
            // No id equals a text that is none, not even the one that is not there.
            (
                Self::Id {
                    wanted: None,
                    equal,
                },
                _,
            ) => !equal,
            (_, Value::Null) => false,
            (Self::Either { id, name }, Value::Person(person)) => {
                let mut names = [&person.name, &person.full_name].into_iter();
                id.holds(Value::Id(person.id)) || names.any(|n| name.holds(Value::Text(n)))
            }
            (Self::Bool { wanted, equal }, Value::Bool(flag)) => (flag == *wanted) == *equal,
            (
                Self::Id {
                    wanted: Some(wanted),
                    equal,
                },
                Value::Id(id),
            ) => (id == *wanted) == *equal,
            (Self::Time(comparison, wanted), Value::Time(at)) => comparison.holds(&at, wanted),
            (Self::TimeIs { wanted, equal }, Value::Time(at)) => (at == *wanted) == *equal,
            (Self::TimeIn(from, to), Value::Time(at)) => (*from..=*to).contains(&at),
            (test, Value::Text(text)) => test.holds_text(text),
            (test, Value::Id(id)) => {
                test.holds_text(id.simple().encode_lower(&mut [0; Simple::LENGTH]))
            }
            // A column holds one type, and its tests are made for it.
            (_, Value::Bool(_) | Value::Time(_) | Value::Person(_)) => false,
        }
    }

    fn holds_text(&self, text: &str) -> bool {
        match self {
            Self::Text { wanted, equal } => (text == wanted) == *equal,
            Self::Like { pattern, like } => pattern.matches(text) == *like,
            Self::Among { wanted, among } => wanted.iter().any(|w| w == text) == *among,
            // A text that is no number counts as 0, and 0 fulfils no comparison.
            Self::Number(comparison, wanted) => {
                let number = leading_number(text);
                number != 0.0 && comparison.holds(&number, wanted)
            }
            _ => false,
        }
    }
}

fn equality(operator: Operator) -> Option<bool> {
    match operator {
        Operator::Equals => Some(true),
        Operator::NotEquals => Some(false),
        _ => None,
    }
}

fn moment(text: &str) -> Result<Timestamp, Refusal> {
    if text.starts_with(char::is_whitespace) {
        return Err(NOT_A_TIME);
    }
    DateTime::strptime("%Y-%m-%d %H:%M:%S", text)
        .and_then(|at| Offset::UTC.to_timestamp(at))
        .map_err(|_| NOT_A_TIME)
}

/// The number that a text begins with, as a cast in SQL reads it.
fn leading_number(text: &str) -> f64 {
    let text = text.trim_start();
    let digits =
        |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let rest = |at: usize| text.get(at..).unwrap_or_default();
    let mut end = usize::from(text.starts_with(['+', '-']));
    end += digits(rest(end));
    if rest(end).starts_with('.') {
        end += 1 + digits(rest(end + 1));
    }
    if rest(end).starts_with(['e', 'E']) {
        let sign = usize::from(rest(end + 1).starts_with(['+', '-']));
        let exponent = digits(rest(end + 1 + sign));
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    text.get(..end).and_then(|t| t.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_as_far_as_it_goes() {
        let cases = [
            ("12abc", 12.0),
            ("-1.5e2x", -150.0),
            (" 7", 7.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e", 1.0),
            ("1e+", 1.0),
            ("abc", 0.0),
            ("", 0.0),
            ("-", 0.0),
            (".", 0.0),
            ("inf", 0.0),
        ];
        for (text, number) in cases {
            assert!((leading_number(text) - number).abs() < 1e-9, "{text}");
        }
    }
}
