//! Whose requests a limit counts, and which of them together.
//!
//! What a selector finds becomes part of the counter's key, in the words of the compatibility specification
//! ("Descriptor construction"), so that counters that are there already go on.

use std::{borrow::Cow, fmt::Write as _, net::IpAddr};

use aws_lc_rs::digest::{SHA256, digest};
use http::{HeaderMap, HeaderName, Method};
use percent_encoding::percent_decode_str;
use regex::Regex;

use super::spec::{
    ClientSelector, HeaderMatch, HeaderMatchType, MethodMatch, PathMatch, PathMatchType, SourceMatch,
    SourceMatchType,
};
use crate::{Metadata, address::Cidr};

/// The header in which rules find the model that the request names.
const MODEL: &str = "x-ai-eg-model";

/// The longest value that is part of a key as it is.
const MAX_VALUE: usize = 256;

/// Headers that hold secrets of clients, whose values are no part of a key: keys are shown, and read by others.
const SECRET_HEADERS: &[&str] = &[
    "authorization",
    "proxy-authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "cookie",
];

/// Parameters that hold them.
const SECRET_PARAMS: &[&str] = &["key", "api_key", "api-key", "access_token"];

/// What is known of a request.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// The model that it names.
    pub model: &'a str,
    /// Its method.
    pub method: &'a Method,
    /// Its path, as routes match it: however a client writes it, it is one path.
    pub path: &'a str,
    /// Its query, without the question mark.
    pub query: &'a str,
    /// Where it comes from.
    pub address: Option<IpAddr>,
    /// What others say of it, by namespace and key.
    pub metadata: &'a Metadata,
}

/// Conditions, all of which must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selectors {
    conditions: Vec<Condition>,
    /// What stands in the key where there is no condition.
    none: String,
}

/// One condition.
#[derive(Clone, Debug, PartialEq)]
struct Condition {
    test: Test,
    invert: bool,
    /// The name of its entry in the key.
    entry: String,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    Header(HeaderName, Wanted),
    Param(String, Wanted),
    Method(Vec<(Method, bool)>),
    Path(PathTest),
    Source(Cidr, SourceMatchType),
}

#[derive(Clone, Debug, PartialEq)]
enum Wanted {
    Exact(String),
    Matching(Pattern),
    Distinct,
}

#[derive(Clone, Debug, PartialEq)]
enum PathTest {
    Exact(String),
    Prefix(String),
    Matching(Pattern),
}

