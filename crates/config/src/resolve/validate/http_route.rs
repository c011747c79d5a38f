//! HTTPRoutes and HTTPRouteFilters (Gateway API, validation of HTTPRoute; Envoy Gateway, of HTTPRouteFilter).

use std::{collections::BTreeSet, fmt};

use super::Faults;
use crate::kind::{
    HTTPRoute, HTTPRouteFilter,
    http_route::{
        CookieLifetime, Filter, FilterKind, Header, HeaderFilter, Match, Mirror, PathMatchKind, PathModifier,
        PathModifierKind, Rule, SessionKind, SessionPersistence,
    },
    http_route_access::{CorsFilter, ExternalAuth, ExternalAuthProtocol},
    http_route_filter::HostModifierKind,
};

pub(super) fn route(spec: &HTTPRoute, faults: &mut Faults) {
    faults.parents(&spec.parent_refs, 32);
    faults.at_most(16, spec.hostnames.len(), "spec.hostnames");
    for (index, name) in spec.hostnames.iter().enumerate() {
        faults.hostname(name, format_args!("spec.hostnames[{index}]"));
    }
    faults.add_if(spec.rules.is_empty(), "spec.rules", "must have at least 1 item");
    faults.at_most(16, spec.rules.len(), "spec.rules");
    let matches = spec.rules.iter().map(|rule| rule.matches.len()).sum::<usize>();
    let message = "While 16 rules and 64 matches per rule are allowed, the total number of matches across all rules \
                   in a route must be less than 128";
    faults.add_if(matches > 128, "spec.rules", message);
    let mut names = BTreeSet::new();
    for (index, own) in spec.rules.iter().enumerate() {
        let field = format_args!("spec.rules[{index}]");
        let repeated = own.name.as_ref().is_some_and(|name| !names.insert(name));
        let message = "Rule name must be unique within the route";
        faults.add_if(repeated, format_args!("{field}.name"), message);
        rule(own, field, faults);
    }
}

fn rule(rule: &Rule, field: fmt::Arguments<'_>, faults: &mut Faults) {
    faults.at_most(64, rule.matches.len(), format_args!("{field}.matches"));
    for (index, own) in rule.matches.iter().enumerate() {
        matching(own, format_args!("{field}.matches[{index}]"), faults);
    }
    filters(&rule.filters, rule.prefix().is_some(), field, faults);
    faults.at_most(16, rule.backend_refs.len(), format_args!("{field}.backendRefs"));
    let redirects = rule
        .filters
        .iter()
        .any(|filter| filter.request_redirect.is_some());
    let message = "RequestRedirect filter must not be used together with backendRefs";
    faults.add_if(redirects && !rule.backend_refs.is_empty(), field, message);
    for (index, reference) in rule.backend_refs.iter().enumerate() {
        let at = format_args!("{field}.backendRefs[{index}]");
        faults.target(&reference.target(), at);
        let heavy = reference.weight.is_some_and(|weight| weight > 1_000_000);
        faults.add_if(heavy, format_args!("{at}.weight"), "must be at most 1000000");
        filters(&reference.filters, false, at, faults);
    }
    faults.timeouts(rule.timeouts, field);
    if let Some(retry) = &rule.retry {
        for (index, code) in retry.codes.iter().enumerate() {
            let at = format_args!("{field}.retry.codes[{index}]");
            faults.add_if(!(400..600).contains(code), at, "a status is between 400 and 599");
        }
    }
    if let Some(session) = &rule.session_persistence {
        persistence(session, format_args!("{field}.sessionPersistence"), faults);
    }
}

fn persistence(own: &SessionPersistence, field: fmt::Arguments<'_>, faults: &mut Faults) {
    let at = format_args!("{field}.sessionName");
    if let Some(name) = &own.session_name {
        let valid = name.len() <= 128 && http::HeaderName::from_bytes(name.as_bytes()).is_ok();
        let message = "expected a name of at most 128 characters that a header or a cookie can have";
        faults.add_if(!valid, at, message);
    }
    let lifetime = own.cookie_config.unwrap_or_default().lifetime_type;
    let endless = lifetime == Some(CookieLifetime::Permanent) && own.absolute_timeout.is_none();
    let message = "AbsoluteTimeout must be specified when cookie lifetimeType is Permanent";
    faults.add_if(endless, field, message);
    let misplaced = own.kind == Some(SessionKind::Header) && own.cookie_config.is_some();
    let message = "cookieConfig can only be set with type Cookie";
    faults.add_if(misplaced, field, message);
}

