//! The filters of HTTPRoutes, and of HTTPRouteFilters that they name, compiled.
//!
//! A filter that cannot be honoured breaks its rule: a request must not pass by what was to be done with it.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, StatusCode, header};
use regex::Regex;

use super::{End, Notes, permitted, target};
use crate::{
    Key, Resources, Secret, Severity,
    kind::{
        ENVOY, HTTPRouteFilter,
        http_route::{self, Filter, FilterKind, HeaderFilter, PathModifier, PathModifierKind},
        http_route_filter::{CredentialInjection, DirectBodyKind, DirectResponse, HostModifierKind, Rewrite},
        reference::LocalRef,
    },
    plain::{Answer, Direct, Edits, HostRewrite, Injection, PathRewrite, Plain, Redirect},
};

/// Whose filters they are.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) resources: &'a Resources,
    pub(super) kind: &'static str,
    pub(super) key: &'a Key,
    /// The prefix that the rule's one match is by.
    pub(super) prefix: Option<&'a str>,
}

/// Compiles the filters of a rule at `field`.
///
/// # Errors
/// Why the rule cannot serve; that has been said.
pub(super) fn compile(
    scope: Scope<'_>,
    field: &str,
    filters: &[Filter],
    notes: &mut Notes,
) -> Result<Plain, String> {
    let mut plain = Plain::default();
    let mut trouble = None;
    for (index, filter) in filters.iter().enumerate() {
        let field = format!("{field}.filters[{index}]");
        if let Err(reason) = apply(scope, &field, filter, &mut plain, notes) {
            trouble.get_or_insert(reason);
        }
    }
    trouble.map_or(Ok(plain), Err)
}

/// Compiles the filters of a reference to a backend: changes of the request's headers, and of the reply's.
///
/// # Errors
/// Why the backend cannot serve; that has been said.
pub(super) fn of_backend(
    scope: Scope<'_>,
    field: &str,
    filters: &[Filter],
    served: &[FilterKind],
    notes: &mut Notes,
) -> Result<(Edits, Edits), String> {
    if let Some(at) = filters.iter().position(|filter| !served.contains(&filter.kind)) {
        let message = "only changes of headers are served here by this version";
        let field = format!("{field}.filters[{at}]");
        notes.unsupported(scope.kind, scope.key, Severity::Error, field.as_str(), message);
        return Err(message.to_owned());
    }
    let plain = compile(scope, field, filters, notes)?;
    Ok((plain.request, plain.response))
}

fn apply(
    scope: Scope<'_>,
    field: &str,
    filter: &Filter,
    plain: &mut Plain,
    notes: &mut Notes,
) -> Result<(), String> {
    let Scope { kind, key, .. } = scope;
    match filter.kind {
        FilterKind::RequestHeaderModifier => {
            let edits = edits(filter.request_header_modifier.as_ref());
            plain.request = std::mem::take(&mut plain.request).and(edits?);
        }
        FilterKind::ResponseHeaderModifier => {
            let edits = edits(filter.response_header_modifier.as_ref());
            plain.response = std::mem::take(&mut plain.response).and(edits?);
        }
        FilterKind::RequestRedirect => {
            let redirect = filter.request_redirect.as_ref();
            plain.answer = redirect.map(|written| Answer::Redirect(redirected(scope, written)));
        }
        FilterKind::URLRewrite => {
            let written = filter.url_rewrite.clone().unwrap_or_default();
            if let Some(name) = &written.hostname {
                let name = HeaderValue::try_from(name).map_err(|_| format!("{field}.urlRewrite.hostname"))?;
                plain.host = Some(HostRewrite::Name(name));
            }
            let path = written.path.as_ref();
            plain.path = path.and_then(|path| rewritten(scope, path)).or(plain.path.take());
        }
        // Where it leads, and who may use the rule, is for the route to say.
        FilterKind::RequestMirror | FilterKind::Cors | FilterKind::ExternalAuth => {}
        FilterKind::ExtensionRef => {
            let extended = extension(scope, filter.extension_ref.as_ref(), plain, notes);
            return extended.inspect_err(|reason| {
                notes.unresolved(kind, key, "InvalidFilter", field.to_owned(), reason);
            });
        }
    }
    Ok(())
}

