//! One request and what it is served with.

use std::{borrow::Cow, net::IpAddr, sync::Arc, time::Duration};

use config::{
    intake::{Intake, Underscores},
    mcp_access::Document,
    mcp_route::Route as McpRoute,
    router::{Asked, Gate, ROUTE_HEADER},
    snapshot::{Listener, Rule},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};
use llm::{ApiError, Endpoint, ErrorKind, Format, Prefixes, operation::Place};
use policy::{Metadata, Policies};
use tokio::time::Instant;

use crate::{
    Runtime, State,
    access::Admitted,
    body::{self, Pace},
    facts::Facts,
    headers,
    lane::wish::Wish,
    plain::path::{Slashes, normal},
    server::{self, Connection, usage::Usage},
};

/// Stands for "no limit": nothing that is served lasts longer.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// How many known names an error about an unknown one suggests.
const SUGGESTIONS: usize = 3;

/// How much of a model is told that nobody serves: a client chooses how long its name is.
const MAX_UNKNOWN: usize = 200;

/// One request on its way through the gateway.
pub(crate) struct Ctx {
    /// What is served, loaded once: a request never sees two snapshots.
    pub(crate) state: Arc<State>,
    pub(crate) runtime: Arc<Runtime>,
    /// The format in which the client is told of errors.
    pub(crate) dialect: Format,
    pub(crate) began: Instant,
    pub(crate) facts: Box<Facts>,
    /// The policies that have looked at the request, and what they found; `None` if there are none.
    pub(crate) access: Option<Box<Admitted>>,
    /// What the client says of fallback.
    pub(crate) wish: Option<Wish>,
    /// The backend that keeps the answer from which the request goes on, where one does.
    pub(crate) holder: Option<Arc<str>>,
    /// The MCP route that whoever stands before us has found, where any wants to be named.
    named: Option<HeaderValue>,
    pub(crate) connection: Arc<Connection>,
    /// How the request is taken; `None` where no policy says so.
    pub(crate) intake: Option<Arc<Intake>>,
    /// What policies said of the request, by their namespaces.
    pub(crate) metadata: Metadata,
}

impl Ctx {
    /// Opens a request: strips what clients must not set, names the request, loads the snapshot.
    pub(crate) fn open(connection: &Arc<Connection>, head: &mut Parts) -> Self {
        let gateway = &connection.port.gateway;
        let wish = Wish::read(&head.headers);
        let state = gateway.state.load_full();
        let listener = state.snapshot.listeners.get(&connection.port.declared);
        let named = listener.filter(|listener| listener.mcp.is_named());
        let named = named.and_then(|_| head.headers.remove(ROUTE_HEADER));
        headers::strip_reserved(&mut head.headers);
        headers::strip_named_by_client(&mut head.headers);
        let intake = listener
            .and_then(|listener| listener.intake(connection.secured.as_deref()))
            .cloned();
        let told = intake.as_ref().map(|intake| intake.told.by).unwrap_or_default();
        server::told::tell(&mut head.headers, told, connection.shown.as_ref());
        if let Some(intake) = &intake {
            headers::early(&mut head.headers, intake);
        }
        let request_id = headers::request_id(&head.headers);
        let mut facts = Facts::open(&gateway.runtime, head, request_id);
        facts.host = host(head);
        facts.under_way = connection.usage.as_ref().map(Usage::enter);
        facts.details = state.logs.details(connection, head);
        Self {
            state,
            runtime: Arc::clone(&gateway.runtime),
            dialect: Endpoint::dialect(&gateway.runtime.options.prefixes.canonical(head.uri.path())),
            began: Instant::from_std(facts.start),
            facts,
            access: None,
            wish,
            holder: None,
            named,
            connection: Arc::clone(connection),
            intake,
            metadata: Metadata::new(),
        }
    }

