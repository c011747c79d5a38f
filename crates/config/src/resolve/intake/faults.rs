//! What is wrong with a policy, and what of it has no effect.

use super::{KIND, settings};
use crate::{
    Key, Severity,
    kind::{
        ClientTrafficPolicy, GATEWAY_API,
        client_traffic_policy::{ClientIpDetection, ClientTls, ForwardMode, Http1, RequestId},
        http2::OnInvalidMessage,
    },
    resolve::{Notes, filters},
};

/// Says what a policy declares and this version does not do.
pub(super) fn remark(key: &Key, spec: &ClientTrafficPolicy, notes: &mut Notes) {
    let headers = spec.headers.clone().unwrap_or_default();
    let of_http1 = |has: fn(&Http1) -> bool| spec.http1.as_ref().is_some_and(has);
    let of_tls = |has: fn(&ClientTls) -> bool| spec.tls.as_ref().is_some_and(has);
    let tcp = spec.timeout.is_some_and(|timeout| timeout.tcp.is_some());
    let bounds = spec.connection.unwrap_or_default();
    let stream = Some(OnInvalidMessage::TerminateStream);
    let on_invalid = spec.http2.is_some_and(|http2| http2.on_invalid_message == stream);
    let unserved = [
        (spec.http3.is_some(), "http3"),
        (spec.scheme.is_some(), "scheme"),
        (tcp, "timeout.tcp"),
        (
            bounds.max_accept_per_socket_event.is_some(),
            "connection.maxAcceptPerSocketEvent",
        ),
        (on_invalid, "http2.onInvalidMessage"),
        (
            of_http1(|http1| http1.preserve_header_case == Some(true)),
            "http1.preserveHeaderCase",
        ),
        (
            of_http1(|http1| http1.enable_trailers == Some(false)),
            "http1.enableTrailers",
        ),
        (of_http1(|http1| http1.http10.is_some()), "http1.http10"),
        (
            of_http1(|http1| http1.disable_safe_max_connection_duration == Some(true)),
            "http1.disableSafeMaxConnectionDuration",
        ),
        (
            headers.enable_envoy_headers == Some(true),
            "headers.enableEnvoyHeaders",
        ),
        (
            headers.disable_rate_limit_headers == Some(true),
            "headers.disableRateLimitHeaders",
        ),
        (
            matches!(headers.request_id, Some(RequestId::Preserve | RequestId::Disable)),
            "headers.requestID",
        ),
        (
            of_tls(|tls| !tls.signature_algorithms.is_empty()),
            "tls.signatureAlgorithms",
        ),
        (of_tls(|tls| tls.session.is_some()), "tls.session"),
        (of_tls(|tls| !tls.fingerprints.is_empty()), "tls.fingerprints"),
    ];
    for (present, field) in unserved {
        if present {
            let field = format!("spec.{field}");
            let message = "has no effect in this version";
            notes.unsupported(KIND, key, Severity::Warning, field.as_str(), message);
        }
    }
}

/// Returns what is wrong with a policy: fields and messages.
pub(in crate::resolve) fn faults(spec: &ClientTrafficPolicy) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    let mut add = |wrong: bool, field: &str, message: &str| {
        if wrong {
            faults.push((format!("spec{field}"), message.to_owned()));
        }
    };
    let named = || spec.target_refs.iter().chain(&spec.target_ref);
    add(
        spec.target_ref.is_some() && !spec.target_refs.is_empty(),
        "",
        "either targetRef or targetRefs must be used",
    );
    add(
        named().next().is_none() && spec.target_selectors.is_empty(),
        "",
        "a target is required: targetRefs or targetSelectors",
    );
    let gateways = named()
        .all(|target| (target.group.as_str(), target.kind.as_str()) == (GATEWAY_API, "Gateway"))
        && spec
            .target_selectors
            .iter()
            .all(|selector| selector.kind == "Gateway");
    add(
        !gateways,
        ".targetRefs",
        "this policy can only have a Gateway, or a listener of one, as its target",
    );
    let limit = spec.connection.and_then(|connection| connection.connection_limit);
    add(
        limit.is_some_and(|limit| limit.value < 1),
        ".connection.connectionLimit.value",
        "must be 1 or more",
    );
    for (member, message) in spec.http2.unwrap_or_default().faults() {
        add(true, &format!(".http2.{member}"), message);
    }
    let path = spec.health_check.as_ref().map(|health| health.path.as_str());
    add(
        path.is_some_and(|path| !path.starts_with('/') || path.len() > 1024),
        ".healthCheck.path",
        "expected a path of at most 1024 bytes",
    );
    if let Some(detection) = &spec.client_ip_detection {
        add(!is_one(detection), ".clientIPDetection", ONE);
        let message = "expected a header, a number of hops, or blocks of addresses";
        add(
            is_one(detection) && settings::address(detection).is_none(),
            ".clientIPDetection",
            message,
        );
    }
    let headers = spec.headers.clone().unwrap_or_default();
    add(
        headers.preserve_x_request_id.is_some() && headers.request_id.is_some(),
        ".headers",
        "preserveXRequestID and requestID cannot both be set",
    );
    for (edits, field) in [
        (&headers.early_request_headers, ".headers.earlyRequestHeaders"),
        (&headers.late_response_headers, ".headers.lateResponseHeaders"),
    ] {
        if let Err(message) = filters::edits(edits.as_ref()) {
            add(true, field, &message);
        }
    }
    let told = headers.x_forwarded_client_cert.unwrap_or_default();
    let tells = matches!(
        told.mode,
        Some(ForwardMode::AppendForward | ForwardMode::SanitizeSet)
    );
    add(
        !told.cert_details_to_add.is_empty() && !tells,
        ".headers.xForwardedClientCert",
        "certDetailsToAdd goes with the modes AppendForward and SanitizeSet",
    );
    faults.extend(spec.tls.as_ref().map(encryption).unwrap_or_default());
    faults
}

fn is_one(detection: &ClientIpDetection) -> bool {
    match (&detection.x_forwarded_for, &detection.custom_header) {
        (Some(forwarded), None) => forwarded.num_trusted_hops.is_some() == forwarded.trusted_cidrs.is_empty(),
        (None, Some(_)) => true,
        (Some(_), Some(_)) | (None, None) => false,
    }
}

fn encryption(tls: &ClientTls) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    let mut add = |wrong: bool, field: String, message: &str| {
        if wrong {
            faults.push((format!("spec.tls.{field}"), message.to_owned()));
        }
    };
    for (member, message) in settings::written(tls).faults() {
        add(true, member, message);
    }
    for (index, name) in tls.alpn_protocols.iter().flatten().enumerate() {
        let known = PROTOCOLS.contains(&name.as_str());
        add(
            !known,
            format!("alpnProtocols[{index}]"),
            "expected http/1.0, http/1.1 or h2",
        );
    }
    faults
}

const PROTOCOLS: [&str; 3] = ["http/1.0", "http/1.1", "h2"];

const ONE: &str =
    "exactly one of xForwardedFor.numTrustedHops, xForwardedFor.trustedCIDRs and customHeader is required";
