//! Copies of requests for other backends (Gateway API, "HTTPRequestMirrorFilter").
//!
//! A copy is sent once the whole request is here, and its reply is read and forgotten. Nobody waits for it, so that it
//! has a task of its own; there are so many at once, and what is beyond that, or too large to be kept, is not copied.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use config::plain::Plain;
use http::{Request, request::Parts};
use http_body_util::{BodyExt, Full};
use tokio::{sync::Semaphore, time::timeout};
use tracing::debug;

use super::forward;
use crate::{
    Runtime,
    ctx::Ctx,
    upstream::{Client, Outgoing},
};

/// The most copies that are under way at once.
const MAX_COPIES: usize = 128;

/// How long a copy may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Room for copies.
#[derive(Debug)]
pub(crate) struct Mirrors(Arc<Semaphore>);

/// Copies of a request that wait for its end. Dropped before that, they are not sent.
pub(super) struct Copies {
    runtime: Arc<Runtime>,
    copies: Vec<Copy>,
}

struct Copy {
    backend: Arc<str>,
    client: Arc<Client>,
    head: Parts,
}

impl Default for Mirrors {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_COPIES)))
    }
}

impl Copies {
    /// Returns the copies of a request; `None` if there are none to be.
    pub(super) fn of(ctx: &Ctx, plain: &Plain, head: &Parts, path: &str) -> Option<Self> {
        let drawn = plain.mirrors.iter().filter(|mirror| {
            let drawn = fastrand::u32(..mirror.denominator.max(1));
            drawn < mirror.numerator
        });
        let copies = drawn.filter_map(|mirror| {
            let client = ctx.state.clients.pick(&mirror.backend, ctx.peer())?;
            let (head, _) = forward::head(ctx, plain, None, head.clone(), path, &client.host);
            Some(Copy {
                backend: Arc::clone(&mirror.backend.id),
                client: Arc::clone(client),
                head,
            })
        });
        let copies: Vec<Copy> = copies.collect();
        (!copies.is_empty()).then(|| Self {
            runtime: Arc::clone(&ctx.runtime),
            copies,
        })
    }

    /// Sends the copies, each with `body`.
    #[expect(
        clippy::disallowed_methods,
        reason = "nobody waits for a copy, so that no request could carry it"
    )]
    pub(super) fn send(self, body: &Bytes) {
        let Self { runtime, copies } = self;
        for copy in copies {
            let Ok(room) = Arc::clone(&runtime.mirrors.0).try_acquire_owned() else {
                runtime.metrics.attempt(&copy.backend, "mirror_dropped");
                continue;
            };
            let (runtime, body) = (Arc::clone(&runtime), body.clone());
            tokio::spawn(async move {
                let backend = Arc::clone(&copy.backend);
                let sent = timeout(LIMIT, copy.send(body)).await.unwrap_or(false);
                let outcome = if sent { "mirrored" } else { "mirror_failed" };
                runtime.metrics.attempt(&backend, outcome);
                drop(room);
            });
        }
    }

    /// Gives the copies up: the request is too large to be copied.
    pub(super) fn give_up(self) {
        for copy in self.copies {
            self.runtime.metrics.attempt(&copy.backend, "mirror_dropped");
        }
    }
}

impl Copy {
    /// Returns whether a reply came to its end.
    async fn send(self, body: Bytes) -> bool {
        let request = Request::from_parts(self.head, Outgoing::Whole(Full::new(body)));
        let mut reply = match self.client.call(request).await {
            Ok(reply) => reply.into_body(),
            Err(error) => {
                debug!(%error, backend = %self.backend, "a copy was not sent");
                return false;
            }
        };
        loop {
            match reply.frame().await {
                None => return true,
                Some(Ok(_)) => {}
                Some(Err(_)) => return false,
            }
        }
    }
}
