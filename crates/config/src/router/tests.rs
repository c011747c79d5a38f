//! The inside of the router: precedence, indexing and the work that a request costs.

use http::HeaderMap;

use super::*;
use crate::{kind::ai_gateway_route::HeaderMatchKind, snapshot::Timeouts};

fn entry(route: &str, index: usize, hosts: &[&str], matches: &[&[(&str, &str)]]) -> Entry {
    let test = |(name, value): &(&str, &str)| {
        let (kind, value) = match value.strip_prefix('~') {
            Some(expression) => (HeaderMatchKind::RegularExpression, expression),
            None => (HeaderMatchKind::Exact, *value),
        };
        HeaderTest::new(name, value, kind).expect("a well-formed match")
    };
    let hosts = hosts.iter().map(|host| match *host {
        "*" => Host::Any,
        host => Host::parse(host).expect("a host name"),
    });
    Entry {
        rule: Arc::new(Rule {
            route: Arc::from(route),
            index,
            name: None,
            candidates: Arc::default(),
            timeouts: Timeouts::default(),
            policies: None,
            plain: None,
            traffic: None,
            costs: None,
            prices: None,
            words: None,
            limits: None,
            annotations: None,
        }),
        listener: Host::Any,
        hosts: hosts.collect(),
        created: None,
        matches: matches
            .iter()
            .map(|tests| Arc::new(tests.iter().map(test).collect::<Vec<_>>().into()))
            .collect(),
        owned_by: Arc::from(route),
        models_created: 7,
    }
}

fn made(entry: Entry, time: &str) -> Entry {
    Entry {
        created: Some(Time(time.parse().expect("a time"))),
        ..entry
    }
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, http::HeaderValue::from_static(value));
    }
    headers
}

/// Checks who serves a request, and that the explanation agrees.
#[track_caller]
fn check(
    router: &Router,
    host: &str,
    pairs: &[(&'static str, &'static str)],
    model: &str,
    expected: Option<&str>,
) {
    let headers = headers(pairs);
    let id = |rule: &Arc<Rule>| rule.id();
    let asked = Asked {
        host,
        method: &http::Method::POST,
        path: "/v1/chat/completions",
        query: "",
        headers: &headers,
        model,
    };
    let found = router.route(&asked).map(id);
    assert_eq!(found.as_deref(), expected);
    let explanation = router.explain(&asked, true);
    assert_eq!(explanation.chosen.as_ref().map(id), found);
    let chosen = explanation
        .considered
        .iter()
        .filter(|row| row.verdict == Verdict::Chosen);
    assert_eq!(chosen.count(), usize::from(expected.is_some()));
    assert_eq!(explanation.considered.len(), router.rows().count());
}

const M: &str = MODEL_HEADER;

#[test]
fn more_matches_win_over_age_name_and_order() {
    let router = Router::new(vec![
        entry("n/a", 0, &["*"], &[&[(M, "m")]]),
        entry("n/a", 1, &["*"], &[&[(M, "m"), ("x-tenant", "t")]]),
        entry("n/a", 2, &["*"], &[]),
        made(entry("n/z", 0, &["*"], &[&[(M, "old")]]), "2024-01-01T00:00:00Z"),
        made(entry("n/b", 0, &["*"], &[&[(M, "old")]]), "2025-01-01T00:00:00Z"),
        entry("n/a", 3, &["*"], &[&[(M, "old")]]),
        entry("n/d", 0, &["*"], &[&[(M, "name")]]),
        entry("n/c", 1, &["*"], &[&[(M, "name")]]),
        entry("n/c", 0, &["*"], &[&[(M, "name")]]),
    ]);
    check(&router, "h", &[], "m", Some("n/a/rule/0"));
    check(&router, "h", &[("x-tenant", "t")], "m", Some("n/a/rule/1"));
    check(&router, "h", &[("x-tenant", "u")], "m", Some("n/a/rule/0"));
    check(&router, "h", &[], "other", Some("n/a/rule/2"));
    check(&router, "h", &[], "old", Some("n/z/rule/0"));
    check(&router, "h", &[], "name", Some("n/c/rule/0"));
}

