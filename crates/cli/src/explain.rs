//! Which route, rule and backends a request takes, and why no other: the router's own answer, for a person.

use std::{collections::BTreeMap, fmt};

use anyhow::{Context, bail};
use config::{
    Resources, Snapshot,
    plain::Answer,
    resolve::holding::Holding,
    router::{Asked, Considered, Explanation, Verdict},
    snapshot::{Backend, Candidate, Listener, Rule},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use llm::{
    Document, Endpoint, Operation, Prefixes, Target,
    document::{Served, Wire},
    provider::Ask,
};
use serde::Deserialize;
use serde_json::{Value, json};

/// The path of a request that names none, where no prefix stands before it.
const CHAT: &str = "/v1/chat/completions";

/// A request, as far as it matters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question {
    /// That of chat completions by default.
    path: Option<String>,
    /// That of the path's operation by default, else `GET`.
    method: Option<String>,
    #[serde(default = "localhost")]
    host: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    model: String,
    port: Option<u16>,
    gateway: Option<String>,
}

/// What becomes of a request, on each port that it may arrive at.
pub(crate) struct Explained {
    ports: Vec<Port>,
    model: String,
}

/// What becomes of a request at one port.
struct Port {
    port: u16,
    outcome: Outcome,
    /// The policies for the rule that serves it.
    policies: Vec<Holding>,
}

/// Who answers a request.
enum Outcome {
    /// No such path.
    Unknown(String),
    /// The gateway answers it.
    Models(usize),
    /// The gateway answers it with what it keeps.
    Kept,
    /// A rule serves it, or none does.
    Chat(&'static Endpoint, Explanation),
    /// A rule of plain requests serves it, or none does.
    Plain(Explanation),
}

/// Explains what becomes of the request in `question`, where clients find endpoints below `prefixes`.
///
/// # Errors
/// If the request cannot be one, or there is no such port or Gateway.
pub(crate) fn explain(
    resources: &Resources,
    snapshot: &Snapshot,
    question: &Question,
    prefixes: &Prefixes,
) -> anyhow::Result<Explained> {
    let host = question
        .host
        .rsplit_once(':')
        .map_or(question.host.as_str(), |(host, port)| {
            if port.bytes().all(|byte| byte.is_ascii_digit()) {
                host
            } else {
                &question.host
            }
        });
    let host = host.to_ascii_lowercase();
    let headers = headers(question)?;
    let path = match &question.path {
        Some(path) => path.clone(),
        None => prefixes.written(CHAT),
    };
    let (path, query) = path.split_once('?').unwrap_or((&path, ""));
    let endpoint = Endpoint::find(&prefixes.canonical(path), query).map(|place| place.endpoint);
    let method = match (&question.method, endpoint) {
        (Some(method), _) => Method::try_from(method.as_str()).context("--explain: method")?,
        (None, Some(endpoint)) => endpoint.methods.first().cloned().unwrap_or(Method::GET),
        (None, None) => Method::GET,
    };
    let asked = Asked {
        host: &host,
        method: &method,
        path,
        query,
        headers: &headers,
        model: &question.model,
    };
    let ports: Vec<_> = snapshot
        .listeners
        .iter()
        .filter(|(port, listener)| question.asks(**port, listener))
        .map(|(port, listener)| {
            let outcome = outcome(listener, endpoint, &asked);
            let own = listener.router.listener(&host).zip(outcome.rule());
            let policies = own.map(|(host, rule)| config::holding(resources, *port, host, rule));
            Port {
                port: *port,
                outcome,
                policies: policies.unwrap_or_default(),
            }
        })
        .collect();
    if ports.is_empty() {
        let listeners: Vec<_> = snapshot
            .listeners
            .iter()
            .map(|(port, listener)| format!("{port} ({})", listener.names.join(", ")))
            .collect();
        bail!("--explain: no listener fits; there are: {}", listeners.join("; "));
    }
    Ok(Explained {
        ports,
        model: question.model.clone(),
    })
}

fn outcome(listener: &Listener, endpoint: Option<&'static Endpoint>, asked: &Asked<'_>) -> Outcome {
    let router = &listener.router;
    let explanation = router.explain(asked, endpoint.is_some());
    let plain = explanation
        .chosen
        .as_ref()
        .is_some_and(|rule| rule.plain.is_some());
    match endpoint {
        _ if plain => Outcome::Plain(explanation),
        None if router.has_plain() => Outcome::Plain(explanation),
        None => Outcome::Unknown(asked.path.to_owned()),
        Some(endpoint) => match endpoint.operation {
            Operation::Kept => Outcome::Kept,
            Operation::Models | Operation::Model => Outcome::Models(router.models(asked.host).len()),
            Operation::Chat | Operation::Document(_) | Operation::Upload(_) => {
                Outcome::Chat(endpoint, explanation)
            }
        },
    }
}

impl Outcome {
    /// Returns the rule that serves the request.
    fn rule(&self) -> Option<&Rule> {
        match self {
            Outcome::Unknown(_) | Outcome::Models(_) | Outcome::Kept => None,
            Outcome::Chat(_, explanation) | Outcome::Plain(explanation) => explanation.chosen.as_deref(),
        }
    }
}

impl Question {
    /// Returns whether the request may arrive at this listener. A Gateway is named as `name`, `namespace/name` or
    /// `namespace/name/listener`.
    fn asks(&self, port: u16, listener: &Listener) -> bool {
        let named = |gateway: &String| {
            listener.names.iter().any(|name| {
                let padded = format!("/{name}/");
                padded.contains(&format!("/{}/", gateway.trim_matches('/')))
            })
        };
        self.port.is_none_or(|wanted| wanted == port) && self.gateway.as_ref().is_none_or(named)
    }
}

fn headers(question: &Question) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in &question.headers {
        let name = HeaderName::try_from(name).with_context(|| format!("--explain: header {name:?}"))?;
        // Clients cannot set these; the gateway drops them before it looks for a rule.
        if name.as_str().starts_with("x-ai-eg-") {
            bail!("--explain: {name} cannot be set by clients; use \"model\" for the model");
        }
        let value = HeaderValue::try_from(value).with_context(|| format!("--explain: header {name}"))?;
        headers.append(name, value);
    }
    Ok(headers)
}

