//! What a policy says, as what it means.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderName, Method, StatusCode};
use policy::rate_limit::{Limits, Rule};
use policy::traffic::{
    Abort, Active, Balance, Breaker, Connections, Faults, KeepAlive, Passive, Probe, Retry, RetryBudget,
    Streams, Traffic,
    balance::{self, HashKey},
    fault::Share,
    retry::Trigger,
};

use super::annotated::Annotated;
use crate::kind::{
    BackendTrafficPolicy, Duration as Written, Quantity,
    backend_traffic_policy::{
        self as kind, ActiveType, CircuitBreaker, ConsistentHash, ConsistentHashType, LoadBalancer,
        LoadBalancerType, Payload,
    },
    http2::Http2,
};

/// Returns what lets nobody through: a policy of `namespace` could not be read.
pub(super) fn closed(namespace: &str) -> Traffic {
    let id = format!("{namespace}/unread");
    let limits = Limits {
        rules: vec![Rule::unread(id.clone())],
        tells: false,
    };
    Traffic {
        limits: Some(Arc::new(limits)),
        ..traffic(id, &BackendTrafficPolicy::default(), &Annotated::default())
    }
}

/// Returns what `spec` means; it was found to be well-formed, but perhaps for its limits.
pub(super) fn traffic(policy: String, spec: &BackendTrafficPolicy, annotated: &Annotated) -> Traffic {
    let timeout = spec.timeout.unwrap_or_default();
    let http = timeout.http.unwrap_or_default();
    let health = spec.health_check.as_ref();
    let balancer = spec.load_balancer.as_ref();
    let slow_start = balancer.and_then(|balancer| balancer.slow_start);
    let limits = spec
        .rate_limit
        .as_ref()
        .map(|written| Limits::parse(&policy, written, &annotated.switches).0);
    Traffic {
        policy: Arc::from(policy),
        limits: limits.filter(|limits| !limits.rules.is_empty()).map(Arc::new),
        balance: annotated
            .balance
            .clone()
            .unwrap_or_else(|| balancer.map_or(Balance::LeastRequest, balance)),
        slow_start: slow_start.and_then(|slow_start| slow_start.window.limit()),
        retry: spec.retry.as_ref().map(retry),
        also: annotated.also.unwrap_or_default(),
        session: None,
        passive: health.and_then(|health| health.passive.as_ref()).map(passive),
        active: health.and_then(|health| health.active.as_ref()).and_then(active),
        panic_threshold: health.and_then(|health| health.panic_threshold).unwrap_or(50),
        breaker: breaker(spec.circuit_breaker.as_ref()),
        connections: connections(spec),
        request: http.request_timeout.map(Written::limit),
        max_stream: http.max_stream_duration.and_then(Written::limit),
        first_event: annotated.first_event,
        stream_idle: http.stream_idle_timeout.and_then(Written::limit),
        faults: spec.fault_injection.as_ref().map(injected),
        max_body: spec
            .request_buffer
            .map(|buffer| usize::try_from(buffer.limit.0).unwrap_or(usize::MAX)),
        trusts_order: annotated.trusts_order.unwrap_or(false),
        tells_attempts: annotated.tells_attempts.unwrap_or(false),
        lossy: annotated.lossy.unwrap_or_default(),
        naming: annotated.naming.unwrap_or_default(),
    }
}

fn balance(spec: &LoadBalancer) -> Balance {
    match (spec.kind, &spec.consistent_hash) {
        (LoadBalancerType::ConsistentHash, Some(hash)) => {
            hash_key(hash).map_or(Balance::Random, Balance::Consistent)
        }
        (LoadBalancerType::Random, _) | (LoadBalancerType::ConsistentHash, None) => Balance::Random,
        (LoadBalancerType::LeastRequest, _) => Balance::LeastRequest,
        (LoadBalancerType::RoundRobin, _) => Balance::RoundRobin,
    }
}