#[test]
fn an_expression_wins_over_a_name_by_age_alone() {
    let old = made(
        entry("n/regex", 0, &["*"], &[&[(M, "~gpt-.*")]]),
        "2024-01-01T00:00:00Z",
    );
    let new = made(
        entry("n/exact", 0, &["*"], &[&[(M, "gpt-4")]]),
        "2025-01-01T00:00:00Z",
    );
    check(
        &Router::new(vec![new, old]),
        "h",
        &[],
        "gpt-4",
        Some("n/regex/rule/0"),
    );
}

#[test]
fn the_most_specific_host_wins() {
    let router = Router::new(vec![
        entry(
            "n/any",
            0,
            &["*"],
            &[&[(M, "m")], &[(M, "only-any"), ("x-a", "1")]],
        ),
        entry("n/wild", 0, &["*.example.com"], &[&[(M, "m")]]),
        entry("n/long", 0, &["*.b.example.com"], &[&[(M, "m")]]),
        entry("n/exact", 0, &["a.example.com"], &[&[(M, "m")]]),
    ]);
    check(&router, "a.example.com", &[], "m", Some("n/exact/rule/0"));
    check(&router, "c.example.com", &[], "m", Some("n/wild/rule/0"));
    check(&router, "x.y.example.com", &[], "m", Some("n/wild/rule/0"));
    check(&router, "x.b.example.com", &[], "m", Some("n/long/rule/0"));
    check(&router, "b.example.com", &[], "m", Some("n/wild/rule/0"));
    check(&router, "example.com", &[], "m", Some("n/any/rule/0"));
    check(&router, ".example.com", &[], "m", Some("n/any/rule/0"));
    check(&router, "", &[], "m", Some("n/any/rule/0"));
    check(
        &router,
        "a.example.com",
        &[("x-a", "1")],
        "only-any",
        Some("n/any/rule/0"),
    );
    check(&router, "a.example.com", &[], "only-any", None);
}

#[test]
fn headers_match_whole_and_joined() {
    let router = Router::new(vec![
        entry("n/list", 0, &["*"], &[&[("x-list", "a,b")]]),
        entry("n/regex", 0, &["*"], &[&[("X-Regex", "~a|bc")]]),
        entry("n/empty", 0, &["*"], &[&[("x-empty", "~.*")]]),
    ]);
    check(
        &router,
        "h",
        &[("x-list", "a"), ("x-list", "b")],
        "m",
        Some("n/list/rule/0"),
    );
    check(&router, "h", &[("x-list", "a")], "m", None);
    check(&router, "h", &[("x-regex", "bc")], "m", Some("n/regex/rule/0"));
    check(&router, "h", &[("x-regex", "abc")], "m", None);
    check(&router, "h", &[("x-empty", "")], "m", Some("n/empty/rule/0"));
    check(&router, "h", &[], "m", None);
}

#[test]
fn the_model_never_comes_from_a_header() {
    let router = Router::new(vec![entry("n/a", 0, &["*"], &[&[(M, "m")]])]);
    check(&router, "h", &[(M, "m")], "other", None);
    check(&router, "h", &[(M, "m")], "", None);
    let any = Router::new(vec![entry("n/a", 0, &["*"], &[&[(M, "~.*")]])]);
    check(&any, "h", &[], "", None);
}

#[test]
fn models_of_a_host_each_once() {
    let router = Router::new(vec![
        entry(
            "n/any",
            0,
            &["*"],
            &[&[("X-AI-EG-Model", "b")], &[(M, "a")], &[(M, "~c.*")]],
        ),
        entry(
            "n/one",
            0,
            &["one.example.com"],
            &[&[(M, "z"), ("x-tenant", "t")], &[(M, "a")]],
        ),
        entry("n/wild", 0, &["*.example.com"], &[&[(M, "w")]]),
        entry("n/again", 0, &["*"], &[&[(M, "a")]]),
    ]);
    let models = |host: &str| -> Vec<(String, String)> {
        let models = router.models(host).into_iter();
        models
            .map(|model| (model.id.to_string(), model.owned_by.to_string()))
            .collect()
    };
    let listed = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        let pairs = pairs.iter();
        pairs
            .map(|(id, owner)| ((*id).to_owned(), (*owner).to_owned()))
            .collect()
    };
    assert_eq!(models("h"), listed(&[("b", "n/any"), ("a", "n/any")]));
    let one = listed(&[("z", "n/one"), ("a", "n/one"), ("w", "n/wild"), ("b", "n/any")]);
    assert_eq!(models("one.example.com"), one);
    assert_eq!(
        models("x.y.example.com"),
        listed(&[("w", "n/wild"), ("b", "n/any"), ("a", "n/any")])
    );
}

