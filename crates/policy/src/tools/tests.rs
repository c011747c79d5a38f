//! What rules decide about calls and lists.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value, json};

use super::*;
use crate::claims::ClaimTest;

fn caller(claims: &Value) -> Caller {
    let claims = claims.as_object().cloned();
    Caller {
        claims: claims
            .into_iter()
            .map(|claims| ("idp".into(), Claims::new(claims)))
            .collect(),
        ..Caller::default()
    }
}

fn alice() -> Caller {
    caller(&json!({"sub": "alice", "scope": "read list", "org": {"id": "o1"}, "level": 3}))
}

fn request(caller: &Caller) -> Request {
    let mut headers = HeaderMap::new();
    headers.append("x-team", HeaderValue::from_static("red"));
    headers.append("x-team", HeaderValue::from_static("blue"));
    let more = [(
        HeaderName::from_static("x-ai-eg-mcp-backend-subset"),
        "alpha,beta".to_owned(),
    )];
    Request::new(&Method::POST, "h.example", "/mcp", &headers, &more, caller)
}

fn any(action: Action) -> Rule {
    Rule {
        action,
        token: None,
        targets: None,
        condition: None,
    }
}

fn scopes(action: Action, scopes: &[&str], claims: &[(&str, &str)]) -> Rule {
    let claims = claims.iter().map(|(name, value)| ClaimTest {
        name: (*name).to_owned(),
        list: false,
        values: vec![(*value).to_owned()],
    });
    Rule {
        token: Some(Token {
            provider: Some("idp".to_owned()),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            claims: claims.collect(),
        }),
        ..any(action)
    }
}

fn tool(action: Action, name: &str) -> Rule {
    let named = Named {
        backend: "alpha".to_owned(),
        pattern: Pattern::Exactly(name.to_owned()),
    };
    Rule {
        targets: Some(Targets {
            tools: vec![named],
            ..Targets::default()
        }),
        ..any(action)
    }
}

fn when(action: Action, source: &str) -> Rule {
    Rule {
        condition: Some(Expression::parse(source).expect("an expression")),
        ..any(action)
    }
}

fn rules(rules: Vec<Rule>, otherwise: Action) -> Rules {
    Rules {
        rules,
        otherwise,
        strict: false,
        tells_held: false,
    }
}

/// Asks for something of `alpha`.
#[track_caller]
fn ask(rules: &Rules, caller: &Caller, what: What<'_>, params: Option<&Value>) -> Verdict {
    let request = request(caller);
    rules.decide(&Asked {
        caller,
        request: &request,
        method: match what {
            What::Tool(_) => "tools/call",
            What::Prompt(_) => "prompts/get",
            What::Resource(_) => "resources/read",
            What::Server => "initialize",
        },
        backend: "alpha",
        what,
        params,
    })
}

fn denied(scopes: &[&str]) -> Verdict {
    Verdict::Denied(scopes.iter().map(|scope| (*scope).to_owned()).collect())
}

#[test]
fn the_first_rule_that_matches_decides() {
    use Action::{Allow, Deny};
    let check = |list: Vec<Rule>, otherwise: Action, expected: Verdict| {
        let own = rules(list, otherwise);
        assert_eq!(
            ask(&own, &alice(), What::Tool("sum"), Some(&json!({}))),
            expected,
            "{own:?}"
        );
    };
    let allowed = Verdict::Allowed;
    check(vec![], Deny, denied(&[]));
    check(vec![], Allow, allowed.clone());
    check(vec![any(Deny), any(Allow)], Allow, denied(&[]));
    check(vec![tool(Allow, "sum")], Deny, allowed.clone());
    check(vec![tool(Allow, "other")], Deny, denied(&[]));
    check(vec![tool(Deny, "sum"), any(Allow)], Deny, denied(&[]));
    check(vec![scopes(Allow, &["read"], &[])], Deny, allowed.clone());
    check(
        vec![scopes(Allow, &["read"], &[("org.id", "o1")])],
        Deny,
        allowed.clone(),
    );
    check(
        vec![scopes(Allow, &["read"], &[("org.id", "o2")])],
        Deny,
        denied(&[]),
    );
    check(vec![scopes(Deny, &["read"], &[]), any(Allow)], Deny, denied(&[]));
    // The smallest set that would do is told, of rules that allow only.
    let wanting = vec![
        scopes(Allow, &["a", "b", "c"], &[]),
        scopes(Allow, &["read", "write"], &[]),
        scopes(Deny, &["z"], &[]),
        scopes(Allow, &["y"], &[("sub", "bob")]),
    ];
    check(wanting, Deny, denied(&["read", "write"]));
}

