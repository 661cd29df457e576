//! Ids of users and accounts, which the ZenML server makes itself: in what goes to it ours become its
//! own, in what comes back its own become ours. So a client sees one id of a person, whoever answers.

use std::collections::HashMap;

use axum::body::{Body, Bytes};
use futures::{StreamExt, stream};
use uuid::Uuid;

/// The length of an id as it is written, with hyphens.
const LENGTH: usize = 36;

/// What becomes what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table(HashMap<[u8; LENGTH], [u8; LENGTH]>);

impl FromIterator<(Uuid, Uuid)> for Table {
    fn from_iter<I: IntoIterator<Item = (Uuid, Uuid)>>(pairs: I) -> Self {
        let pairs = pairs.into_iter();
        Self(pairs.map(|(from, to)| (text(from), text(to))).collect())
    }
}

fn text(id: Uuid) -> [u8; LENGTH] {
    let mut text = [0; LENGTH];
    id.hyphenated().encode_lower(&mut text);
    text
}

impl Table {
    /// A whole text.
    pub(super) fn whole(&self, text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        self.swap(&mut bytes);
        // An id is ASCII and as long as any other.
        String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
    }

    /// A body, as it comes; trailers are left out. It keeps its length.
    pub(super) fn body(self: std::sync::Arc<Self>, body: Body) -> Body {
        if self.0.is_empty() {
            return body;
        }
        let parts = body.into_data_stream();
        let state = (parts, Some(Vec::new()), self);
        Body::from_stream(stream::unfold(
            state,
            |(mut parts, held, table)| async move {
                let mut held = held?;
                match parts.next().await {
                    Some(Ok(part)) => {
                        let ready = table.feed(&mut held, &part);
                        Some((Ok(ready), (parts, Some(held), table)))
                    }
                    Some(Err(error)) => Some((Err(error), (parts, None, table))),
                    None if held.is_empty() => None,
                    None => Some((Ok(Bytes::from(held)), (parts, None, table))),
                }
            },
        ))
    }

    /// What can be passed on of what was held back and what came. What may be the beginning of an id
    /// is held back.
    fn feed(&self, held: &mut Vec<u8>, part: &[u8]) -> Bytes {
        held.extend_from_slice(part);
        let done = self.swap(held);
        let rest = held.split_off(done.min(held.len()));
        Bytes::from(std::mem::replace(held, rest))
    }

    /// Replaces every id in place. Returns from where on there may be a part of one.
    fn swap(&self, bytes: &mut [u8]) -> usize {
        let mut at = 0;
        while let Some(window) = bytes.get_mut(at..at + LENGTH) {
            at += match step(window) {
                Some(step) => step,
                None => match <&[u8; LENGTH]>::try_from(&*window)
                    .ok()
                    .and_then(|id| self.0.get(id))
                {
                    Some(other) => {
                        window.copy_from_slice(other);
                        LENGTH
                    }
                    None => 1,
                },
            };
        }
        at
    }
}

/// How far on the next id may begin; `None` where one may be here.
fn step(window: &[u8]) -> Option<usize> {
    const HYPHENS: [usize; 4] = [8, 13, 18, 23];
    let is_hyphen = |at: &usize| window.get(*at) == Some(&b'-');
    (!HYPHENS.iter().all(is_hyphen)).then_some(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OURS: Uuid = Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
    const THEIRS: Uuid = Uuid::from_u128(0xf1f2_f3f4_f5f6_f7f8_f9fa_fbfc_fdfe_ff00);

    fn table() -> Table {
        [(OURS, THEIRS)].into_iter().collect()
    }

    #[test]
    fn an_id_becomes_the_other_and_nothing_else_changes() {
        let other = Uuid::from_u128(7);
        let before = format!("{{\"user\":\"{OURS}\",\"stack\":\"{other}\",\"x\":\"{OURS}\"}}");
        let after = format!("{{\"user\":\"{THEIRS}\",\"stack\":\"{other}\",\"x\":\"{THEIRS}\"}}");
        assert_eq!(table().whole(&before), after);
        assert_eq!(table().whole("ä-----"), "ä-----");
        assert_eq!(table().whole(""), "");
    }

    proptest! {
        /// However a text is cut, what comes out is what the whole would have become.
        #[test]
        fn parts_become_what_the_whole_becomes(
            pieces in prop::collection::vec(
                prop_oneof![
                    Just(OURS.to_string()), Just(THEIRS.to_string()), "[-0-9a-f]{0,40}", "[ -~]{0,5}",
                ], 0..8),
            cuts in prop::collection::vec(0..200_usize, 0..6),
        ) {
            let (table, text) = (table(), pieces.concat());
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let (mut held, mut out) = (Vec::new(), Vec::new());
            for cut in cuts.windows(2) {
                out.extend_from_slice(&table.feed(&mut held, &text.as_bytes()[cut[0]..cut[1]]));
                prop_assert!(held.len() < LENGTH);
            }
            out.extend_from_slice(&held);
            prop_assert_eq!(String::from_utf8(out).unwrap(), table.whole(&text));
        }
    }
}
