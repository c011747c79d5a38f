//! What gateways that share a Redis tell each other of sessions: which are deleted, and the tokens that are too long to be
//! carried.
//!
//! Deleted ones are entries of a stream (<https://redis.io/docs/latest/develop/data-types/streams/>): `session`, the
//! name of its token in hexadecimal digits, from which the token cannot be made, and `end`, until when it is to be
//! remembered, in seconds since the Unix epoch. A gateway reads the stream from its begin whenever it connects, and
//! then waits for what is added, over a connection of its own: no request asks Redis whether its session is there.
//!
//! A token that is kept, sealed as it is, lies under the hash of the name that its client carries, and is asked for by a gateway
//! that does not know the name.

use std::{collections::HashMap, convert::Infallible, error::Error, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use redis::{Cmd, FromRedisValue, RedisError};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tracing::{debug, info, warn};

use super::{
    account::word,
    deleted::{LONGEST, MAX_DELETED},
    sessions::{Fingerprint, fingerprint},
};
use crate::redis::{AGAIN, DialError, Dialer, Link, Pauses, WAIT, is_lost, is_passing};

/// The stream.
const KEY: &str = "tollgate_deleted_sessions";

/// What keys of tokens that are kept begin with.
const KEPT: &str = "tollgate_session_";

/// The most entries that are read at once.
const PAGE: usize = 1024;

/// How long Redis lets a reader wait for entries.
const SILENCE: Duration = Duration::from_secs(10);

/// How much later than that its answer may come.
const PATIENCE: Duration = Duration::from_secs(2);

/// The most deletions that wait to be told.
const MAX_WAITING: usize = 4096;

/// What does with a session that somebody has deleted, and with its end, what is to be done.
pub(super) type Heard = Box<dyn Fn(Fingerprint, u64) + Send + Sync>;

/// The other gateways. They are told and tell until this is dropped.
pub(super) struct Replicas {
    news: mpsc::Sender<News>,
    /// What tokens are kept over; `None` while Redis is away.
    link: Arc<ArcSwapOption<Link>>,
    task: JoinHandle<()>,
}

/// A session was deleted here.
struct News {
    session: Fingerprint,
    end: u64,
    told: oneshot::Sender<()>,
}

/// The task behind [`Replicas`].
struct Messenger {
    dialer: Arc<Dialer>,
    link: Arc<ArcSwapOption<Link>>,
    queue: mpsc::Receiver<News>,
    /// What is being told.
    waiting: Option<News>,
    heard: Heard,
    /// Whether Redis has answered, or it was said that it does not.
    answers: Option<bool>,
}

/// Why nothing is told or heard for now.
#[derive(Debug, thiserror::Error)]
enum Silent {
    #[error(transparent)]
    Away(#[from] DialError),
    #[error("redis refuses")]
    Refused(#[from] RedisError),
}

impl Replicas {
    /// Begins to tell the gateways that `dialer` leads to, and to give `heard` what they tell.
    #[expect(
        clippy::disallowed_methods,
        reason = "it tells and hears for as long as there are sessions"
    )]
    pub(super) fn start(dialer: Arc<Dialer>, heard: Heard) -> Self {
        let (news, queue) = mpsc::channel(MAX_WAITING);
        let link = Arc::default();
        let messenger = Messenger {
            dialer,
            link: Arc::clone(&link),
            queue,
            waiting: None,
            heard,
            answers: None,
        };
        let task = tokio::spawn(messenger.run());
        Self { news, link, task }
    }

    /// Tells that `session` is deleted, which is to be remembered until `end`. Returns when Redis knows it, or does
    /// not answer in time; it is told later then.
    pub(super) async fn tell(&self, session: Fingerprint, end: u64) {
        let (told, is_told) = oneshot::channel();
        let news = News { session, end, told };
        if self.news.try_send(news).is_err() {
            warn!("other gateways are not told of a deleted session: too many wait for redis");
            return;
        }
        // Nobody tells any longer, or not in time: nothing more can be done here.
        let _ = timeout(WAIT, is_told).await;
    }

    /// Keeps a token for `seconds`, whose client carries `name`. Without Redis others do not know it.
    pub(super) async fn keep(&self, name: &str, token: &str, seconds: u64) {
        let mut kept = redis::cmd("SET");
        kept.arg(key(name))
            .arg(token)
            .arg("EX")
            .arg(seconds.clamp(1, LONGEST));
        if self.ask::<()>(name, &kept).await.is_none() {
            warn!("redis does not keep a session's token: other gateways do not know the session");
        }
    }

    /// Returns the token of the client that carries `name`, if it is kept.
    pub(super) async fn find(&self, name: &str) -> Option<String> {
        let mut asked = redis::cmd("GET");
        asked.arg(key(name));
        self.ask::<Option<String>>(name, &asked).await?
    }

    /// Keeps the token of the client that carries `name` no longer.
    pub(super) async fn forget(&self, name: &str) {
        let mut forgotten = redis::cmd("DEL");
        forgotten.arg(key(name));
        // Its session is deleted, so that it opens nothing any longer, and it ends by itself.
        self.ask::<()>(name, &forgotten).await;
    }

    async fn ask<T: FromRedisValue>(&self, name: &str, command: &Cmd) -> Option<T> {
        let link = self.link.load_full()?;
        let mut route = link.route(&key(name), PATIENCE);
        match timeout(WAIT, command.query_async(&mut route)).await {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(error)) => {
                debug!(%error, "redis refuses");
                None
            }
            Err(_) => None,
        }
    }
}