/// An expression; two are equal that are written alike.
#[derive(Clone, Debug)]
struct Pattern(Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Selectors {
    /// Reads the selectors of the rule at `index`.
    ///
    /// # Errors
    /// What is wrong, with the field that it is about.
    pub fn parse(index: usize, written: &[ClientSelector]) -> Result<Self, (String, String)> {
        let mut conditions = Vec::new();
        let mut place = 0;
        for (at, selector) in written.iter().enumerate() {
            let field = |name: &str| format!("clientSelectors[{at}].{name}");
            for (nth, header) in selector.headers.iter().enumerate() {
                let test = header_test(header).map_err(|error| (field(&format!("headers[{nth}]")), error))?;
                conditions.push(Condition {
                    test,
                    invert: header.invert.unwrap_or(false),
                    entry: format!("rule-{index}-match-{place}"),
                });
                place += 1;
            }
            for (nth, param) in selector.query_params.iter().enumerate() {
                let wanted = wanted(param).map_err(|error| (field(&format!("queryParams[{nth}]")), error))?;
                conditions.push(Condition {
                    test: Test::Param(param.name.clone(), wanted),
                    invert: param.invert.unwrap_or(false),
                    entry: format!("rule-{index}-match-{place}"),
                });
                place += 1;
            }
            if !selector.methods.is_empty() {
                let methods = selector.methods.iter().map(method);
                let methods: Result<_, _> = methods.collect();
                conditions.push(Condition {
                    test: Test::Method(methods.map_err(|error| (field("methods"), error))?),
                    invert: false,
                    entry: format!("rule-{index}-method-{at}"),
                });
            }
            if let Some(path) = &selector.path {
                conditions.push(Condition {
                    test: Test::Path(path_test(path).map_err(|error| (field("path"), error))?),
                    invert: path.invert.unwrap_or(false),
                    entry: format!("rule-{index}-path-{at}"),
                });
            }
            if let Some(source) = &selector.source_cidr {
                conditions.push(source_test(source).map_err(|error| (field("sourceCIDR"), error))?);
            }
        }
        if conditions.is_empty()
            && written
                .iter()
                .any(|selector| *selector == ClientSelector::default())
        {
            return Err((
                "clientSelectors".to_owned(),
                "a selector must select by something".to_owned(),
            ));
        }
        let mut none = String::new();
        let entry = format!("rule-{index}-match--1");
        push(&mut none, &entry, &entry);
        Ok(Self { conditions, none })
    }

    /// Returns no conditions; `entry` stands in the key, unless it is empty.
    pub fn none(entry: &str) -> Self {
        let mut none = String::new();
        if !entry.is_empty() {
            push(&mut none, entry, entry);
        }
        Self {
            conditions: Vec::new(),
            none,
        }
    }

    /// Returns whether there is no condition.
    pub fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }

    /// Adds the entries under which `subject` is counted to `key`; `None` if it is not.
    pub fn select(&self, subject: &Subject<'_>, key: &mut String) -> Option<()> {
        if self.conditions.is_empty() {
            key.push_str(&self.none);
        }
        let mut conditions = self.conditions.iter();
        conditions.try_for_each(|condition| condition.select(subject, key))
    }

    /// Gives the entries other names: `name` is told a header, its value unless each is counted by itself, and
    /// its place.
    pub fn rename(&mut self, name: impl Fn(&str, Option<&str>, usize) -> String) {
        for (place, condition) in self.conditions.iter_mut().enumerate() {
            if let Test::Header(header, wanted) = &condition.test {
                let value = match wanted {
                    Wanted::Exact(value) => Some(value.as_str()),
                    Wanted::Matching(regex) => Some(regex.0.as_str()),
                    Wanted::Distinct => None,
                };
                condition.entry = name(header.as_str(), value, place);
            }
        }
    }
}

impl Condition {
    /// Adds what was found to `key`; `None` if the condition does not hold.
    fn select(&self, subject: &Subject<'_>, key: &mut String) -> Option<()> {
        let holds = |held: bool| (held != self.invert).then_some(());
        match &self.test {
            Test::Header(name, wanted) => {
                let value = header(subject, name);
                let secret = SECRET_HEADERS.contains(&name.as_str());
                self.value(wanted, value.as_deref(), secret, key)
            }
            Test::Param(name, wanted) => {
                let value = param(subject.query, name);
                let secret = SECRET_PARAMS.contains(&name.as_str());
                self.value(wanted, value.as_deref(), secret, key)
            }
            Test::Method(methods) => {
                let mut methods = methods.iter();
                holds(methods.any(|(method, invert)| (subject.method == method) != *invert))?;
                push(key, &self.entry, &self.entry);
                Some(())
            }
            Test::Path(test) => {
                holds(test.holds(subject.path))?;
                push(key, &self.entry, &self.entry);
                Some(())
            }
            Test::Source(block, kind) => {
                let address = subject.address?;
                holds(block.contains(address))?;
                let inverted = if self.invert { "invert:" } else { "" };
                push(key, "masked_remote_address", &format!("{inverted}{block}"));
                match kind {
                    SourceMatchType::Exact => {}
                    SourceMatchType::Distinct => push(key, "remote_address", &address.to_string()),
                }
                Some(())
            }
        }
    }

    fn value(&self, wanted: &Wanted, value: Option<&str>, secret: bool, key: &mut String) -> Option<()> {
        let held = match (wanted, value) {
            (Wanted::Distinct, Some(value)) if secret => {
                push(key, &self.entry, &digested("", value));
                return Some(());
            }
            (Wanted::Distinct, Some(value)) => {
                push(key, &self.entry, &shortened(value));
                return Some(());
            }
            (Wanted::Distinct, None) => return None,
            (Wanted::Exact(wanted), value) => value == Some(wanted),
            (Wanted::Matching(regex), value) => value.is_some_and(|value| regex.0.is_match(value)),
        };
        (held != self.invert).then(|| push(key, &self.entry, &self.entry))
    }
}

