//! Writes what a plan wants and nothing else: no write where nothing changed, none over what is
//! not ours, none by one who does not lead.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    call::call,
    echo::Echoes,
    error::{ApplyError, CallError},
    plan::{Child, Doomed, Entries, Live, Restart},
};
use crate::api::{FIELD_MANAGER, label};

/// Whether this process may write at this moment.
pub type Gate = Arc<dyn Fn() -> bool + Send + Sync>;

/// For whom children are made.
#[derive(Clone, Debug)]
pub struct Owner {
    /// Its namespace, which is that of its children.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What its children's `ownerReferences` say.
    pub reference: OwnerReference,
}

impl Owner {
    /// What the children of an object say.
    pub fn of(object: &impl Resource<DynamicType = ()>) -> Self {
        Self {
            namespace: object.meta().namespace.clone().unwrap_or_default(),
            name: object.meta().name.clone().unwrap_or_default(),
            reference: object.controller_owner_ref(&()).unwrap_or_default(),
        }
    }
}

/// What became of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was not there.
    Created,
    /// It differed.
    Updated,
    /// It was as wanted.
    Unchanged,
}

/// Writes children.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    gate: Gate,
    echoes: Arc<Echoes>,
}

/// What to do about a child, from what was there.
enum Decision<'a> {
    Create,
    Update(&'a Live),
    /// Give it back the marks by which we find it, and nothing else.
    Mark(&'a Live),
    Keep,
    Refuse(&'a Live),
}

impl Writer {
    /// A writer that asks the gate before each write, and notes what it wrote.
    pub fn new(client: Client, gate: Gate, echoes: Arc<Echoes>) -> Self {
        Self {
            client,
            gate,
            echoes,
        }
    }

    /// What was written.
    pub fn echoes(&self) -> &Echoes {
        &self.echoes
    }

    /// The client, for a write that is about to be made.
    ///
    /// # Errors
    /// [`ApplyError::NotLeader`].
    pub fn client(&self) -> Result<Client, ApplyError> {
        if (self.gate)() {
            Ok(self.client.clone())
        } else {
            Err(ApplyError::NotLeader)
        }
    }

    /// Makes a child as wanted.
    ///
    /// # Errors
    /// If it is somebody else's, changed since we looked, or cannot be written.
    pub async fn apply(&self, owner: &Owner, child: &Child) -> Result<Change, ApplyError> {
        let body = complete(owner, child);
        match decide(owner, child, &body) {
            Decision::Keep => Ok(Change::Unchanged),
            Decision::Create => self.create(owner, child, body).await,
            Decision::Update(live) => self.update(owner, child, body, live).await,
            Decision::Mark(live) => self.merge(owner, child, marks(owner, child), live).await,
            Decision::Refuse(live) => Err(foreign(child, live.owner())),
        }
    }

    /// Creates by POST: of two who create the same name one fails, and nothing of somebody
    /// else's is merged into.
    async fn create(
        &self,
        owner: &Owner,
        child: &Child,
        body: Value,
    ) -> Result<Change, ApplyError> {
        let object: DynamicObject =
            serde_json::from_value(body).map_err(|_| ApplyError::Unserialisable("a child"))?;
        let parameters = PostParams {
            field_manager: Some(FIELD_MANAGER.into()),
            dry_run: false,
        };
        let api = self.api(owner, child)?;
        match call(
            || describe("create", owner, child),
            api.create(&parameters, &object),
        )
        .await
        {
            Ok(created) => {
                self.echoes.wrote_child(&created.metadata);
                Ok(Change::Created)
            }
            Err(error) if error.is_conflict() => Err(self.who_has_it(owner, child, error).await),
            Err(error) => Err(error.into()),
        }
    }

    /// Somebody made it since we looked: ourselves in an answer that was lost, or a stranger.
    async fn who_has_it(&self, owner: &Owner, child: &Child, error: CallError) -> ApplyError {
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &owner.namespace, &child.resource);
        match call(
            || describe("get", owner, child),
            api.get_metadata(&child.name),
        )
        .await
        {
            Ok(meta) => {
                let owners = meta.metadata.owner_references.unwrap_or_default();
                match owners.iter().find(|o| o.controller == Some(true)) {
                    Some(o) if o.uid == owner.reference.uid => error.into(),
                    Some(o) => foreign(child, format!("{} {}", o.kind, o.name)),
                    None => foreign(child, "nobody that says so in its ownerReferences".into()),
                }
            }
            Err(_) => error.into(),
        }
    }

    /// Updates by server-side apply, forced, as the fields are ours; but only that object in that
    /// version.
    async fn update(
        &self,
        owner: &Owner,
        child: &Child,
        mut body: Value,
        live: &Live,
    ) -> Result<Change, ApplyError> {
        let version = self.adopt_created_fields(owner, child, live).await?;
        merge_metadata(
            &mut body,
            json!({"uid": live.uid, "resourceVersion": version}),
        );
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let api = self.api(owner, child)?;
        let patch = Patch::Apply(&body);
        let applied = call(
            || describe("apply", owner, child),
            api.patch(&child.name, &parameters, &patch),
        )
        .await;
        match applied {
            Ok(applied) => self.echoes.wrote_child(&applied.metadata),
            // Somebody put an entry into a list of ours beside which ours may not be. An apply
            // leaves it there; a merge replaces the list.
            Err(error) if error.code() == Some(422) => {
                return self.merge(owner, child, complete(owner, child), live).await;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(Change::Updated)
    }

    /// Sets these fields, lists as a whole, in that object in that version.
    async fn merge(
        &self,
        owner: &Owner,
        child: &Child,
        mut body: Value,
        live: &Live,
    ) -> Result<Change, ApplyError> {
        merge_metadata(
            &mut body,
            json!({"uid": live.uid, "resourceVersion": live.resource_version}),
        );
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PatchParams::default()
        };
        let api = self.api(owner, child)?;
        let patch = Patch::Merge(&body);
        let merged = call(
            || describe("merge", owner, child),
            api.patch(&child.name, &parameters, &patch),
        )
        .await?;
        self.echoes.wrote_child(&merged.metadata);
        Ok(Change::Updated)
    }

    /// Fields that a POST made are listed as `Update`; server-side apply would never remove one.
    /// Once, before the first apply, they are made ours in its sense, as kubectl does when it
    /// migrates from client-side apply.
    async fn adopt_created_fields(
        &self,
        owner: &Owner,
        child: &Child,
        live: &Live,
    ) -> Result<String, ApplyError> {
        let mut managers = live
            .body
            .pointer("/metadata/managedFields")
            .cloned()
            .unwrap_or_default();
        let created = managers
            .as_array_mut()
            .and_then(|m| m.iter_mut().find(|e| is_created(e)));
        let Some(Value::Object(entry)) = created else {
            return Ok(live.resource_version.clone());
        };
        entry.insert("operation".into(), "Apply".into());
        let patch = json!({"metadata": {
            "resourceVersion": live.resource_version,
            "managedFields": managers,
        }});
        let api = self.api(owner, child)?;
        let (parameters, patch) = (PatchParams::default(), Patch::Merge(&patch));
        let patched = call(
            || describe("migrate", owner, child),
            api.patch(&child.name, &parameters, &patch),
        )
        .await?;
        Ok(patched.metadata.resource_version.unwrap_or_default())
    }

    /// Stores entries of a Secret, if nobody changed that since we looked.
    ///
    /// # Errors
    /// If the API server does not do it.
    pub async fn store(&self, owner: &Owner, entries: &Entries) -> Result<(), ApplyError> {
        let api: Api<Secret> = Api::namespaced(self.client()?, &owner.namespace);
        let encoded = |value: &Option<String>| value.as_ref().map(|value| STANDARD.encode(value));
        let data = entries.values.iter();
        // A null takes an entry out (RFC 7396).
        let data: BTreeMap<_, _> = data.map(|(name, value)| (name, encoded(value))).collect();
        let patch = json!({
            "metadata": {"uid": entries.uid, "resourceVersion": entries.resource_version},
            "data": data,
        });
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PatchParams::default()
        };
        let what = || format!("store in Secret {}/{}", owner.namespace, entries.secret);
        let patch = Patch::Merge(&patch);
        let stored = call(what, api.patch(&entries.secret, &parameters, &patch)).await?;
        self.echoes.wrote_child(&stored.metadata);
        Ok(())
    }

    /// Restarts a workload, if nobody changed it since we looked, as `kubectl rollout restart` does.
    ///
    /// # Errors
    /// If the API server does not do it.
    pub async fn restart(&self, owner: &Owner, restart: &Restart) -> Result<(), ApplyError> {
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client()?, &owner.namespace, &restart.resource);
        let patch = json!({
            "metadata": {"uid": restart.uid, "resourceVersion": restart.resource_version},
            "spec": {"template": {"metadata": {"annotations": restart.annotations}}},
        });
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PatchParams::default()
        };
        let what = || {
            let Restart { resource, name, .. } = restart;
            format!("restart {} {}/{name}", resource.kind, owner.namespace)
        };
        call(
            what,
            api.patch(&restart.name, &parameters, &Patch::Merge(&patch)),
        )
        .await?;
        Ok(())
    }

    /// Deletes an object of ours, if it is still that one.
    ///
    /// # Errors
    /// If the API server does not do it. One that is gone is no error.
    pub async fn delete(&self, owner: &Owner, doomed: &Doomed) -> Result<(), ApplyError> {
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client()?, &owner.namespace, &doomed.resource);
        let preconditions = Preconditions {
            uid: Some(doomed.uid.clone()),
            resource_version: doomed.version.clone(),
        };
        let parameters = DeleteParams::background().preconditions(preconditions);
        let what = || {
            format!(
                "delete {} {}/{}",
                doomed.resource.kind, owner.namespace, doomed.name
            )
        };
        match call(what, api.delete(&doomed.name, &parameters)).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            // Another one, or one that was changed since: it is looked at once more.
            Err(error) => Err(error.into()),
        }
    }

    fn api(&self, owner: &Owner, child: &Child) -> Result<Api<DynamicObject>, ApplyError> {
        Ok(Api::namespaced_with(
            self.client()?,
            &owner.namespace,
            &child.resource,
        ))
    }
}

