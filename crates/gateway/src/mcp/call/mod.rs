//! One call to one backend: what it is sent, and its reply as messages.

mod body;
mod events;
mod failure;
mod managed;
mod reply;
mod request;
mod way;

use std::{net::IpAddr, sync::Arc, time::Duration};

use config::{
    Credential,
    mcp_route::{Backend, Http, Reach},
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use mcp::{Message, Version, modern::About, session::Entry};
use policy::traffic::retry;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use super::{sessions::Fingerprint, stdio};
use crate::{
    Runtime, State, apart,
    credential::{self, brought::Luggage},
    lane::Busy,
    telemetry::trace::Position,
    upstream::{self, CallError, Client, Outgoing},
};

pub(super) use events::Events;
pub(super) use failure::{Failure, Fault};
pub(super) use reply::{Begun, Reply, demands_login, media_type};
use way::Ways;

/// Names a session with a backend, and ours with a client.
pub(super) const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
/// Says which revision is spoken.
pub(super) const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// Says where in a stream to go on.
pub(super) const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");

/// What a backend is asked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ask<'a> {
    /// To take a message.
    Post(&'a Message),
    /// For its stream, from after this event on.
    Get(Option<&'a str>),
    /// To end the session.
    Delete,
}

impl Ask<'_> {
    /// Sends what asks this to an endpoint.
    async fn send(
        self,
        client: &Client,
        request: Request<Outgoing>,
    ) -> Result<Response<upstream::Reply>, CallError> {
        match self {
            Ask::Get(_) => client.listen(request).await,
            Ask::Post(_) | Ask::Delete => client.call(request).await,
        }
    }
}

/// A backend and what is needed to call it.
pub(super) struct Caller<'a> {
    pub(super) state: &'a State,
    pub(super) runtime: &'a Runtime,
    pub(super) backend: &'a Backend,
    /// Where the client is.
    pub(super) peer: IpAddr,
    /// The session that the client has with us.
    pub(super) whose: Fingerprint,
    /// The client's headers, of which those are sent on that the route names.
    pub(super) client: &'a HeaderMap,
    /// Headers in which every server is told who calls.
    pub(super) told: &'a [HeaderName],
    pub(super) request_id: &'a HeaderValue,
    /// What servers that keep no session are told of the client.
    pub(super) about: About<'a>,
    /// Whether the client keeps none either.
    pub(super) modern: bool,
    /// The `_meta` of the request that opens the client's session, while it is served.
    pub(super) opening: Option<&'a RawValue>,
    /// Its event after which the client goes on with a message, where it says so.
    pub(super) last: Option<&'a str>,
    /// Arguments that headers repeat, where the client does not send these headers itself.
    pub(super) repeated: Vec<(String, String)>,
    /// Where the call stands, where there are traces; otherwise what the client says of it is sent on.
    pub(super) position: Option<Position>,
}