#[test]
fn nearest_names() {
    let names = ["gpt-4o", "gpt-4o-mini", "claude-sonnet", "GPT-5"];
    let matches: Vec<[(&str, &str); 1]> = names.iter().map(|name| [(M, *name)]).collect();
    let matches: Vec<&[(&str, &str)]> = matches.iter().map(|tests| &tests[..]).collect();
    let router = Router::new(vec![entry("n/a", 0, &["*"], &matches)]);
    assert_eq!(router.nearest("h", "gpt4o", 1), ["gpt-4o"]);
    assert_eq!(router.nearest("h", "gpt-5", 3), ["GPT-5", "gpt-4o"]);
    assert_eq!(router.nearest("h", "claude-sonet", 3), ["claude-sonnet"]);
    assert_eq!(router.nearest("h", "mistral-large-latest", 3), [""; 0]);
    assert_eq!(router.nearest("h", &"g".repeat(1_000_000), 3), [""; 0]);
}

#[test]
fn secrets_are_not_shown() {
    let router = Router::new(vec![entry(
        "n/a",
        0,
        &["*"],
        &[&[("Authorization", "Bearer sk-1")]],
    )]);
    let asked = Asked {
        host: "h",
        method: &http::Method::POST,
        path: "/",
        query: "",
        headers: &headers(&[("authorization", "Bearer sk-2")]),
        model: "m",
    };
    let explanation = router.explain(&asked, true);
    let shown = format!("{router:?} {explanation:?}");
    assert!(!shown.contains("sk-"), "{shown}");
}

/// The number of rules that a request is held against does not grow with the number of models.
#[test]
fn work_is_the_same_with_ten_thousand_models() {
    let examined = |models: usize| {
        let mut entries: Vec<Entry> = (0..models)
            .map(|at| entry("n/a", at, &["*"], &[&[(M, &format!("model-{at}"))]]))
            .collect();
        entries.push(entry("n/regex", 0, &["*"], &[&[(M, "~other-.*")]]));
        entries.push(entry("n/two", 0, &["*"], &[&[(M, "model-5"), ("x-a", "1")]]));
        let router = Router::new(entries);
        check(&router, "h", &[], "model-5", Some("n/a/rule/5"));
        check(&router, "h", &[("x-a", "1")], "model-5", Some("n/two/rule/0"));
        check(&router, "h", &[], "other-1", Some("n/regex/rule/0"));
        check(&router, "h", &[], "unknown", None);
        let work = |model| {
            router
                .groups("h")
                .map(|group| group.candidates(model).count())
                .sum::<usize>()
        };
        (work("model-5"), work("unknown"))
    };
    assert_eq!(examined(10), (3, 1));
    assert_eq!(examined(10_000), (3, 1));
}

#[test]
fn a_request_belongs_to_the_listener_with_the_most_specific_host() {
    let at = |listener: &str, hosts: &[&str], route: &str| Entry {
        listener: Host::parse(listener).unwrap_or(Host::Any),
        ..entry(route, 0, hosts, &[])
    };
    let mut router = Router::new(vec![
        at("", &["*"], "n/any"),
        at("*.example.com", &["*.example.com"], "n/suffix"),
        at("*.example.com", &["a.example.com"], "n/own"),
    ]);
    router.listen(&Host::Exact("empty.example.com".to_owned()));
    for (host, expected) in [
        ("a.example.com", Some("n/own/rule/0")),
        ("b.example.com", Some("n/suffix/rule/0")),
        ("a.b.example.com", Some("n/suffix/rule/0")),
        ("example.com", Some("n/any/rule/0")),
        ("empty.example.com", None),
    ] {
        check(&router, host, &[], "m", expected);
    }
    assert_eq!(
        router.listener("x.example.com"),
        Some(&Host::Suffix(".example.com".to_owned()))
    );
    assert_eq!(Router::default().listener("x"), None);
}
