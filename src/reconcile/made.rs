//! What is kept of the objects that we made: of ten thousand Secrets' metadata the few words that anybody asks for.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Resource,
    runtime::{reflector::ObjectRef, watcher::Event},
};
use parking_lot::RwLock;

use super::{driver::label, watch::Seen};
use crate::api::label;

/// Where an object is: its namespace and name, of which neither has a slash in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(Arc<str>);

impl Place {
    /// This place.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self(format!("{namespace}/{name}").into())
    }

    /// Where the object of a reference is.
    pub fn of<K: Resource>(object: &ObjectRef<K>) -> Self {
        Self::new(
            object.namespace.as_deref().unwrap_or_default(),
            &object.name,
        )
    }

    /// The object of a kind at this place.
    pub fn to_ref<K: Resource<DynamicType = ()>>(&self) -> ObjectRef<K> {
        ObjectRef::new(self.name()).within(self.namespace())
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        self.0
            .split_once('/')
            .map_or("", |(namespace, _)| namespace)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, name)| name)
    }
}

/// An object that we made, as last seen.
#[derive(Debug, PartialEq, Eq)]
pub struct Made {
    place: Place,
    /// Its UID.
    pub uid: Box<str>,
    /// Its version.
    pub version: Box<str>,
    /// The UID of the object for which we made it, as its label says.
    pub made_for: Option<Arc<str>>,
    /// To whom it belongs.
    pub controller: Option<Controller>,
    /// The generation of the key in it, if it is a delivered Secret.
    pub key_generation: Option<i64>,
    /// Whether it says that it is the record of a deleted object.
    pub is_record: bool,
}

/// To whom an object belongs.
#[derive(Debug, PartialEq, Eq)]
pub struct Controller {
    /// One of our kinds, or `other`.
    pub kind: &'static str,
    /// Its name, in the same namespace.
    pub name: Box<str>,
    /// Its UID.
    pub uid: Arc<str>,
}

impl Made {
    /// What of an object's metadata is kept.
    pub fn of(meta: &ObjectMeta) -> Self {
        let label = |name| meta.labels.as_ref().and_then(|labels| labels.get(name));
        let made_for = label(label::OWNER_UID).map(|uid| Arc::<str>::from(&**uid));
        let owners = meta.owner_references.iter().flatten();
        let controller = owners
            .into_iter()
            .find(|owner| owner.controller == Some(true))
            .map(|owner| Controller {
                kind: self::label(&owner.kind),
                name: owner.name.as_str().into(),
                uid: match &made_for {
                    Some(uid) if **uid == owner.uid => Arc::clone(uid),
                    _ => owner.uid.as_str().into(),
                },
            });
        let text = |text: &Option<String>| text.as_deref().unwrap_or_default().into();
        Self {
            place: Place::new(
                meta.namespace.as_deref().unwrap_or_default(),
                meta.name.as_deref().unwrap_or_default(),
            ),
            uid: text(&meta.uid),
            version: text(&meta.resource_version),
            is_record: label(label::RECORD).is_some(),
            key_generation: label(label::KEY_GENERATION).and_then(|number| number.parse().ok()),
            made_for,
            controller,
        }
    }

    /// Where it is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        self.place.namespace()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.place.name()
    }

    /// The UID of the object for which we made it and to which it still belongs.
    pub fn owner(&self) -> Option<&Arc<str>> {
        let controller = self.controller.as_ref()?;
        self.made_for.as_ref().filter(|uid| **uid == controller.uid)
    }
}

/// All of a kind that we made. Clones are the same view.
#[derive(Clone, Debug, Default)]
pub struct View(Arc<RwLock<Index>>);

#[derive(Debug, Default)]
struct Index {
    by_place: HashMap<Place, Arc<Made>>,
    by_owner: HashMap<Arc<str>, Vec<Arc<Made>>>,
}

impl View {
    /// The object of this name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Made>> {
        let made = self.0.read();
        made.by_place.get(&Place::new(namespace, name)).cloned()
    }

    /// The records of deleted objects.
    pub fn records(&self) -> Vec<Arc<Made>> {
        let made = self.0.read();
        let records = made.by_place.values().filter(|made| made.is_record);
        records.cloned().collect()
    }

    /// All that we made for the object with this UID and that still belong to it.
    pub fn of_owner(&self, uid: &str) -> Vec<Arc<Made>> {
        self.0.read().by_owner.get(uid).cloned().unwrap_or_default()
    }

    /// Takes what a watch gives into the view, and says what changed by it. A list says nothing of
    /// what is gone; it is what was there before and is not any more.
    pub fn keeper(&self) -> impl FnMut(Event<ObjectMeta>) -> Vec<Seen<Made>> + Send + use<> {
        let view = self.clone();
        let mut listing = Index::default();
        move |event| match event {
            Event::Apply(meta) => {
                let made = Arc::new(Made::of(&meta));
                view.0.write().insert(Arc::clone(&made));
                vec![Seen::Changed(made)]
            }
            Event::Delete(meta) => {
                let made = Arc::new(Made::of(&meta));
                view.0.write().remove(&made.place);
                vec![Seen::Gone(made)]
            }
            Event::Init => {
                listing = Index::default();
                Vec::new()
            }
            Event::InitApply(meta) => {
                listing.insert(Arc::new(Made::of(&meta)));
                Vec::new()
            }
            Event::InitDone => {
                let before = std::mem::replace(&mut *view.0.write(), std::mem::take(&mut listing));
                view.news_since(before)
            }
        }
    }

    /// What is gone since then, and what is new or changed.
    fn news_since(&self, before: Index) -> Vec<Seen<Made>> {
        let mut before = before.by_place;
        let now = self.0.read();
        let is_news = |made: &&Arc<Made>| match before.get(&made.place) {
            Some(old) if old.uid == made.uid => {
                let same = old.version == made.version;
                before.remove(&made.place);
                !same
            }
            _ => true,
        };
        let news: Vec<_> = now.by_place.values().filter(is_news).cloned().collect();
        let gone = before.into_values().map(Seen::Gone);
        gone.chain(news.into_iter().map(Seen::Changed)).collect()
    }
}