/// Compiles changes of headers, which were validated.
/// Returns the changes that are written.
///
/// # Errors
/// Which of them cannot be made.
pub(super) fn edits(written: Option<&HeaderFilter>) -> Result<Edits, String> {
    let Some(written) = written else {
        return Ok(Edits::default());
    };
    let name = |name: &str| {
        let parsed = HeaderName::try_from(name.to_ascii_lowercase());
        parsed.map_err(|_| format!("\"{name}\" is not a header name"))
    };
    let pairs = |headers: &[http_route::Header]| -> Result<Vec<_>, String> {
        let pairs = headers.iter().map(|header| {
            let value = HeaderValue::try_from(&header.value);
            let value =
                value.map_err(|_| format!("the value of \"{}\" cannot stand in a header", header.name));
            Ok((name(&header.name)?, value?))
        });
        pairs.collect()
    };
    Ok(Edits {
        remove: written
            .remove
            .iter()
            .map(|own| name(own))
            .collect::<Result<_, _>>()?,
        set: pairs(&written.set)?,
        add: pairs(&written.add)?,
    })
}

fn redirected(scope: Scope<'_>, written: &http_route::Redirect) -> Redirect {
    Redirect {
        scheme: match written.scheme.as_deref() {
            Some("https") => Some("https"),
            Some(_) => Some("http"),
            None => None,
        },
        host: written.hostname.clone(),
        path: written.path.as_ref().and_then(|path| rewritten(scope, path)),
        port: written.port.and_then(|port| u16::try_from(port).ok()),
        status: written
            .status_code
            .and_then(|status| StatusCode::from_u16(status).ok())
            .unwrap_or(StatusCode::FOUND),
    }
}

fn rewritten(scope: Scope<'_>, written: &PathModifier) -> Option<PathRewrite> {
    let bare = |path: &str| path.trim_end_matches('/').to_owned();
    match written.kind {
        PathModifierKind::ReplaceFullPath => written.replace_full_path.clone().map(PathRewrite::Full),
        PathModifierKind::ReplacePrefixMatch => Some(PathRewrite::Prefix {
            from: bare(scope.prefix?),
            to: bare(written.replace_prefix_match.as_deref()?),
        }),
    }
}

/// Applies the HTTPRouteFilter that a filter names.
fn extension(
    scope: Scope<'_>,
    reference: Option<&LocalRef>,
    plain: &mut Plain,
    notes: &mut Notes,
) -> Result<(), String> {
    let reference = reference.ok_or("no filter is named")?;
    if (reference.group.as_str(), reference.kind.as_str()) != (ENVOY, "HTTPRouteFilter") {
        return Err(format!(
            "{} of group \"{}\" is no filter that is known",
            reference.kind, reference.group
        ));
    }
    let to = Key::new(&scope.key.namespace, &reference.name);
    let filter = scope.resources.http_route_filters.get(&to);
    let filter = filter.ok_or_else(|| format!("HTTPRouteFilter {to} does not exist"))?;
    notes.used(FILTER, &to);
    if !notes.accepts(FILTER, &to) {
        return Err(format!("HTTPRouteFilter {to} is not accepted"));
    }
    extend(scope, &to, &filter.spec, plain, notes).map_err(|reason| format!("HTTPRouteFilter {to}: {reason}"))
}

fn extend(
    scope: Scope<'_>,
    key: &Key,
    filter: &HTTPRouteFilter,
    plain: &mut Plain,
    notes: &mut Notes,
) -> Result<(), String> {
    if filter.matches.is_some() {
        let message = "conditions beyond those of the Gateway API are not served by this version";
        notes.unsupported(FILTER, key, Severity::Error, "spec.matches", message);
        return Err(message.to_owned());
    }
    if let Some(rewrite) = &filter.url_rewrite {
        extended_rewrite(rewrite, plain)?;
    }
    if let Some(direct) = &filter.direct_response {
        plain.answer = Some(Answer::Direct(direct_response(scope, direct, notes)?));
    }
    if let Some(injection) = &filter.credential_injection {
        plain.credential = Some(injected(scope, key, injection, notes)?);
    }
    Ok(())
}

