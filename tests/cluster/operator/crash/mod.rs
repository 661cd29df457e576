//! Every write of every story, and every harm to it, ends as if nothing had happened: each object is made once, no key
//! twice, none is lost, and none is accepted that nobody holds.
//!
//! The stories are told once undisturbed, to learn what is written and how it ends. Then each write meets each harm, in a
//! namespace of its own.

mod components;
mod secrets;
mod story;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    pin::pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use anyhow::{Context, Result, ensure};
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{Config, Event, watcher},
    },
};
use serde_json::Value;
use tokio::{sync::OnceCell, task::JoinHandle, time::timeout};
use zenop::{
    api::{KeyState, Record, ZenAPIKey, label},
    auth::api_key::Verifier,
};
use zenop_cluster::fault::{Action, Call, Match, Rule, Verb, When};

use self::story::{Scene, Story};
use crate::{
    operator::users,
    support::{Operator, PATIENCE, Site, entry, garbage_collector, site},
};

/// How many cases run at a time.
const AT_ONCE: usize = 8;

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
    type Lessons = Mutex<HashMap<Story, &'static OnceCell<Lesson>>>;
    static LESSONS: OnceLock<Lessons> = OnceLock::new();
    let cell = *LESSONS
        .get_or_init(Lessons::default)
        .lock()
        .unwrap()
        .entry(story)
        .or_insert_with(|| Box::leak(Box::default()));
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
    /// Sees what was drawn.
    drawn: secrets::Drawn,
}

impl<'a> Run<'a> {
    /// Up to the moment at which the story begins.
    async fn begin(site: &'a Site, story: Story) -> Result<Self> {
        let (witness, drawn) = (Witness::of(site), secrets::Drawn::of(site));
        site.any_lease().await?;
        let scene = story.before();
        for object in &scene {
            site.apply(object).await?;
        }
        let operator = site.start(&site.launch())?;
        if !scene.is_empty() {
            Scene::BEFORE.settled(site).await?;
            secrets::granted(site, story.secrets_before()).await?;
        }
        Ok(Self {
            site,
            operator,
            mark: site.proxy.mark(),
            witness,
            drawn,
        })
    }

    /// The story, to its end.
    async fn end(&self, story: Story) -> Result<()> {
        story.happen(self.site).await?;
        story.after().settled(self.site).await?;
        secrets::granted(self.site, story.secrets_after()).await
    }
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

    /// What each generation was.
    fn keys(&self) -> Result<BTreeMap<i64, String>> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for (generation, keys) in &*seen {
            ensure!(
                keys.len() == 1,
                "{} keys were generation {generation}",
                keys.len()
            );
        }
        let one = |(number, keys): (&String, &BTreeSet<String>)| {
            let text = keys.first().cloned().unwrap_or_default();
            Ok((number.parse()?, text))
        };
        seen.iter().map(one).collect()
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
        if here.name.starts_with(&Record::secret_name("")) {
            let key: ZenAPIKey = site.api().get("main").await?;
            here.name = Record::secret_name(&key.uid().unwrap_or_default());
        }
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
            story.after().settled(site).await?;
        }
        *met.lock().unwrap() = rule.count() == 1;
        well(site, &run, story, lesson).await
    })
    .await?;
    Ok(met.into_inner().unwrap())
}

/// How many writes like this one the undisturbed run had made before its story began.
fn lesson_offset(lesson: &Lesson, target: &Call) -> usize {
    let mut alike = lesson.writes.iter().filter(|call| call.is_alike(target));
    alike.next().map_or(0, |first| first.nth - 1)
}