impl Index {
    fn insert(&mut self, made: Arc<Made>) {
        self.remove(&made.place);
        if let Some(owner) = made.owner() {
            let all = self.by_owner.entry(Arc::clone(owner)).or_default();
            all.reserve_exact(1);
            all.push(Arc::clone(&made));
        }
        self.by_place.insert(made.place.clone(), made);
    }

    fn remove(&mut self, place: &Place) {
        let Some(old) = self.by_place.remove(place) else {
            return;
        };
        let Some(owner) = old.owner() else { return };
        if let Some(all) = self.by_owner.get_mut(owner) {
            all.retain(|made| made.place != *place);
            if all.is_empty() {
                self.by_owner.remove(owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn meta(name: &str, uid: &str, version: &str, made_for: &str, owner: &str) -> ObjectMeta {
        serde_json::from_value(json!({
            "namespace": "ml", "name": name, "uid": uid, "resourceVersion": version,
            "labels": {"zenop.dev/owner-uid": made_for, "zenop.dev/key-generation": "3"},
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x"},
                {"apiVersion": "zenop.dev/v1alpha1", "kind": "ZenAPIKey", "name": "main", "uid": owner, "controller": true},
            ],
        }))
        .unwrap()
    }

    fn said(seen: &[Seen<Made>]) -> Vec<String> {
        let said = |seen: &Seen<Made>| match seen {
            Seen::Changed(made) => format!("changed {} {}", made.name(), made.version),
            Seen::Gone(made) => format!("gone {} {}", made.name(), made.uid),
        };
        let mut all: Vec<_> = seen.iter().map(said).collect();
        all.sort();
        all
    }

    #[test]
    fn an_object_is_found_by_its_name_and_by_its_owner() {
        let view = View::default();
        view.keeper()(Event::Apply(meta("a", "1", "10", "o", "o")));
        let made = view.get("ml", "a").unwrap();
        let controller = made.controller.as_ref().unwrap();
        assert_eq!((made.namespace(), made.name()), ("ml", "a"));
        assert_eq!((controller.kind, &*controller.name), ("ZenAPIKey", "main"));
        assert_eq!(made.key_generation, Some(3));
        assert_eq!(view.of_owner("o"), [made]);
        assert!(view.of_owner("x").is_empty() && view.get("other", "a").is_none());
    }

    #[test]
    fn it_is_of_nobody_once_mark_and_owner_differ_and_of_another_if_both_change() {
        let view = View::default();
        let mut keep = view.keeper();
        keep(Event::Apply(meta("a", "1", "10", "o", "o")));
        keep(Event::Apply(meta("a", "1", "11", "o", "p")));
        assert!(view.of_owner("o").is_empty() && view.of_owner("p").is_empty());
        keep(Event::Apply(meta("a", "1", "12", "p", "p")));
        assert_eq!(view.of_owner("p").len(), 1);
        keep(Event::Delete(meta("a", "1", "13", "p", "p")));
        assert!(view.of_owner("p").is_empty() && view.get("ml", "a").is_none());
    }

    #[test]
    fn a_list_tells_what_is_new_changed_made_again_and_gone_and_nothing_else() {
        let view = View::default();
        let mut keep = view.keeper();
        for name in ["same", "changed", "again", "gone"] {
            keep(Event::Apply(meta(name, name, "10", "o", "o")));
        }
        keep(Event::Init);
        keep(Event::InitApply(meta("same", "same", "10", "o", "o")));
        keep(Event::InitApply(meta("changed", "changed", "11", "o", "o")));
        keep(Event::InitApply(meta("again", "other", "12", "o", "o")));
        assert!(
            view.get("ml", "gone").is_some(),
            "until the list is complete the view is the old one"
        );
        let seen = keep(Event::InitDone);
        assert_eq!(
            said(&seen),
            [
                "changed again 12",
                "changed changed 11",
                "gone again again",
                "gone gone gone"
            ]
        );
        assert_eq!(view.of_owner("o").len(), 3);
    }
}
