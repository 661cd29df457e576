//! Objects that Flux, Argo CD or Helm applies from files.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use zenop::api::ZenAPIKey;

use crate::{
    support::{key, site, with},
    zen::Zen,
};

fn marks() -> [(&'static str, &'static str, Value); 4] {
    [
        (
            "flux",
            "Flux (Kustomization) flux-system/apps",
            json!({"labels": {
                "kustomize.toolkit.fluxcd.io/name": "apps",
                "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
            }}),
        ),
        (
            "argo",
            "Argo CD (Application) team",
            json!({"annotations": {"argocd.argoproj.io/tracking-id": "team:zenop.dev/ZenAPIKey:ml/x"}}),
        ),
        (
            "helm",
            "Helm (release) ml/zen",
            json!({
                "labels": {"app.kubernetes.io/managed-by": "Helm"},
                "annotations": {
                    "meta.helm.sh/release-name": "zen", "meta.helm.sh/release-namespace": "ml",
                },
            }),
        ),
        ("plain", "Flux (Kustomization)", json!({})),
    ]
}

#[tokio::test]
async fn what_a_tool_applies_is_changed_in_its_files_but_killed_at_once() -> Result<()> {
    site("cli-managed", async |site| {
        let zen = Zen::new(site);
        for (name, owner, metadata) in marks() {
            let mut object = with(key(name), "spec.active", json!(true));
            for (field, value) in metadata.as_object().into_iter().flatten() {
                object["metadata"][field] = value.clone();
            }
            site.apply_as("kustomize-controller", &object).await?;
            let now = async || site.api::<ZenAPIKey>().get(name).await;

            let refused = zen
                .fails(4, &["key", "rotate", name, "--retain", "2h"])
                .await?;
            for part in [owner, "trigger: ", "retainFor: 2h", "--override"] {
                ensure!(refused.contains(part), "no {part} in {refused}");
            }
            ensure!(now().await?.spec.rotation.trigger.is_none());
            zen.ok(&["key", "rotate", name, "--override"]).await?;
            ensure!(now().await?.spec.rotation.trigger.is_some());

            // An emergency does not wait for a merge.
            let done = zen.run(&["key", "deactivate", name]).await?;
            ensure!(done.code == 0, "{done:?}");
            for part in ["warning: ", owner, "To make it last", "active: false"] {
                ensure!(done.err.contains(part), "no {part} in {}", done.err);
            }
            ensure!(!now().await?.spec.active);

            let refused = zen.fails(4, &["key", "activate", name]).await?;
            ensure!(refused.contains("active: true"), "{refused}");
            zen.ok(&["key", "activate", name, "--override"]).await?;
            let refused = zen.fails(4, &["key", "delete", name, "--yes"]).await?;
            ensure!(refused.contains(owner), "{refused}");
            let said = zen.ok(&["key", "describe", name]).await?;
            ensure!(said.contains(owner), "{said}");
            zen.ok(&["key", "delete", name, "--yes", "--override"])
                .await?;
        }
        Ok(())
    })
    .await
}
