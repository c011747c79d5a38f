//! What is wrong with a policy, and what of it has no effect.

use http::{HeaderName, Method};
use policy::rate_limit::{Limits, spec::RateLimit};
use policy::traffic::retry::{TRIGGERS, Trigger};

use super::{KIND, annotated::Annotated};
use crate::{
    Key, Severity,
    kind::{
        BackendTrafficPolicy,
        backend_traffic_policy::{
            ActiveType, ConsistentHashType, FaultInjection, LoadBalancer, LoadBalancerType, MergeType, Retry,
        },
    },
    resolve::{Notes, metering},
    resources::Declared,
};

/// Says what a policy declares and this version does not do, or does not understand.
pub(super) fn remark(key: &Key, policy: &Declared<BackendTrafficPolicy>, notes: &mut Notes) {
    let spec = &policy.spec;
    misplaced(key, policy, notes);
    for (name, value) in &policy.metadata.annotations {
        if let Err(message) = Annotated::default().read(name, value) {
            notes.refuse(
                KIND,
                key,
                "Invalid",
                format!("metadata.annotations[{name}]"),
                message,
            );
        }
    }
    if let Some(written) = &spec.rate_limit {
        let (_, faults) = Limits::parse(&key.to_string(), written, &Annotated::of(policy).switches);
        for (field, message) in faults {
            notes.refuse(KIND, key, "Invalid", format!("spec.rateLimit.{field}"), message);
        }
    }
    let balancer = spec.load_balancer.as_ref();
    let health = spec.health_check.as_ref();
    let active = health.and_then(|health| health.active.as_ref());
    let http = active.and_then(|active| active.http.as_ref());
    let of_balancer = |has: fn(&LoadBalancer) -> bool| balancer.is_some_and(has);
    let retriable = http.is_some_and(|http| !http.retriable_statuses.is_empty());
    let on_invalid = spec.http2.is_some_and(|http2| http2.on_invalid_message.is_some());
    let unserved = [
        (
            spec.use_client_protocol == Some(true),
            "useClientProtocol",
            NO_EFFECT,
        ),
        (spec.routing_type.is_some(), "routingType", NO_EFFECT),
        (spec.compression.is_some(), "compression", NO_EFFECT),
        (spec.compressor.is_some(), "compressor", NO_EFFECT),
        (spec.response_override.is_some(), "responseOverride", NO_EFFECT),
        (spec.http_upgrade.is_some(), "httpUpgrade", NO_EFFECT),
        (spec.telemetry.is_some(), "telemetry", NO_EFFECT),
        (spec.bandwidth_limit.is_some(), "bandwidthLimit", NO_EFFECT),
        (spec.admission_control.is_some(), "admissionControl", NO_EFFECT),
        (
            spec.adaptive_concurrency.is_some(),
            "adaptiveConcurrency",
            NO_EFFECT,
        ),
        (spec.connection.is_some(), "connection", NO_EFFECT),
        (spec.dns.is_some(), "dns", NO_EFFECT),
        (on_invalid, "http2.onInvalidMessage", NO_EFFECT),
        (spec.proxy_protocol.is_some(), "proxyProtocol", NO_EFFECT),
        (
            of_balancer(|own| {
                own.consistent_hash
                    .as_ref()
                    .is_some_and(|hash| hash.table_size.is_some())
            }),
            "loadBalancer.consistentHash.tableSize",
            "has no effect: endpoints are chosen without a table, and each keeps its share when another goes",
        ),
        (
            of_balancer(|own| own.endpoint_override.is_some()),
            "loadBalancer.endpointOverride",
            NO_EFFECT,
        ),
        (
            of_balancer(|own| own.zone_aware.is_some()),
            "loadBalancer.zoneAware",
            NO_EFFECT,
        ),
        (
            of_balancer(|own| own.backend_utilization.is_some()),
            "loadBalancer.backendUtilization",
            NO_EFFECT,
        ),
        (
            of_balancer(|own| own.dynamic_module.is_some()),
            "loadBalancer.dynamicModule",
            NO_EFFECT,
        ),
        (retriable, "healthCheck.active.http.retriableStatuses", NO_EFFECT),
    ];
    for (present, field, message) in unserved {
        if present {
            let field = format!("spec.{field}");
            notes.unsupported(KIND, key, Severity::Warning, field.as_str(), message);
        }
    }
}

/// Says what annotations speak of rules that are not there.
fn misplaced(key: &Key, policy: &Declared<BackendTrafficPolicy>, notes: &mut Notes) {
    let rules = policy.spec.rate_limit.as_ref().map_or(0, RateLimit::places);
    let laid_over = policy
        .spec
        .merge_type
        .is_some_and(|merge| merge != MergeType::Replace);
    // The annotations of a policy that is laid over another one may speak of that one's rules.
    if rules == 0 || laid_over {
        return;
    }
    for (name, place) in metering::misplaced(&policy.metadata.annotations, rules) {
        let field = format!("metadata.annotations[{name}]");
        let message = format!("there is no rule {place}");
        notes.warn(KIND, key, "NoSuchRule", field.as_str(), message);
    }
}