    /// Checks that the request came by a connection that its listener would have taken: one listener may ask more of
    /// its clients than another on the same port (RFC 9110, section 7.4).
    ///
    /// # Errors
    /// A 421.
    pub(crate) fn directed(&self) -> Result<(), ApiError> {
        let Some(listener) = self.listener() else {
            return Ok(());
        };
        let fits = match (&listener.tls, &self.connection.secured) {
            (None, None) => true,
            (Some(_), Some(name)) => {
                let router = &listener.router;
                router.listener(name) == router.listener(&self.facts.host)
            }
            (None, Some(_)) | (Some(_), None) => false,
        };
        if fits {
            return Ok(());
        }
        Err(ApiError {
            status: StatusCode::MISDIRECTED_REQUEST,
            ..ApiError::invalid("this host is served on connections of its own")
        })
    }

    /// Checks that the request is one that the policy for clients takes.
    ///
    /// # Errors
    /// A 400 or a 403.
    pub(crate) fn taken(&self, head: &Parts) -> Result<(), ApiError> {
        let Some(intake) = &self.intake else {
            return Ok(());
        };
        let underscored = || head.headers.keys().find(|name| name.as_str().contains('_'));
        if intake.underscores == Underscores::Refuse
            && let Some(name) = underscored()
        {
            let message = format!("the header \"{name}\" has an underscore in its name");
            return Err(ApiError::invalid(message));
        }
        if intake.client(self.connection.peer.ip(), &head.headers).is_none() {
            let message = "it cannot be told where the request comes from";
            return Err(ApiError::new(ErrorKind::Permission, message));
        }
        Ok(())
    }

    /// Returns whether the request asks whether the gateway is there.
    pub(crate) fn is_health_check(&self, head: &Parts) -> bool {
        let path = self.intake.as_ref().and_then(|intake| intake.health.as_deref());
        path.is_some_and(|path| path == head.uri.path())
    }

    /// Returns the MCP route that the request is for, and who may use it.
    pub(crate) fn tools(&self, head: &Parts) -> Option<(Arc<McpRoute>, Option<Arc<Policies>>)> {
        let listener = self.listener()?;
        if listener.mcp.is_empty() {
            return None;
        }
        let host = &self.facts.host;
        let own = listener.router.listener(host)?;
        let path = head.uri.path();
        let row = match &self.named {
            None => listener.mcp.route(own, host, path, &head.headers)?,
            Some(named) => {
                let mut headers = head.headers.clone();
                headers.insert(ROUTE_HEADER, named.clone());
                listener.mcp.route(own, host, path, &headers)?
            }
        };
        Some((Arc::clone(&row.route), row.policies.clone()))
    }

    /// Returns the document about logging in that the request is for.
    pub(crate) fn login(&self, head: &Parts) -> Option<(Arc<McpRoute>, Document)> {
        let listener = self.listener().filter(|listener| !listener.mcp.is_empty())?;
        let host = &self.facts.host;
        let own = listener.router.listener(host)?;
        let (document, row) = listener.mcp.document(own, host, head.uri.path(), &head.headers)?;
        Some((Arc::clone(&row.route), document))
    }