impl Caller<'_> {
    /// Asks the backend, in the session of `entry` if there is one; a reply must begin within `limit`.
    pub(super) async fn ask(
        &self,
        entry: Option<&Entry>,
        ask: Ask<'_>,
        limit: Duration,
    ) -> Result<Reply, Failure> {
        let fail = |fault, reason: String| Failure::new(&self.backend.name, fault, reason);
        let in_line = match ask {
            Ask::Post(message) if is_modern(entry) => {
                // Servers of this line are told nothing but requests.
                let Message::Request(_) = message else {
                    return Ok(Reply::Nothing);
                };
                self.stamped(message)
            }
            Ask::Post(_) | Ask::Get(_) | Ask::Delete => None,
        };
        let ask = in_line.as_ref().map_or(ask, Ask::Post);
        let placed = match (ask, &self.position) {
            (Ask::Post(message), Some(position)) => position.named_in(message),
            (Ask::Post(_) | Ask::Get(_) | Ask::Delete, _) => None,
        };
        let ask = placed.as_ref().map_or(ask, Ask::Post);
        let reach = self.backend.reach.as_ref();
        let reach = reach.map_err(|reason| fail(Fault::Unreachable, reason.clone()))?;
        let until = Instant::now() + limit;
        let answered = async {
            let reach = match reach {
                Reach::Http(http) => http,
                Reach::Program(program) => {
                    let call = stdio::Call {
                        programs: &self.runtime.programs,
                        backend: &self.backend.name,
                        program,
                        entry,
                        whose: self.whose,
                    };
                    return apart::begun(|| call.ask(ask, limit)).await;
                }
            };
            let replied = match &self.backend.traffic {
                None => {
                    let clients = self.state.clients.of(&reach.id);
                    let called = self.call(clients, reach, entry, ask).await;
                    called.map_err(|missed| missed.failure)?
                }
                Some(traffic) => apart::begun(|| self.managed(traffic, reach, entry, ask)).await?,
            };
            self.read(replied, entry, ask).await
        };
        timeout_at(until, answered).await.unwrap_or_else(|_| {
            let limit = limit.as_secs_f32();
            Err(fail(Fault::Timeout, format!("no answer within {limit} s")))
        })
    }

    /// Calls the endpoint that keeps the session, or one after the other until one is reached.
    async fn call(
        &self,
        clients: &[Arc<Client>],
        reach: &Http,
        entry: Option<&Entry>,
        ask: Ask<'_>,
    ) -> Result<Replied, Missed> {
        let mut ways = Ways::of(clients, entry).await;
        let lost = ways.lost;
        let missed = |kind, fault, reason: String| Missed {
            kind,
            failure: Failure {
                lost: lost && fault == Fault::Unreachable,
                ..Failure::new(&self.backend.name, fault, reason)
            },
        };
        let mut last = missed(
            retry::Failure::Connect,
            Fault::Unreachable,
            ways.none().to_owned(),
        );
        while let Some(client) = ways.next().await {
            let error = match client {
                Ok(client) => {
                    let unsayable = |failure| Missed {
                        kind: retry::Failure::Unsayable,
                        failure,
                    };
                    let called = match reach.token() {
                        None => {
                            let request = self.request(reach, &client.host, entry, ask);
                            ask.send(&client, request.map_err(unsayable)?).await
                        }
                        Some(credential) => {
                            let called =
                                apart::begun(|| self.authorized(credential, &client, reach, entry, ask));
                            called.await.map_err(unsayable)?
                        }
                    };
                    match called {
                        Ok(response) => {
                            return Ok(Replied {
                                response,
                                endpoint: client.name,
                                busy: None,
                            });
                        }
                        Err(error) => error,
                    }
                }
                Err(error) => error.into(),
            };
            let (kind, fault) = match error {
                CallError::Connect(_) => (retry::Failure::Connect, Fault::Unreachable),
                CallError::Refused(_) => (retry::Failure::RefusedStream, Fault::Unreachable),
                CallError::Reset(_) => (retry::Failure::Reset, Fault::Broken),
            };
            last = missed(kind, fault, error.to_string());
            if fault == Fault::Broken {
                break;
            }
        }
        Err(last)
    }
}

impl Caller<'_> {
    /// Calls an endpoint that is shown a token, and once more with another if it does not take the one that there was.
    async fn authorized(
        &self,
        credential: &Credential,
        client: &Arc<Client>,
        reach: &Http,
        entry: Option<&Entry>,
        ask: Ask<'_>,
    ) -> Result<Result<Response<upstream::Reply>, CallError>, Failure> {
        let mut again = false;
        loop {
            let mut request = self.request(reach, &client.host, entry, ask)?;
            let mut dressed = credential::Call {
                headers: request.headers_mut(),
                method: "",
                path: "",
                host: "",
                body: None,
            };
            let credentials = &self.state.credentials;
            let used = credentials
                .apply(credential, &Luggage::default(), &mut dressed)
                .await;
            let used = used.map_err(|error| {
                tracing::debug!(backend = %self.backend.name, %error, "a server's token cannot be had");
                Failure::new(&self.backend.name, Fault::Credential, error.to_string())
            })?;
            let called = ask.send(client, request).await;
            let (Ok(response), Some(used), false) = (&called, used, again) else {
                return Ok(called);
            };
            // A status that is about who calls says that nothing was done.
            if !used.learn(response.status(), response.headers()).await {
                return Ok(called);
            }
            again = true;
        }
    }
}

/// What an endpoint has replied.
struct Replied {
    response: Response<upstream::Reply>,
    /// The hash of its address.
    endpoint: u64,
    /// What the call weighs on its lane, until the reply is read.
    busy: Option<Busy>,
}

/// A call that brought no reply, and what that amounts to.
struct Missed {
    kind: retry::Failure,
    failure: Failure,
}

/// Returns whether a backend is spoken with in the line without sessions.
pub(super) fn is_modern(entry: Option<&Entry>) -> bool {
    entry
        .and_then(|entry| entry.version)
        .is_some_and(Version::is_modern)
}