/// Returns what is wrong with a policy: fields and messages.
pub(in crate::resolve) fn faults(spec: &BackendTrafficPolicy) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    let mut add = |wrong: bool, field: &str, message: &str| {
        if wrong {
            faults.push((format!("spec{field}"), message.to_owned()));
        }
    };
    let targets = usize::from(spec.target_ref.is_some()) + spec.target_refs.len();
    add(
        spec.target_ref.is_some() && !spec.target_refs.is_empty(),
        "",
        "either targetRef or targetRefs must be used",
    );
    add(
        targets == 0 && spec.target_selectors.is_empty(),
        "",
        "a target is required: targetRefs or targetSelectors",
    );
    if let Some(own) = spec.fault_injection {
        faults.extend(injection(own));
    }
    for (member, message) in spec.http2.unwrap_or_default().faults() {
        faults.push((format!("spec.http2.{member}"), message.to_owned()));
    }
    faults.extend(spec.load_balancer.as_ref().map(balance).unwrap_or_default());
    faults.extend(spec.retry.as_ref().map(retry).unwrap_or_default());
    faults.extend(health(spec));
    faults.extend(spec.rate_limit.as_ref().map(limits).unwrap_or_default());
    faults
}

/// Says what more there is of than a cluster would take.
fn limits(spec: &RateLimit) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    let mut at_most = |limit: usize, found: usize, field: String| {
        if found > limit {
            let message = format!("has {found} items, must have at most {limit} items");
            faults.push((format!("spec.rateLimit.{field}"), message));
        }
    };
    let all = [("global", spec.global_rules()), ("local", spec.local_rules())];
    for (kind, rules) in all {
        at_most(256, rules.len(), format!("{kind}.rules"));
        for (index, rule) in rules.iter().enumerate() {
            let field = format!("{kind}.rules[{index}].clientSelectors");
            at_most(8, rule.client_selectors.len(), field.clone());
            for (at, selector) in rule.client_selectors.iter().enumerate() {
                at_most(16, selector.headers.len(), format!("{field}[{at}].headers"));
                at_most(16, selector.methods.len(), format!("{field}[{at}].methods"));
                at_most(
                    16,
                    selector.query_params.len(),
                    format!("{field}[{at}].queryParams"),
                );
            }
        }
    }
    for (kind, rules) in all {
        for (index, rule) in rules.iter().enumerate() {
            if rule.limit.requests > u64::from(u32::MAX) {
                let field = format!("spec.rateLimit.{kind}.rules[{index}].limit.requests");
                faults.push((field, "must be at most 4294967295".to_owned()));
            }
        }
    }
    faults
}

fn injection(own: FaultInjection) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    let mut add = |wrong: bool, field: &str, message: &str| {
        if wrong {
            faults.push((format!("spec.faultInjection{field}"), message.to_owned()));
        }
    };
    let FaultInjection { delay, abort } = own;
    add(
        delay.is_none() && abort.is_none(),
        "",
        "Delay and abort faults are set at least one.",
    );
    let share = |percentage: Option<f64>| percentage.is_none_or(|percent| (0.0..=100.0).contains(&percent));
    let message = "must be between 0 and 100";
    let held_up = delay.and_then(|delay| delay.percentage);
    add(!share(held_up), ".delay.percentage", message);
    if let Some(abort) = abort {
        add(!share(abort.percentage), ".abort.percentage", message);
        let known = abort
            .http_status
            .is_none_or(|status| (200..600).contains(&status));
        add(!known, ".abort.httpStatus", "a status is between 200 and 599");
        let of_grpc = abort.grpc_status.is_none_or(|status| status <= 16);
        add(
            !of_grpc,
            ".abort.grpcStatus",
            "a status of gRPC is between 0 and 16",
        );
        let both = abort.http_status.is_some() == abort.grpc_status.is_some();
        let message = "exactly one of httpStatus and grpcStatus is required";
        add(both, ".abort", message);
    }
    faults
}

fn balance(balancer: &LoadBalancer) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    let mut add = |wrong: bool, field: &str, message: &str| {
        if wrong {
            faults.push((format!("spec{field}"), message.to_owned()));
        }
    };
    let consistent = balancer.kind == LoadBalancerType::ConsistentHash;
    add(
        consistent != balancer.consistent_hash.is_some(),
        ".loadBalancer",
        "consistentHash goes with type ConsistentHash, and only with it",
    );
    let ramps = matches!(
        balancer.kind,
        LoadBalancerType::RoundRobin | LoadBalancerType::LeastRequest
    );
    add(
        balancer.slow_start.is_some() && !ramps,
        ".loadBalancer.slowStart",
        "goes with types RoundRobin and LeastRequest",
    );
    if let Some(hash) = &balancer.consistent_hash {
        let field = ".loadBalancer.consistentHash";
        let found = match hash.kind {
            ConsistentHashType::SourceIP => true,
            ConsistentHashType::Header => hash.header.is_some(),
            ConsistentHashType::Headers => !hash.headers.is_empty(),
            ConsistentHashType::QueryParams => !hash.query_params.is_empty(),
            ConsistentHashType::Cookie => hash.cookie.as_ref().is_some_and(|cookie| !cookie.name.is_empty()),
        };
        add(!found, field, "the member that the type names is required");
        let mut names = hash.header.iter().chain(&hash.headers);
        let malformed = names.any(|named| HeaderName::try_from(named.name.as_str()).is_err());
        add(malformed, field, "expected the name of a header");
    }
    faults
}

