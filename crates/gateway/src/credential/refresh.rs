//! Keeps one credential fresh: one task that lives as long as the credential is declared.
//!
//! Requests only read. The task has the next credential well before the last one expires, so that an issuer
//! that is slow or down is noticed by nobody for as long as there is a valid one; the very first request waits
//! for the very first credential, and not for long. There is one task per credential, so that an issuer that
//! does not answer delays nothing but what it issues.

use std::{future::Future, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, timeout},
};
use tracing::{info, warn};

use super::MintError;
use crate::telemetry::own::Refreshes;

/// The longest that a request waits for a credential.
const FIRST_WAIT: Duration = Duration::from_secs(10);

/// The longest that an issuer may take.
const MINT_TIMEOUT: Duration = Duration::from_secs(20);

/// A credential is renewed at least this long before it expires, unless it lives less than twice as long.
const AHEAD: Duration = Duration::from_secs(300);

/// A credential that does not say when it expires is looked for again after this long: whoever wrote it may
/// write another.
const REREAD: Duration = Duration::from_secs(60);

/// The waits after failures: the first, and the longest.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// A credential that an upstream refuses is renewed only if it is older than this, so that an upstream that
/// refuses every one does not become a flood of requests to the issuer.
const SUSPECT_AFTER: Duration = Duration::from_secs(30);

/// A credential as it was issued.
#[derive(Debug)]
pub(crate) struct Minted<T> {
    pub(crate) value: T,
    /// `None` where it does not expire, as far as is known.
    pub(crate) expires: Option<Instant>,
    at: Instant,
}

/// No valid credential is there. Says why in words for operators.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unavailable(Arc<str>);

/// A credential that is kept fresh; dropping it stops that.
pub(crate) struct Refresher<T> {
    kept: Arc<Kept<T>>,
    _task: JoinSet<()>,
}

struct Kept<T> {
    state: ArcSwap<State<T>>,
    /// Goes off when the state has changed.
    changed: Notify,
    /// Asks the task not to wait any longer.
    wanted: Notify,
}

struct State<T> {
    minted: Option<Arc<Minted<T>>>,
    /// Why the last try failed.
    error: Option<Arc<str>>,
}

/// How a credential stands.
#[derive(Debug)]
pub(crate) struct Standing {
    /// Whether there is a valid one.
    pub(crate) ready: bool,
    /// How long ago it was issued.
    pub(crate) age: Option<Duration>,
    /// How long it is still valid; `None` where it does not expire.
    pub(crate) left: Option<Duration>,
    /// Why there is none, or why it could not be renewed.
    pub(crate) error: Option<Arc<str>>,
}

impl Unavailable {
    /// Nothing was declared that could be had.
    pub(crate) fn none() -> Self {
        Self(Arc::from("none is declared"))
    }
}

impl<T> Minted<T> {
    /// Returns `value`, which lives for `lifetime` from now on.
    pub(crate) fn new(value: T, lifetime: Option<Duration>) -> Self {
        let at = Instant::now();
        Self {
            value,
            expires: lifetime.and_then(|lifetime| at.checked_add(lifetime)),
            at,
        }
    }

    /// Returns the same with another value.
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Minted<U> {
        Minted {
            value: change(self.value),
            expires: self.expires,
            at: self.at,
        }
    }

