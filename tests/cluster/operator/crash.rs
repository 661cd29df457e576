//! Every write of two stories, and every harm to it, ends as if nothing had happened: each object is made once, no key
//! twice, none is lost.
//!
//! The stories are told once undisturbed, to learn what is written and how it ends. Then each write meets each harm, in a
//! namespace of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{Config, Event, watcher},
    },
};
use serde_json::Value;
use tokio::{sync::OnceCell, task::JoinHandle};
use zenop::api::{ZenServiceAccount, label};
use zenop_cluster::fault::{Action, Call, Match, Rule, Verb, When};

use crate::support::{Operator, PATIENCE, Site, entry, ready, site};

/// How many cases run at a time.
const AT_ONCE: usize = 4;

/// What the operator is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Story {
    /// Server, account and key are there, and nothing else.
    Create,
    /// All is well, and the delivered Secret is deleted.
    Replace,
}

/// What happens to one of its writes.
#[derive(Clone, Copy, Debug)]
enum Harm {
    Kill(When),
    Lost,
    Refused(u16, When, Option<u64>),
    Late,
}

/// What an undisturbed run wrote, and how it ended.
struct Lesson {
    writes: Vec<Call>,
    end: Value,
}

async fn lesson(story: Story) -> Result<&'static Lesson> {
    static CREATE: OnceCell<Lesson> = OnceCell::const_new();
    static REPLACE: OnceCell<Lesson> = OnceCell::const_new();
    let cell = match story {
        Story::Create => &CREATE,
        Story::Replace => &REPLACE,
    };
    cell.get_or_try_init(|| learn(story)).await
}

async fn learn(story: Story) -> Result<Lesson> {
    let told = Mutex::new(None);
    site("lesson", async |site| {
        let run = Run::begin(site, story).await?;
        run.end(story).await?;
        let writes = site.proxy.since(run.mark, &Match::writes());
        let lesson = Lesson {
            writes,
            end: site.state().await?,
        };
        *told.lock().unwrap() = Some(lesson);
        Ok(())
    })
    .await?;
    told.into_inner().unwrap().context("nothing was learnt")
}

/// A story under way.
struct Run<'a> {
    site: &'a Site,
    operator: Operator,
    mark: usize,
    witness: Witness,
}

impl<'a> Run<'a> {
    /// Up to the moment at which the story begins.
    async fn begin(site: &'a Site, story: Story) -> Result<Self> {
        let witness = Witness::of(site);
        site.any_lease().await?;
        if story == Story::Replace {
            site.apply_three().await?;
        }
        let operator = site.start(&site.launch())?;
        if story == Story::Replace {
            settled(site, 1).await?;
        }
        Ok(Self {
            site,
            operator,
            mark: site.proxy.mark(),
            witness,
        })
    }

    /// The story, to its end.
    async fn end(&self, story: Story) -> Result<()> {
        match story {
            Story::Create => {
                self.site.apply_three().await?;
                settled(self.site, 1).await
            }
            Story::Replace => {
                self.site.delete::<Secret>("main-key").await?;
                settled(self.site, 2).await
            }
        }
    }
}

/// Waits until the key of that generation is delivered and the operator is done.
async fn settled(site: &Site, generation: i64) -> Result<()> {
    site.key_ready("main", generation).await?;
    let counted = |account: &ZenServiceAccount| {
        ready(account) && account.status.as_ref().is_some_and(|s| s.keys.active == 1)
    };
    site.until("ci", "Ready with one key", counted).await?;
    site.settled().await
}

/// Sees every version of the delivered Secret, and which keys it held for which generation.
struct Witness {
    seen: Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>,
    task: JoinHandle<()>,
}

impl Witness {
    fn of(site: &Site) -> Self {
        let seen = Arc::new(Mutex::new(BTreeMap::<_, BTreeSet<_>>::new()));
        let config = Config::default().fields("metadata.name=main-key");
        let mut events = watcher(site.api::<Secret>(), config)
            .default_backoff()
            .boxed();
        let book = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                let Ok(Event::Apply(secret) | Event::InitApply(secret)) = event else {
                    continue;
                };
                let generation = secret.labels().get(label::KEY_GENERATION).cloned();
                let text = entry(&secret, "ZENML_STORE_API_KEY");
                let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
                let keys = book.entry(generation.unwrap_or_default()).or_default();
                keys.insert(text.unwrap_or_default());
            }
        });
        Self { seen, task }
    }

    fn generations(&self) -> Result<Vec<String>> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for (generation, keys) in &*seen {
            ensure!(
                keys.len() == 1,
                "{} keys were generation {generation}",
                keys.len()
            );
        }
        Ok(seen.keys().cloned().collect())
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One write meets one harm. Whether it did: what is written depends on what is seen first.
async fn case(story: Story, target: &Call, harm: Harm) -> Result<bool> {
    let lesson = lesson(story).await?;
    let met = Mutex::new(false);
    site("crash", async |site| {
        let mut run = Run::begin(site, story).await?;
        // Counted from here: what came before is not of the story.
        let mut here = Call {
            namespace: site.name().to_owned(),
            ..target.clone()
        };
        let before = site.proxy.since(0, &Match::writes());
        let before = before.iter().filter(|call| call.is_alike(&here)).count();
        here.nth = target.nth - lesson_offset(lesson, target) + before;
        let target = Match::same(&here);
        let (when, action) = match harm {
            Harm::Kill(when) => (when, Action::Call(Arc::new(run.operator.killer()))),
            Harm::Lost => (When::After, Action::Drop),
            Harm::Refused(code, when, retry_after) => (when, Action::Status { code, retry_after }),
            Harm::Late => (When::Before, Action::Hang),
        };
        let rule = site.proxy.add(Rule::once(target, when, action));
        if let Harm::Kill(_) = harm {
            let next = {
                let mut story = pin!(run.end(story));
                tokio::select! {
                    ended = &mut story => { ended?; None }
                    acted = rule.acted(1, PATIENCE) => {
                        acted?;
                        let mut launch = site.launch();
                        launch.identity = "next".into();
                        launch.lease = "next".into();
                        let next = site.start(&launch)?;
                        story.await?;
                        Some(next)
                    }
                }
            };
            run.operator = next.unwrap_or(run.operator);
        } else {
            run.end(story).await?;
        }
        if let Harm::Late = harm {
            rule.release();
            settled(site, wanted(story)).await?;
        }
        *met.lock().unwrap() = rule.count() == 1;
        well(site, &run, story, lesson).await
    })
    .await?;
    Ok(met.into_inner().unwrap())
}

