//! The Role by which a server's pods may read the values of its secrets.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use zenop::api::{ZenSecret, ZenServer};
use zenop_cluster::fault::Match;

use crate::support::{Site, garbage_collector, ready, secret, server, site};

const ROLE: &str = "prod.secrets";

fn drawn(name: &str) -> Value {
    secret(name, json!([{"key": "k", "generate": {}}]))
}

/// The names in a Role whose only right is to get Secrets of those names.
fn names(role: &Role) -> Vec<String> {
    let rules = role.rules.iter().flatten();
    let names = rules.flat_map(|rule| {
        assert_eq!(rule.verbs, ["get"]);
        assert_eq!(rule.resources.as_deref(), Some(&["secrets".to_owned()][..]));
        let names = rule.resource_names.clone().unwrap_or_default();
        assert!(!names.is_empty(), "a right to all Secrets");
        names
    });
    names.collect()
}

async fn grants(site: &Site, wanted: &[&str]) -> Result<Role> {
    let is = |role: &Role| names(role) == wanted;
    site.until(ROLE, &format!("one of {wanted:?}"), is).await
}

#[tokio::test]
async fn it_names_what_is_delivered_and_is_repaired() -> Result<()> {
    garbage_collector().await?;
    site("readable", async |site| {
        let operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        site.until::<ZenServer>("prod", "seen", |server| server.status.is_some())
            .await?;
        site.settled().await?;
        // Who has no secrets has no such Role.
        ensure!(site.api::<Role>().get_opt(ROLE).await?.is_none());
        for name in ["b", "a"] {
            site.apply(&drawn(name)).await?;
        }
        grants(site, &["a", "b"]).await?;
        let binding: RoleBinding = site.until(ROLE, "made", |_| true).await?;
        let subjects = binding.subjects.context("of nobody")?;
        ensure!(
            subjects.len() == 1 && subjects[0].name == "prod",
            "{subjects:?}"
        );

        // Others' additions, and what they take away.
        let all = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["*"]}]);
        for rules in [all, json!([])] {
            let patch = Patch::Merge(json!({"rules": rules}));
            let parameters = PatchParams::default();
            site.api::<Role>().patch(ROLE, &parameters, &patch).await?;
            let is = |role: &Role| {
                let rules = role.rules.as_deref().unwrap_or_default();
                rules.len() == 1 && rules[0].verbs == ["get"] && names(role).len() == 2
            };
            site.until(ROLE, "repaired", is).await?;
        }
        site.delete::<Role>(ROLE).await?;
        grants(site, &["a", "b"]).await?;
        site.delete::<RoleBinding>(ROLE).await?;
        site.until::<RoleBinding>(ROLE, "made again", |_| true)
            .await?;

        // A renamed Secret, and one that goes.
        let renamed = json!({"spec": {"target": {"secretName": "z"}}});
        let (parameters, patch) = (PatchParams::default(), Patch::Merge(renamed));
        site.api::<ZenSecret>()
            .patch("a", &parameters, &patch)
            .await?;
        grants(site, &["b", "z"]).await?;
        site.delete::<ZenSecret>("a").await?;
        grants(site, &["b"]).await?;
        // While nobody works, a secret goes; the next operator takes the right back.
        operator.stop().await?;
        site.delete::<ZenSecret>("b").await?;
        let next = site.operator().await?;
        let role = grants(site, &[]).await?;
        ensure!(role.rules.is_none_or(|rules| rules.is_empty()));
        next.stop().await
    })
    .await
}

/// The Role of somebody else under that name is left alone.
#[tokio::test]
async fn somebody_elses_role_is_left_alone() -> Result<()> {
    site("readable-foreign", async |site| {
        let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
        let foreign = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": ROLE}, "rules": rules,
        });
        let before = site.apply(&foreign).await?;
        let operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        site.apply(&drawn("a")).await?;
        site.until::<ZenSecret>("a", "Ready", ready).await?;
        operator
            .log
            .says(&["the right to read values was not granted"])
            .await?;
        let after: Role = site.api().get(ROLE).await?;
        ensure!(after.metadata.resource_version == before.metadata.resource_version);
        ensure!(site.api::<RoleBinding>().get_opt(ROLE).await?.is_none());
        operator.stop().await
    })
    .await
}

/// Many secrets made at once cost the Role a write a second or so, and none once they are there, also
/// not to an operator that begins.
#[tokio::test]
async fn many_secrets_cost_it_few_writes() -> Result<()> {
    site("readable-many", async |site| {
        let operator = site.operator().await?;
        site.apply(&server("prod")).await?;
        let writes = || {
            let all = site.proxy.since(0, &Match::writes().on("roles"));
            all.iter().filter(|call| call.name == ROLE).count()
        };
        #[expect(clippy::disallowed_methods, reason = "the test measures real time")]
        let begun = Instant::now();
        let wanted: Vec<String> = (0..300).map(|n| format!("s{n:03}")).collect();
        stream::iter(
            wanted
                .iter()
                .map(|name| async move { site.apply(&drawn(name)).await.map(drop) }),
        )
        .buffer_unordered(16)
        .try_collect::<()>()
        .await?;
        site.until(ROLE, "one of all", |role: &Role| names(role) == wanted)
            .await?;
        let (took, writes_then) = (begun.elapsed(), writes());
        let most = took.as_secs_f64() * 1.1 + 3.0;
        ensure!(
            (writes_then as f64) < most,
            "{writes_then} writes in {took:?}"
        );
        site.settled().await?;
        site.no_write(Duration::from_secs(2)).await?;
        operator.stop().await?;
        let before = writes();
        let next = site.operator().await?;
        site.settled().await?;
        ensure!(writes() == before, "a write to what is as it should be");
        next.stop().await
    })
    .await
}