fn matching(own: &Match, field: fmt::Arguments<'_>, faults: &mut Faults) {
    if let Some(path) = &own.path {
        let value = path.value.as_deref().unwrap_or("/");
        let at = format_args!("{field}.path.value");
        faults.add_if(value.len() > 1024, at, "must have at most 1024 characters");
        let literal = path.kind != Some(PathMatchKind::RegularExpression);
        faults.add_if(
            literal && !value.starts_with('/'),
            at,
            "value must be an absolute path and start with '/' when type one of ['Exact', 'PathPrefix']",
        );
        for part in ["//", "/./", "/../", "%2f", "%2F", "#"] {
            let message = format_args!("must not contain '{part}' when type one of ['Exact', 'PathPrefix']");
            faults.add_if(literal && value.contains(part), at, message);
        }
        for end in ["/..", "/."] {
            let message = format_args!("must not end with '{end}' when type one of ['Exact', 'PathPrefix']");
            faults.add_if(literal && value.ends_with(end), at, message);
        }
    }
    faults.headers(&own.headers, field);
    faults.at_most(16, own.query_params.len(), format_args!("{field}.queryParams"));
    let mut names = BTreeSet::new();
    for (index, query) in own.query_params.iter().enumerate() {
        let at = |name: &str| format!("{field}.queryParams[{index}].{name}");
        let message = "a parameter is matched once";
        faults.add_if(!names.insert(&query.name), at("name"), message);
        let length = (1..=256).contains(&query.name.len());
        faults.add_if(!length, at("name"), "a name of 1 to 256 characters is required");
        let length = (1..=1024).contains(&query.value.len());
        faults.add_if(
            !length,
            at("value"),
            "a value of 1 to 1024 characters is required",
        );
    }
}

fn filters(filters: &[Filter], prefix: bool, field: fmt::Arguments<'_>, faults: &mut Faults) {
    faults.at_most(16, filters.len(), format_args!("{field}.filters"));
    let mut seen = BTreeSet::new();
    for (index, filter) in filters.iter().enumerate() {
        let at = format_args!("{field}.filters[{index}]");
        let message = format_args!(
            "the member of type {:?} must be specified, and no other",
            filter.kind
        );
        faults.add_if(filter.members() != [filter.kind], at, message);
        let once = match filter.kind {
            FilterKind::RequestHeaderModifier
            | FilterKind::ResponseHeaderModifier
            | FilterKind::RequestRedirect
            | FilterKind::URLRewrite
            | FilterKind::Cors => true,
            FilterKind::RequestMirror | FilterKind::ExternalAuth | FilterKind::ExtensionRef => false,
        };
        let message = format_args!("{:?} filter cannot be repeated", filter.kind);
        faults.add_if(!seen.insert(filter.kind) && once, at, message);
        let members = [
            ("requestHeaderModifier", &filter.request_header_modifier),
            ("responseHeaderModifier", &filter.response_header_modifier),
        ];
        for (name, headers) in members {
            if let Some(headers) = headers {
                modifier(headers, format_args!("{at}.{name}"), faults);
            }
        }
        if let Some(mirror) = &filter.request_mirror {
            mirrored(mirror, format_args!("{at}.requestMirror"), faults);
        }
        if let Some(own) = &filter.cors {
            cors(own, format_args!("{at}.cors"), faults);
        }
        if let Some(own) = &filter.external_auth {
            external_auth(own, format_args!("{at}.externalAuth"), faults);
        }
        if let Some(redirect) = &filter.request_redirect {
            let at = format_args!("{at}.requestRedirect");
            let scheme = redirect.scheme.as_deref();
            let known = matches!(scheme, None | Some("http" | "https"));
            let message = "unsupported value; supported: http, https";
            faults.add_if(!known, format_args!("{at}.scheme"), message);
            let status = redirect.status_code.unwrap_or(302);
            let known = [301, 302, 303, 307, 308].contains(&status);
            let message = "unsupported value; supported: 301, 302, 303, 307, 308";
            faults.add_if(!known, format_args!("{at}.statusCode"), message);
            if let Some(port) = redirect.port {
                faults.port(port, format_args!("{at}.port"));
            }
            host(redirect.hostname.as_deref(), at, faults);
            path(redirect.path.as_ref(), prefix, at, faults);
        }
        if let Some(rewrite) = &filter.url_rewrite {
            let at = format_args!("{at}.urlRewrite");
            host(rewrite.hostname.as_deref(), at, faults);
            path(rewrite.path.as_ref(), prefix, at, faults);
        }
    }
    let both = seen.contains(&FilterKind::RequestRedirect) && seen.contains(&FilterKind::URLRewrite);
    let message =
        "May specify either httpRouteFilterRequestRedirect or httpRouteFilterRequestRewrite, but not both";
    faults.add_if(both, format_args!("{field}.filters"), message);
}

