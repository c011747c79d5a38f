//! Variables as they are set, and what they come to.

use config::words::Vocabulary;

use super::*;

fn read(variables: &[(&str, &str)]) -> Result<Telemetry, TelemetryError> {
    Telemetry::from_environment(&|name| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    })
}

#[test]
fn exporters_are_chosen_as_the_specification_says() {
    let check = |variables: &[(&str, &str)], traces: bool, metrics: bool| {
        let read = read(variables).expect("sound variables");
        assert_eq!(
            (read.traces.is_some(), read.metrics.is_some()),
            (traces, metrics),
            "{variables:?}"
        );
    };
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
    check(&[], false, false);
    check(&[endpoint], true, true);
    check(&[endpoint, ("OTEL_SDK_DISABLED", "true")], false, false);
    check(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")], false, true);
    check(&[endpoint, ("OTEL_METRICS_EXPORTER", "prometheus")], true, false);
    check(
        &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector/t")],
        true,
        false,
    );
    check(
        &[
            ("OTEL_TRACES_EXPORTER", "console"),
            ("OTEL_METRICS_EXPORTER", "console"),
        ],
        true,
        true,
    );
    check(
        &[
            ("OTEL_TRACES_EXPORTER", "otlp"),
            ("OTEL_METRICS_EXPORTER", "otlp"),
        ],
        true,
        false,
    );
}

#[test]
fn records_go_where_the_variables_say() {
    let check = |variables: &[(&str, &str)], expected: Option<&str>| {
        let records = read(variables).expect("sound variables").records;
        let found = match &records {
            AccessRecords::Console => Some("console".to_owned()),
            AccessRecords::Nowhere => None,
            AccessRecords::Otlp(export) => match &export.to {
                Destination::Otlp(receiver) => Some(receiver.uri.to_string()),
                Destination::Console => panic!("{variables:?}: the console is no receiver"),
            },
        };
        assert_eq!(found.as_deref(), expected, "{variables:?}");
    };
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
    check(&[], Some("console"));
    check(&[endpoint], Some("http://c:4318/v1/logs"));
    check(&[endpoint, ("OTEL_LOGS_EXPORTER", "console")], Some("console"));
    check(&[endpoint, ("OTEL_LOGS_EXPORTER", "none")], None);
    check(&[("OTEL_LOGS_EXPORTER", "none")], None);
    check(
        &[("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "https://l/own")],
        Some("https://l/own"),
    );
    check(&[endpoint, ("OTEL_SDK_DISABLED", "true")], Some("console"));
}

#[test]
fn receivers_are_where_the_variables_say() {
    let check = |variables: &[(&str, &str)], expected: &str, grpc: bool| {
        let read = read(variables).expect("sound variables");
        let traces = read.traces.expect("spans are exported");
        let Destination::Otlp(receiver) = traces.export.to else {
            panic!("a receiver: {variables:?}");
        };
        assert_eq!(
            (receiver.uri.to_string().as_str(), receiver.grpc),
            (expected, grpc)
        );
    };
    let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/");
    check(&[base], "http://c:4318/v1/traces", false);
    check(
        &[base, ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://t/own")],
        "https://t/own",
        false,
    );
    check(
        &[base, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
        "http://c:4318/",
        true,
    );
    check(
        &[("OTEL_TRACES_EXPORTER", "otlp")],
        "http://localhost:4318/v1/traces",
        false,
    );
}

#[test]
fn what_cannot_be_honoured_is_named() {
    let check = |name: &str, value: &str| {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
        let error = read(&[endpoint, (name, value)])
            .expect_err("not honoured")
            .to_string();
        let name = name.replace("_ARG", "");
        assert!(
            error.contains(name.as_str()) || error.contains("OTEL_TRACES"),
            "{name}: {error}"
        );
        assert!(!error.contains("secret"), "{error}");
    };
    check("AI_GATEWAY_TRACING_SEMCONV", "other");
    check("AI_GATEWAY_TRACING_SEMCONV", "gen_ai,other");
    check("AI_GATEWAY_TRACING_SEMCONV", "gen_ai,");
    check("AI_GATEWAY_TRACING_SEMCONV", "gen_ai, gen_ai");
    check("AI_GATEWAY_TRACING_SEMCONV", "gen_ai,openinference,gen_ai");
    check("OTEL_TRACES_EXPORTER", "zipkin");
    check("OTEL_TRACES_SAMPLER", "sometimes");
    check("OTEL_PROPAGATORS", "zipkin");
    check("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many");
    check("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json");
    check("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/json");
    check("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "secret");
    check("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "no/such/file.pem");
    check("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector:4317");
    check("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd");
    check("OTEL_EXPORTER_OTLP_CERTIFICATE", "no/such/file.pem");
    check("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "no/such/file.pem");
    check("OTEL_EXPORTER_OTLP_CLIENT_KEY", "no/such/file.pem");
    check("OTEL_LOGS_EXPORTER", "zipkin");
    check("OTEL_EXPORTER_OTLP_HEADERS", "secret");
    check("OTEL_EXPORTER_OTLP_TIMEOUT", "10s");
    check("OTEL_EXPORTER_OTLP_TIMEOUT", "0");
    check("OTEL_RESOURCE_ATTRIBUTES", "secret");
    check("OTEL_RESOURCE_ATTRIBUTES", "=secret");
    check("OTEL_RESOURCE_ATTRIBUTES", "a=secret%ff");
    check("OTEL_BSP_MAX_QUEUE_SIZE", "0");
    check("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "lowmemory");
    check("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "fine");
    check("OTEL_AIGW_SPAN_REQUEST_HEADER_ATTRIBUTES", "a");
    check("OTEL_AIGW_REQUEST_HEADER_ATTRIBUTES", "a:outcome");
    check("OTEL_AIGW_LOG_REQUEST_HEADER_ATTRIBUTES", "a:outcome");
    check("OTEL_AIGW_METRICS_REQUEST_HEADER_ATTRIBUTES", "a:route");
}

#[test]
fn vocabularies_stand_in_the_order_of_their_names() {
    let check = |written: &str, first: bool, second: Option<bool>| {
        let all = [
            ("OTEL_TRACES_EXPORTER", "console"),
            ("AI_GATEWAY_TRACING_SEMCONV", written),
        ];
        let traces = read(&all).expect("sound variables").traces.expect("spans");
        let usual = traces.speech.usual;
        let conventions = |vocabulary: Vocabulary| vocabulary == Vocabulary::GenAi;
        let found = (conventions(usual.first), usual.second.map(conventions));
        assert_eq!(found, (first, second), "{written:?}");
    };
    check("", false, None);
    check("gen_ai", true, None);
    check("openinference,gen_ai", false, Some(true));
    check("gen_ai, openinference", true, Some(false));
}

#[test]
fn the_service_has_a_name() {
    let check = |variables: &[(&str, &str)], expected: &[(&str, &str)]| {
        let all: Vec<_> = variables
            .iter()
            .copied()
            .chain([("OTEL_TRACES_EXPORTER", "console")])
            .collect();
        let traces = read(&all).expect("sound variables").traces.expect("spans");
        let resource: Vec<_> = traces
            .export
            .resource
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(resource, expected);
    };
    let listed = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a,team=b%20c");
    check(&[], &[("service.name", "ai-gateway")]);
    check(&[listed], &[("service.name", "a"), ("team", "b c")]);
    check(
        &[listed, ("OTEL_SERVICE_NAME", "own")],
        &[("team", "b c"), ("service.name", "own")],
    );
}
