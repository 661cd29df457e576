//! Which ZenSecrets take values from a Secret that somebody else keeps, so that a change there is
//! heard of and nobody has to ask again and again. Of such Secrets the metadata is watched, and
//! nothing is kept but the version of those that are taken from.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::{reflector::ObjectRef, watcher::Event};
use parking_lot::Mutex;

use crate::{
    api::ZenSecret,
    reconcile::{echo::Uid, made::Place, watch::Seen},
};

/// The Secrets of others that values are taken from. Clones are the same.
#[derive(Clone, Default)]
pub struct Sources(Arc<Mutex<Index>>);

#[derive(Default)]
struct Index {
    at: HashMap<Place, Source>,
    /// By the UID of the ZenSecret.
    of: HashMap<Uid, Vec<Place>>,
}

#[derive(Default)]
struct Source {
    /// The version that was seen last; none, while there is no such Secret.
    version: Option<Box<str>>,
    /// The ZenSecrets of the namespace that take from it.
    takers: Vec<Box<str>>,
}

impl Sources {
    /// Takes in what a ZenSecret takes from.
    pub fn note(&self, seen: &Seen<ZenSecret>) {
        let secret = seen.object();
        let meta = &secret.metadata;
        let (uid, name) = (meta.uid.as_deref(), meta.name.as_deref());
        let (uid, name) = (uid.unwrap_or_default(), name.unwrap_or_default());
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let from = secret.spec.data.iter().filter_map(|entry| {
            let from = entry.value_from.as_ref()?;
            Some(Place::new(namespace, &from.secret_key_ref.name))
        });
        let now: HashSet<Place> = match seen {
            Seen::Changed(_) => from.collect(),
            Seen::Gone(_) => HashSet::new(),
        };
        let index = &mut *self.0.lock();
        let before = index.of.remove(&Uid::from(uid)).unwrap_or_default();
        for place in before.iter().filter(|place| !now.contains(*place)) {
            if let Some(source) = index.at.get_mut(place) {
                source.takers.retain(|taker| **taker != *name);
                if source.takers.is_empty() {
                    index.at.remove(place);
                }
            }
        }
        if now.is_empty() {
            return;
        }
        // Thousands may take from one: none of them is looked for.
        for place in now.iter().filter(|place| !before.contains(place)) {
            let source = index.at.entry(place.clone()).or_default();
            source.takers.push(name.into());
        }
        let shared = now.iter().filter_map(|place| index.at.get_key_value(place));
        let shared = shared.map(|(place, _)| place.clone()).collect();
        index.of.insert(Uid::from(uid), shared);
    }

    /// The ZenSecrets that take from a Secret.
    pub fn takers(&self, place: &Place) -> Vec<ObjectRef<ZenSecret>> {
        let index = self.0.lock();
        let source = index.at.get(place);
        let takers = source.iter().flat_map(|source| &source.takers);
        takers
            .map(|name| ObjectRef::new(name).within(place.namespace()))
            .collect()
    }

    /// Takes in what a watch of others' Secrets gives, and says which of those that are taken from
    /// changed. Who begins to take from one reads it then, and need not have been told before.
    pub fn keeper(&self) -> impl FnMut(Event<ObjectMeta>) -> Vec<Seen<Place>> + Send + use<> {
        let sources = self.clone();
        let mut listed = HashSet::new();
        move |event| {
            let index = &mut *sources.0.lock();
            match event {
                Event::Init => {
                    listed.clear();
                    Vec::new()
                }
                Event::InitApply(meta) => {
                    let place = place(&meta);
                    let changed = index.see(&place, meta.resource_version.as_deref());
                    if index.at.contains_key(&place) {
                        listed.insert(place);
                    }
                    changed
                }
                Event::Apply(meta) => index.see(&place(&meta), meta.resource_version.as_deref()),
                Event::Delete(meta) => index.see(&place(&meta), None),
                Event::InitDone => {
                    let is_gone = |(at, source): &(&Place, &Source)| {
                        source.version.is_some() && !listed.contains(*at)
                    };
                    let gone = index.at.iter().filter(is_gone).map(|(at, _)| at.clone());
                    let gone: Vec<Place> = gone.collect();
                    let gone = gone.iter().flat_map(|place| index.see(place, None));
                    gone.collect()
                }
            }
        }
    }
}

