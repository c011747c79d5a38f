//! Headers of requests that become attributes of records, metrics and spans.
//!
//! Which ones, the command says: an attribute of a metric is a dimension, and only whoever runs the gateway knows which
//! headers have few values. Values of metrics are bounded all the same.

use http::{HeaderMap, HeaderName, HeaderValue};
use mcp::json::{self, Object};

use super::log::MEMBERS;
use crate::headers;

/// Which headers become which attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderAttributes {
    rows: Vec<Row>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    header: HeaderName,
    /// By signal.
    names: [Option<Name>; 3],
}

/// The name of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    /// As it is.
    pub(crate) attribute: String,
    /// As a label of Prometheus.
    pub(crate) label: String,
}

/// What attributes are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Spans.
    Spans,
    /// Metrics.
    Metrics,
    /// Access records.
    Logs,
}

/// Headers that one request has of those that are asked for.
#[derive(Clone, Default)]
pub(crate) struct Captured(Vec<(usize, HeaderValue)>);

/// A list of pairs is malformed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttributesError {
    /// Nothing between two commas.
    #[error("empty header-attribute pair at position {0}")]
    Empty(usize),
    /// No colon.
    #[error("invalid header-attribute pair at position {0}: \"{1}\" (expected format: header:attribute)")]
    NoColon(usize, String),
    /// Nothing beside the colon.
    #[error("empty header or attribute at position {0}: \"{1}\"")]
    EmptySide(usize, String),
    /// Not a header.
    #[error("\"{1}\" at position {0} is not a header name")]
    Header(usize, String),
    /// A label that metrics cannot have, since they have it already, or nobody can read it.
    #[error("\"{0}\" cannot be a label of metrics: {1}")]
    Label(String, &'static str),
    /// A member that access records have already: a reader of JSON takes one of two, and nobody knows which.
    #[error("\"{0}\" cannot be a member of access records: they have it already")]
    Member(String),
}

impl HeaderAttributes {
    /// Reads lists of `header:attribute` pairs: one for everything, and one each for spans, metrics and access
    /// records, which win. Where spans or records have no list of their own, not even an empty one, the header
    /// `agent-session-id` is their `session.id`.
    ///
    /// # Errors
    /// The first pair that is malformed.
    pub fn parse(
        base: Option<&str>,
        spans: Option<&str>,
        metrics: Option<&str>,
        logs: Option<&str>,
    ) -> Result<Self, AttributesError> {
        let mut attributes = Self::default();
        let base = pairs(base.unwrap_or_default())?;
        for (signal, own) in [
            (Signal::Spans, spans.unwrap_or(SESSION)),
            (Signal::Metrics, metrics.unwrap_or_default()),
            (Signal::Logs, logs.unwrap_or(SESSION)),
        ] {
            for (header, attribute) in base.iter().cloned().chain(pairs(own)?) {
                attributes.set(header, signal, attribute);
            }
        }
        attributes.check_labels()?;
        attributes.check_members()?;
        Ok(attributes)
    }

    /// Checks that `list` is one of pairs, whatever they are for.
    pub(super) fn check_pairs(list: &str) -> Result<(), AttributesError> {
        pairs(list).map(drop)
    }

    fn check_members(&self) -> Result<(), AttributesError> {
        let of_logs = |row: &Row| row.names.get(Signal::Logs as usize).cloned().flatten();
        let mut names = self.rows.iter().filter_map(of_logs);
        match names.find(|name| MEMBERS.contains(&name.attribute.as_str())) {
            Some(name) => Err(AttributesError::Member(name.attribute)),
            None => Ok(()),
        }
    }

    /// Checks that metrics can have the labels beside their own ones: a scraper takes nothing at all of what has a label
    /// twice.
    fn check_labels(&self) -> Result<(), AttributesError> {
        let mut names: Vec<&Name> = Vec::new();
        for row in &self.rows {
            let Some(Some(name)) = row.names.get(Signal::Metrics as usize) else {
                continue;
            };
            let fault = if OWN_LABELS.contains(&name.label.as_str()) {
                "they have it already"
            } else if name.label.starts_with(|first: char| first.is_ascii_digit()) {
                "it begins with a digit"
            } else if name.label.starts_with("__") {
                "such names are Prometheus's own"
            } else if names
                .iter()
                .any(|known| known.label == name.label && known.attribute != name.attribute)
            {
                "another attribute is the same label"
            } else {
                names.push(name);
                continue;
            };
            return Err(AttributesError::Label(name.attribute.clone(), fault));
        }
        Ok(())
    }

