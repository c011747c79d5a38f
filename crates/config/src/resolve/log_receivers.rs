//! Which receivers of OTLP are told of requests, as an EnvoyProxy says.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{
    End, Notes,
    access_logs::KIND,
    backends::{Reach, Trouble},
};
use crate::{
    Key,
    kind::envoy_proxy::{ReceiverHeader, ReceiverSink},
    snapshot::{Endpoint, LogReceiver, Tls},
};

/// Returns the receiver that `sink` names, in the field `field` of the EnvoyProxy `key`.
pub(super) fn resolve(
    reach: &Reach<'_>,
    key: &Key,
    field: &str,
    sink: &ReceiverSink,
    notes: &mut Notes,
) -> Option<LogReceiver> {
    let field = format!("{field}.openTelemetry");
    let headers = headers(&sink.headers)
        .map_err(|message| notes.refuse(KIND, key, "Invalid", format!("{field}.headers"), message))
        .ok()?;
    let (endpoint, tls) = match (sink.backend_refs.is_empty(), &sink.host) {
        (true, Some(host)) => (Endpoint::new(host, sink.port.unwrap_or(GRPC_PORT)), None),
        (true, None) => {
            notes.refuse(
                KIND,
                key,
                "Invalid",
                field,
                "names neither backendRefs nor a host",
            );
            return None;
        }
        (false, _) => referred(reach, key, &field, sink, notes)?,
    };
    let service = ("service.name".to_owned(), "ai-gateway".to_owned());
    let named = sink.resources.contains_key(&service.0);
    let resources = sink.resources.clone().into_iter();
    Some(LogReceiver {
        endpoint,
        tls,
        headers,
        resource: resources.chain((!named).then_some(service)).collect(),
    })
}

/// Returns the first that can be called of those that `sink` refers to.
fn referred(
    reach: &Reach<'_>,
    key: &Key,
    field: &str,
    sink: &ReceiverSink,
    notes: &mut Notes,
) -> Option<(Endpoint, Option<Tls>)> {
    let mut found = None;
    for (index, reference) in sink.backend_refs.iter().enumerate() {
        let field = format!("{field}.backendRefs[{index}]");
        let reached = reach.reach(&[End::proxy(key)], &key.namespace, reference, notes);
        match reached.and_then(|(endpoints, tls)| Ok((first(endpoints)?, tls))) {
            Ok(reached) => found = found.or(Some(reached)),
            Err((reason, message)) => notes.unresolved(KIND, key, reason, field, message),
        }
    }
    found
}

fn first(endpoints: Vec<Endpoint>) -> Result<Endpoint, Trouble> {
    let mut called = endpoints.into_iter().filter(|endpoint| endpoint.socket.is_none());
    let trouble = || ("BackendNotFound", "there is no endpoint with a port".to_owned());
    called.next().ok_or_else(trouble)
}

fn headers(written: &[ReceiverHeader]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for ReceiverHeader { name, value } in written {
        let read = HeaderName::try_from(name).map_err(|_| format!("{name:?} is not the name of a header"))?;
        let mut value = HeaderValue::try_from(value.expose())
            .map_err(|_| format!("what {name} is set to cannot be sent in a header"))?;
        value.set_sensitive(true);
        headers.append(read, value);
    }
    Ok(headers)
}

/// Where receivers of OTLP by gRPC listen.
const GRPC_PORT: u16 = 4317;