    /// Returns what is asked for.
    ///
    /// # Errors
    /// A 404 that names the nearest path, or a 405.
    pub(crate) fn place<'a>(&mut self, head: &'a Parts) -> Result<Place<'a>, ApiError> {
        let path = head.uri.path();
        let query = head.uri.query().unwrap_or_default();
        let prefixes = &self.runtime.options.prefixes;
        let place = Endpoint::find(&prefixes.canonical(path), query);
        let place = place.ok_or_else(|| unknown_path(prefixes, path))?;
        let endpoint = place.endpoint;
        self.facts.endpoint = Some(endpoint);
        // Whoever serves GET serves HEAD (RFC 9110, section 9.3.2).
        let method = match head.method {
            Method::HEAD => &Method::GET,
            ref method => method,
        };
        if !endpoint.methods.contains(method) {
            return Err(ApiError::new(
                ErrorKind::MethodNotAllowed,
                format!("{path} takes {}, not {}", endpoint.allowed(), head.method),
            ));
        }
        Ok(place)
    }

    /// Returns the endpoint that clients find at `path`.
    pub(crate) fn endpoint(&self, path: &str) -> Option<&'static Endpoint> {
        let path = self.runtime.options.prefixes.canonical(path);
        Endpoint::find(&path, "").map(|place| place.endpoint)
    }

    /// Returns the path of the request as it is matched.
    pub(crate) fn path(&self) -> Cow<'_, str> {
        normal(self.facts.uri.path(), &self.slashes())
    }

    /// Returns the rule that serves the request, by another method perhaps, whatever its body says.
    pub(crate) fn plain(&self, head: &Parts, method: &Method) -> Option<Arc<Rule>> {
        let router = &self.listener()?.router;
        if !router.has_plain() {
            return None;
        }
        let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
        let asked = Asked {
            host: &self.facts.host,
            method,
            path: &normal(path, &self.slashes()),
            query,
            headers: &head.headers,
            model: "",
        };
        let operation = self.endpoint(path).is_some();
        router.plain(&asked, operation).cloned()
    }

    /// Returns the rule that serves `model`. `stream` tells whether the client wants a stream.
    ///
    /// # Errors
    /// A 404 that names the nearest models.
    pub(crate) fn route(&mut self, model: &str, stream: bool, head: &Parts) -> Result<Arc<Rule>, ApiError> {
        let host = &self.facts.host;
        let asked = Asked {
            host,
            method: &head.method,
            path: head.uri.path(),
            query: head.uri.query().unwrap_or_default(),
            headers: &head.headers,
            model,
        };
        let listener = self.listener();
        let rule = listener.and_then(|listener| listener.router.route(&asked));
        let Some(rule) = rule.cloned() else {
            let error = unknown_model(listener, host, model);
            self.facts.model = Some(model.chars().take(MAX_UNKNOWN).collect());
            self.facts.streamed = stream;
            return Err(error);
        };
        self.facts.model = Some(model.to_owned());
        self.facts.streamed = stream;
        self.facts.route = Some(Arc::clone(&rule.route));
        if let Some(trace) = &mut self.facts.trace {
            trace.say_in(rule.words);
        }
        if let Some(trail) = &mut self.facts.trail {
            trail.rule = Some(Arc::clone(&rule));
        }
        Ok(rule)
    }

    /// Returns the most bytes that a request may have whose rule is not known yet: what any rule allows.
    pub(crate) fn largest_body(&self) -> usize {
        self.usual_body().max(self.state.lanes.largest_body())
    }

    /// Returns the most bytes that a request may have where its rule does not say.
    pub(crate) fn usual_body(&self) -> usize {
        let own = self.intake.as_ref().and_then(|intake| intake.max_body);
        own.unwrap_or(self.runtime.options.max_body)
    }

    /// Returns how many bytes a message of an MCP client may have.
    pub(crate) fn tools_body(&self) -> usize {
        let options = &self.runtime.options;
        let own = self.intake.as_ref().and_then(|intake| intake.max_body);
        own.unwrap_or(options.mcp_max_body.min(options.max_body))
    }

    /// Returns how fast a body has to arrive.
    pub(crate) fn pace(&self) -> Pace {
        let Some(intake) = &self.intake else {
            return Pace::default();
        };
        Pace {
            silence: intake.silence.unwrap_or(body::READ_IDLE),
            until: intake.received.map(|limit| self.began + limit),
        }
    }

    /// Returns what is done with slashes in paths.
    pub(crate) fn slashes(&self) -> Slashes {
        self.intake.as_deref().map(Slashes::of).unwrap_or_default()
    }

    /// Checks that a request of `length` bytes is not larger than `rule` allows.
    ///
    /// # Errors
    /// A 413.
    pub(crate) fn fits(&self, rule: &Rule, length: usize) -> Result<(), ApiError> {
        let own = rule.traffic.as_ref().and_then(|traffic| traffic.max_body);
        let limit = own.unwrap_or_else(|| self.usual_body());
        if length > limit {
            return Err(body::too_large(limit));
        }
        Ok(())
    }

    /// Returns the 404 about a model, which names the nearest ones.
    pub(crate) fn unknown_model(&self, model: &str) -> ApiError {
        unknown_model(self.listener(), &self.facts.host, model)
    }

    /// Returns the listener that the request came in by; `None` if it is gone from the snapshot.
    pub(crate) fn listener(&self) -> Option<&Listener> {
        self.state.snapshot.listeners.get(&self.port())
    }

    /// Returns the port as it was declared.
    pub(crate) fn port(&self) -> u16 {
        self.connection.port.declared
    }

    /// Returns the address of the client, or of whoever stands between.
    pub(crate) fn peer(&self) -> IpAddr {
        self.connection.peer.ip()
    }

    /// Returns whether the client's connection is encrypted.
    pub(crate) fn is_secured(&self) -> bool {
        self.connection.secured.is_some()
    }

    /// Returns the address of the client, as far as it can be believed.
    pub(crate) fn client(&self, headers: &HeaderMap) -> IpAddr {
        let peer = self.connection.peer.ip();
        let known = self
            .intake
            .as_ref()
            .and_then(|intake| intake.client(peer, headers));
        known.unwrap_or(peer)
    }

    /// Returns the id of the request.
    pub(crate) fn request_id(&self) -> &HeaderValue {
        &self.facts.request_id
    }

    /// Returns when a limit on the whole request passes.
    pub(crate) fn deadline(&self, limit: Option<Duration>) -> Instant {
        let longest = self.intake.as_ref().and_then(|intake| intake.longest);
        self.began + limit.into_iter().chain(longest).min().unwrap_or(FOREVER)
    }
}

