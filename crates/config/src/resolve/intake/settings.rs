//! What a policy says, as listeners understand it. What is malformed was refused before.

use std::time::Duration;

use policy::{ClientAddress, address::Cidr, traffic::KeepAlive};

use crate::{
    Key,
    encryption::Handshake,
    intake::{self, Intake, Teller, Told},
    kind::{
        ClientTrafficPolicy, Duration as Written,
        client_traffic_policy::{
            self as kind, CertificateDetail, ClientIpDetection, ClientTls, EscapedSlashes, ForwardMode,
            ForwardedCertificate, RequestId, Underscores,
        },
    },
    resolve::{filters, terms::WrittenTerms, traffic},
};

/// Returns how connections and requests are taken.
pub(super) fn intake(key: &Key, spec: &ClientTrafficPolicy) -> Intake {
    let path = spec.path.unwrap_or_default();
    let headers = spec.headers.clone().unwrap_or_default();
    let times = spec.timeout.unwrap_or_default().http.unwrap_or_default();
    let bounds = spec.connection.unwrap_or_default();
    let limit = bounds.connection_limit;
    let written = |own: Option<Written>, of_limit: fn(&kind::ConnectionLimit) -> Option<Written>| {
        own.or(limit.as_ref().and_then(of_limit)).and_then(Written::limit)
    };
    let detection = spec.client_ip_detection.as_ref();
    let custom = detection.and_then(|detection| detection.custom_header.as_ref());
    Intake {
        policy: key.to_string().into(),
        keep_alive: spec.tcp_keepalive.map(|own| KeepAlive {
            idle: own.idle_time.and_then(Written::limit),
            interval: own.interval.and_then(Written::limit),
            probes: own.probes,
        }),
        proxied: proxied(spec),
        connections: limit.map(|limit| {
            let most = usize::try_from(limit.value).unwrap_or(0);
            (most, limit.close_delay.map_or(Duration::ZERO, |delay| delay.0))
        }),
        lifetime: written(bounds.max_connection_duration, |limit| {
            limit.max_connection_duration
        }),
        requests: bounds
            .max_requests_per_connection
            .or(limit.and_then(|limit| limit.max_requests_per_connection))
            .filter(|requests| *requests > 0),
        idle: times.idle_timeout.map(Written::bound),
        received: times.request_received_timeout.and_then(Written::limit),
        silence: times.stream_idle_timeout.map(Written::bound),
        longest: written(bounds.max_stream_duration, |limit| limit.max_stream_duration),
        max_body: bounds
            .buffer_limit
            .map(|limit| usize::try_from(limit.0).unwrap_or(usize::MAX)),
        streams: traffic::streams(spec.http2.as_ref()),
        address: detection.and_then(address).unwrap_or_default(),
        address_required: custom.is_some_and(|header| header.fail_closed == Some(true)),
        escaped_slashes: match path.escaped_slashes_action {
            Some(EscapedSlashes::KeepUnchanged) => intake::EscapedSlashes::Keep,
            Some(EscapedSlashes::RejectRequest) => intake::EscapedSlashes::Refuse,
            Some(EscapedSlashes::UnescapeAndForward) => intake::EscapedSlashes::Unescape,
            Some(EscapedSlashes::UnescapeAndRedirect) | None => intake::EscapedSlashes::Redirect,
        },
        keeps_slashes: path.disable_merge_slashes == Some(true),
        underscores: match headers.with_underscores_action {
            Some(Underscores::Allow) | None => intake::Underscores::Take,
            Some(Underscores::RejectRequest) => intake::Underscores::Refuse,
            Some(Underscores::DropHeader) => intake::Underscores::LeaveOut,
        },
        own_request_id: headers.request_id == Some(RequestId::Generate),
        told: headers
            .x_forwarded_client_cert
            .as_ref()
            .map(told)
            .unwrap_or_default(),
        early: filters::edits(headers.early_request_headers.as_ref()).unwrap_or_default(),
        late: filters::edits(headers.late_response_headers.as_ref()).unwrap_or_default(),
        health: spec.health_check.as_ref().map(|health| health.path.clone()),
    }
}

fn told(spec: &ForwardedCertificate) -> Told {
    let tells = |detail| spec.cert_details_to_add.contains(&detail);
    Told {
        by: match spec.mode.unwrap_or_default() {
            ForwardMode::Sanitize => Teller::Nobody,
            ForwardMode::ForwardOnly => Teller::Shown,
            ForwardMode::AppendForward => Teller::Both,
            ForwardMode::SanitizeSet => Teller::Gateway,
            ForwardMode::AlwaysForwardOnly => Teller::Anybody,
        },
        certificate: tells(CertificateDetail::Cert),
        chain: tells(CertificateDetail::Chain),
        subject: tells(CertificateDetail::Subject),
        hosts: tells(CertificateDetail::DNS),
        uris: tells(CertificateDetail::URI),
    }
}

fn proxied(spec: &ClientTrafficPolicy) -> Option<bool> {
    match spec.proxy_protocol {
        Some(own) => Some(own.optional == Some(true)),
        None => (spec.enable_proxy_protocol == Some(true)).then_some(false),
    }
}

/// Returns whom to believe; `None` where that is not to be read.
pub(super) fn address(spec: &ClientIpDetection) -> Option<ClientAddress> {
    if let Some(custom) = &spec.custom_header {
        let name = http::HeaderName::try_from(custom.name.as_str()).ok()?;
        return Some(ClientAddress::Header(name));
    }
    let forwarded = spec.x_forwarded_for.as_ref()?;
    if let Some(hops) = forwarded.num_trusted_hops {
        return Some(ClientAddress::Hops(usize::try_from(hops).ok()?));
    }
    let blocks = forwarded.trusted_cidrs.iter().map(|block| Cidr::parse(block));
    Some(ClientAddress::Proxies(blocks.collect::<Option<_>>()?))
}

/// Returns how connections are encrypted.
pub(super) fn handshake(spec: &ClientTls) -> Handshake {
    Handshake {
        terms: written(spec).terms(),
        protocols: match &spec.alpn_protocols {
            Some(protocols) => protocols.clone(),
            None => Handshake::default().protocols,
        },
    }
}

/// Returns what is written of the terms of encryption.
pub(super) fn written(spec: &ClientTls) -> WrittenTerms<'_> {
    WrittenTerms {
        oldest: spec.min_version.as_deref(),
        newest: spec.max_version.as_deref(),
        ciphers: &spec.ciphers,
        groups: &spec.ecdh_curves,
    }
}
