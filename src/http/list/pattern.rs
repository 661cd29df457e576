//! Patterns of SQL's LIKE without escapes: `%` is any text, `_` any character. ASCII letters
//! match in either case.

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern(Vec<char>);

impl Pattern {
    pub(super) fn new(text: &str) -> Self {
        Self(text.chars().map(|c| c.to_ascii_lowercase()).collect())
    }

    /// Takes at most the product of both lengths: a `%` that turns out too short is made one
    /// longer, and only the last one is ever tried again.
    pub(super) fn matches(&self, text: &str) -> bool {
        let mut pattern = self.0.as_slice();
        let mut text = text.chars();
        let mut retry = None;
        loop {
            match (pattern, text.clone().next()) {
                ([], None) => return true,
                (['%', rest @ ..], _) => {
                    pattern = rest;
                    retry = Some((rest, text.clone()));
                    continue;
                }
                ([wanted, rest @ ..], Some(c))
                    if *wanted == '_' || *wanted == c.to_ascii_lowercase() =>
                {
                    pattern = rest;
                    text.next();
                    continue;
                }
                _ => {}
            }
            let Some((after, from)) = &mut retry else {
                return false;
            };
            if from.next().is_none() {
                return false;
            }
            pattern = after;
            text = from.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, word by word. Takes exponential time.
    fn like(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            (['%', rest @ ..], _) => (0..=text.len()).any(|n| like(rest, &text[n..])),
            (['_', rest @ ..], [_, text @ ..]) => like(rest, text),
            ([p, rest @ ..], [t, text @ ..]) => p.eq_ignore_ascii_case(t) && like(rest, text),
            _ => false,
        }
    }

    #[test]
    fn knows_wildcards_and_case() {
        let matches = |pattern: &str, text| Pattern::new(pattern).matches(text);
        assert!(matches("%filt_%", "filtXB"));
        assert!(matches("ABC", "abc"));
        assert!(!matches("Ä", "ä"), "only ASCII");
        assert!(matches("_", "ä"));
        assert!(!matches("_", ""));
        assert!(matches("%", ""));
        assert!(!matches("a%", "ba"));
    }

    #[test]
    fn takes_no_more_than_the_product_of_both_lengths() {
        let (pattern, text) = ("%".repeat(127) + &"a%".repeat(64), "a".repeat(100_000));
        assert!(Pattern::new(&pattern).matches(&text));
        let never = "%a".repeat(127) + "b";
        assert!(!Pattern::new(&never).matches(&text));
    }

    proptest! {
        #[test]
        fn matches_as_defined(pattern in "[abA%_é]{0,8}", text in "[abBé]{0,8}") {
            let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
            prop_assert_eq!(Pattern::new(&pattern).matches(&text), like(&p, &t));
        }
    }
}
