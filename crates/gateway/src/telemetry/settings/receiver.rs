//! Where a signal goes: the variables that OpenTelemetry has for exporters (OpenTelemetry, "OTLP Exporter
//! Configuration").

use std::{fs, time::Duration};

use config::{
    Secret,
    certificate::{Authorities, Certificate},
    snapshot::Tls,
};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use percent_encoding::percent_decode_str;

use super::{
    super::otlp::{Destination, Export, Receiver},
    TelemetryError, Variable,
};

/// Returns where a signal is exported to; `None` for nowhere.
pub(super) fn export(
    variable: Variable<'_>,
    signal: &str,
    path: &str,
    nowhere: &[&str],
) -> Result<Option<Export>, TelemetryError> {
    let exporter = variable(&format!("OTEL_{signal}_EXPORTER"));
    let own = Own { variable, signal };
    let to = match exporter.as_deref().map(str::trim) {
        Some(name) if nowhere.contains(&name) => return Ok(None),
        Some("console") => Destination::Console,
        // Metrics are pushed only where somebody is named who wants them.
        None if own.get("ENDPOINT").is_none() => return Ok(None),
        Some("otlp") if signal == "METRICS" && own.get("ENDPOINT").is_none() => return Ok(None),
        None | Some("otlp") => Destination::Otlp(Box::new(receiver(&own, path)?)),
        Some(other) => {
            let message = format!("{other:?} is not one of console, otlp and {}", nowhere.join(", "));
            return Err(TelemetryError::Variable(
                format!("OTEL_{signal}_EXPORTER"),
                message,
            ));
        }
    };
    let resource = resource(variable)?;
    Ok(Some(Export { resource, to }))
}

/// The variables of one signal; those that name it come before those for all.
struct Own<'a> {
    variable: Variable<'a>,
    signal: &'a str,
}

impl Own<'_> {
    fn get(&self, name: &str) -> Option<String> {
        (self.variable)(&self.named(name)).or_else(|| (self.variable)(&shared(name)))
    }

    fn named(&self, name: &str) -> String {
        format!("OTEL_EXPORTER_OTLP_{}_{name}", self.signal)
    }

    /// Returns what is wrong with a variable, under the name that it was set by.
    fn fault(&self, name: &str, message: String) -> TelemetryError {
        let named = self.named(name);
        let is_set = (self.variable)(&named).is_some();
        TelemetryError::Variable(if is_set { named } else { shared(name) }, message)
    }
}

/// Returns the name of a variable for all signals.
fn shared(name: &str) -> String {
    format!("OTEL_EXPORTER_OTLP_{name}")
}

fn receiver(own: &Own<'_>, path: &str) -> Result<Receiver, TelemetryError> {
    let grpc = match own.get("PROTOCOL").as_deref() {
        None | Some("http/protobuf") => false,
        Some("grpc") => true,
        Some(other) => {
            let message = format!("{other:?} is not one of http/protobuf and grpc");
            return Err(own.fault("PROTOCOL", message));
        }
    };
    let endpoint = match (own.variable)(&own.named("ENDPOINT")) {
        Some(endpoint) => endpoint,
        None => {
            let default = if grpc {
                "http://localhost:4317"
            } else {
                "http://localhost:4318"
            };
            let base = (own.variable)(&shared("ENDPOINT")).unwrap_or_else(|| default.to_owned());
            if grpc {
                base
            } else {
                format!("{}/{path}", base.trim_end_matches('/'))
            }
        }
    };
    let uri = Uri::try_from(endpoint.trim()).ok();
    let uri = uri.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
    let uri = uri.ok_or_else(|| {
        own.fault(
            "ENDPOINT",
            format!("{endpoint:?} is not an http:// or https:// address"),
        )
    })?;
    let compressed = match own.get("COMPRESSION").as_deref() {
        None | Some("none") => false,
        Some("gzip") => true,
        Some(other) => {
            let message = format!("{other:?} is not one of gzip and none");
            return Err(own.fault("COMPRESSION", message));
        }
    };
    let encrypted = uri.scheme_str() == Some("https");
    let tls = tls(own, uri.host().unwrap_or_default())?;
    let timeout = match own.get("TIMEOUT") {
        None => 10_000,
        Some(written) => {
            let number = written.trim().parse().ok().filter(|number| *number > 0);
            let message = || format!("{written:?} is not a number of milliseconds from 1");
            number.ok_or_else(|| own.fault("TIMEOUT", message()))?
        }
    };
    Ok(Receiver {
        uri,
        grpc,
        headers: headers(&own.get("HEADERS").unwrap_or_default())
            .ok_or_else(|| own.fault("HEADERS", "is not a list of name=value".to_owned()))?,
        timeout: Duration::from_millis(timeout),
        compressed,
        tls: encrypted.then_some(tls),
    })
}

