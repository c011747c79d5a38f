//! Directories of input to snapshot and report, read by eye when they change.

use std::{
    fmt::Write,
    fs,
    sync::{Arc, LazyLock},
};

use config::{
    Fault, Memory, Report, Resources, Says, Severity, Snapshot, Surroundings, parse, parse_again, resolve,
};
use insta::{assert_snapshot, glob};
use proptest::prelude::*;
use rcgen::{CertifiedKey, KeyPair};

#[test]
fn cases() {
    glob!("cases/*/input.yaml", |path| {
        let text = fs::read_to_string(path).expect("the case can be read");
        let loaded = load(&text);
        let mut said = String::new();
        for (severity, fault) in &loaded.faults {
            writeln!(said, "{severity}: {fault}").expect("a String takes everything");
        }
        writeln!(said, "---\n{}", loaded.report).expect("a String takes everything");
        for entry in &loaded.report.entries {
            // One listener that is served is nothing to write about.
            for listener in entry.listeners.iter().filter(|_| entry.listeners.len() > 1) {
                writeln!(said, "{} {listener}", entry.key).expect("a String takes everything");
            }
        }
        let dump = serde_json::to_string_pretty(&loaded.snapshot.dump()).expect("JSON can be written");
        for text in [&said, &dump, &format!("{:?}", loaded.snapshot)] {
            assert!(!text.contains("sk-"), "{path:?} shows a secret: {text}");
        }
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(path.parent().expect("the case lies in a folder"));
        settings.set_prepend_module_to_snapshot(false);
        settings.remove_snapshot_suffix();
        settings.set_omit_expression(true);
        settings.remove_input_file();
        settings.bind(|| {
            assert_snapshot!("report", said);
            assert_snapshot!("snapshot", dump);
        });
    });
}

/// A text that was read before says the same, wherever it stands by now.
#[test]
fn what_is_remembered_is_what_was_read() {
    glob!("cases/*/input.yaml", |path| {
        let text = fs::read_to_string(path).expect("the case can be read");
        let moved = format!("# two lines\n# more\n---\n{text}");
        let mut memory = Memory::default();
        for text in [&text, &moved, &text] {
            let _ = memory.turn([text.as_str()]);
            let read = load(text);
            let again = load_by(|surroundings, resources| {
                parse_again("input.yaml", text, surroundings, &mut memory, resources)
            });
            assert_eq!(again.faults, read.faults, "{path:?}");
            assert_eq!(again.report.to_string(), read.report.to_string(), "{path:?}");
            assert_eq!(again.snapshot.dump(), read.snapshot.dump(), "{path:?}");
        }
    });
}

/// A document that stays as it is is not read again, and what it says is not copied either.
#[test]
fn what_stays_is_not_read_again() {
    let mut memory = Memory::default();
    let mut read = |documents: &[String]| {
        let text = documents.join("---\n");
        let _ = memory.turn([text.as_str()]);
        let mut resources = Resources::default();
        let nothing = Surroundings {
            environment: &|_| None,
            reader: &|_| Err(String::new()),
        };
        let faults = parse_again("many.yaml", &text, &nothing, &mut memory, &mut resources);
        assert_eq!(faults, []);
        resources
    };
    let mut documents: Vec<String> = (0..500).map(|index| service(index, 80)).collect();
    let before = read(&documents);
    documents[7] = service(7, 81);
    documents.push(service(500, 80));
    let after = read(&documents);
    assert_eq!(after.services.len(), 501);
    let changed: Vec<&str> = before
        .services
        .iter()
        .filter(|(key, declared)| !Arc::ptr_eq(&declared.spec, &after.services[key].spec))
        .map(|(key, _)| key.name.as_str())
        .collect();
    assert_eq!(changed, ["s7"]);
}

/// What was read ahead is what is read as it comes.
#[test]
fn many_documents_are_read_as_few_are() {
    let mut documents: Vec<String> = (0..300).map(|index| service(index, 80)).collect();
    documents.insert(
        20,
        "apiVersion: v1\nkind: Service\nmetadata: {name: $NAME}\nspec: {ports: [{port: 80}]}\n".into(),
    );
    documents.insert(40, service(3, 80));
    documents.insert(
        60,
        "apiVersion: v1\nkind: Service\nmetadata: {name: odd}\nspec: {prots: []}\n".into(),
    );
    documents.push("kind: [\n".into());
    let text = documents.join("---\n");
    let read = load(&text);
    let mut memory = Memory::default();
    let unknown = memory.turn([text.as_str()]);
    assert!(unknown.len() >= 300, "{}", unknown.len());
    for text in unknown {
        memory.learn(text, Says::of(text));
    }
    let again = load_by(|surroundings, resources| {
        parse_again("input.yaml", &text, surroundings, &mut memory, resources)
    });
    assert!(read.faults.len() >= 3, "{:?}", read.faults);
    assert_eq!(again.faults, read.faults);
    assert_eq!(again.report.to_string(), read.report.to_string());
}

fn service(index: usize, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: s{index}}}\nspec: {{ports: [{{port: {port}}}]}}\n"
    )
}