#[test]
fn expressions_see_the_request() {
    let check = |source: &str, expected: bool| {
        let own = rules(vec![when(Action::Allow, source)], Action::Deny);
        let params = json!({"name": "alpha__sum", "arguments": {"n": 7, "list": [1, 2], "f": 1.5}});
        let verdict = ask(&own, &alice(), What::Tool("sum"), Some(&params));
        assert_eq!(verdict == Verdict::Allowed, expected, "{source}");
    };
    check(
        "request.method == 'POST' && request.host == 'h.example' && request.path == '/mcp'",
        true,
    );
    check("request.headers['x-team'] == 'red'", true);
    check("request.headers_all['x-team'] == ['red', 'blue']", true);
    check(
        "request.headers['x-ai-eg-mcp-backend-subset'].contains('beta')",
        true,
    );
    check(
        "request.auth.jwt.claims.org.id == 'o1' && request.auth.jwt.claims.level >= 3",
        true,
    );
    check(
        "'read' in request.auth.jwt.scopes && !has(request.auth.jwt.claims.scope)",
        true,
    );
    check("request.auth.jwt.scopes == ['list', 'read']", true);
    check(
        "request.mcp.method == 'tools/call' && request.mcp.backend == 'alpha'",
        true,
    );
    check(
        "request.mcp.tool == 'sum' && request.mcp.params.name == 'alpha__sum'",
        true,
    );
    check(
        "request.mcp.params.arguments.n == 7 && request.mcp.params.arguments.f > 1.0",
        true,
    );
    check("request.mcp.params.arguments.list.exists(n, n == 2)", true);
    check("!request.mcp.listing", true);
    check("request.mcp.params.?nothing.orValue('a') == 'a'", true);
    check("request.headers['x-team'].matches('^r.d$')", true);
    // What fails or is no truth allows nothing.
    check("request.auth.jwt.claims.absent == 'x'", false);
    check("request.auth.jwt.claims.absent == 'x' || true", true);
    check("request.mcp.params.arguments.n / 0 == 1", false);
    check("'yes'", false);
    check("request.nothing.at.all", false);
}

#[test]
fn what_fails_denies() {
    let failing = "request.mcp.params.arguments.absent == 'prod'";
    let own = rules(
        vec![when(Action::Deny, failing), any(Action::Allow)],
        Action::Allow,
    );
    let verdict = ask(&own, &alice(), What::Tool("sum"), Some(&json!({"arguments": {}})));
    assert_eq!(verdict, denied(&[]));
    // Where arguments are not known yet, the tool is shown.
    assert_eq!(ask(&own, &alice(), What::Tool("sum"), None), Verdict::Allowed);
}

#[test]
fn what_depends_on_arguments_is_shown() {
    let check = |source: &str, action: Action, otherwise: Action, shown: bool| {
        let own = rules(vec![when(action, source)], otherwise);
        let verdict = ask(&own, &alice(), What::Tool("sum"), None);
        assert_eq!(verdict == Verdict::Allowed, shown, "{source}");
    };
    use Action::{Allow, Deny};
    check("request.mcp.params.arguments.n == 1", Allow, Deny, true);
    check("request.mcp.params.arguments.n == 1", Deny, Allow, true);
    check(
        "request.mcp.tool == 'other' && request.mcp.params.n == 1",
        Allow,
        Deny,
        false,
    );
    check(
        "request.mcp.tool == 'sum' && request.method == 'POST'",
        Allow,
        Deny,
        true,
    );
    check("request.auth.jwt.claims.absent == 1", Allow, Deny, false);
    check("request.auth.jwt.claims.absent == 1", Deny, Allow, false);
    check("request.mcp.listing", Allow, Deny, true);
}

#[test]
fn an_expression_cannot_be_made_to_run_for_long() {
    let source = "request.mcp.params.list.all(a, request.mcp.params.list.all(b, a <= 5000 && b <= 5000))";
    let own = rules(vec![when(Action::Allow, source)], Action::Deny);
    let check = |length: usize, expected: bool| {
        let params = json!({ "list": vec![1; length] });
        let verdict = ask(&own, &alice(), What::Tool("sum"), Some(&params));
        assert_eq!(verdict == Verdict::Allowed, expected, "{length}");
    };
    check(10, true);
    check(100_000, false);
    let mut deep = json!(1);
    for _ in 0..200 {
        deep = json!([deep]);
    }
    let own = rules(vec![when(Action::Allow, "true")], Action::Deny);
    assert_eq!(ask(&own, &alice(), What::Tool("sum"), Some(&deep)), denied(&[]));
}

#[test]
fn what_is_held_is_told_with_what_is_missing() {
    let check = |list: Vec<Rule>, expected: &[&str]| {
        let rules = Rules {
            tells_held: true,
            ..rules(list, Action::Deny)
        };
        let caller = alice();
        assert_eq!(ask(&rules, &caller, What::Tool("sum"), None), denied(expected));
    };
    check(
        vec![scopes(Action::Allow, &["read", "write"], &[])],
        &["read", "list", "write"],
    );
    check(vec![scopes(Action::Allow, &["z"], &[])], &["read", "list", "z"]);
    check(Vec::new(), &[]);
}

