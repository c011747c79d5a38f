//! The keys of issuers, fetched ahead of time.
//!
//! Each place has a task of its own, so that an issuer that does not answer hurts nobody else. It fetches when the
//! place is first declared, again before the keys may no longer be used, and when a request has seen a token that
//! none of the keys has signed. Requests only read what is there; they wait for the first keys, within a bound.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use config::snapshot::Outside;
use http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use policy::{KeysError, Remote, jwt::KeySet};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::{Instant, timeout},
};
use tracing::{debug, warn};

use super::{
    egress::{self, Services},
    issuer::{self, Metadata},
};
use crate::Gateway;

/// How long one fetch may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a request waits for keys, the first ones or new ones.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often tokens with unknown keys may have the keys fetched again.
const ANEW_EVERY: Duration = Duration::from_secs(10);

/// How long keys may be used of which nothing is said.
const KEEP: Duration = Duration::from_secs(300);

/// The bounds of what an issuer may say about that.
const KEEP_BOUNDS: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(24 * 3600));

/// How long keys are used beyond their time while no others can be fetched.
const STALE: Duration = Duration::from_secs(3600);

/// The bounds of the pause after a failure; it doubles in between.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The keys of all places that policies name.
#[derive(Default)]
pub(crate) struct Keys {
    places: Mutex<HashMap<Arc<Remote>, Arc<Place>>>,
}

/// The keys of one place.
struct Place {
    fetched: watch::Receiver<Fetched>,
    wanted: Arc<Wanted>,
    task: JoinHandle<()>,
}

/// What came of fetching so far.
#[derive(Clone, Default)]
struct Fetched {
    keys: Option<Arc<KeySet>>,
    /// What the authorization server says of itself, where the place is one.
    document: Option<Bytes>,
    /// After this they must not be used.
    until: Option<Instant>,
    /// How often it was tried.
    tries: u64,
}

/// Tells that keys are wanted anew.
#[derive(Default)]
struct Wanted {
    notify: Notify,
    last: Mutex<Option<Instant>>,
}

impl Keys {
    /// Begins to fetch the keys that are new in `outside`, once it is installed.
    #[expect(
        clippy::disallowed_methods,
        reason = "keys are fetched for all requests; the task ends when its place is no longer declared"
    )]
    pub(crate) fn begin(&self, outside: &Outside, gateway: &Weak<Gateway>) {
        let mut places = self.places();
        for remote in &outside.key_sets {
            places.entry(Arc::clone(remote)).or_insert_with(|| {
                let (sender, fetched) = watch::channel(Fetched::default());
                let wanted = Arc::new(Wanted::default());
                let task = keep(gateway.clone(), Arc::clone(remote), sender, Arc::clone(&wanted));
                Arc::new(Place {
                    fetched,
                    wanted,
                    task: tokio::spawn(task),
                })
            });
        }
    }

    /// Ends fetching what is not in `outside`.
    pub(crate) fn end(&self, outside: &Outside) {
        self.places().retain(|place, _| outside.key_sets.contains(place));
    }

    /// Returns the keys at `remote`. With `anew` they are fetched again, unless that was done just now.
    ///
    /// # Errors
    /// If there are none yet, or no longer any.
    pub(crate) async fn get(&self, remote: &Remote, anew: bool) -> Result<Arc<KeySet>, KeysError> {
        let place = self.places().get(remote).cloned().ok_or(KeysError)?;
        let mut fetched = place.fetched.clone();
        let tries = fetched.borrow().tries;
        let wait = if anew { place.wanted.tell() } else { tries == 0 };
        if wait {
            // What is there when patience ends has to do.
            let _ = timeout(PATIENCE, fetched.wait_for(|fetched| fetched.tries > tries)).await;
        }
        let fetched = fetched.borrow();
        let fresh = fetched.until.is_some_and(|until| Instant::now() < until);
        fetched.keys.clone().filter(|_| fresh).ok_or(KeysError)
    }

    /// Returns what the authorization server at `remote` says of itself.
    pub(crate) async fn document(&self, remote: &Remote) -> Option<Bytes> {
        let mut fetched = self.places().get(remote)?.fetched.clone();
        // What is there when patience ends has to do.
        let _ = timeout(PATIENCE, fetched.wait_for(|fetched| fetched.tries > 0)).await;
        fetched.borrow().document.clone()
    }

    fn places(&self) -> MutexGuard<'_, HashMap<Arc<Remote>, Arc<Place>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Wanted {
    /// Tells that keys are wanted; returns whether that is heard, which it is only every now and then.
    fn tell(&self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| last.elapsed() < ANEW_EVERY) {
            return false;
        }
        *last = Some(Instant::now());
        self.notify.notify_one();
        true
    }
}

