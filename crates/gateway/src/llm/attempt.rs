//! One try against one upstream: what it is sent, and what its reply amounts to.

use std::{future::poll_fn, pin::pin, sync::Arc};

use bytes::Bytes;
use config::{Credential, snapshot::Candidate};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header, uri::PathAndQuery};
use http_body_util::Full;
use llm::{ApiError, ErrorKind, Losses, Observed, Target, chat::FinishReason};
use policy::value::Known;

use super::{
    arriving::Arriving,
    asked::{Asked, BYTES, Head, Payload, Said},
    limit::{Alarm, Limits},
    picking,
    refused::{Cause, Refused},
    reply::{Stream, poll_arrived},
    several::Several,
};
use crate::{
    apart,
    body::Pieces,
    coding::{self, Coding, Decoder},
    credential::{Call, Used, brought::Luggage},
    ctx::Ctx,
    facts::Attempted,
    headers, kept, meter,
    picker::{Picked, Walk},
    refusal::{Answer, Content},
    upstream::{self, Client, Outgoing},
};

/// The largest unary reply.
pub(super) const MAX_REPLY: usize = 64 * 1024 * 1024;

/// The most that is withheld of a stream that has said nothing yet.
const MAX_HELD: usize = 64 * 1024;

const IDENTITY: HeaderValue = HeaderValue::from_static("identity");
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");

/// One try against one upstream.
pub(super) struct Attempt<'a> {
    pub(super) asked: Asked<'a>,
    pub(super) candidate: &'a Candidate,
    /// The client's headers, as every upstream may see them.
    pub(super) headers: &'a HeaderMap,
    /// The codings that the client says it reads.
    pub(super) codings: Option<&'a HeaderValue>,
    /// The credentials that the client brought for upstreams.
    pub(super) luggage: &'a Luggage,
    pub(super) limits: Limits,
    /// Whom to call, if that is decided.
    pub(super) client: Option<&'a Arc<Client>>,
    /// What a picker has made of the request, and which of those is called that it has named.
    pub(super) picked: Option<Named<'a>>,
    /// Whether an answer that the upstream's filter kept back is refused.
    pub(super) refuses_filtered: bool,
    /// Whether the upstream must hear everything that the client says.
    pub(super) refuses_losses: bool,
    /// Whether the answer calls the model what the client did, where the rule names another.
    pub(super) names_as_client: bool,
    /// Whether a request that goes on from the answer might be sent to somebody else.
    pub(super) is_one_of_several: bool,
}

/// An endpoint that a picker has named.
#[derive(Clone, Copy)]
pub(super) struct Named<'a> {
    pub(super) picked: &'a Picked,
    pub(super) place: usize,
    /// Who is left, should this one refuse.
    pub(super) walk: Walk<'a>,
}

/// What is to be done with an answer that may mean that the credential was not taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// The same is asked again where there is another credential by now.
    Learn,
    /// It is the answer.
    Accept,
}

