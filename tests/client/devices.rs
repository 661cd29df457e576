//! The device flow through several sidecars, crashes and harm, on a real API server.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use futures::future::{join_all, try_join_all};
use kube::{ResourceExt, api::ListParams};
use serde_json::{Value, json};
use uuid::Uuid;
use zenop::api::{DevicePhase, ZenDevice};
use zenop_cluster::fault::{Action, Match, Proxy, Rule, Verb, When};

use crate::{
    door::{Answer, Sidecar, delivered, free_address, set_up},
    support::{Operator, PATIENCE, Site, account, key, site, with},
};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
const LOG: &str = "error,kube_client=off";

/// What a device was told.
pub struct Begun {
    pub client: Uuid,
    device: String,
    user_code: String,
    form: String,
}

pub async fn begin(at: &Sidecar, client: Uuid) -> Result<Begun> {
    let form = format!("client_id={client}");
    let told = at.post("/device_authorization", &form).await?;
    let told = told.expect(200)?.json()?;
    let text = |name: &str| told[name].as_str().context("no text").map(str::to_owned);
    let link = text("verification_uri_complete")?;
    let code = text("device_code")?;
    Ok(Begun {
        client,
        device: link.split(['=', '&']).nth(1).context("no id")?.to_owned(),
        user_code: text("user_code")?,
        form: format!("grant_type={GRANT}&client_id={client}&device_code={code}"),
    })
}

impl Begun {
    pub async fn approve(&self, at: &Sidecar, token: &str) -> Result<Answer> {
        let path = format!("/{}/verify", self.device);
        let decision = json!({"user_code": self.user_code});
        at.on_device("PUT", &path, token, &decision).await
    }

    async fn poll(&self, at: &Sidecar) -> Result<Answer> {
        at.post("/login", &self.form).await
    }