/// That the end is the one that was learnt.
async fn well(site: &Site, run: &Run<'_>, story: Story, lesson: &Lesson) -> Result<()> {
    let mut made = BTreeMap::new();
    for entry in site.proxy.record() {
        let call = entry.call;
        let counts = !["events", "leases"].contains(&&*call.resource);
        if call.verb == Verb::Create && entry.status == Some(201) && counts {
            let name = format!("{} {}", call.resource, call.name);
            *made.entry(name).or_insert(0) += 1;
        }
    }
    for (name, times) in made {
        // One that was delayed until it was of no use is made again, and deleted again.
        if name.starts_with("secrets zenop-record-") || name == "secrets ben-activation" {
            continue;
        }
        let expected = match &*name {
            "secrets main-key" => story.deliveries(),
            _ => 1,
        };
        ensure!(times == expected, "{name} was made {times} times");
    }
    keys_are_known(site, run, story).await?;
    secrets::well(site, &run.drawn, story).await?;
    if story == Story::Users {
        users::may_log_in(site).await?;
    }
    let end = site.state().await?;
    ensure!(
        end == lesson.end,
        "another end:\n{end:#}\ninstead of\n{:#}",
        lesson.end
    );
    Ok(())
}

/// That there is one current key, which is delivered, and that somebody holds each one that is accepted.
async fn keys_are_known(site: &Site, run: &Run<'_>, story: Story) -> Result<()> {
    let mut known = run.witness.keys()?;
    for (generation, text) in &mut known {
        let given = story.text(*generation).unwrap_or_else(|| text.clone());
        ensure!(
            given == *text,
            "generation {generation} is not the given key"
        );
    }
    let scene = story.after();
    let Some(current) = scene.generation else {
        return Ok(());
    };
    for generation in 1..=current {
        if let Some(text) = story.text(generation) {
            known.insert(generation, text);
        }
    }
    let numbers: Vec<_> = known.keys().copied().collect();
    let all: Vec<_> = (1..=current).collect();
    ensure!(numbers == all, "the Secret held generations {numbers:?}");
    let key: ZenAPIKey = site.api().get("main").await?;
    let mut live = 0;
    for generation in key.status.iter().flat_map(|s| &s.generations) {
        let number = generation.generation;
        let is_current = generation.state == KeyState::Current;
        ensure!(
            generation.state != KeyState::Prepared,
            "{number} is not confirmed"
        );
        ensure!(is_current == (number == current), "{number} and {current}");
        let text = known.get(&number).context("nobody knows it")?;
        let recorded: Verifier = generation.verifier.parse()?;
        let is: bool = recorded.matches(&site.verifier(text).await?).into();
        ensure!(is, "nobody holds generation {number}");
        live += 1;
    }
    ensure!(live == scene.accepted.len(), "{live} keys are accepted");
    if story.deliveries() > 0 {
        let text = site.key_text("main-key").await?;
        ensure!(
            known.get(&current) == Some(&text),
            "the Secret holds another"
        );
    }
    Ok(())
}