fn retry(retry: &Retry) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    let mut add = |wrong: bool, field: &str, message: &str| {
        if wrong {
            faults.push((format!("spec{field}"), message.to_owned()));
        }
    };
    let negative = |count: Option<i64>| count.is_some_and(|count| count < 0);
    add(
        negative(retry.num_retries),
        ".retry.numRetries",
        "must not be negative",
    );
    add(
        negative(retry.num_attempts_per_priority),
        ".retry.numAttemptsPerPriority",
        "must not be negative",
    );
    let on = retry.retry_on.clone().unwrap_or_default();
    for (index, name) in on.triggers.iter().enumerate() {
        let known: Vec<&str> = TRIGGERS.iter().map(|(name, _)| *name).collect();
        let message = format!("\"{name}\" is unknown; known are {}", known.join(", "));
        let field = format!(".retry.retryOn.triggers[{index}]");
        add(Trigger::parse(name).is_none(), &field, &message);
    }
    for (index, code) in on.http_status_codes.iter().enumerate() {
        let field = format!(".retry.retryOn.httpStatusCodes[{index}]");
        add(
            !(100..600).contains(code),
            &field,
            "a status is between 100 and 599",
        );
    }
    let back_off = retry.per_retry.unwrap_or_default().back_off.unwrap_or_default();
    let shrinks =
        matches!((back_off.base_interval, back_off.max_interval), (Some(base), Some(max)) if max < base);
    add(
        shrinks,
        ".retry.perRetry.backOff",
        "maxInterval must not be shorter than baseInterval",
    );
    faults
}

fn health(spec: &BackendTrafficPolicy) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    let mut add = |wrong: bool, field: &str, message: &str| {
        if wrong {
            faults.push((format!("spec.{field}"), message.to_owned()));
        }
    };
    let over = |percent: Option<u32>| percent.is_some_and(|percent| percent > 100);
    let health = spec.health_check.clone().unwrap_or_default();
    let percent = "must be between 0 and 100";
    add(
        over(health.panic_threshold),
        "healthCheck.panicThreshold",
        percent,
    );
    if let Some(passive) = &health.passive {
        add(
            over(passive.max_ejection_percent),
            "healthCheck.passive.maxEjectionPercent",
            percent,
        );
        add(
            over(passive.failure_percentage_threshold),
            "healthCheck.passive.failurePercentageThreshold",
            percent,
        );
    }
    if let Some(active) = &health.active {
        let field = "healthCheck.active";
        let goes_with = match active.kind {
            ActiveType::HTTP => active.http.is_some() && active.tcp.is_none() && active.grpc.is_none(),
            ActiveType::TCP => active.http.is_none() && active.grpc.is_none(),
            ActiveType::GRPC => active.http.is_none() && active.tcp.is_none(),
        };
        add(
            !goes_with,
            field,
            "the member that the type names is required, and no other",
        );
        let zero = |count: Option<u32>| count == Some(0);
        let thresholds = zero(active.unhealthy_threshold) || zero(active.healthy_threshold);
        add(thresholds, field, "a threshold is at least 1");
        let at_once = active.interval.is_some_and(|interval| interval.0.is_zero());
        add(at_once, "healthCheck.active.interval", "must not be 0s");
        if let Some(http) = &active.http {
            let path = http.path.starts_with('/') && http.path.len() <= 1024;
            add(!path, "healthCheck.active.http.path", "expected a path");
            let method = http.method.as_deref();
            let known = method.is_none_or(|method| method.parse::<Method>().is_ok());
            add(!known, "healthCheck.active.http.method", "expected a method");
        }
    }
    if let Some(breaker) = &spec.circuit_breaker {
        let bounds = [
            (breaker.max_connections, "maxConnections"),
            (breaker.max_pending_requests, "maxPendingRequests"),
            (breaker.max_parallel_requests, "maxParallelRequests"),
            (breaker.max_parallel_retries, "maxParallelRetries"),
            (breaker.max_requests_per_connection, "maxRequestsPerConnection"),
        ];
        for (bound, field) in bounds {
            let wrong = bound.is_some_and(|bound| !(0..=i64::from(u32::MAX)).contains(&bound));
            let field = format!("circuitBreaker.{field}");
            add(wrong, &field, "must be between 0 and 4294967295");
        }
    }
    faults
}

const NO_EFFECT: &str = "has no effect in this version";
