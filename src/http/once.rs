//! Answers a repeated request as the first one was (zenml-wire.md 13.5).
//!
//! The client repeats requests by itself, with the same `Idempotency-Key`. A creation that was
//! repeated would make two keys, or say that the name is taken; a key is shown in one answer only.
//! So the answer to a change that was made is kept, in memory, for five minutes, for the same
//! account, method and path. Unlike in ZenML, the same `Idempotency-Key` with another body is
//! refused, and rotation is covered too. Two at once are one: the second waits for the first.
//! Refusals are not kept. Answers may hold a key: they are wiped when they are let go. Of a secret
//! only which one it is, is kept: its values can be read again.

use std::{future::Future, sync::Arc, time::Duration};

use axum::{
    extract::FromRequestParts,
    http::{HeaderName, request::Parts},
};
use moka::{policy::EvictionPolicy, sync::Cache};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Caller, Refusal};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// How long an answer is kept.
const KEPT: Duration = Duration::from_secs(300);
/// How many answers are kept; the oldest go first.
const AT_MOST: u64 = 1000;
/// A longer answer is not kept. Names and descriptions are bounded, so there is none.
const LONGEST: usize = 16 << 10;

/// The body of an answer.
pub(super) type Answer = Zeroizing<Vec<u8>>;

/// What a request is recognised by, when it comes again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Repeatable(Option<[u8; 32]>);

impl<S: Sync> FromRequestParts<S> for Repeatable {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let Some(given) = parts.headers.get(IDEMPOTENCY_KEY) else {
            return Ok(Self(None));
        };
        let given = given
            .to_str()
            .ok()
            .and_then(|text| Uuid::try_parse(text).ok());
        let key = given.ok_or(Refusal::Malformed("The Idempotency-Key is not a UUID."))?;
        let Caller(caller) = Caller::from_request_parts(parts, state).await?;
        let path = parts.uri.path();
        let name = Sha256::new()
            .chain_update(key.as_bytes())
            .chain_update(caller.account.as_bytes())
            .chain_update(parts.method.as_str())
            .chain_update([0])
            .chain_update(path);
        Ok(Self(Some(name.finalize().into())))
    }
}

/// The answers that are kept.
#[derive(Clone)]
pub(super) struct Answers {
    kept: Cache<[u8; 32], Arc<Kept>>,
}

struct Kept {
    body: [u8; 32],
    answer: Mutex<Option<Repeated>>,
}

/// What is kept of an answer.
enum Repeated {
    Answer(Answer),
    Secret(Uuid),
}

/// What was done: what is answered, and what of it is kept.
pub(super) enum Remembered {
    /// The answer itself.
    Answer(Answer),
    /// Which secret it shows.
    Secret(Uuid, Answer),
}

/// What is to be answered.
pub(super) enum Given {
    /// This.
    Answer(Answer),
    /// What this secret holds now: the request was made before.
    Again(Uuid),
}

impl Answers {
    pub(super) fn new() -> Self {
        let kept = Cache::builder()
            .max_capacity(AT_MOST)
            .time_to_live(KEPT)
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self { kept }
    }

    /// The answer of `work`, or the one that it gave before. `body` is what the request says.
    ///
    /// # Errors
    /// Why the work was not done; the next request does it anew.
    pub(super) async fn once(
        &self,
        request: Repeatable,
        body: &[u8],
        work: impl Future<Output = Result<Remembered, Refusal>>,
    ) -> Result<Given, Refusal> {
        let Repeatable(Some(name)) = request else {
            let (Remembered::Answer(answer) | Remembered::Secret(_, answer)) = work.await?;
            return Ok(Given::Answer(answer));
        };
        let body: [u8; 32] = Sha256::digest(body).into();
        let kept = self.kept.get_with(name, || {
            Arc::new(Kept {
                body,
                answer: Mutex::default(),
            })
        });
        if kept.body != body {
            return Err(Refusal::Malformed(
                "The Idempotency-Key was used for another request.",
            ));
        }
        let mut slot = kept.answer.lock().await;
        match &*slot {
            Some(Repeated::Answer(answer)) => return Ok(Given::Answer(answer.clone())),
            Some(Repeated::Secret(secret)) => return Ok(Given::Again(*secret)),
            None => {}
        }
        let (answer, kept) = match work.await? {
            Remembered::Secret(secret, answer) => (answer, Some(Repeated::Secret(secret))),
            Remembered::Answer(answer) if answer.len() <= LONGEST => {
                let kept = Repeated::Answer(answer.clone());
                (answer, Some(kept))
            }
            Remembered::Answer(answer) => (answer, None),
        };
        if kept.is_some() {
            *slot = kept;
            self.let_go_in_time();
        }
        Ok(Given::Answer(answer))
    }

    /// The cache itself lets go of what is over only when it is used again.
    fn let_go_in_time(&self) {
        let kept = self.kept.clone();
        tokio::spawn(async move {
            tokio::time::sleep(KEPT + Duration::from_secs(1)).await;
            kept.run_pending_tasks();
        });
    }
}