    fn is_valid(&self, now: Instant) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

impl<T: Send + Sync + 'static> Refresher<T> {
    /// Keeps fresh what `mint` returns; `policy` is what it is called in the log and in `refreshes`.
    #[expect(
        clippy::disallowed_methods,
        reason = "the task serves every request that carries the credential, and ends with the credential"
    )]
    pub(crate) fn start<F, M>(policy: Arc<str>, refreshes: Refreshes, mint: M) -> Self
    where
        M: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<Minted<T>, MintError>> + Send,
    {
        let kept = Arc::new(Kept {
            state: ArcSwap::from_pointee(State {
                minted: None,
                error: None,
            }),
            changed: Notify::new(),
            wanted: Notify::new(),
        });
        let mut task = JoinSet::new();
        let of_task = Arc::clone(&kept);
        task.spawn(async move { of_task.keep(&policy, &refreshes, mint).await });
        Self { kept, _task: task }
    }

    /// Returns the credential. Waits only where there has been none yet.
    ///
    /// # Errors
    /// If the issuer has failed and there is no valid one left, or none comes in time.
    pub(crate) async fn get(&self) -> Result<Arc<Minted<T>>, Unavailable> {
        if let Some(minted) = self.valid() {
            return Ok(minted);
        }
        let slow = || Unavailable(Arc::from("the issuer has not answered yet"));
        timeout(FIRST_WAIT, self.wait())
            .await
            .unwrap_or_else(|_| Err(slow()))
    }

    /// Notes that an upstream did not take `minted`; returns whether there is another one by now.
    pub(crate) async fn suspect(&self, minted: &Arc<Minted<T>>) -> bool {
        let is_current = |state: &State<T>| {
            let current = state.minted.as_ref();
            current.is_some_and(|current| Arc::ptr_eq(current, minted))
        };
        let changed = self.kept.changed.notified();
        let state = self.kept.state.load();
        if !is_current(&state) {
            return state.minted.is_some();
        }
        if minted.at.elapsed() < SUSPECT_AFTER {
            return false;
        }
        drop(state);
        // Whoever comes while it is being renewed has to say no more: a word that is kept would renew it twice.
        self.kept.wanted.notify_waiters();
        let renewed = timeout(FIRST_WAIT, changed).await.is_ok();
        renewed && !is_current(&self.kept.state.load())
    }

    /// Returns how the credential stands.
    pub(crate) fn standing(&self) -> Standing {
        let state = self.kept.state.load();
        let now = Instant::now();
        let minted = state.minted.as_ref();
        let left = minted.and_then(|minted| Some(minted.expires?.saturating_duration_since(now)));
        Standing {
            ready: minted.is_some_and(|minted| minted.is_valid(now)),
            age: minted.map(|minted| minted.at.elapsed()),
            left,
            error: state.error.clone(),
        }
    }

    fn valid(&self) -> Option<Arc<Minted<T>>> {
        let state = self.kept.state.load();
        let minted = state.minted.as_ref()?;
        minted.is_valid(Instant::now()).then(|| Arc::clone(minted))
    }

    async fn wait(&self) -> Result<Arc<Minted<T>>, Unavailable> {
        loop {
            // Before the look at the state, so that no change falls between the two.
            let changed = self.kept.changed.notified();
            if let Some(minted) = self.valid() {
                return Ok(minted);
            }
            if let Some(error) = &self.kept.state.load().error {
                return Err(Unavailable(Arc::clone(error)));
            }
            changed.await;
        }
    }
}

impl<T> Kept<T> {
    async fn keep<F, M>(&self, policy: &Arc<str>, refreshes: &Refreshes, mint: M)
    where
        M: Fn() -> F,
        F: Future<Output = Result<Minted<T>, MintError>>,
    {
        let mut failures: u32 = 0;
        loop {
            let minted = timeout(MINT_TIMEOUT, mint())
                .await
                .unwrap_or(Err(MintError::Timeout))
                .and_then(|minted| {
                    let valid = minted.is_valid(Instant::now());
                    if valid {
                        Ok(minted)
                    } else {
                        Err(MintError::Expired)
                    }
                });
            refreshes.count(policy, minted.is_ok());
            // Before anybody hears how it went: what is said after that is about this one.
            let wanted = self.wanted.notified();
            let wait = match minted {
                Ok(minted) => {
                    if failures > 0 {
                        info!(%policy, "credential is available again");
                    }
                    failures = 0;
                    let wait = renewal(&minted);
                    self.publish(Some(Arc::new(minted)), None);
                    wait
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    let reason = error.chain();
                    // Once for each time that it breaks, not for each try.
                    if failures == 1 {
                        warn!(%policy, reason, "credential cannot be had");
                    }
                    self.publish(self.state.load().minted.clone(), Some(Arc::from(reason)));
                    back_off(failures)
                }
            };
            let _ = timeout(jittered(wait), wanted).await;
        }
    }