fn extended_rewrite(rewrite: &Rewrite, plain: &mut Plain) -> Result<(), String> {
    if let Some(host) = &rewrite.hostname {
        plain.host = Some(match host.kind {
            HostModifierKind::Backend => HostRewrite::Backend,
            HostModifierKind::Header => {
                let name = host.header.as_deref().unwrap_or_default().to_ascii_lowercase();
                let name = HeaderName::try_from(name);
                HostRewrite::Header(name.map_err(|_| "urlRewrite.hostname.header is not a header name")?)
            }
        });
    }
    let replaced = rewrite
        .path
        .as_ref()
        .and_then(|path| path.replace_regex_match.as_ref());
    if let Some(replaced) = replaced {
        let from = Regex::new(&replaced.pattern);
        plain.path = Some(PathRewrite::Pattern {
            from: from.map_err(|_| "urlRewrite.path has a malformed regular expression")?,
            to: substitution(&replaced.substitution),
        });
    }
    Ok(())
}

/// Returns a substitution in the words of our expressions: `\1` there is `${1}` here.
fn substitution(written: &str) -> String {
    let mut text = String::with_capacity(written.len());
    let mut rest = written.chars().peekable();
    while let Some(char) = rest.next() {
        match (char, rest.peek()) {
            ('\\', Some(digit)) if digit.is_ascii_digit() => {
                text.push_str(&format!("${{{digit}}}"));
                rest.next();
            }
            ('\\', Some('\\')) => {
                text.push('\\');
                rest.next();
            }
            ('$', _) => text.push_str("$$"),
            (char, _) => text.push(char),
        }
    }
    text
}

fn direct_response(scope: Scope<'_>, written: &DirectResponse, notes: &mut Notes) -> Result<Direct, String> {
    let body: Arc<str> = match &written.body {
        None => Arc::from(""),
        Some(body) => match (body.kind, &body.inline, &body.value_ref) {
            (Some(DirectBodyKind::ValueRef), _, Some(reference)) => {
                let to = Key::new(&scope.key.namespace, &reference.name);
                let map = scope.resources.config_maps.get(&to);
                let map = map.ok_or_else(|| format!("ConfigMap {to} does not exist"))?;
                notes.used("ConfigMap", &to);
                let text = map.spec.text("response.body");
                Arc::from(text.ok_or_else(|| format!("ConfigMap {to} has no key \"response.body\""))?)
            }
            (Some(DirectBodyKind::ValueRef), _, None) => return Err("no body is named".to_owned()),
            (None | Some(DirectBodyKind::Inline), inline, _) => {
                Arc::from(inline.as_deref().unwrap_or_default())
            }
        },
    };
    let status = StatusCode::from_u16(written.status_code.unwrap_or(200));
    let content_type = written
        .content_type
        .as_deref()
        .map(HeaderValue::try_from)
        .transpose();
    Ok(Direct {
        status: status.map_err(|_| "directResponse.statusCode is no status")?,
        content_type: content_type.map_err(|_| "directResponse.contentType cannot stand in a header")?,
        headers: edits(written.header.as_ref())?,
        body,
    })
}

fn injected(
    scope: Scope<'_>,
    filter: &Key,
    written: &CredentialInjection,
    notes: &mut Notes,
) -> Result<Injection, String> {
    let reference = &written.credential.value_ref;
    let to = target(reference.namespace.as_deref(), &reference.name, &filter.namespace);
    if !permitted(scope.resources, End::filter(filter), End::secret(&to), notes) {
        return Err(format!("no ReferenceGrant allows the reference to Secret {to}"));
    }
    let secret = scope.resources.secrets.get(&to);
    let secret = secret.ok_or_else(|| format!("Secret {to} does not exist"))?;
    notes.used("Secret", &to);
    let value = secret.spec.data.get("credential");
    let value = value.ok_or_else(|| format!("Secret {to} has no key \"credential\""))?;
    let value = value.expose().trim();
    if HeaderValue::from_str(value).is_err() {
        return Err(format!(
            "key \"credential\" of Secret {to} has characters that headers must not have"
        ));
    }
    let name = written
        .header
        .as_deref()
        .unwrap_or(header::AUTHORIZATION.as_str());
    let name = HeaderName::try_from(name.to_ascii_lowercase());
    Ok(Injection {
        header: name.map_err(|_| "credentialInjection.header is not a header name")?,
        value: Secret::new(value),
        overwrite: written.overwrite.unwrap_or(false),
    })
}

pub(super) const FILTER: &str = "HTTPRouteFilter";