#[test]
fn both_versions_mean_the_same() {
    let new = include_str!("cases/minimal/input.yaml");
    assert!(new.contains("/v1beta1"));
    let old = new.replace(
        "aigateway.envoyproxy.io/v1beta1",
        "aigateway.envoyproxy.io/v1alpha1",
    );
    let (new, old) = (load(new), load(&old));
    assert_eq!(new.snapshot.dump(), old.snapshot.dump());
    assert_eq!(new.report.to_string(), old.report.to_string());
    assert_eq!(new.faults, []);
    let warned = old
        .faults
        .iter()
        .all(|(severity, _)| *severity == Severity::Warning);
    assert!(warned && !old.faults.is_empty());
}

#[test]
fn the_schema_has_every_kind_and_closes_it() {
    let schema = config::schema();
    for kind in [
        "GatewayClass",
        "Gateway",
        "AIGatewayRoute",
        "AIServiceBackend",
        "BackendSecurityPolicy",
        "Backend",
        "BackendTLSPolicy",
        "BackendTrafficPolicy",
        "ClientTrafficPolicy",
        "GatewayConfig",
        "QuotaPolicy",
        "Secret",
        "GatewayConfig",
        "ReferenceGrant",
        "SecurityPolicy",
    ] {
        let kind = &schema["$defs"][kind];
        assert_eq!(kind["additionalProperties"], false);
        assert!(kind["properties"]["metadata"].is_object());
    }
    assert_eq!(
        schema["$defs"]["Secret"]["properties"]["stringData"]["type"],
        "object"
    );
    assert_eq!(
        schema["$defs"]["AIGatewayRouteSpec"]["additionalProperties"],
        false
    );
    let text = schema.to_string();
    for reference in text.split("\"$ref\":\"#/$defs/").skip(1) {
        let name = reference.split('"').next().unwrap_or_default();
        assert!(schema["$defs"][name].is_object(), "{name} is not defined");
    }
}

/// Whatever is done to a document, it is read and resolved without a panic, and nothing secret is shown.
#[test]
fn mutations() {
    let seeds: Vec<String> = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases"))
        .expect("the cases can be listed")
        .filter_map(|case| fs::read_to_string(case.ok()?.path().join("input.yaml")).ok())
        .collect();
    let edit = (
        any::<prop::sample::Index>(),
        0..20_usize,
        prop::sample::select(PIECES),
    );
    let edits = (any::<prop::sample::Index>(), prop::collection::vec(edit, 1..6));
    proptest!(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() },
        |((seed, edits) in edits)| {
            let mut text: Vec<char> = seed.get(&seeds).chars().collect();
            for (at, length, piece) in edits {
                let start = at.index(text.len() + 1);
                let end = (start + length).min(text.len());
                text.splice(start..end, piece.chars());
            }
            let text: String = text.into_iter().collect();
            let loaded = load(&text);
            prop_assert!(!loaded.snapshot.dump().to_string().contains("sk-live"));
            prop_assert!(!loaded.report.to_string().contains("sk-live"));
        }
    );
}

const PIECES: &[&str] = &[
    "",
    " ",
    "\n",
    "---\n",
    "[",
    "]",
    "{",
    "}",
    ": ",
    "- ",
    "&a ",
    "*a",
    "!!str ",
    "'",
    "\"",
    "|\n",
    "#",
    "\t",
    "$",
    "${",
    "${X:-",
    "null",
    "0",
    "-1",
    "99999999999999999999",
    "1e400",
    ".inf",
    "é",
    "\u{0}",
    "metadata",
    "spec",
    "*.",
];

struct Loaded {
    faults: Vec<(Severity, String)>,
    snapshot: Snapshot,
    report: Report,
}

fn load(text: &str) -> Loaded {
    load_by(|surroundings, resources| parse("input.yaml", text, surroundings, resources))
}

fn load_by(parse: impl FnOnce(&Surroundings<'_>, &mut Resources) -> Vec<Fault>) -> Loaded {
    let environment = |name: &str| {
        let known = ENVIRONMENT.iter().find(|(known, _)| *known == name);
        known.map(|(_, value)| (*value).to_owned())
    };
    let reader = |path: &str| match path {
        "/run/key" => Ok("sk-live-from-file\n".to_owned()),
        "/run/tls.crt" => Ok(PAIR.cert.pem()),
        "/run/tls.key" => Ok(PAIR.signing_key.serialize_pem()),
        "/run/other.key" => Ok(KeyPair::generate().expect("a key").serialize_pem()),
        _ => Err("no such file".to_owned()),
    };
    let surroundings = Surroundings {
        environment: &environment,
        reader: &reader,
    };
    let mut resources = Resources::default();
    let faults = parse(&surroundings, &mut resources);
    let (snapshot, report) = resolve(&resources, LOADED);
    Loaded {
        faults: faults
            .iter()
            .map(|fault| (fault.severity, fault.to_string()))
            .collect(),
        snapshot,
        report,
    }
}

/// A certificate and its key.
static PAIR: LazyLock<CertifiedKey<KeyPair>> =
    LazyLock::new(|| rcgen::generate_simple_self_signed(["edge.test".to_owned()]).expect("a certificate"));

/// When the process of these tests read its configuration.
const LOADED: u64 = 1_700_000_000;

const ENVIRONMENT: &[(&str, &str)] = &[
    ("KEY", "sk-live-from-environment"),
    ("EMPTY", ""),
    ("MODEL", "gpt-from-environment"),
    ("PORT", "8443"),
    ("INJECTION", "a: b\nkind: Secret # {[\"'"),
];