impl Attempt<'_> {
    /// Asks the upstream; an answer is whole, or a stream that has said something.
    pub(super) async fn run(&self, ctx: &mut Ctx, alarm: &mut Alarm) -> Result<Answer, Box<Refused>> {
        ctx.facts.attempts += 1;
        if let Some(trail) = &mut ctx.facts.trail {
            trail.begin(self.candidate);
        }
        let mut answered = self.ask(ctx, alarm, Patience::Learn).await;
        if matches!(&answered, Err(refused) if refused.cause == Cause::Stale) {
            answered = self.ask(ctx, alarm, Patience::Accept).await;
        }
        let answered = answered.map_err(|refused| match self.asked.fault() {
            Some(fault) => Refused::new(Cause::Client, fault),
            None => refused,
        });
        let outcome = answered
            .as_ref()
            .map_or_else(|refused| refused.cause.name(), |_| "answered");
        ctx.runtime.metrics.attempt(&self.candidate.id, outcome);
        if let Some(side) = answered.as_ref().err().and_then(|refused| refused.cause.side()) {
            ctx.facts.untranslated(side);
        }
        if let Some(trail) = &mut ctx.facts.trail {
            trail.end(outcome, answered.as_ref().err().map(|refused| refused.failure()));
        }
        answered
    }

    async fn ask(
        &self,
        ctx: &mut Ctx,
        alarm: &mut Alarm,
        patience: Patience,
    ) -> Result<Answer, Box<Refused>> {
        let backend = match &self.candidate.backend {
            Ok(backend) => backend,
            Err(reason) => {
                // The reason may name resources, Secrets among them, that are not for clients to know of.
                tracing::debug!(candidate = %self.candidate.id, reason, "a backend is not usable");
                let error = ApiError::new(ErrorKind::Internal, "the backend of this route is not usable");
                return Err(Refused::new(Cause::Unresolved, error));
            }
        };
        let model = self.candidate.model.as_deref().unwrap_or(self.asked.model());
        ctx.facts.attempt = Some(Attempted {
            backend: Arc::clone(&backend.id),
            reference: Arc::clone(&self.candidate.id),
            provider: backend.provider.name(),
            model: model.to_owned(),
            start: std::time::Instant::now(),
            host: None,
            first_token: None,
            replaced: None,
        });
        let target = Target {
            provider: backend.provider,
            site: &backend.site,
            model,
            now: u64::try_from(ctx.facts.began.as_second()).unwrap_or_default(),
        };
        let said = self
            .asked
            .say(&target, self.headers)
            .map_err(|error| Refused::new(Cause::Unsayable, error))?;
        if self.refuses_losses
            && let Some(error) = said.losses.strict_refusal(ctx.dialect)
        {
            return Err(Refused::new(Cause::Unsayable, error));
        }
        let client = self
            .client
            .or_else(|| ctx.state.clients.pick(backend, ctx.peer()));
        let Some(client) = client.cloned() else {
            let error = ApiError::new(ErrorKind::Internal, "the backend has no endpoint");
            return Err(Refused::new(Cause::Unresolved, error));
        };
        if let Some(attempt) = &mut ctx.facts.attempt {
            attempt.host = Some(client.host.clone());
        }
        let Said {
            head,
            payload,
            more,
            losses,
            mut reply,
        } = said;
        if self.renames() {
            reply.call_model(self.asked.model());
        }
        let credential = backend.credential.as_ref();
        if !more.is_empty() {
            let several = Several {
                client: &client,
                credential,
                head,
                bodies: std::iter::once(payload)
                    .chain(more.into_iter().map(Payload::Document))
                    .collect(),
                patience,
            };
            return apart::begun(|| self.ask_each(ctx, several, reply, losses)).await;
        }
        let host = self.picked.map(|_| picking::host(ctx));
        let (mut request, mut body) =
            self.request(ctx, host.as_ref().unwrap_or(&client.host), head, payload)?;
        if let Some(named) = self.picked {
            body = named.dress(&mut request, body)?;
        }
        if let Some((attempt, body)) = ctx.facts.attempt.as_mut().zip(body.as_ref()) {
            attempt.replaced = self.asked.is_replaced_by(body).then_some(body.len());
        }
        if let Some(trace) = &mut ctx.facts.trace {
            trace.call(ctx.facts.attempts, request.headers_mut());
        }
        let used = match credential {
            Some(credential) => self.dress(ctx, alarm, credential, &mut request, body).await?,
            None => None,
        };
        if let Some(arrived) = ctx.facts.arrived.take() {
            ctx.runtime.metrics.own.prepared(arrived.elapsed());
        }
        let response = self.call(alarm, &client, request, used, patience).await?;
        let response = match self.picked {
            Some(named) => Box::pin(self.show(alarm, named, response)).await?,
            None => response,
        };
        self.read(ctx, alarm, response, reply, losses).await
    }

    /// Has the picker see a reply, unless somebody else is asked because of it.
    async fn show(
        &self,
        alarm: &mut Alarm,
        named: Named<'_>,
        response: Response<upstream::Reply>,
    ) -> Result<Response<upstream::Reply>, Box<Refused>> {
        if named.walk.passes_over(response.status()) {
            return Ok(response);
        }
        let shown = pin!(named.picked.show(named.place, response, self.limits.total));
        match alarm.limit(self.limits.attempt, shown).await {
            Some(Ok(response)) => Ok(response),
            Some(Err(broken)) => Err(Refused::reply(broken)),
            None => Err(self.limits.passed()),
        }
    }

    /// Makes a call that was dressed with what was `used`.
    pub(super) async fn call(
        &self,
        alarm: &mut Alarm,
        client: &Client,
        request: Request<Outgoing>,
        used: Option<Used>,
        patience: Patience,
    ) -> Result<Response<upstream::Reply>, Box<Refused>> {
        let response = {
            let call = pin!(client.call(request));
            match self.asked.limit(alarm, self.limits, call).await {
                Some(Ok(response)) => response,
                Some(Err(error)) => return Err(Refused::call(error)),
                None => return Err(self.limits.passed()),
            }
        };
        if let Some(used) = used.filter(|_| patience == Patience::Learn && self.asked.is_whole()) {
            let learnt = used.learn(response.status(), response.headers());
            if alarm.limit(self.limits.next(), pin!(learnt)).await == Some(true) {
                let error = ApiError::new(
                    ErrorKind::BadUpstream,
                    "the upstream does not take the credential",
                );
                return Err(Refused::new(Cause::Stale, error));
            }
        }
        Ok(response)
    }

    /// Puts the credential on `request`, whose body is `body` unless it is sent while it arrives.
    pub(super) async fn dress(
        &self,
        ctx: &Ctx,
        alarm: &mut Alarm,
        credential: &Credential,
        request: &mut Request<Outgoing>,
        body: Option<Bytes>,
    ) -> Result<Option<Used>, Box<Refused>> {
        let uri = request.uri().clone();
        let headers = request.headers_mut();
        let host = headers.get(header::HOST).cloned();
        let mut call = Call {
            headers,
            method: "POST",
            path: uri.path_and_query().map_or("/", PathAndQuery::as_str),
            host: host
                .as_ref()
                .and_then(|host| host.to_str().ok())
                .unwrap_or_default(),
            body: body.as_deref(),
        };
        let applied = ctx.state.credentials.apply(credential, self.luggage, &mut call);
        match alarm.limit(self.limits.next(), pin!(applied)).await {
            Some(Ok(used)) => Ok(used),
            Some(Err(error)) => Err(Refused::new(Cause::Credential, error.to_api())),
            None => Err(self.limits.passed()),
        }
    }

    /// Returns the HTTP request, each layer over the one before: client, provider, declared changes, ours. Its
    /// body is returned too where it is held.
    pub(super) fn request(
        &self,
        ctx: &Ctx,
        host: &HeaderValue,
        head: Head,
        payload: Payload,
    ) -> Result<(Request<Outgoing>, Option<Bytes>), Box<Refused>> {
        let unresolved =
            |message: String| Refused::new(Cause::Unresolved, ApiError::new(ErrorKind::Internal, message));
        let known = self.known(ctx);
        let mut headers = self.headers.clone();
        for (name, value) in head.replaces {
            match value {
                Some(value) => headers.insert(name, value),
                None => headers.remove(name),
            };
        }
        for (name, value) in &head.headers {
            headers.entry(name).or_insert_with(|| value.clone());
        }
        headers.insert(header::CONTENT_TYPE, head.content_type.clone());
        let changed = self.candidate.headers.apply(&mut headers, &known);
        changed.map_err(|error| unresolved(format!("the headers cannot be changed as declared: {error}")))?;
        headers.insert(header::HOST, host.clone());
        headers.insert(header::ACCEPT_ENCODING, IDENTITY);
        let (body, held) = match payload {
            Payload::Document(body) => {
                let changed = self.candidate.body.apply(body, &known);
                let body = changed.map_err(|error| {
                    unresolved(format!("the body cannot be changed as declared: {error}"))
                })?;
                (Outgoing::Whole(Full::new(body.clone())), Some(body))
            }
            // The declared changes are those of a JSON document, and its type says where the parts of a form end.
            Payload::Form(pull) => {
                headers.insert(header::CONTENT_TYPE, head.content_type);
                (Outgoing::Form(pull), None)
            }
        };
        let uri = Uri::try_from(head.path)
            .map_err(|_| unresolved("the upstream's path is not a valid one".to_owned()))?;
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok((request, held))
    }

    /// Returns what declared changes may take from the request.
    fn known<'k>(&'k self, ctx: &'k Ctx) -> Known<'k> {
        let model = self.asked.model();
        let route = ctx.facts.route.as_deref();
        let backend = self.candidate.backend.as_ref().ok();
        Known {
            headers: self.headers,
            caller: ctx.access.as_deref().map(|admitted| &admitted.caller),
            metadata: &self.luggage.metadata,
            model,
            upstream_model: self.candidate.model.as_deref().unwrap_or(model),
            backend: backend.map(|backend| &*backend.id).unwrap_or_default(),
            route: route.unwrap_or_default(),
            client: ctx.client(self.headers),
            request_id: ctx.request_id(),
        }
    }

    async fn read(
        &self,
        ctx: &mut Ctx,
        alarm: &mut Alarm,
        response: Response<upstream::Reply>,
        mut reply: llm::Reply,
        losses: Losses,
    ) -> Result<Answer, Box<Refused>> {
        let (head, body) = response.into_parts();
        let retry_after = headers::retry_after(&head.headers);
        let is_stream = is_of_type(&head.headers, reply.stream_type());
        reply.hear(&head.headers);
        let kind = head.headers.get(header::CONTENT_TYPE).cloned();
        let coding = coding_of(&head.headers).cloned();
        let mut headers = head.headers;
        headers::to_client(&mut headers);
        let decoder = match &coding {
            None => None,
            Some(coding) => match Coding::of(coding).and_then(Decoder::new) {
                Some(decoder) => Some(decoder),
                None if head.status.is_success() => return Err(illegible(coding)),
                None => return Err(failed(head.status, headers, retry_after, &reply, &Bytes::new())),
            },
        };
        let kept = coding.filter(|coding| {
            let reads = self
                .codings
                .is_some_and(|accepted| coding::accepts(accepted, coding));
            // What is recorded of the answer is read by people.
            reads && reply.is_handed_on() && ctx.facts.trace.is_none()
        });
        let mut body = Arriving::new(body, decoder);
        if kept.is_some() {
            body.keep_raw();
        }
        let (may_stream, must_stream) = self.asked.may_and_must_stream();
        if head.status == StatusCode::OK && is_stream && may_stream {
            let stream = self.commit(ctx, alarm, body, reply.stream()).await?;
            ctx.facts.streamed = true;
            ctx.facts.losses = losses;
            ctx.facts.losses.extend(&stream.observed().losses);
            self.tell_model(&mut headers, stream.observed().model.as_deref());
            self.remember(ctx, stream.observed());
            let kind = self.asked.stream_type();
            headers.insert(header::CONTENT_TYPE, kind);
            headers.entry(header::CACHE_CONTROL).or_insert(NO_CACHE);
            return Ok(Answer {
                status: StatusCode::OK,
                headers,
                content: Content::Stream(Box::new(stream)),
            });
        }
        if head.status.is_success() && reply.is_opaque() {
            let stream = self.commit(ctx, alarm, body, reply.opaque()).await?;
            ctx.facts.losses = losses;
            headers.insert(header::CONTENT_TYPE, kind.unwrap_or(BYTES));
            return Ok(Answer {
                status: head.status,
                headers,
                content: Content::Stream(Box::new(stream)),
            });
        }
        if head.status.is_success() && is_stream {
            let message = "the upstream streams although it was not asked to";
            return Err(Refused::new(Cause::BadReply, ApiError::bad_reply(message)));
        }
        let bytes = match self.whole(alarm, &mut body).await {
            // An error is known by its status, whatever else it says.
            Err(refused) if refused.cause == Cause::BadReply && !head.status.is_success() => Bytes::new(),
            read => read?,
        };
        if !head.status.is_success() {
            return Err(failed(head.status, headers, retry_after, &reply, &bytes));
        }
        if must_stream {
            return Err(Refused::new(Cause::BadReply, not_a_stream(&reply, &bytes)));
        }
        let answer = reply
            .response(bytes)
            .map_err(|error| Refused::new(Cause::BadReply, error))?;
        if let Some(error) = answer.observed.error {
            return Err(Refused::new(Cause::Failed, error));
        }
        ctx.facts.losses = losses;
        ctx.facts.observe(&answer.observed);
        if let Some(kept) = answer.kept {
            ctx.facts.keep(kept);
        }
        self.tell_model(&mut headers, answer.observed.model.as_deref());
        self.remember(ctx, &answer.observed);
        headers.insert(header::CONTENT_TYPE, self.asked.answer_type(kind));
        let mut document = answer.body;
        if let Some((coding, raw)) = kept.zip(body.take_raw()) {
            headers.insert(header::CONTENT_ENCODING, coding);
            document = raw;
        }
        let finish = answer.observed.finish.as_ref().map(|finish| &finish.reason);
        let is_filtered = matches!(finish, Some(FinishReason::ContentFilter | FinishReason::Refusal));
        let answer = Answer {
            status: head.status,
            headers,
            content: Content::Whole(document),
        };
        if self.refuses_filtered && is_filtered {
            let error = ApiError::upstream(head.status, "the upstream's filter kept the answer back");
            let mut refused = Refused::new(Cause::Filtered, error);
            meter::kept_back(ctx);
            refused.answer = ctx
                .facts
                .attempt
                .clone()
                .map(|attempted| Box::new((answer, attempted)));
            return Err(refused);
        }
        Ok(answer)
    }

    /// Remembers who keeps the answer, if its upstream does and there are others.
    fn remember(&self, ctx: &Ctx, observed: &Observed) {
        let stored = observed.stored.as_deref().filter(|_| self.is_one_of_several);
        if let (Some(id), Ok(backend)) = (stored, &self.candidate.backend) {
            kept::remember(ctx, id, &backend.id);
        }
    }

    /// Returns whether the answer calls the model otherwise than its upstream does.
    fn renames(&self) -> bool {
        let model = self.candidate.model.as_deref();
        self.names_as_client && model.is_some_and(|model| model != self.asked.model())
    }

    /// Tells in a header what the upstream calls the model, which is `observed` if it says so.
    pub(super) fn tell_model(&self, headers: &mut HeaderMap, observed: Option<&str>) {
        let named = observed.or(self.candidate.model.as_deref());
        let value = named.filter(|_| self.renames()).map(HeaderValue::from_str);
        if let Some(Ok(value)) = value {
            headers.insert(headers::MODEL, value);
        }
    }

    /// Reads a unary reply to its end, so that a break in the middle is still a refusal.
    pub(super) async fn whole(&self, alarm: &mut Alarm, body: &mut Arriving) -> Result<Bytes, Box<Refused>> {
        let mut read = Pieces::default();
        loop {
            let piece = poll_fn(|cx| body.poll_piece(cx));
            let data = match alarm.limit(self.limits.next(), piece).await {
                Some(Some(Ok(data))) => data,
                Some(Some(Err(broken))) => return Err(Refused::broken(&broken)),
                Some(None) => return Ok(read.join()),
                None => return Err(self.limits.passed()),
            };
            if read.len() + data.len() > MAX_REPLY {
                let error = ApiError::bad_reply("the upstream's reply exceeds 64 MiB");
                return Err(Refused::new(Cause::BadReply, error));
            }
            read.push(data);
        }
    }

    /// Reads a stream until it has said something that binds us to it.
    async fn commit(
        &self,
        ctx: &mut Ctx,
        alarm: &mut Alarm,
        mut body: Arriving,
        mut stream: llm::Stream,
    ) -> Result<Stream, Box<Refused>> {
        let mut held = Pieces::default();
        loop {
            let arrived = poll_fn(|cx| poll_arrived(&mut body, cx));
            let Some((bytes, end)) = alarm.limit(self.limits.next(), arrived).await else {
                return Err(self.limits.passed());
            };
            if !bytes.is_empty() {
                ctx.facts.first_token();
                held.push(stream.push(bytes));
            }
            let reported = stream.observed().error.is_some();
            if let Some(how) = end.filter(|_| !reported) {
                held.push(stream.end(how));
            }
            let (observed, ended) = (stream.observed(), end.is_some());
            let failed = observed.error.is_some();
            if let Some(error) = &observed.error
                && (!observed.meaningful || stream.breaks_off())
            {
                let cause = if error.kind == ErrorKind::BadReply {
                    Cause::BadReply
                } else if reported {
                    Cause::Failed
                } else {
                    Cause::Reset
                };
                return Err(Refused::new(cause, error.clone()));
            }
            if observed.meaningful || ended || failed || held.len() > MAX_HELD {
                let body = (!ended && !failed).then_some(body);
                return Ok(Stream::new(held.join(), stream, body, alarm.take(), self.limits));
            }
        }
    }
}