    fn set(&mut self, header: HeaderName, signal: Signal, attribute: String) {
        let name = Name {
            label: attribute
                .chars()
                .map(|char| if char.is_ascii_alphanumeric() { char } else { '_' })
                .collect(),
            attribute,
        };
        let at = self.rows.iter().position(|row| row.header == header);
        let at = at.unwrap_or_else(|| {
            self.rows.push(Row {
                header,
                names: [None, None, None],
            });
            self.rows.len() - 1
        });
        if let Some(slot) = self
            .rows
            .get_mut(at)
            .and_then(|row| row.names.get_mut(signal as usize))
        {
            *slot = Some(name);
        }
    }

    /// Returns the attribute that a label of metrics stands for.
    pub(crate) fn attribute_of(&self, label: &str) -> Option<String> {
        let of_metrics = |row: &Row| row.names.get(Signal::Metrics as usize)?.clone();
        let mut names = self.rows.iter().filter_map(of_metrics);
        Some(names.find(|name| name.label == label)?.attribute)
    }

    /// Returns those of `headers` that are asked for.
    pub(crate) fn capture(&self, headers: &HeaderMap) -> Captured {
        let found = self.rows.iter().enumerate().filter_map(|(at, row)| {
            let value = headers.get(&row.header)?;
            Some((at, value.clone()))
        });
        Captured(found.collect())
    }

    /// Returns `captured` with what a message of MCP says itself under the names of these headers, which wins.
    pub(crate) fn named_by(&self, captured: &Captured, meta: Option<&Object<'_>>) -> Captured {
        let mut all: Vec<_> = captured
            .0
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .cloned()
            .collect();
        if self.rows.is_empty() {
            return Captured(all);
        }
        for (name, value) in meta.iter().flat_map(|meta| meta.members()) {
            let row = self
                .rows
                .iter()
                .position(|row| row.header.as_str().eq_ignore_ascii_case(name));
            let text = json::text(value).unwrap_or_else(|| value.get().into());
            let value = HeaderValue::try_from(&*text)
                .ok()
                .filter(|value| !value.is_empty());
            if let Some((row, value)) = row.zip(value) {
                all.retain(|(at, _)| *at != row);
                all.push((row, value));
            }
        }
        Captured(all)
    }

    /// Returns what `captured` means for `signal`, each name once: of several headers with one name the last counts.
    pub(crate) fn of<'a>(
        &'a self,
        signal: Signal,
        captured: &'a Captured,
    ) -> impl Iterator<Item = (&'a Name, &'a HeaderValue)> {
        let name = move |at: usize| self.rows.get(at)?.names.get(signal as usize)?.as_ref();
        captured
            .0
            .iter()
            .enumerate()
            .filter_map(move |(place, (at, value))| {
                let own = name(*at)?;
                let mut later = captured.0.iter().skip(place + 1);
                let counts =
                    later.all(|(at, _)| name(*at).is_none_or(|name| name.attribute != own.attribute));
                counts.then_some((own, value))
            })
    }
}

impl Captured {
    /// Returns the same values in bytes of their own.
    pub(crate) fn apart(&self) -> Self {
        let apart = self
            .0
            .iter()
            .map(|(at, value)| (*at, headers::value_apart(value)));
        Self(apart.collect())
    }
}

fn pairs(list: &str) -> Result<Vec<(HeaderName, String)>, AttributesError> {
    if list.trim().is_empty() {
        return Ok(Vec::new());
    }
    let pairs = list.split(',').enumerate().map(|(index, pair)| {
        let (at, pair) = (index + 1, pair.trim());
        if pair.is_empty() {
            return Err(AttributesError::Empty(at));
        }
        let (header, attribute) = pair
            .split_once(':')
            .ok_or_else(|| AttributesError::NoColon(at, pair.to_owned()))?;
        let (header, attribute) = (header.trim(), attribute.trim());
        if header.is_empty() || attribute.is_empty() {
            return Err(AttributesError::EmptySide(at, pair.to_owned()));
        }
        let header = HeaderName::from_bytes(header.to_ascii_lowercase().as_bytes())
            .map_err(|_| AttributesError::Header(at, header.to_owned()))?;
        Ok((header, attribute.to_owned()))
    });
    pairs.collect()
}

/// The labels of families that have labels from headers too.
const OWN_LABELS: &[&str] = &[
    "action",
    "backend",
    "capability_side",
    "capability_type",
    "cost",
    "currency",
    "error_type",
    "gen_ai_operation_name",
    "gen_ai_original_model",
    "gen_ai_provider_name",
    "gen_ai_request_model",
    "gen_ai_response_model",
    "gen_ai_token_type",
    "le",
    "mcp_backend",
    "mcp_method_name",
    "operation",
    "otel_scope_name",
    "otel_scope_schema_url",
    "otel_scope_version",
    "outcome",
    "phase",
    "provider",
    "reason",
    "route",
    "status",
];

