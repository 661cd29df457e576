//! One call, and what must be looked at before and after it.

use std::{fmt::Debug, future::Future, time::Duration};

use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{FIELD_MANAGER, declared};
use crate::{
    api::{ZenAPIKey, ZenSecret, ZenServiceAccount, ZenUser},
    store::{
        kube::project,
        registrar::{Declared, NotChanged, Object},
    },
};

/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// How often something is tried that was not answered.
pub(super) const ATTEMPTS: u32 = 4;
/// How often a change is decided anew as somebody else was faster.
const RACES: u32 = 20;
/// How long to wait after the first of those; after the second twice as long, and so on: half a second
/// in all.
const RACE_PAUSE: Duration = Duration::from_millis(2);

/// A kind that the API changes.
pub(super) trait Kind:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize + Send + 'static
{
    /// What people call it.
    const WHAT: &'static str;

    /// Its name in ZenML.
    fn called(&self) -> &str;
}

impl Kind for ZenServiceAccount {
    const WHAT: &'static str = "service account";

    fn called(&self) -> &str {
        self.zenml_name()
    }
}

impl Kind for ZenAPIKey {
    const WHAT: &'static str = "API key";

    fn called(&self) -> &str {
        self.zenml_name()
    }
}

impl Kind for ZenUser {
    const WHAT: &'static str = "user";

    fn called(&self) -> &str {
        self.zenml_name()
    }
}

impl Kind for ZenSecret {
    const WHAT: &'static str = "secret";

    fn called(&self) -> &str {
        self.zenml_name()
    }
}

pub(super) fn object(of: &impl Kind) -> Result<Object, NotChanged> {
    Ok(Object {
        uid: project::id(of.meta().uid.as_deref()).ok_or(NotChanged::Unreachable)?,
        name: of.name_any(),
    })
}

pub(super) fn told<K: Kind>(theirs: &K) -> Declared {
    let namespace = theirs.namespace().unwrap_or_default();
    Declared {
        what: K::WHAT,
        name: theirs.called().to_owned(),
        object: format!("{} {namespace}/{}", K::kind(&()), theirs.name_any()),
        owner: declared::owner(theirs.meta()),
    }
}

/// Makes an object under the first name that nobody has. `is_it` knows the object that an
/// unanswered attempt made, `has_name` one that has what we want.
pub(super) async fn create<K: Kind>(
    api: &Api<K>,
    name: impl Fn(u32) -> String,
    body: impl Fn(&str) -> Value,
    is_it: impl Fn(&K, bool) -> bool,
    has_name: impl Fn(&K) -> bool,
) -> Result<K, NotChanged> {
    let parameters = PostParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PostParams::default()
    };
    for attempt in 0..ATTEMPTS {
        let name = name(attempt);
        let wanted: K = serde_json::from_value(body(&name)).map_err(|_| NotChanged::Unreachable)?;
        let refused = match call(api.create(&parameters, &wanted)).await {
            Err(why @ (NotChanged::Exists | NotChanged::Unreachable)) => why,
            other => return other,
        };
        match call(api.get(&name)).await {
            Ok(found) if is_it(&found, refused == NotChanged::Unreachable) => return Ok(found),
            Ok(found) if has_name(&found) && found.meta().deletion_timestamp.is_none() => {
                return Err(NotChanged::Exists);
            }
            Ok(_) => {}
            Err(NotChanged::Gone) if refused == NotChanged::Exists => {}
            Err(_) => return Err(NotChanged::Unreachable),
        }
    }
    Err(NotChanged::Unreachable)
}

/// The object as it is now, whoever's it is.
pub(super) async fn read<K: Kind>(api: &Api<K>, wanted: &Object) -> Result<K, NotChanged> {
    let live = call(api.get(&wanted.name)).await?;
    let meta = live.meta();
    if meta.uid != Some(wanted.uid.to_string()) || meta.deletion_timestamp.is_some() {
        return Err(NotChanged::Gone);
    }
    Ok(live)
}

/// The object as it is now, if it is ours to change.
pub(super) async fn read_own<K: Kind>(api: &Api<K>, wanted: &Object) -> Result<K, NotChanged> {
    let live = read(api, wanted).await?;
    if declared::is_declared(live.meta()) {
        return Err(NotChanged::Declared(told(&live)));
    }
    Ok(live)
}