fn hash_key(spec: &ConsistentHash) -> Option<HashKey> {
    let names = |named: &[kind::Named]| named.iter().filter_map(|named| header(&named.name)).collect();
    Some(match spec.kind {
        ConsistentHashType::SourceIP => HashKey::Source,
        ConsistentHashType::Header => HashKey::Headers(vec![header(&spec.header.as_ref()?.name)?]),
        ConsistentHashType::Headers => HashKey::Headers(names(&spec.headers)),
        ConsistentHashType::QueryParams => {
            HashKey::Query(spec.query_params.iter().map(|named| named.name.clone()).collect())
        }
        ConsistentHashType::Cookie => {
            let cookie = spec.cookie.as_ref()?;
            let attributes = cookie.attributes.iter();
            HashKey::Cookie(balance::Cookie {
                name: cookie.name.clone(),
                ttl: cookie.ttl.map(|ttl| ttl.0),
                attributes: attributes
                    .map(|(name, value)| match value.as_str() {
                        "" => format!("; {name}"),
                        value => format!("; {name}={value}"),
                    })
                    .collect(),
            })
        }
    })
}

fn header(name: &str) -> Option<HeaderName> {
    HeaderName::try_from(name).ok()
}

fn retry(spec: &kind::Retry) -> Retry {
    let usual = Retry::default();
    let on = spec.retry_on.clone().unwrap_or_default();
    let each = spec.per_retry.unwrap_or_default();
    let back_off = each.back_off.unwrap_or_default();
    let base = back_off.base_interval.map_or(usual.base, |base| base.0);
    let count = |written: Option<i64>| written.map(|count| u32::try_from(count).unwrap_or(0));
    Retry {
        retries: count(spec.num_retries).unwrap_or(usual.retries),
        per_priority: count(spec.num_attempts_per_priority).unwrap_or(usual.per_priority),
        triggers: if on.triggers.is_empty() {
            usual.triggers
        } else {
            on.triggers
                .iter()
                .filter_map(|name| Trigger::parse(name))
                .collect()
        },
        statuses: if on.http_status_codes.is_empty() {
            usual.statuses
        } else {
            let codes = on.http_status_codes.iter();
            codes.filter_map(|code| u16::try_from(*code).ok()).collect()
        },
        timeout: each.timeout.and_then(Written::limit),
        base,
        max: back_off
            .max_interval
            .map_or_else(|| base.saturating_mul(10), |max| max.0),
    }
}

fn passive(spec: &kind::Passive) -> Passive {
    let usual = Passive::default();
    Passive {
        server_errors: spec.consecutive_5xx_errors.unwrap_or(usual.server_errors),
        gateway_errors: spec.consecutive_gateway_errors.unwrap_or(usual.gateway_errors),
        local_failures: spec
            .consecutive_local_origin_failures
            .unwrap_or(usual.local_failures),
        share: spec.failure_percentage_threshold,
        split: spec.split_external_local_origin_errors.unwrap_or(usual.split),
        interval: spec.interval.map_or(usual.interval, |interval| interval.0),
        base: spec.base_ejection_time.map_or(usual.base, |base| base.0),
        max_percent: spec.max_ejection_percent.unwrap_or(usual.max_percent),
        always_one: spec.always_eject_one_endpoint.unwrap_or(usual.always_one),
    }
}

fn active(spec: &kind::Active) -> Option<Active> {
    let or = |written: Option<Written>, usual: u64| written.map_or(Duration::from_secs(usual), |it| it.0);
    Some(Active {
        timeout: or(spec.timeout, 1),
        interval: or(spec.interval, 3),
        jitter: or(spec.initial_jitter, 0),
        unhealthy: spec.unhealthy_threshold.unwrap_or(3),
        healthy: spec.healthy_threshold.unwrap_or(1),
        probe: probe(spec)?,
        port: spec
            .overrides
            .and_then(|overrides| overrides.port)
            .and_then(|port| u16::try_from(port).ok()),
    })
}

fn probe(spec: &kind::Active) -> Option<Probe> {
    match spec.kind {
        ActiveType::HTTP => {
            let http = spec.http.as_ref()?;
            let method = http.method.as_deref().map(str::to_ascii_uppercase);
            let expected = http.expected_statuses.iter();
            let expected: Vec<StatusCode> = expected
                .filter_map(|code| StatusCode::from_u16(u16::try_from(*code).ok()?).ok())
                .collect();
            Some(Probe::Http {
                method: method.map_or(Some(Method::GET), |method| method.parse().ok())?,
                host: http.hostname.clone(),
                path: http.path.clone(),
                expected: if expected.is_empty() {
                    vec![StatusCode::OK]
                } else {
                    expected
                },
                holds: http.expected_response.as_ref().and_then(bytes),
            })
        }
        ActiveType::TCP => {
            let payload = |payload: Option<&Payload>| payload.and_then(bytes).unwrap_or_default();
            let tcp = spec.tcp.as_ref();
            Some(Probe::Tcp {
                send: payload(tcp.and_then(|tcp| tcp.send.as_ref())),
                receive: payload(tcp.and_then(|tcp| tcp.receive.as_ref())),
            })
        }
        ActiveType::GRPC => {
            let service = spec.grpc.as_ref().and_then(|grpc| grpc.service.clone());
            Some(Probe::Grpc {
                service: service.unwrap_or_default(),
            })
        }
    }
}