impl Explained {
    /// Returns whether the request is answered with more than an error, wherever it arrives.
    pub(crate) fn is_served(&self) -> bool {
        self.ports.iter().all(|port| match &port.outcome {
            Outcome::Unknown(_) => false,
            Outcome::Models(_) | Outcome::Kept => true,
            Outcome::Chat(..) | Outcome::Plain(_) => port.outcome.rule().is_some_and(is_usable),
        })
    }

    /// Returns the same as a document.
    pub(crate) fn document(&self) -> Value {
        let ports = self.ports.iter().map(|own| {
            let Port {
                port,
                outcome,
                policies,
            } = own;
            let explained = |endpoint, explanation: &Explanation| {
                json!({
                    "port": port,
                    "chosen": explanation.chosen.as_ref().map(|rule| self.rule(endpoint, rule)),
                    "policies": policies.iter().map(held).collect::<Vec<_>>(),
                    "considered": explanation.considered.iter().map(considered).collect::<Vec<_>>(),
                })
            };
            match outcome {
                Outcome::Unknown(path) => json!({ "port": port, "unknownPath": path }),
                Outcome::Models(models) => json!({ "port": port, "models": models }),
                Outcome::Kept => json!({ "port": port, "kept": true }),
                Outcome::Chat(endpoint, explanation) => explained(Some(endpoint), explanation),
                Outcome::Plain(explanation) => explained(None, explanation),
            }
        });
        json!({ "ports": ports.collect::<Vec<_>>() })
    }

    fn rule(&self, endpoint: Option<&'static Endpoint>, rule: &Rule) -> Value {
        let backends = ordered(rule).into_iter().map(|candidate| {
            let mut backend = json!({
                "id": &*candidate.id,
                "priority": candidate.priority,
                "weight": candidate.weight,
                "model": self.model(candidate),
            });
            match &candidate.backend {
                Ok(_) => {
                    let Way { provider, how, urls } = self.way(endpoint, candidate);
                    backend["provider"] = provider.into();
                    backend["how"] = how.into();
                    backend["urls"] = urls.into();
                }
                Err(reason) => backend["error"] = reason.as_str().into(),
            }
            backend
        });
        json!({
            "route": &*rule.route,
            "rule": rule.index,
            "name": rule.name,
            "backends": backends.collect::<Vec<_>>(),
        })
    }