fn wanted(story: Story) -> i64 {
    match story {
        Story::Create => 1,
        Story::Replace => 2,
    }
}

/// How many writes like this one the undisturbed run had made before its story began.
fn lesson_offset(lesson: &Lesson, target: &Call) -> usize {
    let mut alike = lesson.writes.iter().filter(|call| call.is_alike(target));
    alike.next().map_or(0, |first| first.nth - 1)
}

/// That the end is the one that was learnt.
async fn well(site: &Site, run: &Run<'_>, story: Story, lesson: &Lesson) -> Result<()> {
    let generation = wanted(story);
    site.check_delivered("main", generation).await?;
    let mut made = BTreeMap::new();
    for entry in site.proxy.record() {
        let call = entry.call;
        if call.verb == Verb::Create && entry.status == Some(201) && call.resource != "events" {
            *made
                .entry(format!("{} {}", call.resource, call.name))
                .or_insert(0) += 1;
        }
    }
    made.retain(|name, _| !name.starts_with("leases"));
    for (name, times) in made {
        let expected = if name == "secrets main-key" {
            generation
        } else {
            1
        };
        ensure!(times == expected, "{name} was made {times} times");
    }
    let generations = run.witness.generations()?;
    let expected: Vec<_> = (1..=generation).map(|g| g.to_string()).collect();
    ensure!(
        generations == expected,
        "the Secret held generations {generations:?}"
    );
    let end = site.state().await?;
    ensure!(
        end == lesson.end,
        "another end:\n{end:#}\ninstead of\n{:#}",
        lesson.end
    );
    Ok(())
}

/// Each write of a story, at least most of them, meets the harm.
async fn campaign(story: Story, harms: &[Harm]) -> Result<()> {
    let lesson = lesson(story).await?;
    ensure!(lesson.writes.len() >= 3, "{:?}", lesson.writes);
    let cases = lesson
        .writes
        .iter()
        .flat_map(|write| harms.iter().map(move |harm| (write, *harm)));
    let cases: Vec<_> = cases.collect();
    let count = cases.len();
    let met: Vec<(String, bool)> = stream::iter(cases)
        .map(async |(write, harm)| {
            let name = format!("{story:?}: {harm:?} at {write}");
            let met = case(story, write, harm)
                .await
                .with_context(|| name.clone())?;
            anyhow::Ok((name, met))
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let missed: Vec<_> = met
        .iter()
        .filter(|(_, met)| !met)
        .map(|(name, _)| name)
        .collect();
    eprintln!(
        "{count} cases of {story:?}, {} of which did not come to their harm: {missed:?}",
        missed.len()
    );
    ensure!(missed.len() * 4 <= count, "too few were harmed");
    Ok(())
}

#[tokio::test]
async fn killed_before_a_write() -> Result<()> {
    campaign(Story::Create, &[Harm::Kill(When::Before)]).await
}

#[tokio::test]
async fn killed_after_a_write() -> Result<()> {
    campaign(Story::Create, &[Harm::Kill(When::After)]).await
}

#[tokio::test]
async fn an_answer_is_lost() -> Result<()> {
    campaign(Story::Create, &[Harm::Lost]).await
}

#[tokio::test]
async fn a_conflict() -> Result<()> {
    campaign(Story::Create, &[Harm::Refused(409, When::Before, None)]).await
}

#[tokio::test]
async fn too_many_requests() -> Result<()> {
    campaign(Story::Create, &[Harm::Refused(429, When::Before, Some(1))]).await
}

#[tokio::test]
async fn an_internal_error() -> Result<()> {
    campaign(Story::Create, &[Harm::Refused(500, When::Before, None)]).await
}

#[tokio::test]
async fn an_error_though_it_was_done() -> Result<()> {
    campaign(Story::Create, &[Harm::Refused(500, When::After, None)]).await
}

#[tokio::test]
async fn no_answer_and_done_later() -> Result<()> {
    campaign(Story::Create, &[Harm::Late]).await
}

#[tokio::test]
async fn harm_while_a_lost_key_is_replaced() -> Result<()> {
    let harms = [
        Harm::Kill(When::Before),
        Harm::Kill(When::After),
        Harm::Lost,
        Harm::Refused(409, When::Before, None),
        Harm::Refused(429, When::Before, Some(1)),
        Harm::Refused(500, When::Before, None),
        Harm::Refused(504, When::After, None),
        Harm::Late,
    ];
    campaign(Story::Replace, &harms).await
}
