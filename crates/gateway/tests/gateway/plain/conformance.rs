//! The core cases of the Gateway API's conformance suite, as data: a configuration, and requests with what is to become
//! of them.

use std::{collections::BTreeMap, fs, path::Path};

use http::HeaderMap;
use serde::Deserialize;
use testkit::Client;

use super::{BACKENDS, Setup};

/// One request, and what is to become of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    #[serde(default = "get")]
    method: String,
    #[serde(default = "host")]
    host: String,
    #[serde(default = "root")]
    path: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    body: String,
    /// The status of the answer; 200 by default.
    #[serde(default = "ok")]
    status: u16,
    /// Who is to be asked; nobody if absent.
    backend: Option<String>,
    /// Who is to be sent a copy besides.
    #[serde(default)]
    copies: Vec<String>,
    /// What the backend is to see.
    #[serde(default)]
    sees: Sees,
    /// What the client is to see, by header; `null` for none.
    #[serde(default)]
    answer: BTreeMap<String, Option<String>>,
    /// The body of the answer.
    text: Option<String>,
}

/// What a backend is to see.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sees {
    target: Option<String>,
    body: Option<String>,
    /// By header; `null` for none.
    #[serde(default)]
    headers: BTreeMap<String, Option<String>>,
}

fn get() -> String {
    "GET".to_owned()
}

fn host() -> String {
    "example.com".to_owned()
}

fn root() -> String {
    "/".to_owned()
}

fn ok() -> u16 {
    200
}

#[tokio::test]
async fn requests_are_served_as_the_gateway_api_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/plain/cases");
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("the cases can be listed")
        .map(|file| file.expect("a file").path())
        .filter(|file| file.extension().is_some_and(|kind| kind == "yaml"))
        .collect();
    files.sort();
    assert!(files.len() >= 10, "{files:?}");
    for file in files {
        let yaml = fs::read_to_string(&file).expect("the case can be read");
        let cases = fs::read_to_string(file.with_extension("json")).expect("its requests can be read");
        let cases: Vec<Case> = serde_json::from_str(&cases).expect("requests");
        assert!(!cases.is_empty());
        let setup = Setup::new(&yaml).await;
        for case in &cases {
            check(&file, &setup, case).await;
        }
    }
}

async fn check(file: &Path, setup: &Setup, case: &Case) {
    let place = format!("{}: {case:?}", file.display());
    let before: Vec<usize> = setup.upstreams.iter().map(|one| one.requests().len()).collect();
    let mut client = Client::connect(setup.served.address).await;
    let mut request = format!(
        "{} {} HTTP/1.1\r\nhost: {}\r\n",
        case.method, case.path, case.host
    );
    for (name, value) in &case.headers {
        request += &format!("{name}: {value}\r\n");
    }
    if !case.body.is_empty() {
        request += &format!("content-length: {}\r\n", case.body.len());
    }
    request += &format!("\r\n{}", case.body);
    client.send(request).await.expect("sent");
    let answer = client.answer().await.expect("an answer");
    assert_eq!(answer.status, case.status, "{place}\n{}", answer.text());
    compare(&place, &answer.headers, &case.answer);
    if let Some(text) = &case.text {
        assert_eq!(&answer.text(), text, "{place}");
    }
    for ((name, upstream), before) in BACKENDS.iter().zip(&setup.upstreams).zip(before) {
        let wanted = case.backend.as_deref() == Some(name);
        let copied = case.copies.iter().filter(|copied| copied == name).count();
        let expected = usize::from(wanted) + copied;
        let requests = upstream.received(before + expected).await;
        assert_eq!(requests.len() - before, expected, "{place}: requests of {name}");
        let Some(seen) = requests.last().filter(|_| wanted) else {
            continue;
        };
        compare(&place, &seen.headers, &case.sees.headers);
        if let Some(target) = &case.sees.target {
            assert_eq!(&seen.target, target, "{place}");
        }
        if let Some(body) = &case.sees.body {
            assert_eq!(&seen.body, body, "{place}");
        }
    }
}

fn compare(place: &str, headers: &HeaderMap, wanted: &BTreeMap<String, Option<String>>) {
    for (name, value) in wanted {
        let found: Vec<&str> = headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        let found = (!found.is_empty()).then(|| found.join(","));
        assert_eq!(&found, value, "{place}: {name}");
    }
}
