//! Components: listed, explained, and their values asked for.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use zenop::api::{ReferenceState, ZenComponent, ZenSecret};

use crate::{
    support::{component, ready, secret, server, site, with},
    zen::Zen,
};

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
async fn what_components_lack_is_told_asked_for_and_sealed() -> Result<()> {
    site("cli-component", async |site| {
        let _operator = site.operator().await?;
        let zen = Zen::new(site);
        site.apply(&server("prod")).await?;
        site.sealing(|_| true).await?;
        let attributes = json!({"user": "{{Mlflow.user}}", "pass": "{{Mlflow.pass}}", "uri": "x"});
        site.apply(&component("tracker", attributes)).await?;
        let half = json!([{"key": "token", "generate": {}}]);
        site.apply(&secret("half", half)).await?;
        site.until("half", "Ready", ready::<ZenSecret>).await?;
        site.apply(&component(
            "store",
            json!({"key": "{{half.other}}", "token": "{{half.token}}"}),
        ))
        .await?;
        let state = |n: usize, wanted| {
            move |c: &ZenComponent| {
                let status = c.status.as_ref();
                status.is_some_and(|s| s.references.get(n).is_some_and(|r| r.state == wanted))
            }
        };
        let missing = state(0, ReferenceState::SecretMissing);
        site.until("tracker", "judged", missing).await?;
        let keyless = state(0, ReferenceState::KeyMissing);
        site.until("store", "judged", keyless).await?;

        let told = zen.run(&["component", "refs", "store"]).await?;
        ensure!(
            told.code == 1 && told.err.contains("not resolved"),
            "{told:?}"
        );
        let lines: Vec<Vec<&str>> = told
            .out
            .lines()
            .map(|l| l.split_whitespace().collect())
            .collect();
        ensure!(
            lines[0] == ["PATH", "REFERENCE", "SCOPE", "STATE", "REMEDY"],
            "{told:?}"
        );
        let wanted = [
            "/key",
            "{{half.other}}",
            "Workspace",
            "KeyMissing",
            "kubectl",
            "zen",
        ];
        ensure!(lines[1][..6] == wanted, "{told:?}");
        let wanted = ["/token", "{{half.token}}", "Workspace", "Resolved", "-"];
        ensure!(lines[2] == wanted, "{told:?}");
        let list = zen.ok(&["component", "list", "--server", "prod"]).await?;
        ensure!(
            list.contains("TYPE") && list.contains("experiment_tracker"),
            "{list}"
        );
        let described = zen.ok(&["component", "describe", "tracker"]).await?;
        ensure!(
            described.contains("{{Mlflow.user}}") && described.contains("SecretMissing"),
            "{described}"
        );
        let got = zen
            .run(&["component", "get", "tracker", "-o", "json"])
            .await?
            .json()?;
        ensure!(got["spec"]["flavor"] == "mlflow");
        zen.fails(3, &["component", "refs", "nobody"]).await?;

        // Nothing is written before all is known.
        let register = ["stack", "register-secrets"];
        let refused = zen.fails(2, &register).await?;
        ensure!(refused.contains("no terminal to answer at"), "{refused}");
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("values.yaml");
        let values = format!("@{}", path.display());
        let given = |text: &str| fs::write(&path, text);
        given("Mlflow.user: 'ana'")?;
        let from_file = [&register[..], &["--values", &values]].concat();
        let refused = zen.fails(2, &from_file).await?;
        ensure!(refused.contains("has no Mlflow.pass"), "{refused}");
        given("Mlflow.user: 'ana'\nMlflow.pass: hunter2\nhalf.other: x\nhalf.more: y")?;
        let refused = zen.fails(2, &from_file).await?;
        ensure!(
            refused.contains("half.more is given, and no component lacks it"),
            "{refused}"
        );
        let none = site.api::<ZenSecret>().get_opt("mlflow").await?;
        ensure!(none.is_none(), "half of it was written");

        given("Mlflow.user: 'ana'\nMlflow.pass: hunter2")?;
        let one = [
            "stack",
            "register-secrets",
            "tracker",
            "--values",
            &values,
            "--wait",
        ];
        let made = zen.ok(&one).await?;
        ensure!(
            made.contains("zensecret.zenop.dev/mlflow created"),
            "{made}"
        );
        site.until("tracker", "Ready", ready::<ZenComponent>)
            .await?;
        let object: ZenSecret = site.api().get("mlflow").await?;
        ensure!(object.zenml_name() == "Mlflow");
        let shown = serde_json::to_string(&object)?;
        ensure!(!shown.contains("hunter2"), "a value is in the resource");
        zen.ok(&["component", "refs", "tracker"]).await?;

        // What is generated stays, and what is missing is added; asked for at a terminal.
        let asked = zen
            .talks(&register, &[("Value of half.other: ", "s3cret")])
            .await?;
        ensure!(asked.code == 0, "{asked:?}");
        ensure!(
            !asked.err.contains("s3cret"),
            "what is typed is shown: {asked:?}"
        );
        site.until("store", "Ready", ready::<ZenComponent>).await?;
        let half: ZenSecret = site.api().get("half").await?;
        ensure!(half.spec.data.len() == 2);
        let again = zen.run(&register).await?;
        ensure!(
            again.code == 0 && again.err.contains("No value is missing"),
            "{again:?}"
        );

        // What is being waited for is not declared twice.
        let from =
            json!([{"key": "late", "valueFrom": {"secretKeyRef": {"name": "none", "key": "x"}}}]);
        site.apply(&secret("late", from)).await?;
        site.apply(&component("waits", json!({"a": "{{late.late}}"})))
            .await?;
        let keyless = state(0, ReferenceState::KeyMissing);
        site.until("waits", "judged", keyless).await?;
        given("late.late: x")?;
        let refused = zen
            .fails(
                4,
                &["stack", "register-secrets", "waits", "--values", &values],
            )
            .await?;
        ensure!(refused.contains("its value is not there yet"), "{refused}");
        let other = with(
            component("elsewhere", json!({})),
            "spec.serverRef",
            json!({"name": "test"}),
        );
        site.apply(&other).await?;
        let refused = zen
            .fails(
                2,
                &["stack", "register-secrets", "elsewhere", "--server", "prod"],
            )
            .await?;
        ensure!(refused.contains("say --server test"), "{refused}");
        zen.ok(&["component", "delete", "store", "--yes"]).await?;
        let gone = site.api::<ZenComponent>().get_opt("store").await?;
        ensure!(gone.is_none());
        site.api::<ZenComponent>()
            .get("tracker")
            .await
            .context("another went")
            .map(drop)
    })
    .await
}
