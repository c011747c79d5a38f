//! How much a span may hold, by what it tells.

use super::*;
use crate::Telemetry;

/// Conversations are told message by message, in more attributes than the usual limit; which route tells them says the route.
#[test]
fn spans_have_limits_but_for_conversations() {
    let check = |variables: &[(&str, &str)], own: Option<&str>, expected: usize| {
        let all = [&[("OTEL_TRACES_EXPORTER", "console")], variables].concat();
        let read = Telemetry::from_environment(&|name| {
            let found = all.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        });
        let traces = read.expect("sound variables").traces.expect("spans");
        let own = own.map(|own| Vocabularies::parse(own).expect("a name"));
        let limits = traces.limits(&traces.speech.words(own));
        assert_eq!(limits.attributes, expected, "{variables:?} {own:?}");
    };
    let count = ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "7");
    let conventions = ("AI_GATEWAY_TRACING_SEMCONV", "gen_ai");
    let hides = [
        ("OPENINFERENCE_HIDE_INPUTS", "t"),
        ("OPENINFERENCE_HIDE_OUTPUTS", "1"),
    ];
    check(&[], None, usize::MAX);
    check(&[count], None, usize::MAX);
    check(&[count], Some("gen_ai"), 7);
    check(&[conventions], None, 128);
    check(&[conventions, count], None, 7);
    check(&[conventions, count], Some("openinference"), usize::MAX);
    check(&[conventions, ("OTEL_ATTRIBUTE_COUNT_LIMIT", "9")], None, 9);
    check(&hides, None, 128);
    check(&[hides[0], hides[1], conventions], Some("openinference"), 128);
    // What is no truth value counts as unset.
    check(
        &[hides[0], ("OPENINFERENCE_HIDE_OUTPUTS", "yes")],
        None,
        usize::MAX,
    );
}