fn bytes(payload: &Payload) -> Option<Vec<u8>> {
    match payload.kind {
        kind::PayloadType::Text => payload.text.clone().map(String::into_bytes),
        kind::PayloadType::Binary => STANDARD.decode(payload.binary.as_deref()?).ok(),
    }
}

fn breaker(spec: Option<&CircuitBreaker>) -> Breaker {
    let usual = Breaker::default();
    let Some(spec) = spec else {
        return usual;
    };
    let or =
        |written: Option<i64>, usual: u32| written.map_or(usual, |it| u32::try_from(it).unwrap_or(u32::MAX));
    Breaker {
        connections: or(spec.max_connections, usual.connections),
        connections_per_endpoint: or(
            spec.per_endpoint.and_then(|own| own.max_connections),
            usual.connections_per_endpoint,
        ),
        pending: or(spec.max_pending_requests, usual.pending),
        requests: or(spec.max_parallel_requests, usual.requests),
        retries: or(spec.max_parallel_retries, usual.retries),
        retry_budget: spec.retry_budget.as_ref().map(|budget| {
            let share = budget.percent.map_or(200, |share| {
                share.numerator.saturating_mul(1000) / share.denominator.unwrap_or(100).max(1)
            });
            RetryBudget {
                per_mille: u32::try_from(share).unwrap_or(1000),
                at_least: budget.min_retry_concurrency.unwrap_or(3),
            }
        }),
    }
}

/// Returns how connections are made and kept.
pub(in crate::resolve) fn connections(spec: &BackendTrafficPolicy) -> Connections {
    let usual = Connections::default();
    let timeout = spec.timeout.unwrap_or_default();
    let (tcp, http) = (timeout.tcp.unwrap_or_default(), timeout.http.unwrap_or_default());
    let requests = spec
        .circuit_breaker
        .as_ref()
        .and_then(|breaker| breaker.max_requests_per_connection);
    Connections {
        connect: tcp
            .connect_timeout
            .and_then(Written::limit)
            .unwrap_or(usual.connect),
        idle: http.connection_idle_timeout.map_or(usual.idle, Written::bound),
        lifetime: http.max_connection_duration.and_then(Written::limit),
        requests: requests
            .and_then(|requests| u32::try_from(requests).ok())
            .filter(|requests| *requests > 0),
        keep_alive: spec.tcp_keepalive.map(|own| KeepAlive {
            idle: own.idle_time.and_then(Written::limit),
            interval: own.interval.and_then(Written::limit),
            probes: own.probes,
        }),
        streams: streams(spec.http2.as_ref()),
    }
}

/// Returns how HTTP/2 is spoken, by a policy of either side.
pub(in crate::resolve) fn streams(spec: Option<&Http2>) -> Streams {
    let http2 = spec.copied().unwrap_or_default();
    let size = |written: Option<Quantity>| u32::try_from(written?.0).ok();
    let pings = http2.connection_keepalive.unwrap_or_default();
    Streams {
        at_once: http2.max_concurrent_streams,
        window: size(http2.initial_stream_window_size),
        connection_window: size(http2.initial_connection_window_size),
        ping_every: pings.interval.and_then(Written::limit),
        pong_within: pings.timeout.and_then(Written::limit),
    }
}

fn injected(spec: &kind::FaultInjection) -> Faults {
    let share = |percentage: Option<f64>| Share::of_percent(percentage.unwrap_or(100.0));
    Faults {
        delay: spec
            .delay
            .map(|delay| (delay.fixed_delay.0, share(delay.percentage))),
        abort: spec.abort.and_then(|abort| {
            let of_http = |status| StatusCode::from_u16(u16::try_from(status).ok()?).ok();
            let by = match (abort.http_status, abort.grpc_status) {
                (Some(status), _) => of_http(status)?.into(),
                (None, status) => Abort::by_grpc(status?)?,
            };
            Some((by, share(abort.percentage)))
        }),
    }
}