#[test]
fn rules_about_tools_leave_the_rest_open_unless_they_are_strict() {
    let check = |list: Vec<Rule>, strict: bool, expected: bool| {
        let own = Rules {
            strict,
            ..rules(list, Action::Deny)
        };
        for what in [What::Prompt("p"), What::Resource("file:///a")] {
            let verdict = ask(&own, &alice(), what, None);
            assert_eq!(verdict == Verdict::Allowed, expected, "{own:?} {what:?}");
        }
    };
    check(vec![tool(Action::Allow, "sum")], false, true);
    check(
        vec![when(Action::Allow, "request.mcp.tool == 'sum'")],
        false,
        true,
    );
    check(vec![tool(Action::Allow, "sum")], true, false);
    check(vec![], false, false);
    check(
        vec![tool(Action::Allow, "sum"), scopes(Action::Allow, &["none"], &[])],
        false,
        false,
    );
    check(vec![scopes(Action::Allow, &["read"], &[])], false, true);
}

#[test]
fn targets_are_found_by_server_and_name() {
    let named = |backend: &str, pattern: Pattern| Named {
        backend: backend.to_owned(),
        pattern,
    };
    let targets = Targets {
        tools: vec![named("alpha", Pattern::Any)],
        prompts: vec![named(
            "alpha",
            Pattern::Matches("^p\\d$".parse().expect("a pattern")),
        )],
        resources: vec![
            named("alpha", Pattern::Begins("file:///open/".to_owned())),
            named("beta", Pattern::Any),
        ],
        methods: vec![
            "tools/call".to_owned(),
            "prompts/get".to_owned(),
            "resources/read".to_owned(),
        ],
    };
    let own = rules(
        vec![Rule {
            targets: Some(targets),
            ..any(Action::Allow)
        }],
        Action::Deny,
    );
    for (what, expected) in [
        (What::Tool("any"), true),
        (What::Prompt("p1"), true),
        (What::Prompt("p12"), false),
        (What::Resource("file:///open/a"), true),
        (What::Resource("file:///shut/a"), false),
        (What::Server, false),
    ] {
        let verdict = ask(&own, &alice(), what, None);
        assert_eq!(verdict == Verdict::Allowed, expected, "{what:?}");
    }
}

#[test]
fn servers_are_selected() {
    let check = |list: Vec<(Option<&str>, Action)>, otherwise: Action, expected: bool| {
        let rules = list.into_iter().map(|(source, action)| {
            let source = source.map(|source| Expression::parse(source).expect("an expression"));
            (source, action)
        });
        let selector = Selector {
            rules: rules.collect(),
            otherwise,
            per_request: false,
        };
        let caller = alice();
        let request = request(&caller);
        let asked = Asked {
            caller: &caller,
            request: &request,
            method: "initialize",
            backend: "alpha",
            what: What::Server,
            params: Some(&Value::Null),
        };
        assert_eq!(selector.selects(&asked), expected, "{selector:?}");
    };
    use Action::{Allow, Deny};
    check(vec![], Deny, false);
    check(vec![], Allow, true);
    check(vec![(None, Allow)], Deny, true);
    check(vec![(Some("request.mcp.backend == 'alpha'"), Allow)], Deny, true);
    check(vec![(Some("request.mcp.backend == 'beta'"), Allow)], Deny, false);
    check(
        vec![(Some("request.auth.jwt.claims.absent == 1"), Allow)],
        Deny,
        false,
    );
    check(
        vec![(Some("request.auth.jwt.claims.absent == 1"), Deny)],
        Allow,
        false,
    );
}

#[test]
fn what_is_no_expression_is_refused() {
    assert!(Expression::parse("request.").is_err());
    assert_eq!(
        Expression::parse(&"1".repeat(5000)).err(),
        Some(ExpressionError::TooLong)
    );
    let check = |source: &str, unknown: &str| {
        let expected = ExpressionError::Unknown(unknown.to_owned());
        assert_eq!(Expression::parse(source).err(), Some(expected), "{source}");
    };
    check("request.mcp.tool.startWith('a')", "startWith");
    check(
        "'beta' in request.headers['x-ai-eg-mcp-backend-subset'].split(',')",
        "split",
    );
    check("timestamp('2026-01-01T00:00:00Z') > request.now", "timestamp");
    check("requst.mcp.tool == 'a'", "requst");
    check("nothing.at.all", "nothing");
    check("[1].exists(x, shout(x))", "shout");
    for known in [
        "has(request.auth) && !(request.mcp.tool in ['a', \"b\"]) || -1 < 2 % 3",
        "request.headers[?'x'].orValue('y').contains('z') ? true : {'a': 1}.a == 1",
        "optional.of(1).or(optional.none()).hasValue() && optional.ofNonZeroValue('').value() == ''",
        "type(1) == int && type('') != string && size([1]) == 1 && bytes('a') == b'a' && dyn(1) == 1",
        "string(1).matches('1') && double('1') == 1.0 && uint(1) == 1u && bool('true') && int('1') == 1",
        "[1, 2].all(x, [3].exists(y, x < y)) && [1].map(x, x + 1).filter(y, y > 1).exists_one(z, z == 2)",
        "'a'.startsWith('a') && 'a'.endsWith('a') && request.?mcp.?tool.hasValue()",
        "optional.of(1).optMap(x, x + 1).value() == 2 && optional.of(1).optFlatMap(x, optional.of(x)).hasValue()",
    ] {
        assert_eq!(Expression::parse(known).err(), None, "{known}");
    }
}