/// Each write of a story, at least most of them, meets the harm.
async fn campaign(story: Story, harms: &[Harm]) -> Result<()> {
    garbage_collector().await?;
    let lesson = lesson(story).await?;
    ensure!(!lesson.writes.is_empty(), "nothing was written");
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

/// Every story while all watches are harmed, from before the operator starts.
async fn under(harm: Action, when: When, times: usize) -> Result<()> {
    garbage_collector().await?;
    // Boxed: an array of such futures is more than the stack of a test's thread.
    let cases = Story::ALL.map(|story| {
        let harm = harm.clone();
        async move {
            let lesson = lesson(story).await?;
            let told = site("watches", async |site| {
                let rule = Rule {
                    times,
                    ..Rule::always(Match::verb(Verb::Watch), when, harm.clone())
                };
                let rule = site.proxy.add(rule);
                let run = Run::begin(site, story).await?;
                run.end(story).await?;
                ensure!(rule.count() >= 4, "{} watches were harmed", rule.count());
                // A watch is tried again after a while: what it is to show comes late.
                let in_the_end = async {
                    while well(site, &run, story, lesson).await.is_err() {
                        site.settled().await?;
                    }
                    anyhow::Ok(())
                };
                match timeout(PATIENCE, in_the_end).await {
                    Ok(ended) => ended,
                    Err(_) => well(site, &run, story, lesson).await,
                }
            });
            told.await.with_context(|| format!("{story:?}: {harm:?}"))
        }
        .boxed()
    });
    let cases = stream::iter(cases).buffer_unordered(AT_ONCE);
    cases.try_collect().await
}

#[tokio::test]
async fn watches_end_in_the_middle_of_an_event() -> Result<()> {
    under(Action::Cut { after: 1 }, When::After, usize::MAX).await
}

#[tokio::test]
async fn watches_are_told_that_they_are_too_old() -> Result<()> {
    let gone = Action::Status {
        code: 410,
        retry_after: None,
    };
    under(gone, When::Before, 12).await
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

/// Each of them, for a story that takes a few writes.
const ALL: [Harm; 8] = [
    Harm::Kill(When::Before),
    Harm::Kill(When::After),
    Harm::Lost,
    Harm::Refused(409, When::Before, None),
    Harm::Refused(429, When::Before, Some(1)),
    Harm::Refused(500, When::Before, None),
    Harm::Refused(504, When::After, None),
    Harm::Late,
];

#[tokio::test]
async fn harm_while_a_lost_key_is_replaced() -> Result<()> {
    campaign(Story::Replace, &ALL).await
}

#[tokio::test]
async fn harm_while_a_deleted_key_is_made_again() -> Result<()> {
    campaign(Story::Retain, &ALL).await
}

#[tokio::test]
async fn harm_while_a_deleted_key_is_had_back() -> Result<()> {
    campaign(Story::Restore, &ALL).await
}

#[tokio::test]
async fn harm_while_a_key_is_rotated() -> Result<()> {
    campaign(Story::Rotate, &ALL).await
}

#[tokio::test]
async fn harm_while_an_old_key_is_retired() -> Result<()> {
    campaign(Story::Retire, &ALL).await
}

#[tokio::test]
async fn harm_while_a_key_is_taken_from_a_secret() -> Result<()> {
    campaign(Story::Given, &ALL).await
}

#[tokio::test]
async fn harm_while_a_hash_changes() -> Result<()> {
    campaign(Story::Verifier, &ALL).await
}

#[tokio::test]
async fn harm_while_a_key_is_switched_off() -> Result<()> {
    campaign(Story::Deactivate, &ALL).await
}

#[tokio::test]
async fn harm_while_a_component_comes() -> Result<()> {
    campaign(Story::Refer, &ALL).await
}

#[tokio::test]
async fn harm_while_a_component_follows_its_secret() -> Result<()> {
    campaign(Story::Follow, &ALL).await
}

#[tokio::test]
async fn harm_while_a_database_is_migrated() -> Result<()> {
    campaign(Story::Migrate, &ALL).await
}

#[tokio::test]
async fn harm_while_a_component_parts_with_its_secret() -> Result<()> {
    campaign(Story::Part, &ALL).await
}

#[tokio::test]
async fn harm_while_users_come() -> Result<()> {
    campaign(Story::Users, &ALL).await
}

#[tokio::test]
async fn harm_while_another_key_is_to_sign() -> Result<()> {
    campaign(Story::SignAnew, &ALL).await
}

#[tokio::test]
async fn harm_while_the_key_that_signs_is_revoked() -> Result<()> {
    campaign(Story::Revoke, &ALL).await
}

#[tokio::test]
async fn harm_while_a_key_is_deleted() -> Result<()> {
    campaign(Story::Delete, &ALL).await
}

#[tokio::test]
async fn harm_while_a_secret_is_made() -> Result<()> {
    campaign(Story::Secret, &ALL).await
}

#[tokio::test]
async fn harm_while_another_value_is_drawn() -> Result<()> {
    campaign(Story::Draw, &ALL).await
}

#[tokio::test]
async fn harm_while_a_secret_moves() -> Result<()> {
    campaign(Story::Move, &ALL).await
}

#[tokio::test]
async fn harm_while_the_key_for_sealing_is_replaced() -> Result<()> {
    campaign(Story::Reseal, &ALL).await
}