fn describe(verb: &str, owner: &Owner, child: &Child) -> String {
    format!(
        "{verb} {} {}/{}",
        child.resource.kind, owner.namespace, child.name
    )
}

fn foreign(child: &Child, owner: String) -> ApplyError {
    ApplyError::Foreign {
        kind: child.resource.kind.clone(),
        name: child.name.clone(),
        owner,
    }
}

fn decide<'a>(owner: &Owner, child: &'a Child, body: &Value) -> Decision<'a> {
    match &child.live {
        None => Decision::Create,
        Some(live) if child.adopts && live.controller.is_none() => Decision::Update(live),
        Some(live)
            if child.kept
                && live.controller.is_none()
                && holds(&live.body, &marks(owner, child)) =>
        {
            match holds(&live.body, body) {
                true => Decision::Keep,
                false => Decision::Update(live),
            }
        }
        Some(live) if !live.is_controlled_by(&owner.reference.uid) => Decision::Refuse(live),
        Some(live) if child.create_only && holds(&live.body, &marks(owner, child)) => {
            Decision::Keep
        }
        Some(live) if child.create_only => Decision::Mark(live),
        Some(live) if holds(&live.body, body) => Decision::Keep,
        Some(live) => Decision::Update(live),
    }
}

/// Whether a child is as wanted already, so that applying it changes nothing.
pub fn stays(owner: &Owner, child: &Child) -> bool {
    let body = complete(owner, child);
    matches!(decide(owner, child, &body), Decision::Keep)
}