fn mirrored(own: &Mirror, field: fmt::Arguments<'_>, faults: &mut Faults) {
    faults.target(&own.backend_ref, format_args!("{field}.backendRef"));
    let message = "Only one of percent or fraction may be specified in HTTPRequestMirrorFilter";
    faults.add_if(own.percent.is_some() && own.fraction.is_some(), field, message);
    let large = own.percent.is_some_and(|percent| percent > 100);
    faults.add_if(large, format_args!("{field}.percent"), "must be at most 100");
    if let Some(fraction) = own.fraction {
        let denominator = fraction.denominator.unwrap_or(100);
        let at = format_args!("{field}.fraction");
        faults.add_if(denominator < 1, at, "denominator must be at least 1");
        let message = "numerator must be between 0 and the denominator";
        faults.add_if(!(0..=denominator).contains(&fraction.numerator), at, message);
    }
}

fn cors(own: &CorsFilter, field: fmt::Arguments<'_>, faults: &mut Faults) {
    let lists = [
        (
            &own.allow_origins,
            "allowOrigins",
            64,
            "AllowOrigins cannot contain '*' alongside other origins",
        ),
        (
            &own.allow_methods,
            "allowMethods",
            9,
            "AllowMethods cannot contain '*' alongside other methods",
        ),
        (
            &own.allow_headers,
            "allowHeaders",
            64,
            "AllowHeaders cannot contain '*' alongside other methods",
        ),
    ];
    for (names, member, limit, message) in lists {
        let at = format_args!("{field}.{member}");
        faults.at_most(limit, names.len(), at);
        let star = names.iter().any(|name| name == "*");
        faults.add_if(star && names.len() > 1, at, message);
    }
    faults.at_most(
        64,
        own.expose_headers.len(),
        format_args!("{field}.exposeHeaders"),
    );
    let at = format_args!("{field}.maxAge");
    faults.add_if(own.max_age == Some(0), at, "must be at least 1");
}

fn external_auth(own: &ExternalAuth, field: fmt::Arguments<'_>, faults: &mut Faults) {
    faults.target(&own.backend_ref, format_args!("{field}.backendRef"));
    let goes_with = match own.protocol {
        ExternalAuthProtocol::GRPC => own.grpc.is_some() && own.http.is_none(),
        ExternalAuthProtocol::HTTP => own.http.is_some() && own.grpc.is_none(),
    };
    let message = "the member that the protocol names must be specified, and no other";
    faults.add_if(!goes_with, field, message);
}