    /// Returns the model that the upstream of `candidate` is asked for.
    fn model<'a>(&'a self, candidate: &'a Candidate) -> &'a str {
        candidate.model.as_deref().unwrap_or(&self.model)
    }

    fn way(&self, endpoint: Option<&'static Endpoint>, candidate: &Candidate) -> Way {
        let Ok(backend) = &candidate.backend else {
            return Way::default();
        };
        let Some(endpoint) = endpoint else {
            return Way {
                provider: backend.provider.name(),
                how: "handed on".to_owned(),
                urls: urls(backend, ""),
            };
        };
        let target = Target {
            provider: backend.provider,
            site: &backend.site,
            model: self.model(candidate),
            now: 0,
        };
        let Some((path, how)) = said(endpoint, &target) else {
            return Way {
                provider: backend.provider.name(),
                how: "does not serve this".to_owned(),
                urls: Vec::new(),
            };
        };
        Way {
            provider: backend.provider.name(),
            how,
            urls: urls(backend, &path),
        }
    }
}

/// Returns the path at which `target` is asked, and how; `None` if it does not serve the endpoint.
fn said(endpoint: &'static Endpoint, target: &Target<'_>) -> Option<(String, String)> {
    match endpoint.operation {
        Operation::Document(document) => {
            let Some(Served { wire, path }) = target.provider.document(document, target) else {
                // Who does not complete texts chats instead.
                return (document == Document::Completion).then(|| chat(target)).flatten();
            };
            let how = match wire {
                Wire::Same(_) => "relayed",
                Wire::Embedding(_) | Wire::Count(_) | Wire::Rerank(_) => "translated",
            };
            Some((path, how.to_owned()))
        }
        Operation::Chat | Operation::Upload(_) | Operation::Models | Operation::Model | Operation::Kept => {
            let formats = target.provider.formats(endpoint.operation, target.model);
            let relayed = formats.iter().find(|format| **format == endpoint.format);
            let format = *relayed.or(formats.first())?;
            let ask = Ask {
                operation: endpoint.operation,
                format,
                stream: false,
            };
            let how = match relayed {
                Some(_) => "relayed".to_owned(),
                None => format!("translated to {}", format.name()),
            };
            Some((target.provider.path(ask, target), how))
        }
    }
}

/// Returns the path at which `target` chats for a client of another operation.
fn chat(target: &Target<'_>) -> Option<(String, String)> {
    let format = *target.provider.formats(Operation::Chat, target.model).first()?;
    let ask = Ask {
        operation: Operation::Chat,
        format,
        stream: false,
    };
    Some((
        target.provider.path(ask, target),
        format!("translated to {}", format.name()),
    ))
}

/// Returns where `path` is called at each endpoint of a backend.
fn urls(backend: &Backend, path: &str) -> Vec<String> {
    if let Some(picker) = &backend.picker {
        let named = picker.authority.to_str().unwrap_or_default();
        return vec![format!("{path} at the endpoint that {named} names")];
    }
    let scheme = if backend.tls.is_some() { "https" } else { "http" };
    let urls = backend.endpoints.iter().map(|endpoint| {
        let host = if endpoint.host.contains(':') {
            format!("[{}]", endpoint.host)
        } else {
            endpoint.host.clone()
        };
        format!("{scheme}://{host}:{}{path}", endpoint.port)
    });
    urls.collect()
}

/// Returns whether a rule answers with more than an error.
fn is_usable(rule: &Rule) -> bool {
    let backend = rule
        .candidates
        .iter()
        .any(|candidate| candidate.weight > 0 && candidate.backend.is_ok());
    match rule.plain.as_ref().and_then(|plain| plain.answer.as_ref()) {
        Some(Answer::Redirect(_) | Answer::Direct(_)) => true,
        Some(Answer::Broken(_)) => false,
        None => backend,
    }
}

/// How a backend is reached.
#[derive(Default)]
struct Way {
    provider: &'static str,
    how: String,
    urls: Vec<String>,
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for own in &self.ports {
            let port = own.port;
            match &own.outcome {
                Outcome::Unknown(path) => writeln!(f, "port {port}: 404, there is no path {path}")?,
                Outcome::Models(models) => writeln!(f, "port {port}: the gateway lists {models} models")?,
                Outcome::Kept => writeln!(f, "port {port}: the gateway answers with what it keeps")?,
                Outcome::Chat(endpoint, explanation) => self.served(f, own, Some(endpoint), explanation)?,
                Outcome::Plain(explanation) => self.served(f, own, None, explanation)?,
            }
        }
        Ok(())
    }
}