/// 64 bits of a text's SHA-256, in hex.
pub fn short_hash(text: &str) -> String {
    let digest = hex::encode(Sha256::digest(text));
    digest.get(..16).unwrap_or_default().to_owned()
}

/// The body with type, name, owner and our labels. The label with the hash of it all makes a
/// field that we do not set any more a difference.
fn complete(owner: &Owner, child: &Child) -> Value {
    let mut body = child.body.clone();
    let applied = json!({(label::APPLIED): short_hash(&body.to_string())});
    merge_metadata(&mut body, json!({"labels": our_labels(owner, child)}));
    merge_metadata(&mut body, json!({"labels": applied}));
    merge_metadata(
        &mut body,
        json!({"name": child.name, "namespace": owner.namespace}),
    );
    if !child.kept {
        merge_metadata(&mut body, json!({"ownerReferences": [owner.reference]}));
    }
    if let Value::Object(fields) = &mut body {
        fields.insert(
            "apiVersion".into(),
            child.resource.api_version.clone().into(),
        );
        fields.insert("kind".into(), child.resource.kind.clone().into());
    }
    body
}

/// The labels of every child, by which watches find it. One that stays says whose it is by name.
fn our_labels<'a>(owner: &'a Owner, child: &Child) -> BTreeMap<&'a str, &'a str> {
    let mut labels = BTreeMap::from([
        (label::MANAGED_BY, label::MANAGED_BY_ZENOP),
        (label::PART_OF, "zenop"),
        (label::INSTANCE, label_value(&owner.name)),
    ]);
    if !child.kept {
        labels.insert(label::OWNER_UID, &*owner.reference.uid);
    }
    labels
}