fn modifier(own: &HeaderFilter, field: fmt::Arguments<'_>, faults: &mut Faults) {
    let names = |headers: &[Header]| -> Vec<String> {
        let names = headers.iter().map(|header| header.name.clone());
        names.collect()
    };
    for (member, names) in [
        ("set", names(&own.set)),
        ("add", names(&own.add)),
        ("remove", own.remove.clone()),
    ] {
        let at = format_args!("{field}.{member}");
        faults.at_most(16, names.len(), at);
        let mut seen = BTreeSet::new();
        for (index, name) in names.iter().enumerate() {
            let at = format_args!("{at}[{index}]");
            let valid = http::HeaderName::from_bytes(name.as_bytes()).is_ok();
            faults.add_if(!valid, at, format_args!("\"{name}\" is not a header name"));
            let message = format_args!("\"{name}\" is named twice");
            faults.add_if(!seen.insert(name.to_ascii_lowercase()), at, message);
        }
    }
    for header in own.set.iter().chain(&own.add) {
        let valid = http::HeaderValue::from_str(&header.value).is_ok();
        let message = format_args!("the value of \"{}\" cannot stand in a header", header.name);
        faults.add_if(!valid, field, message);
    }
}

fn host(name: Option<&str>, field: fmt::Arguments<'_>, faults: &mut Faults) {
    let wrong = name.is_some_and(|name| {
        let address = name.parse::<std::net::IpAddr>().is_ok();
        !address && (!crate::host::is_name(name) || name.contains(char::is_uppercase))
    });
    faults.add_if(wrong, format_args!("{field}.hostname"), "expected a host name");
}

fn path(path: Option<&PathModifier>, prefix: bool, field: fmt::Arguments<'_>, faults: &mut Faults) {
    let Some(path) = path else {
        return;
    };
    let field = format_args!("{field}.path");
    let (full, part) = (&path.replace_full_path, &path.replace_prefix_match);
    let (as_meant, message) = match path.kind {
        PathModifierKind::ReplaceFullPath => (
            full.is_some() && part.is_none(),
            "replaceFullPath must be specified, and nothing else, when type is set to 'ReplaceFullPath'",
        ),
        PathModifierKind::ReplacePrefixMatch => (
            part.is_some() && full.is_none(),
            "replacePrefixMatch must be specified, and nothing else, when type is set to 'ReplacePrefixMatch'",
        ),
    };
    faults.add_if(!as_meant, field, message);
    let message = "with replacePrefixMatch, exactly one PathPrefix match must be specified";
    faults.add_if(part.is_some() && !prefix, field, message);
    for value in [full, part].into_iter().flatten() {
        faults.add_if(value.len() > 1024, field, "must have at most 1024 characters");
    }
}

pub(super) fn filter(spec: &HTTPRouteFilter, faults: &mut Faults) {
    if let Some(rewrite) = &spec.url_rewrite {
        let host = rewrite.hostname.as_ref();
        let header = host.is_some_and(|host| {
            let named = host.header.as_deref().is_some_and(|name| !name.is_empty());
            named != (host.kind == HostModifierKind::Header)
        });
        let message = "header must be specified when type is Header, and only then";
        faults.add_if(header, "spec.urlRewrite.hostname", message);
        if let Some(path) = &rewrite.path {
            let field = "spec.urlRewrite.path";
            match &path.replace_regex_match {
                None => faults.add(
                    field,
                    "replaceRegexMatch must be specified when type is 'ReplaceRegexMatch'",
                ),
                Some(own) => {
                    faults.filled(&own.pattern, format_args!("{field}.replaceRegexMatch.pattern"));
                    let valid = regex::Regex::new(&own.pattern).is_ok();
                    faults.add_if(!valid, field, "malformed regular expression");
                }
            }
        }
    }
    if let Some(direct) = &spec.direct_response {
        let status = direct.status_code.unwrap_or(200);
        let message = "a status is between 200 and 599";
        let known = (200..=599).contains(&status);
        faults.add_if(!known, "spec.directResponse.statusCode", message);
        let inline = direct.body.as_ref().and_then(|body| body.inline.as_ref());
        let message = "must have at most 4096 bytes";
        let long = inline.is_some_and(|body| body.len() > 4096);
        faults.add_if(long, "spec.directResponse.body.inline", message);
        if let Some(headers) = &direct.header {
            modifier(headers, format_args!("spec.directResponse.header"), faults);
        }
    }
    if let Some(injection) = &spec.credential_injection {
        let name = &injection.credential.value_ref.name;
        faults.filled(name, "spec.credentialInjection.credential.valueRef.name");
    }
}