/// Returns how calls to `host` are encrypted.
fn tls(own: &Own<'_>, host: &str) -> Result<Tls, TelemetryError> {
    let authorities = read(own, "CERTIFICATE")?
        .map(|(path, pem)| {
            Authorities::parse(&pem).map_err(|reason| own.fault("CERTIFICATE", format!("{path}: {reason}")))
        })
        .transpose()?;
    let certificate = match (read(own, "CLIENT_CERTIFICATE")?, read(own, "CLIENT_KEY")?) {
        (None, None) => None,
        (Some((path, chain)), Some((_, key))) => {
            let certificate = Certificate::parse(&Secret::new(chain), &Secret::new(key));
            Some(certificate.map_err(|reason| own.fault("CLIENT_CERTIFICATE", format!("{path}: {reason}")))?)
        }
        (Some(_), None) => return Err(own.fault("CLIENT_KEY", "is needed for the certificate".to_owned())),
        (None, Some(_)) => return Err(own.fault("CLIENT_CERTIFICATE", "is needed for the key".to_owned())),
    };
    Ok(Tls {
        authorities,
        certificate,
        ..Tls::to(host)
    })
}

/// Returns the path that a variable names, and what the file holds.
fn read(own: &Own<'_>, name: &str) -> Result<Option<(String, String)>, TelemetryError> {
    let Some(path) = own.get(name) else {
        return Ok(None);
    };
    match fs::read_to_string(&path) {
        Ok(held) => Ok(Some((path, held))),
        Err(error) => Err(own.fault(name, format!("cannot read {path}: {error}"))),
    }
}

fn headers(list: &str) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for pair in list.split(',').filter(|pair| !pair.trim().is_empty()) {
        let (name, value) = pair.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        let mut value = HeaderValue::from_str(&value).ok()?;
        value.set_sensitive(true);
        let name = HeaderName::from_bytes(name.trim().to_ascii_lowercase().as_bytes()).ok()?;
        headers.insert(name, value);
    }
    Some(headers)
}

fn resource(variable: Variable<'_>) -> Result<Vec<(String, String)>, TelemetryError> {
    let list = "OTEL_RESOURCE_ATTRIBUTES";
    let listed = variable(list).unwrap_or_default();
    let pairs = listed.split(',').filter(|pair| !pair.trim().is_empty());
    let pairs = pairs.map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let name = Some(name.trim()).filter(|name| !name.is_empty())?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        Some((name.to_owned(), value.into_owned()))
    });
    let resource: Option<Vec<(String, String)>> = pairs.collect();
    let mut resource = resource
        .ok_or_else(|| TelemetryError::Variable(list.to_owned(), "is not a list of name=value".to_owned()))?;
    let service = "service.name";
    if let Some(name) = variable("OTEL_SERVICE_NAME") {
        resource.retain(|(known, _)| known != service);
        resource.push((service.to_owned(), name));
    } else if !resource.iter().any(|(known, _)| known == service) {
        resource.push((service.to_owned(), "ai-gateway".to_owned()));
    }
    Ok(resource)
}