impl PathTest {
    fn holds(&self, path: &str) -> bool {
        match self {
            PathTest::Exact(wanted) => path == wanted,
            PathTest::Prefix(wanted) => {
                let rest = path.strip_prefix(wanted.trim_end_matches('/'));
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            PathTest::Matching(regex) => regex.0.is_match(path),
        }
    }
}

/// Adds an entry to a key.
fn push(key: &mut String, entry: &str, value: &str) {
    // Writing to a string cannot fail.
    let _ = write!(key, "{entry}_{value}_");
}

/// Returns a value as part of a key: a client chooses how long it is.
fn shortened(value: &str) -> String {
    if value.len() <= MAX_VALUE {
        return value.to_owned();
    }
    let end = value.floor_char_boundary(MAX_VALUE / 2);
    digested(value.get(..end).unwrap_or_default(), value)
}

/// Returns what stands for a value, after `begin`: the same in every gateway that shares its counters, whatever its
/// version.
fn digested(begin: &str, value: &str) -> String {
    let mut text = format!("{begin}~");
    for byte in digest(&SHA256, value.as_bytes()).as_ref().iter().take(DIGEST) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// So many bytes of a digest tell values apart.
const DIGEST: usize = 16;

fn header(subject: &Subject<'_>, name: &HeaderName) -> Option<String> {
    if name == MODEL {
        return Some(subject.model.to_owned()).filter(|model| !model.is_empty());
    }
    let mut values = subject.headers.get_all(name).iter();
    let mut joined = String::from_utf8_lossy(values.next()?.as_bytes()).into_owned();
    for value in values {
        joined.push(',');
        joined.push_str(&String::from_utf8_lossy(value.as_bytes()));
    }
    Some(joined)
}

/// Returns the first value of a parameter, percent-decoded as routes read it.
fn param<'q>(query: &'q str, name: &str) -> Option<Cow<'q, str>> {
    let decode = |text| percent_decode_str(text).decode_utf8_lossy();
    let mut pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.find_map(|pair| {
        let (found, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(found) == name).then(|| decode(value))
    })
}

fn header_test(written: &HeaderMatch) -> Result<Test, String> {
    let name = HeaderName::from_bytes(written.name.as_bytes());
    let name = name.map_err(|_| format!("\"{}\" is not a header name", written.name))?;
    Ok(Test::Header(name, wanted(written)?))
}

fn wanted(written: &HeaderMatch) -> Result<Wanted, String> {
    let value = || {
        let value = written.value.clone();
        value.ok_or_else(|| "a value is required".to_owned())
    };
    match written.kind.unwrap_or(HeaderMatchType::Exact) {
        HeaderMatchType::Exact => value().map(Wanted::Exact),
        HeaderMatchType::RegularExpression => regex(&value()?).map(Wanted::Matching),
        HeaderMatchType::Distinct if written.value.is_some() || written.invert == Some(true) => {
            Err("each value is counted by itself, so that none can be given or excluded".to_owned())
        }
        HeaderMatchType::Distinct => Ok(Wanted::Distinct),
    }
}

fn method(written: &MethodMatch) -> Result<(Method, bool), String> {
    let method = Method::from_bytes(written.value.as_bytes());
    let method = method.map_err(|_| format!("\"{}\" is not a method", written.value))?;
    Ok((method, written.invert.unwrap_or(false)))
}

fn path_test(written: &PathMatch) -> Result<PathTest, String> {
    let value = written.value.clone();
    Ok(match written.kind.unwrap_or(PathMatchType::PathPrefix) {
        PathMatchType::Exact => PathTest::Exact(value),
        PathMatchType::PathPrefix => PathTest::Prefix(value),
        PathMatchType::RegularExpression => PathTest::Matching(regex(&value)?),
    })
}

fn source_test(written: &SourceMatch) -> Result<Condition, String> {
    let block = Cidr::parse(&written.value);
    let block = block.ok_or_else(|| format!("\"{}\" is not a block of addresses", written.value))?;
    let kind = written.kind.unwrap_or(SourceMatchType::Exact);
    Ok(Condition {
        test: Test::Source(block, kind),
        invert: written.invert.unwrap_or(false),
        entry: String::new(),
    })
}