    fn publish(&self, minted: Option<Arc<Minted<T>>>, error: Option<Arc<str>>) {
        self.state.store(Arc::new(State { minted, error }));
        self.changed.notify_waiters();
    }
}

/// Returns when a credential is to be renewed: at four fifths of its life, but [`AHEAD`] of its end, and never
/// before half of it has passed.
fn renewal<T>(minted: &Minted<T>) -> Duration {
    let Some(expires) = minted.expires else {
        return REREAD;
    };
    let life = expires.saturating_duration_since(minted.at);
    let ahead = (life / 5).max(AHEAD).min(life / 2);
    life.saturating_sub(ahead)
}

fn back_off(failures: u32) -> Duration {
    let (first, longest) = BACK_OFF;
    let doubled = 2u32.saturating_pow(failures.saturating_sub(1).min(16));
    first.saturating_mul(doubled).min(longest)
}

/// Returns up to a tenth less than `wait`, so that processes that were started together part ways.
fn jittered(wait: Duration) -> Duration {
    wait - wait.mul_f64(fastrand::f64() / 10.0)
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// An issuer that counts, and answers in the way of the function.
    fn issuer<R>(reply: R) -> (Arc<AtomicUsize>, Refresher<usize>)
    where
        R: Fn(usize) -> Result<Minted<usize>, MintError> + Send + Sync + 'static,
    {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let refresher = Refresher::start("default/p".into(), Refreshes::default(), move || {
            let reply = reply(counted.fetch_add(1, Ordering::SeqCst));
            async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                reply
            }
        });
        (count, refresher)
    }

    #[tokio::test(start_paused = true)]
    async fn a_day_of_hourly_tokens_is_served_without_a_gap() {
        let (count, refresher) = issuer(|number| {
            // Every fifth try fails.
            if number % 5 == 3 {
                return Err(MintError::Timeout);
            }
            Ok(Minted::new(number, Some(HOUR)))
        });
        let mut last = 0;
        for _ in 0..24 * 60 {
            let minted = refresher.get().await.expect("there is always one");
            let left = minted.expires.expect("it expires") - Instant::now();
            // A failure delays the renewal by seconds.
            assert!(left > HOUR / 6, "{left:?} left");
            assert!(minted.value >= last);
            last = minted.value;
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        let count = count.load(Ordering::SeqCst);
        assert!((30..50).contains(&count), "{count} tokens in a day");
    }

    #[tokio::test(start_paused = true)]
    async fn many_requests_share_one_call() {
        let (count, refresher) = issuer(|number| Ok(Minted::new(number, Some(HOUR))));
        let refresher = &refresher;
        let waiting = (0..100).map(|_| Box::pin(refresher.get()));
        for got in join(waiting).await {
            assert_eq!(got.expect("the first token serves them all").value, 0);
        }
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    /// Waits for all of `futures`, which make progress together.
    async fn join<F: Future + Unpin>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
        let mut futures: Vec<F> = futures.collect();
        let mut done = Vec::new();
        std::future::poll_fn(move |cx| {
            futures.retain_mut(|future| match std::pin::Pin::new(future).poll(cx) {
                std::task::Poll::Ready(output) => {
                    done.push(output);
                    false
                }
                std::task::Poll::Pending => true,
            });
            if futures.is_empty() {
                std::task::Poll::Ready(std::mem::take(&mut done))
            } else {
                std::task::Poll::Pending
            }
        })
        .await
    }

    #[tokio::test(start_paused = true)]
    async fn a_valid_token_outlives_a_broken_issuer_and_no_longer() {
        let (_, refresher) = issuer(|number| match number {
            0 => Ok(Minted::new(number, Some(HOUR))),
            _ => Err(MintError::Malformed("nothing")),
        });
        assert!(refresher.get().await.is_ok());
        tokio::time::sleep(HOUR - Duration::from_secs(10)).await;
        assert!(refresher.get().await.is_ok());
        tokio::time::sleep(Duration::from_secs(20)).await;
        let before = Instant::now();
        let error = refresher.get().await.expect_err("the token is too old");
        assert!(error.to_string().contains("nothing"), "{error}");
        assert_eq!(Instant::now(), before, "nobody waits for what is known to fail");
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_request_waits_for_so_long() {
        let refresher: Refresher<()> = Refresher::start("default/p".into(), Refreshes::default(), || async {
            tokio::time::sleep(HOUR).await;
            Err(MintError::Timeout)
        });
        let before = Instant::now();
        let error = refresher.get().await.expect_err("it does not come");
        assert!(error.to_string().contains("not answered"), "{error}");
        assert_eq!(before.elapsed(), FIRST_WAIT);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_tried_again_soon_and_then_not_so_often() {
        let times = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&times);
        let start = Instant::now();
        let (_, refresher) = issuer(move |number| {
            noted.lock().unwrap().push(start.elapsed());
            if number < 8 {
                Err(MintError::Timeout)
            } else {
                Ok(Minted::new(number, Some(HOUR)))
            }
        });
        tokio::time::sleep(Duration::from_secs(200)).await;
        assert_eq!(refresher.get().await.expect("it recovered").value, 8);
        let times = times.lock().unwrap();
        let waits: Vec<u64> = times
            .windows(2)
            .map(|pair| (pair[1] - pair[0]).as_millis() as u64)
            .collect();
        for (wait, wanted) in waits.iter().zip([1, 2, 4, 8, 16, 30, 30, 30]) {
            let wanted = wanted * 1000;
            assert!((wanted * 9 / 10..=wanted + 50).contains(wait), "{waits:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_that_are_born_dead_are_not_taken() {
        let (_, refresher) = issuer(|number| Ok(Minted::new(number, Some(Duration::ZERO))));
        let error = refresher.get().await.expect_err("none is valid");
        assert!(error.to_string().contains("expired"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_are_refused_have_it_renewed_once() {
        let (count, refresher) = issuer(|number| Ok(Minted::new(number, Some(HOUR))));
        let refresher = &refresher;
        let first = refresher.get().await.expect("the first");
        tokio::time::sleep(SUSPECT_AFTER).await;
        let refused = (0..100).map(|_| Box::pin(refresher.suspect(&first)));
        assert!(join(refused).await.into_iter().all(|renewed| renewed));
        tokio::time::sleep(SUSPECT_AFTER).await;
        assert_eq!(count.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_token_is_renewed_once_it_is_old_enough() {
        let (count, refresher) = issuer(|number| Ok(Minted::new(number, Some(HOUR))));
        let first = refresher.get().await.expect("the first");
        assert!(!refresher.suspect(&first).await, "it is brand new");
        tokio::time::sleep(SUSPECT_AFTER).await;
        assert!(refresher.suspect(&first).await);
        assert_eq!(refresher.get().await.expect("the second").value, 1);
        assert!(
            refresher.suspect(&first).await,
            "who comes late has another one already"
        );
        assert_eq!(count.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn renewal_leaves_time_for_trouble() {
        let check = |life: u64, expected: u64| {
            let minted = Minted {
                value: (),
                expires: Some(Instant::now() + Duration::from_secs(life)),
                at: Instant::now(),
            };
            let wait = renewal(&minted).as_secs_f64().round() as u64;
            assert_eq!(wait, expected, "of {life} s");
        };
        check(3600, 2880);
        check(86_400, 69_120);
        check(1000, 700);
        check(300, 150);
        check(10, 5);
    }
}
