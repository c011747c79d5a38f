//! What every test needs: a gateway in front of some upstreams.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use config::{
    Credential, Router, Secret, Snapshot,
    credential::{Scheme, Source},
    host::Host,
    kind::ai_gateway_route::HeaderMatchKind,
    router::{Entry, HeaderTest, MODEL_HEADER},
    snapshot::{Backend, Candidate, Endpoint, Listener, Rule, Timeouts},
};
use gateway::{Gateway, Options};
use llm::{
    Site,
    provider::{self, Flags, Provider},
};
use policy::cost::prices::Prices;
use serde_json::Value;
use testkit::{Upstream, client::Answer};

/// The model that clients ask for.
pub(crate) const MODEL: &str = "m";

/// The key that upstreams are given.
pub(crate) const KEY: &str = "sk-upstream-secret";

/// The path of the OpenAI format.
pub(crate) const CHAT: &str = "/v1/chat/completions";

/// The path of the Messages format.
pub(crate) const MESSAGES: &str = "/anthropic/v1/messages";

/// A gateway that serves.
pub(crate) struct Served {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) address: SocketAddr,
}

/// One way to an upstream.
#[derive(Clone)]
pub(crate) struct To {
    pub(crate) provider: &'static dyn Provider,
    pub(crate) address: SocketAddr,
    pub(crate) priority: u32,
    pub(crate) weight: u32,
    pub(crate) model: Option<String>,
    /// Where its paths begin, if they cannot begin anywhere.
    pub(crate) prefix: Option<String>,
    /// What is declared of flags there.
    pub(crate) flags: Flags,
    /// What the upstream is given in place of [`KEY`].
    pub(crate) credential: Option<Credential>,
    /// What its models cost.
    pub(crate) prices: Option<Arc<Prices>>,
}

/// Returns the way to an upstream of OpenAI's format.
pub(crate) fn openai(upstream: &Upstream) -> To {
    to(&provider::COMPATIBLE, upstream.address())
}

/// Returns the way to an upstream of the Messages format.
pub(crate) fn messages(upstream: &Upstream) -> To {
    to(&provider::Anthropic, upstream.address())
}

/// Returns the way to `provider` at `address`.
pub(crate) fn to(provider: &'static dyn Provider, address: SocketAddr) -> To {
    To {
        provider,
        address,
        priority: 0,
        weight: 1,
        model: None,
        // Claude at Vertex AI is nowhere but in a project.
        prefix: (provider.id() == "vertex-claude").then(|| "v1/projects/p/locations/l".to_owned()),
        flags: Flags::NONE,
        credential: None,
        prices: None,
    }
}

impl To {
    /// Returns the same way with another credential.
    pub(crate) fn with(self, credential: Credential) -> Self {
        Self {
            credential: Some(credential),
            ..self
        }
    }

    /// Returns the same way, whose models cost what `prices` says.
    pub(crate) fn priced(self, prices: &str) -> Self {
        Self {
            prices: Some(Arc::new(Prices::parse(prices).expect("prices"))),
            ..self
        }
    }

    /// Returns the same way, tried later.
    pub(crate) fn after(self) -> Self {
        Self { priority: 1, ..self }
    }
}

/// Returns the options of all tests: any port, an admin listener, an end that does not take long.
pub(crate) fn options() -> Options {
    Options {
        admin: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        drain: Duration::from_millis(200),
        ..Options::default()
    }
}

/// Serves [`MODEL`] from `candidates`.
pub(crate) async fn serve(candidates: impl IntoIterator<Item = To>) -> Served {
    serve_with(options(), Timeouts::default(), candidates).await
}

/// Serves [`MODEL`] from `candidates`, with other options and limits.
pub(crate) async fn serve_with(
    options: Options,
    timeouts: Timeouts,
    candidates: impl IntoIterator<Item = To>,
) -> Served {
    let gateway = Gateway::start(options).await.expect("the admin port is free");
    gateway
        .install(snapshot(timeouts, candidates))
        .await
        .expect("the port is free");
    let address = *gateway.addresses().first().expect("one listener");
    Served { gateway, address }
}

