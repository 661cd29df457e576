//! Kinds that a cluster has or has not, such as those of the Gateway API: found when somebody wants
//! one, and watched from then on.

use std::{collections::BTreeSet, sync::Arc};

use kube::core::ApiResource;
use tokio::sync::watch;

/// Which of them were found. Clones are the same.
#[derive(Clone, Debug)]
pub struct Elsewhere(Arc<watch::Sender<BTreeSet<String>>>);

impl Default for Elsewhere {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(BTreeSet::new())))
    }
}

impl Elsewhere {
    /// The cluster has it.
    pub fn saw(&self, resource: &ApiResource) {
        self.0
            .send_if_modified(|found| found.insert(resource.kind.clone()));
    }

    /// Returns once the cluster has it.
    pub async fn seen(&self, kind: &str) {
        let mut found = self.0.subscribe();
        // Fails when nobody is left who could say, and we are one of them.
        let _ = found.wait_for(|found| found.contains(kind)).await;
    }
}