/// Returns where the token lies of the client that carries `name`.
fn key(name: &str) -> String {
    format!("{KEPT}{}", word(&fingerprint(name)))
}

impl Drop for Replicas {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Messenger {
    /// Connects, tells and hears for as long as somebody may have something to tell.
    async fn run(mut self) {
        let mut pauses = Pauses::default();
        loop {
            let Err(silent) = self.exchange(&mut pauses).await;
            self.link.store(None);
            if self.answers != Some(false) {
                warn!(
                    error = &silent as &dyn Error,
                    "redis does not say which sessions were deleted: other gateways may open them anew"
                );
            }
            self.answers = Some(false);
            pauses.wait().await;
        }
    }

    async fn exchange(&mut self, pauses: &mut Pauses) -> Result<Infallible, Silent> {
        let reader = self.dialer.dial(&[]).await?;
        let writer = self.dialer.dial(&[]).await?;
        self.link.store(Some(Arc::new(writer.clone())));
        let Self {
            queue,
            waiting,
            heard,
            answers,
            ..
        } = self;
        let answered = || {
            *pauses = Pauses::default();
            if answers.replace(true) == Some(false) {
                info!("redis says again which sessions were deleted");
            }
        };
        tokio::select! {
            silent = hear(&reader, heard, answered) => silent.map_err(Silent::from),
            silent = tell(&writer, queue, waiting) => silent.map_err(Silent::from),
            // Its calls wait for as long as nothing is added.
            () = reader.keep(None) => Err(Silent::Away(DialError::Nobody)),
            () = writer.keep(Some(SILENCE)) => Err(Silent::Away(DialError::Nobody)),
        }
    }
}

/// Gives `heard` all that the stream has, and what is added to it; `answered` is told whenever Redis answers.
async fn hear(reader: &Link, heard: &Heard, mut answered: impl FnMut()) -> Result<Infallible, RedisError> {
    type Entries = Vec<(String, HashMap<String, String>)>;
    let mut last = "0".to_owned();
    loop {
        let mut asked = redis::cmd("XREAD");
        asked.arg("COUNT").arg(PAGE);
        asked.arg("BLOCK").arg(SILENCE.as_millis().to_string());
        asked.arg("STREAMS").arg(KEY).arg(&last);
        let streams: Option<Vec<(String, Entries)>> = asked
            .query_async(&mut reader.route(KEY, SILENCE + PATIENCE))
            .await?;
        answered();
        for (id, fields) in streams.into_iter().flatten().flat_map(|(_, entries)| entries) {
            match entry(&fields) {
                Some((session, end)) => heard(session, end),
                None => debug!(id, "an entry of deleted sessions says nothing"),
            }
            last = id;
        }
    }
}

/// Adds what comes by `queue` to the stream; what is not there yet stays in `waiting`.
async fn tell(
    writer: &Link,
    queue: &mut mpsc::Receiver<News>,
    waiting: &mut Option<News>,
) -> Result<Infallible, RedisError> {
    loop {
        let Some(news) = waiting else {
            // There is no end of it before the task is ended.
            match queue.recv().await {
                Some(news) => *waiting = Some(news),
                None => std::future::pending().await,
            }
            continue;
        };
        let mut added = redis::pipe();
        added.cmd("XADD").arg(KEY).arg("MAXLEN").arg("~").arg(MAX_DELETED);
        added.arg("*").arg("session").arg(word(&news.session));
        added.arg("end").arg(news.end).ignore();
        added.cmd("EXPIRE").arg(KEY).arg(LONGEST).ignore();
        match added.query_async::<()>(&mut writer.route(KEY, PATIENCE)).await {
            Ok(()) => {}
            Err(error) if is_lost(&error) => return Err(error),
            Err(error) if is_passing(&error) => {
                warn!(%error, "redis does not take that a session was deleted: it is told again");
                sleep(AGAIN).await;
                continue;
            }
            Err(error) => warn!(%error, "redis refuses to tell that a session was deleted"),
        }
        if let Some(news) = waiting.take() {
            // Who has stopped waiting need not be told.
            let _ = news.told.send(());
        }
    }
}

/// Reads an entry.
fn entry(fields: &HashMap<String, String>) -> Option<(Fingerprint, u64)> {
    let word = fields
        .get("session")
        .filter(|word| word.len() == 2 * size_of::<Fingerprint>())?;
    let session = u128::from_str_radix(word, 16).ok()?.to_be_bytes();
    Some((session, fields.get("end")?.parse().ok()?))
}