    /// Polls until it is no more pending: another sidecar sees an approval a moment later.
    pub async fn decided(&self, at: &Sidecar) -> Result<Answer> {
        let decided = async {
            loop {
                let answer = self.poll(at).await?;
                if !["authorization_pending", "slow_down"].contains(&error(&answer)?.as_str()) {
                    return anyhow::Ok(answer);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, decided).await?
    }
}

fn error(answer: &Answer) -> Result<String> {
    Ok(answer.json()?["error"]
        .as_str()
        .unwrap_or_default()
        .to_owned())
}

pub fn token(answer: &Answer) -> Result<String> {
    let token = answer.json()?["access_token"].clone();
    Ok(token.as_str().context("no token")?.to_owned())
}

pub fn client(n: u128) -> Uuid {
    Uuid::from_u128(0xc11e_0000_0000_4000_8000_0000_0000_0000 + n)
}

pub async fn devices(site: &Site) -> Result<Vec<ZenDevice>> {
    let api = site.api::<ZenDevice>();
    Ok(api.list(&ListParams::default()).await?.items)
}

/// Two replicas, and the delivered key of account `ci`.
pub async fn pair(site: &Site) -> Result<(Operator, [Sidecar; 2], String)> {
    let addresses = [free_address()?, free_address()?];
    let operator = set_up(site, addresses[0], &[]).await?;
    let replicas = [
        Sidecar::start(site, addresses[0]).await?,
        Sidecar::start(site, addresses[1]).await?,
    ];
    let key = delivered(site, "main-key").await?;
    Ok((operator, replicas, key))
}

/// What is begun at one replica is approved at another, polled at a third, and a lock by anybody
/// ends it everywhere; the operator tells how it is.
#[tokio::test]
async fn any_replica_does_any_step_and_a_lock_ends_it_everywhere() -> Result<()> {
    site("dev-pair", async |site| {
        let (operator, [a, b], key) = pair(site).await?;
        let begun = begin(&a, client(1)).await?;
        ensure!(error(&begun.poll(&b).await?)? == "authorization_pending");
        ensure!(devices(site).await?.is_empty(), "nothing before approval");
        begun.approve(&b, &key).await?.expect(200)?;
        // V22: in a second tab.
        begun.approve(&a, &key).await?.expect(200)?;
        let granted = begun.decided(&a).await?.expect(200)?;
        ensure!(granted.json()?["expires_in"].as_i64() >= Some(86_390));
        let token = token(&granted)?;
        for replica in [&a, &b] {
            ensure!(replica.me(&token).await?.expect(200)?.json()?["name"] == "ci");
        }
        let all = devices(site).await?;
        ensure!(all.len() == 1, "{all:?}");
        let name = all[0].name_any();
        let in_state = |wanted: DevicePhase| {
            move |device: &ZenDevice| device.status.as_ref().and_then(|s| s.state) == Some(wanted)
        };
        site.until(&name, "active", in_state(DevicePhase::Active))
            .await?;

        let locked = |locked: bool| {
            json!({
                "apiVersion": "zenop.dev/v1alpha1", "kind": "ZenDevice",
                "metadata": {"name": name},
                "spec": {
                    "serverRef": {"name": "prod"}, "clientId": begun.client.to_string(),
                    "userRef": {"kind": "ZenServiceAccount", "name": "ci"}, "locked": locked,
                },
            })
        };
        site.apply(&locked(true)).await?;
        for replica in [&a, &b] {
            replica
                .until("aware of the lock", async || {
                    replica.me(&token).await.is_ok_and(|a| a.status == 401)
                })
                .await?;
        }
        site.until(&name, "locked", in_state(DevicePhase::Locked))
            .await?;
        // Who locked it here is somebody else: neither unlocked nor approved anew through the API.
        let path = format!("/{}", begun.device);
        let unlock = json!({"locked": false});
        let refused = a
            .on_device("PUT", &path, &key, &unlock)
            .await?
            .expect(409)?;
        ensure!(
            refused.body.contains("declared in Kubernetes"),
            "{refused:?}"
        );
        a.on_device("DELETE", &path, &key, &Value::Null)
            .await?
            .expect(409)?;
        let again = begin(&a, client(1)).await?;
        again.approve(&a, &key).await?.expect(403)?;
        site.apply(&locked(false)).await?;
        for replica in [&a, &b] {
            replica
                .until("aware of the unlocking", async || {
                    replica.me(&token).await.is_ok_and(|a| a.status == 200)
                })
                .await?;
        }
        operator.stop().await
    })
    .await
}

/// attacks.md D24.
#[tokio::test]
async fn d24_of_a_hundred_parallel_redemptions_at_two_replicas_one_is_granted() -> Result<()> {
    site("dev-race", async |site| {
        let (_operator, [a, b], key) = pair(site).await?;
        let begun = begin(&a, client(1)).await?;
        begun.approve(&a, &key).await?.expect(200)?;
        let polls = (0..50).flat_map(|_| [begun.poll(&a), begun.poll(&b)]);
        let answers: Vec<Answer> = join_all(polls).await.into_iter().collect::<Result<_>>()?;
        let mut last = begun.decided(&b).await?;
        let granted = answers.iter().filter(|a| a.status == 200).count();
        // All may have been told to wait; then the last one got it.
        ensure!(granted + usize::from(last.status == 200) == 1, "{granted}");
        last = begun.decided(&a).await?;
        ensure!(error(&last)? == "expired_token", "{last:?}");
        Ok(())
    })
    .await
}

/// One device, approved by two people at the same moment on two replicas, is nobody's or one's.
#[tokio::test]
async fn v15_two_who_approve_one_device_at_once_do_not_both_get_it() -> Result<()> {
    site("dev-two", async |site| {
        let (_operator, [a, b], first) = pair(site).await?;
        site.apply(&account("bot")).await?;
        let of_bot = with(key("second"), "spec.serviceAccountRef.name", json!("bot"));
        site.apply(&of_bot).await?;
        site.key_ready("second", 1).await?;
        let second = delivered(site, "second-key").await?;
        for replica in [&a, &b] {
            replica
                .until("aware of the key", async || {
                    replica.me(&second).await.is_ok_and(|a| a.status == 200)
                })
                .await?;
        }
        for n in 0..5 {
            let begun = begin(&a, client(n)).await?;
            let both = [begun.approve(&a, &first), begun.approve(&b, &second)];
            let answers = join_all(both).await;
            let claims = devices(site).await?.into_iter().filter(|device| {
                let of = device.spec.authorization.as_ref();
                of.is_some_and(|of| of.device_id == begun.device)
            });
            let claims = claims.count();
            let polls = [begun.decided(&a).await?, begun.decided(&b).await?];
            let granted = polls.iter().filter(|a| a.status == 200).count();
            ensure!(granted == usize::from(claims == 1), "{answers:?} {polls:?}");
        }
        Ok(())
    })
    .await
}

/// A sidecar whose calls pass a proxy.
async fn behind(site: &Site, proxy: &Proxy) -> Result<Sidecar> {
    let rights = site
        .plane
        .service_account_token(site.name(), "prod")
        .await?;
    let kubeconfig = proxy.kubeconfig(site.plane, &rights)?;
    let sidecar = Sidecar::launch(site.name(), &kubeconfig, free_address()?, LOG)?;
    sidecar.becomes_ready().await?;
    Ok(sidecar)
}

/// Waits until the operator has told of the approval: a write of its own in between would have the
/// redemption refused and tried again.
async fn approved(site: &Site, client: Uuid) -> Result<()> {
    let client = client.to_string();
    let all = devices(site).await?;
    let device = all.iter().find(|device| device.spec.client_id == client);
    let name = device.context("no device")?.name_any();
    let told = |device: &ZenDevice| device.status.as_ref().is_some_and(|s| s.state.is_some());
    site.until(&name, "told of", told).await.map(drop)
}

/// attacks.md D25, D29: killed before the redemption is written, or after it and before the
/// answer, there is at most one token.
#[tokio::test]
async fn d25_a_kill_around_the_redemption_gives_at_most_one_token() -> Result<()> {
    site("dev-kill", async |site| {
        let (_operator, [a, b], key) = pair(site).await?;
        drop(b);
        for (n, (when, wanted)) in [(When::Before, 200), (When::After, 400)]
            .into_iter()
            .enumerate()
        {
            let proxy = Proxy::start(site.plane).await?;
            let doomed = behind(site, &proxy).await?;
            let begun = begin(&a, client(n as u128)).await?;
            begun.approve(&doomed, &key).await?.expect(200)?;
            approved(site, begun.client).await?;
            let kill = Action::Call(Arc::new(doomed.killer()));
            let harm = proxy.add(Rule::once(
                Match::verb(Verb::Patch).on("zendevices"),
                when,
                kill,
            ));
            ensure!(begun.poll(&doomed).await.is_err(), "it is dead");
            harm.acted(1, PATIENCE).await?;
            let after = begun.decided(&a).await?.expect(wanted)?;
            ensure!(
                wanted == 200 || error(&after)? == "expired_token",
                "{after:?}"
            );
            ensure!(error(&begun.decided(&a).await?)? == "expired_token");
        }
        Ok(())
    })
    .await
}

/// Every write of the flow is lost, refused or answered wrongly once: what comes of it is one
/// device, and at most one token.
#[tokio::test]
async fn whatever_happens_to_a_write_there_is_one_device_and_one_token() -> Result<()> {
    site("dev-harm", async |site| {
        let (_operator, [a, _b], key) = pair(site).await?;
        let proxy = Proxy::start(site.plane).await?;
        let harmed = behind(site, &proxy).await?;
        let refused = |code| Action::Status {
            code,
            retry_after: Some(1),
        };
        let harms = [
            (When::Before, Action::Drop),
            (When::After, Action::Drop),
            (When::Before, refused(409)),
            (When::Before, refused(500)),
            (When::After, refused(500)),
            (When::After, Action::Delay(Duration::from_secs(5))),
        ];
        for (n, (when, action)) in harms.into_iter().enumerate() {
            let begun = begin(&a, client(100 + n as u128)).await?;
            for verb in [Verb::Create, Verb::Patch] {
                let rule = Rule::once(Match::verb(verb).on("zendevices"), when, action.clone());
                let harm = proxy.add(rule);
                let answer = match verb {
                    Verb::Create => begun.approve(&harmed, &key).await?,
                    _ => begun.decided(&harmed).await?,
                };
                harm.acted(1, PATIENCE).await?;
                proxy.clear();
                answer
                    .expect(200)
                    .with_context(|| format!("{verb:?} {when:?} {action:?}"))?;
            }
            ensure!(devices(site).await?.len() == n + 1);
            ensure!(error(&begun.decided(&harmed).await?)? == "expired_token");
        }
        Ok(())
    })
    .await
}

/// Ten thousand devices begin and wait: nobody writes, lists or gets anything.
#[tokio::test]
async fn ten_thousand_devices_that_wait_ask_nothing_of_kubernetes() -> Result<()> {
    const DEVICES: u128 = 10_000;
    site("dev-many", async |site| {
        let (operator, [a, _b], _) = pair(site).await?;
        // They all come from one address, which may not have that much.
        let unlimited = r#"{"spec":{"auth":{"rateLimit":{"global":"none"}}}}"#;
        let patch = [
            "patch",
            "zenserver",
            "prod",
            "--type=merge",
            "--patch",
            unlimited,
        ];
        site.kubectl(&patch).await?;
        let proxy = Proxy::start(site.plane).await?;
        let sidecar = behind(site, &proxy).await?;
        // Its login is noted five seconds later, which is a write.
        drop(a);
        let mark = proxy.mark();
        let mut waiting = Vec::new();
        for chunk in 0..DEVICES / 50 {
            let some = (0..50).map(|n| begin(&sidecar, client(chunk * 50 + n)));
            waiting.extend(try_join_all(some).await?);
        }
        for (n, begun) in waiting.iter().enumerate() {
            let answer = begun.poll(&sidecar).await?;
            ensure!(
                error(&answer)? == "authorization_pending",
                "{n}: {answer:?}"
            );
        }
        let asked = proxy.since(mark, &Match::work());
        ensure!(asked.is_empty(), "{asked:?}");
        ensure!(devices(site).await?.is_empty());
        operator.stop().await
    })
    .await
}
