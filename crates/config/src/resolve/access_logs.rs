//! How the access log of each port looks, as the EnvoyProxies of its Gateways say.

use std::collections::{BTreeMap, BTreeSet};

use policy::access_log::AccessLog;

use super::{Notes, backends::Reach, listeners::Listeners, log_receivers, parameters};
use crate::{
    Key, Severity,
    kind::{
        EnvoyProxy,
        envoy_proxy::{self, ProxyBackendTls, SinkType},
    },
    snapshot::DeclaredLog,
};

/// Returns the access logs that are declared, by port.
pub(super) fn resolve(
    reach: &Reach<'_>,
    listeners: &Listeners,
    notes: &mut Notes,
) -> BTreeMap<u16, Vec<DeclaredLog>> {
    let resources = reach.resources;
    let mut ports = BTreeMap::<u16, Vec<DeclaredLog>>::new();
    let mut logs = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (key, proxy) in &resources.envoy_proxies {
        remark(key, &proxy.spec, notes);
        if let Some(log) = proxy
            .spec
            .telemetry
            .as_ref()
            .and_then(|own| own.access_log.as_ref())
        {
            logs.insert(key, compile(reach, key, log, notes));
        }
    }
    for (gateway, listeners) in listeners {
        let Some(proxy) = parameters::envoy_proxy(resources, gateway, notes) else {
            continue;
        };
        let Some(own) = logs.get(&proxy) else {
            continue;
        };
        for listener in listeners {
            // Gateways that share a port share its records; an EnvoyProxy that they share counts once.
            let all = ports.entry(listener.port).or_default();
            if seen.insert((listener.port, proxy.clone())) {
                all.extend(own.iter().cloned());
            }
        }
    }
    ports
}

fn compile(
    reach: &Reach<'_>,
    key: &Key,
    log: &envoy_proxy::AccessLog,
    notes: &mut Notes,
) -> Vec<DeclaredLog> {
    if log.disable {
        return Vec::new();
    }
    let mut compiled = Vec::new();
    for (index, setting) in log.settings.iter().enumerate() {
        let field = format!("spec.telemetry.accessLog.settings[{index}]");
        if setting.kind.as_deref() == Some("Listener") {
            let message = "records of connections are not written: this setting has no effect";
            notes.unsupported(KIND, key, Severity::Warning, field.as_str(), message);
            continue;
        }
        let (mut files, mut receivers) = (Vec::new(), Vec::new());
        for (index, sink) in setting.sinks.iter().enumerate() {
            let field = format!("{field}.sinks[{index}]");
            match (sink.kind, &sink.file, &sink.open_telemetry) {
                (SinkType::File, Some(file), _) => files.push(file.path.clone()),
                (SinkType::File, None, _) => {
                    notes.refuse(KIND, key, "Invalid", field, "file is missing");
                }
                (SinkType::OpenTelemetry, _, Some(sink)) => {
                    receivers.extend(log_receivers::resolve(reach, key, &field, sink, notes));
                }
                (SinkType::OpenTelemetry, _, None) => {
                    notes.refuse(KIND, key, "Invalid", field, "openTelemetry is missing");
                }
                (SinkType::Als, ..) => {
                    let message =
                        "records are written to files and sent by OTLP only: this sink has no effect";
                    notes.unsupported(KIND, key, Severity::Warning, field.as_str(), message);
                }
            }
        }
        match AccessLog::parse(setting.format.as_ref(), &setting.matches, files) {
            Ok(log) => compiled.push(DeclaredLog { log, receivers }),
            Err(error) => notes.refuse(KIND, key, "Invalid", field, error.to_string()),
        }
    }
    compiled
}

/// Says what has no effect. What is about the process of Envoy is worth a note only.
fn remark(key: &Key, proxy: &EnvoyProxy, notes: &mut Notes) {
    let telemetry = proxy.telemetry.clone().unwrap_or_default();
    let process = "there is no Envoy here that it could be about";
    let effect = "it has no effect in this version";
    let found = [
        (proxy.provider.is_some(), "spec.provider", Severity::Note, process),
        (proxy.logging.is_some(), "spec.logging", Severity::Note, process),
        (
            proxy.bootstrap.is_some(),
            "spec.bootstrap",
            Severity::Note,
            process,
        ),
        (
            proxy.concurrency.is_some(),
            "spec.concurrency",
            Severity::Note,
            process,
        ),
        (
            !proxy.extra_args.is_empty(),
            "spec.extraArgs",
            Severity::Note,
            process,
        ),
        (proxy.shutdown.is_some(), "spec.shutdown", Severity::Note, process),
        (
            proxy.lua_validation.is_some(),
            "spec.luaValidation",
            Severity::Note,
            process,
        ),
        (
            proxy.routing_type.is_some(),
            "spec.routingType",
            Severity::Warning,
            effect,
        ),
        (
            proxy.merge_gateways.is_some(),
            "spec.mergeGateways",
            Severity::Warning,
            effect,
        ),
        (
            !proxy.filter_order.is_empty(),
            "spec.filterOrder",
            Severity::Warning,
            effect,
        ),
        (
            proxy.ip_family.is_some(),
            "spec.ipFamily",
            Severity::Warning,
            effect,
        ),
        (
            proxy.preserve_route_order.is_some(),
            "spec.preserveRouteOrder",
            Severity::Warning,
            effect,
        ),
        (proxy.geo_ip.is_some(), "spec.geoIP", Severity::Warning, effect),
        (
            telemetry.tracing.is_some(),
            "spec.telemetry.tracing",
            Severity::Warning,
            "spans are set up by the variables OTEL_*",
        ),
        (
            telemetry.metrics.is_some(),
            "spec.telemetry.metrics",
            Severity::Warning,
            "metrics are set up by the variables OTEL_*",
        ),
        (
            telemetry.request_id.is_some(),
            "spec.telemetry.requestID",
            Severity::Warning,
            effect,
        ),
    ];
    for (present, field, severity, message) in found {
        if present {
            notes.unsupported(KIND, key, severity, field, message);
        }
    }
    if let Some(tls) = &proxy.backend_tls {
        remark_tls(key, tls, notes);
    }
}

fn remark_tls(key: &Key, tls: &ProxyBackendTls, notes: &mut Notes) {
    if !tls.signature_algorithms.is_empty() {
        let (field, message) = (
            "spec.backendTLS.signatureAlgorithms",
            "it has no effect in this version",
        );
        notes.unsupported(KIND, key, Severity::Warning, field, message);
    }
}

pub(super) const KIND: &str = "EnvoyProxy";