/// As much of a name as a label may hold.
fn label_value(name: &str) -> &str {
    let start = name.get(..63).unwrap_or(name);
    start.trim_end_matches(|c: char| !c.is_ascii_alphanumeric())
}

/// All labels of a child but the digest.
fn marks(owner: &Owner, child: &Child) -> Value {
    let mut marks = json!({"metadata": {"labels": our_labels(owner, child)}});
    let theirs = child.body.pointer("/metadata/labels").cloned();
    merge_metadata(
        &mut marks,
        json!({"labels": theirs.unwrap_or_else(|| json!({}))}),
    );
    marks
}

/// Adds to the metadata of a body; what it has already stays, but for maps, which are joined.
fn merge_metadata(body: &mut Value, extra: Value) {
    let Value::Object(fields) = body else { return };
    let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
    let (Value::Object(metadata), Value::Object(extra)) = (metadata, extra) else {
        return;
    };
    for (name, value) in extra {
        match (metadata.get_mut(&name), value) {
            (Some(Value::Object(old)), Value::Object(new)) => old.extend(new),
            (_, value) => {
                metadata.insert(name, value);
            }
        }
    }
}

/// Whether all that we want is there. What others added, and what the API server filled in, does
/// not count.
fn holds(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            wanted
                .iter()
                .all(|(name, value)| match (live.get(name), name.as_str()) {
                    // Lists by name, to which others may add.
                    (Some(live), "ownerReferences" | "containers" | "initContainers" | "ports")
                        if is_named(value) =>
                    {
                        contains_each(live, value)
                    }
                    (Some(live), _) => holds(live, value),
                    (None, _) => is_empty(value),
                })
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(l, w)| holds(l, w))
        }
        (live, wanted) => live == wanted,
    }
}

/// Those of a NetworkPolicy have no names: one more is not somebody's addition, but a hole.
fn is_named(list: &Value) -> bool {
    let mut items = list.as_array().into_iter().flatten();
    items.all(|item| item.get("name").is_some())
}

fn contains_each(live: &Value, wanted: &Value) -> bool {
    let (Some(live), Some(wanted)) = (live.as_array(), wanted.as_array()) else {
        return false;
    };
    wanted.iter().all(|w| live.iter().any(|l| holds(l, w)))
}