impl Explained {
    fn served(
        &self,
        f: &mut fmt::Formatter<'_>,
        own: &Port,
        endpoint: Option<&'static Endpoint>,
        explanation: &Explanation,
    ) -> fmt::Result {
        let port = own.port;
        match &explanation.chosen {
            None => writeln!(f, "port {port}: 404, no rule matches")?,
            Some(rule) => {
                writeln!(f, "port {port}: {}", Named(rule))?;
                match rule.plain.as_ref().and_then(|plain| plain.answer.as_ref()) {
                    Some(Answer::Redirect(redirect)) => {
                        writeln!(f, "  redirected with {}", redirect.status.as_u16())?;
                    }
                    Some(Answer::Direct(direct)) => {
                        writeln!(f, "  answered with {}", direct.status.as_u16())?
                    }
                    Some(Answer::Broken(reason)) => writeln!(f, "  500, {reason}")?,
                    None if rule.candidates.is_empty() => writeln!(f, "  no backends")?,
                    None => {}
                }
                for candidate in ordered(rule) {
                    self.backend(f, endpoint, candidate)?;
                }
            }
        }
        if !own.policies.is_empty() {
            writeln!(f, "policies, of each kind the most specific first:")?;
        }
        for policy in &own.policies {
            writeln!(f, "  {policy}")?;
        }
        if !explanation.considered.is_empty() {
            writeln!(f, "considered, in order of precedence:")?;
        }
        for Considered {
            rule,
            wanted,
            verdict,
        } in &explanation.considered
        {
            let verdict = match verdict {
                Verdict::Chosen => "chosen".to_owned(),
                Verdict::Shadowed => "matches too, but comes later".to_owned(),
                Verdict::Refused(reason) => reason.clone(),
            };
            writeln!(f, "  {} [{wanted}]: {verdict}", Named(rule))?;
        }
        Ok(())
    }

    fn backend(
        &self,
        f: &mut fmt::Formatter<'_>,
        endpoint: Option<&'static Endpoint>,
        candidate: &Candidate,
    ) -> fmt::Result {
        let Candidate { priority, weight, .. } = candidate;
        write!(f, "  priority {priority}, weight {weight}: ")?;
        match &candidate.backend {
            Err(reason) => writeln!(f, "{}: 500, {reason}", candidate.id),
            Ok(backend) => {
                let Way { provider, how, urls } = self.way(endpoint, candidate);
                write!(f, "{} ({provider}), {how}, ", backend.id)?;
                if endpoint.is_some() {
                    write!(f, "model {:?}, ", self.model(candidate))?;
                }
                writeln!(f, "{}", urls.join(" or "))
            }
        }
    }
}

/// A rule by its name.
struct Named<'a>(&'a Rule);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rule {
            route, index, name, ..
        } = self.0;
        write!(f, "{route} rule {index}")?;
        match name {
            Some(name) => write!(f, " ({name})"),
            None => Ok(()),
        }
    }
}

/// Returns the candidates in the order in which they are tried.
fn ordered(rule: &Rule) -> Vec<&Candidate> {
    let mut candidates: Vec<_> = rule.candidates.iter().collect();
    candidates.sort_by_key(|candidate| candidate.priority);
    candidates
}

fn held(holding: &Holding) -> Value {
    json!({
        "kind": holding.kind,
        "namespace": holding.policy.namespace,
        "name": holding.policy.name,
        "target": holding.target,
        "effect": holding.effect.name(),
    })
}

fn considered(considered: &Considered) -> Value {
    let (verdict, reason) = match &considered.verdict {
        Verdict::Chosen => ("chosen", None),
        Verdict::Shadowed => ("shadowed", None),
        Verdict::Refused(reason) => ("refused", Some(reason)),
    };
    json!({
        "route": &*considered.rule.route,
        "rule": considered.rule.index,
        "name": considered.rule.name,
        "match": considered.wanted,
        "verdict": verdict,
        "reason": reason,
    })
}

fn localhost() -> String {
    "localhost".to_owned()
}