/// Returns the snapshot that serves [`MODEL`] from `candidates`.
pub(crate) fn snapshot(timeouts: Timeouts, candidates: impl IntoIterator<Item = To>) -> Snapshot {
    snapshot_with(timeouts, candidates, |_| {})
}

/// Returns the snapshot that serves [`MODEL`] from `candidates`, by a rule that `change` has changed.
pub(crate) fn snapshot_with(
    timeouts: Timeouts,
    candidates: impl IntoIterator<Item = To>,
    change: impl FnOnce(&mut Rule),
) -> Snapshot {
    let candidates = candidates
        .into_iter()
        .enumerate()
        .map(|(index, to)| candidate(index, &to));
    let mut rule = Rule {
        route: "default/route".into(),
        index: 0,
        name: None,
        candidates: candidates.collect(),
        timeouts,
        policies: None,
        plain: None,
        traffic: None,
        costs: None,
        prices: None,
        words: None,
        limits: None,
        annotations: None,
    };
    change(&mut rule);
    let wanted = HeaderTest::new(MODEL_HEADER, MODEL, HeaderMatchKind::Exact).expect("a header name");
    let entry = Entry {
        rule: Arc::new(rule),
        listener: Host::Any,
        hosts: Arc::new([Host::Any]),
        created: None,
        matches: Arc::new([Arc::new(vec![wanted].into())]),
        owned_by: "owner".into(),
        models_created: 1_735_689_600,
    };
    let listener = Listener {
        names: vec!["default/gateway/http".to_owned()],
        router: Router::new(vec![entry]),
        ..Listener::default()
    };
    Snapshot {
        listeners: [(0, listener)].into(),
        ..Snapshot::default()
    }
}

/// Returns what is declared in a policy of that name.
pub(crate) fn credential(policy: &str, scheme: Scheme, source: Source) -> Credential {
    Credential {
        policy: policy.into(),
        scheme,
        source: Some(source),
        brought: None,
        prefix: None,
    }
}

fn candidate(index: usize, to: &To) -> Candidate {
    let backend = Backend {
        id: format!("default/backend-{index}").into(),
        provider: to.provider,
        site: Site {
            flags: to.flags.clone(),
            prefix: to.prefix.clone(),
            ..Site::default()
        },
        endpoints: vec![Endpoint::new(to.address.ip().to_string(), to.address.port())],
        tls: None,
        credential: Some(to.credential.clone().unwrap_or_else(|| {
            let source = Source::Key(Secret::new(KEY));
            credential("default/key", Scheme::Header(to.provider.credential()), source)
        })),
        quota: None,
        prices: to.prices.clone(),
        is_sticky: false,
        picker: None,
    };
    Candidate {
        id: format!("default/backend-{index}/route/route/rule/0/ref/{index}").into(),
        weight: to.weight,
        priority: to.priority,
        model: to.model.clone(),
        headers: policy::headers::Headers::default(),
        body: policy::body::Body::default(),
        backend: Ok(Arc::new(backend)),
    }
}

impl Served {
    /// Posts `body` and returns the whole answer.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        testkit::client::post(self.address, path, &[], body).await
    }

    /// Asks the admin listener.
    pub(crate) async fn admin(&self, path: &str) -> Answer {
        let address = self.gateway.admin_address().expect("an admin listener");
        testkit::client::get(address, path, &[]).await
    }

    /// Returns the value of the first metric line that begins with `name` and holds all of `labels`, summed
    /// over lines.
    pub(crate) async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.admin("/metrics").await.text();
        text.lines()
            .filter(|line| line.split(['{', ' ']).next() == Some(name))
            .filter(|line| labels.iter().all(|label| line.contains(label)))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Waits until a metric has reached `value`: what follows an answer is counted when its last byte is
    /// handed over, which its reader may see a moment earlier.
    pub(crate) async fn metric_reaches(&self, name: &str, labels: &[&str], value: f64) {
        let reached = async {
            while self.metric(name, labels).await < value {
                tokio::task::yield_now().await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(10), reached)
            .await
            .is_err()
        {
            let text = self.admin("/metrics").await.text();
            panic!("{name} {labels:?} does not reach {value}:\n{text}");
        }
        assert_eq!(self.metric(name, labels).await, value, "{name} {labels:?}");
    }
}