impl Index {
    fn see(&mut self, place: &Place, version: Option<&str>) -> Vec<Seen<Place>> {
        let Some(source) = self.at.get_mut(place) else {
            return Vec::new();
        };
        if source.version.as_deref() == version {
            return Vec::new();
        }
        source.version = version.map(Into::into);
        let place = Arc::new(place.clone());
        vec![match version {
            Some(_) => Seen::Changed(place),
            None => Seen::Gone(place),
        }]
    }
}

fn place(meta: &ObjectMeta) -> Place {
    Place::new(
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn takes(uid: &str, from: &[&str]) -> Seen<ZenSecret> {
        let entry = |name: &&str| json!({"key": name, "valueFrom": {"secretKeyRef": {"name": name, "key": "k"}}});
        let data: Vec<_> = from.iter().map(entry).collect();
        let secret = json!({
            "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenSecret",
            "metadata": {"name": uid, "namespace": "ml", "uid": uid},
            "spec": {"serverRef": {"name": "prod"}, "data": data},
        });
        Seen::Changed(Arc::new(serde_json::from_value(secret).unwrap()))
    }

    fn meta(name: &str, version: &str) -> ObjectMeta {
        let meta = json!({"namespace": "ml", "name": name, "resourceVersion": version});
        serde_json::from_value(meta).unwrap()
    }

    fn names(told: Vec<Seen<Place>>) -> Vec<String> {
        let mut names: Vec<_> = told
            .iter()
            .map(|seen| seen.object().name().to_owned())
            .collect();
        names.sort();
        names
    }

    fn takers(sources: &Sources, name: &str) -> Vec<String> {
        let takers = sources.takers(&Place::new("ml", name));
        let mut takers: Vec<_> = takers.into_iter().map(|taker| taker.name).collect();
        takers.sort();
        takers
    }

    #[test]
    fn a_change_is_told_to_those_who_take_from_it() {
        let sources = Sources::default();
        let mut keep = sources.keeper();
        assert!(
            keep(Event::Apply(meta("vault", "1"))).is_empty(),
            "nobody takes from it"
        );
        sources.note(&takes("a", &["vault", "other"]));
        sources.note(&takes("b", &["vault"]));
        sources.note(&takes("b", &["vault"]));
        assert_eq!(takers(&sources, "vault"), ["a", "b"]);
        assert_eq!(names(keep(Event::Apply(meta("vault", "2")))), ["vault"]);
        assert!(
            keep(Event::Apply(meta("vault", "2"))).is_empty(),
            "it is the same"
        );
        assert_eq!(names(keep(Event::Delete(meta("vault", "3")))), ["vault"]);

        sources.note(&takes("a", &["other"]));
        let gone = takes("b", &["vault"]);
        sources.note(&Seen::Gone(Arc::clone(gone.object())));
        assert!(takers(&sources, "vault").is_empty());
        assert!(keep(Event::Apply(meta("vault", "4"))).is_empty());
        assert_eq!(
            sources.0.lock().at.len(),
            1,
            "what nobody takes from is forgotten"
        );
    }

    #[test]
    fn a_list_tells_what_was_missed() {
        let sources = Sources::default();
        let mut keep = sources.keeper();
        sources.note(&takes("a", &["kept", "changed", "gone", "new"]));
        for name in ["kept", "changed", "gone"] {
            keep(Event::Apply(meta(name, "1")));
        }
        let mut told = keep(Event::Init);
        for (name, version) in [
            ("kept", "1"),
            ("changed", "2"),
            ("new", "3"),
            ("theirs", "4"),
        ] {
            told.extend(keep(Event::InitApply(meta(name, version))));
        }
        told.extend(keep(Event::InitDone));
        assert_eq!(names(told), ["changed", "gone", "new"]);
    }
}
