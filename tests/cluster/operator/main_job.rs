//! Server, account and key are applied; a Secret that a client can use comes out.

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Secret, Service, ServiceAccount},
    rbac::v1::{Role, RoleBinding},
};
use kube::{Resource, ResourceExt};
use zenop::api::{ZenAPIKey, ZenServer, ZenServiceAccount, label};

use crate::support::{Site, account, entry, key, ready, server, site};

#[tokio::test]
async fn any_order_of_apply_ends_with_the_same() -> Result<()> {
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    let runs = orders.map(|order| {
        site("order", async move |site| {
            let _operator = site.operator().await?;
            let objects = [server("prod"), account("ci"), key("main")];
            for index in order {
                site.apply(&objects[index]).await?;
                // What comes later finds the others settled on its absence.
                site.quiet(std::time::Duration::from_millis(300)).await?;
            }
            site.key_ready("main", 1).await?;
            site.until::<ZenServiceAccount>("ci", "Ready", ready)
                .await?;
            delivered_as_promised(site).await
        })
    });
    try_join_all(runs).await.map(drop)
}

async fn delivered_as_promised(site: &Site) -> Result<()> {
    site.check_delivered("main", 1).await?;
    let secret: Secret = site.api().get("main-key").await?;
    let entries: Vec<_> = secret.data.iter().flatten().map(|(name, _)| name).collect();
    ensure!(
        entries == ["ZENML_STORE_API_KEY", "ZENML_STORE_URL"],
        "{entries:?}"
    );
    let url = format!("http://prod.{}.svc", site.name());
    ensure!(entry(&secret, "ZENML_STORE_URL") == Some(url));
    let key: ZenAPIKey = site.api().get("main").await?;
    ensure!(secret.owner_references().len() == 1);
    ensure!(secret.owner_references()[0].uid == key.uid().context("no uid")?);
    let server: ZenServer = site.api().get("prod").await?;
    let owner = server.uid().context("no uid")?;
    owned::<Deployment>(site, &owner, "prod").await?;
    owned::<Service>(site, &owner, "prod").await?;
    owned::<ServiceAccount>(site, &owner, "prod").await?;
    owned::<Role>(site, &owner, "prod").await?;
    owned::<RoleBinding>(site, &owner, "prod").await?;
    owned::<Secret>(site, &owner, "prod-auth").await
}

async fn owned<K>(site: &Site, owner: &str, name: &str) -> Result<()>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let child = site.api::<K>().get(name).await?;
    let kind = K::kind(&());
    ensure!(
        child
            .labels()
            .get(label::OWNER_UID)
            .is_some_and(|uid| uid == owner),
        "{kind}"
    );
    ensure!(
        child.owner_references().iter().any(|o| o.uid == owner),
        "{kind}"
    );
    Ok(())
}