/// The API server drops what is empty.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn is_created(entry: &Value) -> bool {
    entry.get("manager").and_then(Value::as_str) == Some(FIELD_MANAGER)
        && entry.get("operation").and_then(Value::as_str) == Some("Update")
        && entry.get("subresource").is_none()
}

#[cfg(test)]
mod tests {
    use kube::core::ApiResource;
    use proptest::prelude::*;

    use super::*;

    fn owner() -> Owner {
        let reference = OwnerReference {
            uid: "u1".into(),
            controller: Some(true),
            ..Default::default()
        };
        Owner {
            namespace: "ml".into(),
            name: "prod".into(),
            reference,
        }
    }

    fn child(body: Value, live: Option<Live>) -> Child {
        let resource = ApiResource::erase::<k8s_openapi::api::core::v1::Service>(&());
        Child {
            resource,
            name: "prod".into(),
            body,
            live,
            create_only: false,
            adopts: false,
            kept: false,
        }
    }

    fn live_of(uid: &str, body: Value) -> Live {
        let controller = OwnerReference {
            uid: uid.into(),
            ..Default::default()
        };
        Live {
            uid: "x".into(),
            resource_version: "1".into(),
            controller: Some(controller),
            body,
        }
    }

    fn kept(child: &Child) -> bool {
        let body = complete(&owner(), child);
        matches!(decide(&owner(), child, &body), Decision::Keep)
    }

    #[test]
    fn what_was_applied_is_kept_whatever_others_added() {
        let wanted = json!({"spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}});
        let mut body = complete(&owner(), &child(wanted.clone(), None));
        body["spec"]["clusterIP"] = json!("10.0.0.1");
        body["spec"]["ports"][0]["protocol"] = json!("TCP");
        body["metadata"]["labels"]["theirs"] = json!("1");
        body["metadata"]["ownerReferences"]
            .as_array_mut()
            .unwrap()
            .push(json!({"uid": "other"}));
        let live = |body: &Value| Some(live_of("u1", body.clone()));
        assert!(kept(&child(wanted.clone(), live(&body))));

        let dropped = json!({"spec": {"ports": [{"port": 80}]}});
        assert!(
            !kept(&child(dropped, live(&body))),
            "a field that we do not set any more"
        );
        body["spec"]["ports"][0]["port"] = json!(81);
        assert!(
            !kept(&child(wanted, live(&body))),
            "a field that somebody edited"
        );
    }

    #[test]
    fn what_is_somebody_elses_is_refused_whatever_it_says() {
        for create_only in [false, true] {
            let live = live_of("u2", json!({}));
            let child = Child {
                create_only,
                ..child(json!({}), Some(live))
            };
            let body = complete(&owner(), &child);
            assert!(matches!(
                decide(&owner(), &child, &body),
                Decision::Refuse(_)
            ));
        }
    }

    #[test]
    fn what_stays_is_taken_up_by_the_next_of_its_name_and_by_nobody_else() {
        let wanted = json!({"spec": {"size": 1}});
        let stays = |live| Child {
            kept: true,
            ..child(wanted.clone(), live)
        };
        let mut body = complete(&owner(), &stays(None));
        assert!(body["metadata"].get("ownerReferences").is_none());
        let unowned = |body: &Value| {
            Some(Live {
                controller: None,
                ..live_of("", body.clone())
            })
        };
        assert!(kept(&stays(unowned(&body))));
        let others = stays(Some(live_of("u2", body.clone())));
        body["metadata"]["labels"][label::INSTANCE] = json!("other");
        for child in [others, stays(unowned(&body)), stays(unowned(&json!({})))] {
            let body = complete(&owner(), &child);
            assert!(matches!(
                decide(&owner(), &child, &body),
                Decision::Refuse(_)
            ));
        }
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            "[a-c]{0,2}".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c]", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn anything_holds_itself(value in json_value()) {
            prop_assert!(holds(&value, &value));
        }
    }
}
