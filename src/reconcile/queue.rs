//! When to look at which object: each once at a time, again when it is due or asked for, no more
//! than so many at once.
//!
//! kube's own controller does the same for some hundred bytes more an object, of which a cluster
//! has tens of thousands, each waiting for its hourly look.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt, stream::FuturesUnordered};

/// How fast to go.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How many looks may be under way.
    pub concurrency: usize,
    /// How long a look waits for others to ask for the same.
    pub gather: Duration,
}

/// When to look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action(Option<Duration>);

impl Action {
    /// After this time, unless something asks for it before.
    pub fn requeue(after: Duration) -> Self {
        Self(Some(after))
    }

    /// When something asks for it.
    pub fn await_change() -> Self {
        Self(None)
    }
}

/// Looks at what `asked` names until it ends; what is under way then is finished.
pub async fn work<T, F>(
    asked: impl Stream<Item = T>,
    pace: Pace,
    clock: fn() -> Instant,
    look: impl Fn(T) -> F,
) where
    T: Clone + Eq + Hash + Ord,
    F: Future<Output = Action>,
{
    let mut agenda = Agenda::<T>::default();
    let mut looks = FuturesUnordered::new();
    let mut asked = std::pin::pin!(asked);
    loop {
        while looks.len() < pace.concurrency
            && let Some(object) = agenda.take(clock())
        {
            let look = look(object.clone());
            looks.push(async move { (object, look.await) });
        }
        let due = agenda.next().filter(|_| looks.len() < pace.concurrency);
        tokio::select! {
            object = asked.next() => match object {
                Some(object) => agenda.ask(object, clock() + pace.gather),
                None => break,
            },
            Some((object, Action(after))) = looks.next() => {
                agenda.done(object, after.map(|after| clock() + after));
            }
            () = until(due) => {}
        }
    }
    while looks.next().await.is_some() {}
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// What is due when.
struct Agenda<T> {
    objects: HashMap<T, State>,
    due: BTreeSet<(Instant, T)>,
}

enum State {
    Due(Instant),
    /// Somebody looks, and again then, if asked for meanwhile.
    UnderWay(Option<Instant>),
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self {
            objects: HashMap::new(),
            due: BTreeSet::new(),
        }
    }
}

impl<T: Clone + Eq + Hash + Ord> Agenda<T> {
    /// At this time at the latest.
    fn ask(&mut self, object: T, at: Instant) {
        match self.objects.get_mut(&object) {
            Some(State::UnderWay(again)) => {
                *again = Some(again.map_or(at, |before| before.min(at)));
            }
            Some(State::Due(before)) if *before <= at => {}
            known => {
                if let Some(State::Due(before)) = known {
                    self.due.remove(&(*before, object.clone()));
                }
                self.due.insert((at, object.clone()));
                self.objects.insert(object, State::Due(at));
            }
        }
    }

    /// An object that is due now. It is under way until [`Self::done`].
    fn take(&mut self, now: Instant) -> Option<T> {
        if self.next()? > now {
            return None;
        }
        let (_, object) = self.due.pop_first()?;
        self.objects.insert(object.clone(), State::UnderWay(None));
        Some(object)
    }

    /// Somebody looked. Next at this time, or before if it was asked for meanwhile.
    fn done(&mut self, object: T, next: Option<Instant>) {
        if let Some(State::UnderWay(Some(again))) = self.objects.remove(&object) {
            self.ask(object, again);
        } else if let Some(next) = next {
            self.ask(object, next);
        }
    }

    /// When something is due next.
    fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "the test measures real time")]
    fn now() -> Instant {
        Instant::now()
    }

    /// Seconds after some time.
    fn at(seconds: u64) -> Instant {
        static BEGUN: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(now);
        *BEGUN + Duration::from_secs(seconds)
    }

    #[test]
    fn asked_for_often_it_is_due_once_and_at_the_earliest_time() {
        let mut agenda = Agenda::default();
        for time in [5, 3, 9] {
            agenda.ask("a", at(time));
        }
        assert_eq!(agenda.take(at(2)), None);
        assert_eq!(agenda.take(at(3)), Some("a"));
        assert_eq!((agenda.take(at(99)), agenda.next()), (None, None));
    }

    #[test]
    fn what_is_under_way_is_not_begun_again_but_looked_at_once_more_after() {
        let mut agenda = Agenda::default();
        agenda.ask("a", at(1));
        assert_eq!(agenda.take(at(1)), Some("a"));
        agenda.ask("a", at(2));
        agenda.ask("a", at(3));
        assert_eq!(agenda.take(at(4)), None);
        agenda.done("a", Some(at(100)));
        assert_eq!(agenda.next(), Some(at(2)));
        assert_eq!(agenda.take(at(4)), Some("a"));
        agenda.done("a", Some(at(100)));
        assert_eq!(agenda.next(), Some(at(100)));
    }

    #[test]
    fn what_has_no_next_time_is_forgotten() {
        let mut agenda = Agenda::default();
        agenda.ask("a", at(1));
        agenda.take(at(1));
        agenda.done("a", None);
        assert!(agenda.objects.is_empty() && agenda.due.is_empty());
    }

    #[test]
    fn who_waits_longest_is_first() {
        let mut agenda = Agenda::default();
        for (object, time) in [("c", 3), ("a", 1), ("b", 2)] {
            agenda.ask(object, at(time));
        }
        let order: Vec<_> = std::iter::from_fn(|| agenda.take(at(9))).collect();
        assert_eq!(order, ["a", "b", "c"]);
    }

    #[tokio::test]
    async fn all_are_looked_at_no_more_than_so_many_at_once_and_what_began_is_ended() {
        let (busy, most, ended) = (
            AtomicUsize::new(0),
            AtomicUsize::new(0),
            AtomicUsize::new(0),
        );
        let (ask, asked) = futures::channel::mpsc::unbounded();
        for object in 0..50 {
            ask.unbounded_send(object).unwrap();
        }
        let ask = std::sync::Mutex::new(Some(ask));
        let (busy, most, ended, ask) = (&busy, &most, &ended, &ask);
        let look = |_| async move {
            most.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            busy.fetch_sub(1, Ordering::SeqCst);
            if ended.fetch_add(1, Ordering::SeqCst) == 45 {
                // The last ones are under way.
                ask.lock().unwrap().take();
            }
            Action::await_change()
        };
        let pace = Pace {
            concurrency: 4,
            gather: Duration::ZERO,
        };
        work(asked, pace, now, look).await;
        assert_eq!(
            (most.load(Ordering::SeqCst), busy.load(Ordering::SeqCst)),
            (4, 0)
        );
        assert!(ended.load(Ordering::SeqCst) > 45);
    }

    #[tokio::test]
    async fn it_is_looked_at_again_after_the_time_it_asked_for() {
        let (ask, asked) = futures::channel::mpsc::unbounded();
        ask.unbounded_send("a").unwrap();
        let ask = std::sync::Mutex::new(Some(ask));
        let times = std::sync::Mutex::new(Vec::new());
        let (ask, times) = (&ask, &times);
        let look = |_| async move {
            let mut times = times.lock().unwrap();
            times.push(now());
            if times.len() == 2 {
                ask.lock().unwrap().take();
            }
            Action::requeue(Duration::from_millis(30))
        };
        let pace = Pace {
            concurrency: 1,
            gather: Duration::ZERO,
        };
        work(asked, pace, now, look).await;
        let times = times.lock().unwrap();
        assert!(
            times[1] - times[0] >= Duration::from_millis(30),
            "{times:?}"
        );
    }
}