/// Keeps the keys at `remote` fetched, for as long as somebody may ask for them.
async fn keep(
    gateway: Weak<Gateway>,
    remote: Arc<Remote>,
    sender: watch::Sender<Fetched>,
    wanted: Arc<Wanted>,
) {
    let mut pause = RETRY.0;
    if let Some(gateway) = gateway.upgrade() {
        // What is being installed has the service that is asked.
        drop(gateway.installing.lock().await);
    }
    loop {
        let Some(gateway) = gateway.upgrade() else { return };
        let fetched = fetch(&gateway, &remote).await;
        drop(gateway);
        if let Ok(Found {
            document: document @ Some(_),
            ..
        }) = &fetched
        {
            sender.send_modify(|fetched| fetched.document.clone_from(document));
        }
        let next = match fetched.and_then(|found| found.keys) {
            Ok((keys, kept)) => {
                debug!(uri = %remote.uri, "keys fetched");
                sender.send_modify(|fetched| {
                    fetched.keys = Some(Arc::new(keys));
                    fetched.until = Some(Instant::now() + kept + STALE);
                    fetched.tries += 1;
                });
                pause = RETRY.0;
                // Ahead of time, so that no request has to wait.
                kept * 4 / 5
            }
            Err(reason) => {
                warn!(uri = %remote.uri, reason, "keys cannot be fetched");
                sender.send_modify(|fetched| fetched.tries += 1);
                let next = pause;
                pause = (pause * 2).min(RETRY.1);
                next
            }
        };
        // Whether the time has come or somebody asks, the keys are fetched.
        let _ = timeout(next, wanted.notify.notified()).await;
    }
}

/// What was fetched.
struct Found {
    /// The keys, and how long they may be used.
    keys: Result<(KeySet, Duration), String>,
    /// What an authorization server says of itself.
    document: Option<Bytes>,
}

async fn fetch(gateway: &Gateway, remote: &Remote) -> Result<Found, String> {
    let state = gateway.state.load_full();
    let services = &state.services;
    let Some(issuer) = &remote.issuer else {
        let answer = services.call(&remote.service, asking(&remote.uri), FETCH_TIMEOUT);
        let answer = answer.await.map_err(|error| error.to_string())?;
        return Ok(Found {
            keys: Ok(read(&answer, remote.keep)?),
            document: None,
        });
    };
    let metadata = discover(services, remote, issuer).await?;
    let request = asking(&metadata.keys);
    let answer = if metadata.keys.authority() == remote.uri.authority() {
        services.call(&remote.service, request, FETCH_TIMEOUT).await
    } else {
        egress::call_at(request, FETCH_TIMEOUT).await
    };
    let answer = answer.map_err(|error| error.to_string());
    Ok(Found {
        keys: answer.and_then(|answer| read(&answer, remote.keep)),
        document: Some(metadata.document),
    })
}

/// Looks for the metadata of an authorization server in all places where they may be.
async fn discover(services: &Services, remote: &Remote, issuer: &str) -> Result<Metadata, String> {
    for place in issuer::places(&remote.uri) {
        let answer = services.call(&remote.service, asking(&place), FETCH_TIMEOUT);
        let answer = answer.await.map_err(|error| error.to_string())?;
        match answer.status() {
            StatusCode::OK => return Metadata::read(answer.into_body(), issuer),
            status if status.is_client_error() => {}
            status => return Err(format!("the answer has status {}", status.as_u16())),
        }
    }
    Err("the issuer has no metadata".to_owned())
}

/// Returns the request for a document.
fn asking(uri: &Uri) -> Request<Bytes> {
    let mut request = Request::new(Bytes::new());
    request.uri_mut().clone_from(uri);
    let json = http::HeaderValue::from_static("application/json");
    request.headers_mut().insert(header::ACCEPT, json);
    request
}

/// Returns the keys in an answer, and how long they may be used.
fn read(answer: &Response<Bytes>, keep: Option<Duration>) -> Result<(KeySet, Duration), String> {
    if answer.status() != StatusCode::OK {
        return Err(format!("the answer has status {}", answer.status().as_u16()));
    }
    let keys = KeySet::parse(answer.body()).map_err(|error| error.to_string())?;
    let kept = keep.or_else(|| max_age(answer.headers()));
    let kept = kept.map_or(KEEP, |kept| kept.clamp(KEEP_BOUNDS.0, KEEP_BOUNDS.1));
    Ok((keys, kept))
}

/// Returns how long an answer may be used, as far as it says so (RFC 9111, section 5.2.2.1).
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let directives = headers.get(header::CACHE_CONTROL)?.to_str().ok()?.split(',');
    let seconds = directives
        .filter_map(|directive| directive.trim().strip_prefix("max-age="))
        .find_map(|seconds| seconds.parse().ok());
    seconds.map(Duration::from_secs)
}