impl Named<'_> {
    /// Makes of `request` what the picker has made of it; returns its body, which is `held` unless that is made anew too.
    fn dress(
        &self,
        request: &mut Request<Outgoing>,
        held: Option<Bytes>,
    ) -> Result<Option<Bytes>, Box<Refused>> {
        self.picked.dress(request.headers_mut());
        if let Some(path) = self.picked.path() {
            *request.uri_mut() = Uri::try_from(path).map_err(|_| {
                let message = "the endpoint picker asks for a path that is none";
                Refused::new(Cause::Unresolved, ApiError::new(ErrorKind::BadUpstream, message))
            })?;
        }
        let Some(body) = self.picked.body() else {
            return Ok(held);
        };
        *request.body_mut() = Outgoing::Whole(Full::new(body.clone()));
        Ok(Some(body.clone()))
    }
}

/// Returns the coding in which a reply comes, if it comes in one.
pub(super) fn coding_of(headers: &HeaderMap) -> Option<&HeaderValue> {
    let coding = headers.get(header::CONTENT_ENCODING);
    coding.filter(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Returns what a reply amounts to whose status says that it is no answer.
pub(super) fn failed(
    status: StatusCode,
    headers: HeaderMap,
    retry_after: Option<u64>,
    reply: &llm::Reply,
    bytes: &Bytes,
) -> Box<Refused> {
    let mut error = if status.is_client_error() || status.is_server_error() {
        reply.error(status, &headers, bytes)
    } else {
        let message = format!("the upstream answered with status {}", status.as_u16());
        ApiError::bad_reply(message)
    };
    error.retry_after = error.retry_after.or(retry_after);
    Box::new(Refused {
        cause: Cause::of_status(status),
        error,
        headers,
        answer: None,
    })
}

/// Returns what an answer amounts to that comes in a coding nobody here knows.
pub(super) fn illegible(coding: &HeaderValue) -> Box<Refused> {
    let coding = coding.to_str().unwrap_or("?");
    let message = format!("the upstream answered in the coding {coding}, which cannot be decoded");
    Refused::new(Cause::BadReply, ApiError::bad_reply(message))
}

/// Returns what a document amounts to that came in place of a stream.
fn not_a_stream(reply: &llm::Reply, bytes: &Bytes) -> ApiError {
    let is_error = llm::json::Object::parse_slice(bytes).is_ok_and(|object| object.peek("error").is_some());
    if is_error {
        reply.error(StatusCode::BAD_GATEWAY, &HeaderMap::new(), bytes)
    } else {
        ApiError::bad_reply("the upstream did not stream although it was asked to")
    }
}

fn is_of_type(headers: &HeaderMap, media_type: &str) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let kind = kind.and_then(|kind| kind.split(|byte| *byte == b';').next());
    kind.is_some_and(|kind| kind.trim_ascii().eq_ignore_ascii_case(media_type.as_bytes()))
}