/// Returns the expression, which must match the whole of a value.
fn regex(written: &str) -> Result<Pattern, String> {
    let anchored = format!("^(?:{written})$");
    let compiled = Regex::new(&anchored).map(Pattern);
    compiled.map_err(|_| format!("\"{written}\" is not a regular expression"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn selectors(written: Value) -> Result<Selectors, (String, String)> {
        let written: Vec<ClientSelector> = serde_json::from_value(written).expect("selectors");
        Selectors::parse(2, &written)
    }

    #[track_caller]
    fn check(written: Value, expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        headers.insert("x-user-id", "alice".parse().expect("a value"));
        headers.insert("x-plan", "gold".parse().expect("a value"));
        let subject = Subject {
            headers: &headers,
            model: "gpt-4o",
            method: &Method::POST,
            path: "/v1/chat/completions",
            query: "x&%74ier=a%20b&tier=c",
            address: Some(IpAddr::from([10, 1, 2, 3])),
            metadata: &Metadata::new(),
        };
        let selectors = selectors(written.clone()).expect("well-formed");
        let mut key = String::new();
        let selected = selectors.select(&subject, &mut key);
        assert_eq!(selected.map(|()| key.as_str()), expected, "{written}");
    }

    #[test]
    fn keys() {
        check(json!([]), Some("rule-2-match--1_rule-2-match--1_"));
        check(
            json!([{ "headers": [{ "name": "X-User-Id", "type": "Distinct" }] }]),
            Some("rule-2-match-0_alice_"),
        );
        check(
            json!([
                { "headers": [{ "name": "x-user-id", "type": "Distinct" }] },
                { "headers": [{ "name": "x-ai-eg-model", "value": "gpt-4o" }] },
            ]),
            Some("rule-2-match-0_alice_rule-2-match-1_rule-2-match-1_"),
        );
        check(
            json!([{ "headers": [{ "name": "x-absent", "type": "Distinct" }] }]),
            None,
        );
        check(
            json!([{ "headers": [{ "name": "x-plan", "value": "free" }] }]),
            None,
        );
        check(
            json!([{ "headers": [{ "name": "x-plan", "value": "free", "invert": true }] }]),
            Some("rule-2-match-0_rule-2-match-0_"),
        );
        check(
            json!([{ "headers": [{ "name": "x-plan", "type": "RegularExpression", "value": "g.*" }] }]),
            Some("rule-2-match-0_rule-2-match-0_"),
        );
        check(
            json!([{ "headers": [{ "name": "x-plan", "type": "RegularExpression", "value": "g" }] }]),
            None,
        );
        check(
            json!([{ "sourceCIDR": { "value": "10.0.0.0/8" } }]),
            Some("masked_remote_address_10.0.0.0/8_"),
        );
        check(
            json!([{ "sourceCIDR": { "value": "10.0.0.0/8", "type": "Distinct" } }]),
            Some("masked_remote_address_10.0.0.0/8_remote_address_10.1.2.3_"),
        );
        check(
            json!([{ "sourceCIDR": { "value": "10.0.0.0/8", "invert": true } }]),
            None,
        );
        check(
            json!([{ "methods": [{ "value": "GET" }, { "value": "POST" }], "path": { "value": "/v1" } }]),
            Some("rule-2-method-0_rule-2-method-0_rule-2-path-0_rule-2-path-0_"),
        );
        check(
            json!([{ "sourceCIDR": { "value": "192.168.0.0/16", "invert": true } }]),
            Some("masked_remote_address_invert:192.168.0.0/16_"),
        );
        check(
            json!([{ "sourceCIDR": { "value": "192.168.0.0/16", "type": "Distinct", "invert": true } }]),
            Some("masked_remote_address_invert:192.168.0.0/16_remote_address_10.1.2.3_"),
        );
        check(
            json!([{ "headers": [{ "name": "x-plan", "type": "RegularExpression", "value": "g.*", "invert": true }] }]),
            None,
        );
        check(
            json!([{ "headers": [{ "name": "x-absent", "value": "free", "invert": true }] }]),
            Some("rule-2-match-0_rule-2-match-0_"),
        );
        check(
            json!([{ "methods": [{ "value": "POST", "invert": true }] }]),
            None,
        );
        check(
            json!([{ "methods": [{ "value": "GET", "invert": true }] }]),
            Some("rule-2-method-0_rule-2-method-0_"),
        );
        for (kind, value, invert, holds) in [
            ("Exact", "/v1/chat/completions", false, true),
            ("Exact", "/v1", false, false),
            ("Exact", "/v1", true, true),
            ("RegularExpression", "/v1/.*", false, true),
            ("RegularExpression", "/v1", false, false),
            ("PathPrefix", "/v1/chat", true, false),
        ] {
            let path = json!({ "type": kind, "value": value, "invert": invert });
            let found = holds.then_some("rule-2-path-0_rule-2-path-0_");
            check(json!([{ "path": path }]), found);
        }
        check(json!([{ "path": { "value": "/v" } }]), None);
        check(
            json!([{ "queryParams": [{ "name": "tier", "type": "Distinct" }] }]),
            Some("rule-2-match-0_a b_"),
        );
        check(
            json!([
                { "headers": [{ "name": "x-plan", "type": "Distinct" }] },
                { "queryParams": [{ "name": "tier", "type": "RegularExpression", "value": "a b|b" }] },
            ]),
            Some("rule-2-match-0_gold_rule-2-match-1_rule-2-match-1_"),
        );
        check(
            json!([{ "queryParams": [{ "name": "tier", "value": "b" }] }]),
            None,
        );
        check(
            json!([{ "queryParams": [{ "name": "tier", "value": "a b" }] }]),
            Some("rule-2-match-0_rule-2-match-0_"),
        );
    }

    #[test]
    fn malformed() {
        for written in [
            json!([{}]),
            json!([{ "headers": [{ "name": "a b", "value": "1" }] }]),
            json!([{ "headers": [{ "name": "a" }] }]),
            json!([{ "headers": [{ "name": "a", "type": "Distinct", "invert": true }] }]),
            json!([{ "headers": [{ "name": "a", "type": "RegularExpression", "value": "(" }] }]),
            json!([{ "sourceCIDR": { "value": "10.0.0.0/40" } }]),
        ] {
            assert!(selectors(written.clone()).is_err(), "{written}");
        }
    }

    #[test]
    fn long_values_are_shortened() {
        let long = "ü".repeat(4000);
        let short = shortened(&long);
        assert!(short.len() < MAX_VALUE, "{}", short.len());
        assert_ne!(short, shortened(&format!("{long}x")));
        // Gateways of all versions find the same counter.
        let end = short.rsplit_once('~').map(|(_, end)| end);
        assert_eq!(end, Some("32a68de04e8003da4b7108452356afde"));
    }

    /// What a client proves itself with is told apart, and shown nowhere.
    #[test]
    fn secrets_are_no_part_of_keys() {
        let key = |written: Value, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("authorization", value.parse().expect("a value"));
            let query = format!("key={value}");
            let subject = Subject {
                headers: &headers,
                model: "",
                method: &Method::POST,
                path: "/v1/models",
                query: &query,
                address: None,
                metadata: &Metadata::new(),
            };
            let mut key = String::new();
            let found = selectors(written)
                .expect("well-formed")
                .select(&subject, &mut key);
            found.map(|()| key)
        };
        for written in [
            json!([{ "headers": [{ "name": "Authorization", "type": "Distinct" }] }]),
            json!([{ "queryParams": [{ "name": "key", "type": "Distinct" }] }]),
        ] {
            let one = key(written.clone(), "sk-1").expect("a key");
            assert!(!one.contains("sk-1"), "{one}");
            assert_eq!(Some(&one), key(written.clone(), "sk-1").as_ref());
            assert_ne!(Some(&one), key(written, "sk-2").as_ref());
        }
        // A request that names no model has none.
        let model = json!([{ "headers": [{ "name": "x-ai-eg-model", "type": "Distinct" }] }]);
        assert_eq!(key(model, "sk-1"), None);
    }
}