/// Returns the host of a request, in lower case and without port.
fn host(head: &Parts) -> String {
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    let header = || head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = authority.or_else(header).unwrap_or_default();
    let host = match host.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next(),
        None => host.split(':').next(),
    };
    host.unwrap_or_default().to_ascii_lowercase()
}

fn unknown_path(prefixes: &Prefixes, path: &str) -> ApiError {
    let nearest = llm::operation::ENDPOINTS
        .iter()
        .map(|endpoint| (endpoint, prefixes.written(endpoint.path)))
        .map(|(endpoint, written)| (strsim::normalized_levenshtein(path, &written), endpoint, written))
        .max_by(|(one, ..), (other, ..)| one.total_cmp(other));
    let hint = match nearest {
        Some((_, endpoint, written)) => format!("; did you mean {} {written}?", endpoint.allowed()),
        None => String::new(),
    };
    let shown: String = path.chars().take(200).collect();
    ApiError::new(ErrorKind::NotFound, format!("unsupported path: {shown}{hint}")).with_code("unknown_url")
}

fn unknown_model(listener: Option<&Listener>, host: &str, model: &str) -> ApiError {
    // Where policies depend on the model, names are for those who pass them.
    let told = listener.filter(|listener| !matches!(listener.router.gate(host), Gate::Several));
    let nearest = told.map(|listener| listener.router.nearest(host, model, SUGGESTIONS));
    let nearest = nearest.unwrap_or_default();
    let hint = if nearest.is_empty() {
        String::new()
    } else {
        format!("; did you mean {}?", nearest.join(", "))
    };
    let shown: String = model.chars().take(MAX_UNKNOWN).collect();
    ApiError::new(
        ErrorKind::NotFound,
        format!("the model \"{shown}\" is not served here{hint}"),
    )
    .with_param("model")
    .with_code("model_not_found")
}