/// Patches the spec at the version that was read. [`NotChanged::Exists`] says that another version
/// is there by now.
pub(super) async fn patch_spec<K: Kind>(
    api: &Api<K>,
    live: &K,
    spec: Value,
) -> Result<K, NotChanged> {
    let body = json!({
        "metadata": {"uid": live.uid(), "resourceVersion": live.resource_version()},
        "spec": spec,
    });
    let (parameters, patch) = (patch_parameters(), Patch::Merge(&body));
    call(api.patch(&live.name_any(), &parameters, &patch)).await
}

/// Patches the spec at the version that was read, and reads anew if others were quicker.
pub(super) async fn change<K: Kind>(
    api: &Api<K>,
    wanted: &Object,
    mut spec: impl FnMut(&K) -> Option<Value>,
) -> Result<K, NotChanged> {
    let mut patience = Patience::default();
    loop {
        let live = read_own(api, wanted).await?;
        let Some(spec) = spec(&live) else {
            return Ok(live);
        };
        match patch_spec(api, &live, spec).await {
            Err(why @ (NotChanged::Exists | NotChanged::Unreachable)) => {
                patience.goes_on(&why).await?
            }
            other => return other,
        }
    }
}

/// How often something is decided anew: seldom if nobody answers, and often if somebody else was
/// faster, as the operator is at every step and other requests may be.
#[derive(Default)]
struct Patience {
    unanswered: u32,
    races: u32,
}

impl Patience {
    /// Returns when it is time to try again.
    ///
    /// # Errors
    /// If that was often enough.
    async fn goes_on(&mut self, why: &NotChanged) -> Result<(), NotChanged> {
        if *why == NotChanged::Unreachable {
            self.unanswered += 1;
        } else {
            self.races += 1;
            tokio::time::sleep(RACE_PAUSE * self.races).await;
        }
        match self.unanswered < ATTEMPTS && self.races < RACES {
            true => Ok(()),
            false => Err(NotChanged::Unreachable),
        }
    }
}

pub(super) async fn remove<K: Kind>(api: &Api<K>, wanted: &Object) -> Result<(), NotChanged> {
    let mut patience = Patience::default();
    loop {
        let live = read_own(api, wanted).await?;
        let parameters = DeleteParams::default().preconditions(Preconditions {
            uid: live.uid(),
            resource_version: live.resource_version(),
        });
        match call(api.delete(&wanted.name, &parameters)).await {
            Ok(_) | Err(NotChanged::Gone) => return Ok(()),
            Err(why @ (NotChanged::Exists | NotChanged::Unreachable)) => {
                patience.goes_on(&why).await?
            }
            Err(other) => return Err(other),
        }
    }
}

pub(super) fn patch_parameters() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    }
}

/// What an admission policy says to who asked; of other refusals the log knows more.
fn rule(message: &str) -> String {
    let said = message
        .split_once(" denied request: ")
        .map(|(_, said)| said);
    let plain = said.unwrap_or("the server's log says which").chars();
    plain.filter(|c| !c.is_control()).take(512).collect()
}

/// One call, in time. A conflict, whatever its reason, is [`NotChanged::Exists`].
pub(super) async fn call<T>(
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, NotChanged> {
    let Ok(result) = tokio::time::timeout(CALL_TIMEOUT, call).await else {
        return Err(NotChanged::Unreachable);
    };
    result.map_err(|error| {
        let kube::Error::Api(status) = &error else {
            tracing::warn!(%error, "a change was not answered");
            return NotChanged::Unreachable;
        };
        let why = match status.code {
            404 => NotChanged::Gone,
            409 => NotChanged::Exists,
            403 if status.reason == "Forbidden" && status.message.contains("cannot") => {
                NotChanged::Forbidden
            }
            400..=428 => NotChanged::Refused(rule(&status.message)),
            _ => NotChanged::Unreachable,
        };
        if !matches!(why, NotChanged::Gone | NotChanged::Exists) {
            tracing::warn!(
                code = status.code,
                message = status.message,
                "a change was refused"
            );
        }
        why
    })
}