/// What spans and records have where nothing is said of them.
const SESSION: &str = "agent-session-id:session.id";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_merged_by_signal() {
        let check = |base, spans, expected: &[(&str, &str)]| {
            let attributes = HeaderAttributes::parse(base, spans, None, None).expect("a list");
            let mut headers = HeaderMap::new();
            for name in ["agent-session-id", "x-team"] {
                headers.insert(name, HeaderValue::from_static("v"));
            }
            let captured = attributes.capture(&headers);
            let of_spans: Vec<&str> = attributes
                .of(Signal::Spans, &captured)
                .map(|(name, _)| name.attribute.as_str())
                .collect();
            let wanted: Vec<&str> = expected.iter().map(|(_, attribute)| *attribute).collect();
            assert_eq!(of_spans, wanted, "{base:?} {spans:?}");
        };
        let session = ("agent-session-id", "session.id");
        check(None, None, &[session]);
        check(None, Some(""), &[]);
        check(Some("X-Team:team"), Some(""), &[("x-team", "team")]);
        check(Some("x-team : team"), None, &[("x-team", "team"), session]);
        check(
            Some("x-team:team"),
            Some("x-team:group,x-absent:a"),
            &[("x-team", "group")],
        );
    }

    #[test]
    fn what_is_no_pair_is_named() {
        let check = |list: &str, expected: AttributesError| {
            assert_eq!(
                HeaderAttributes::parse(None, None, Some(list), None),
                Err(expected)
            );
        };
        check("a:b,,c:d", AttributesError::Empty(2));
        check("a", AttributesError::NoColon(1, "a".to_owned()));
        check("a:b, :c", AttributesError::EmptySide(2, ":c".to_owned()));
        check("a b:c", AttributesError::Header(1, "a b".to_owned()));
    }

    /// A scraper takes nothing at all of what has a label twice, or one that it cannot read.
    #[test]
    fn what_cannot_be_a_label_is_named() {
        let check = |list: &str, faulty: Option<&str>| {
            let read = HeaderAttributes::parse(Some(list), None, None, None);
            let found = read.err().map(|error| match error {
                AttributesError::Label(attribute, _) => attribute,
                other => other.to_string(),
            });
            assert_eq!(found.as_deref(), faulty, "{list}");
            // Spans have no labels.
            assert!(HeaderAttributes::parse(None, Some(list), None, None).is_ok());
        };
        check("a:team.id,b:user.id", None);
        check("a:gen_ai.request.model", Some("gen_ai.request.model"));
        check("a:le", Some("le"));
        check("a:route", Some("route"));
        check("a:1st", Some("1st"));
        check("a:__name__", Some("__name__"));
        check("a:team.id,b:team-id", Some("team-id"));
        check("a:team.id,b:team.id", None);
    }

    #[test]
    fn what_records_have_already_is_named() {
        let check = |logs: &str, faulty: Option<&str>| {
            let read = HeaderAttributes::parse(None, None, None, Some(logs));
            let expected = faulty.map(|name| AttributesError::Member(name.to_owned()));
            assert_eq!(read.err(), expected, "{logs}");
        };
        check("a:team.id,b:session.id", None);
        check("a:response_code", Some("response_code"));
        check("a:team,b:mcp.tool.name", Some("mcp.tool.name"));
        assert!(HeaderAttributes::parse(Some("a:outcome"), None, None, None).is_err());
        assert!(HeaderAttributes::parse(Some("a:team"), Some("a:attempts"), None, None).is_ok());
    }

    #[test]
    fn of_several_headers_with_one_name_the_last_counts() {
        let list = Some("x-old:team,x-new:team,x-user:user");
        let attributes = HeaderAttributes::parse(list, None, None, None).expect("a list");
        let check = |names: &[&'static str], expected: &[(&str, &str)]| {
            let mut headers = HeaderMap::new();
            for name in names {
                headers.insert(*name, HeaderValue::from_static(name));
            }
            let captured = attributes.capture(&headers);
            let found = attributes.of(Signal::Metrics, &captured);
            let found: Vec<_> = found
                .map(|(name, value)| (name.attribute.as_str(), value.to_str().expect("text")))
                .collect();
            assert_eq!(found, expected);
        };
        check(&["x-old"], &[("team", "x-old")]);
        check(
            &["x-old", "x-new", "x-user"],
            &[("team", "x-new"), ("user", "x-user")],
        );
    }

    #[test]
    fn a_copy_holds_on_to_nothing() {
        let head = bytes::Bytes::from(b"user-agent: curl/8".to_vec());
        let value = HeaderValue::from_maybe_shared(head.slice(12..)).unwrap();
        let copy = headers::value_apart(&value);
        drop(value);
        assert!(head.is_unique(), "the copy is a slice of the head");
        assert_eq!(copy, "curl/8");
    }
}
