//! Certificates of clients: who is let in, and what becomes of whoever is not.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{Certificate, KeyPair, PublicKeyData};
use testkit::{Reply, Upstream};

use crate::{
    encryption::{Asking, Authority, edge, serve, snapshot},
    fixture::Served,
};

const HOST: &str = "a.test";

/// Returns documents of a Gateway that encrypts, and of the authority that vouches for clients.
fn documents(own: &Authority, clients: &Authority) -> String {
    let pem = clients.pem().replace('\n', "\n    ");
    let authority = format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: clients}}\ndata:\n  ca.crt: |\n    {pem}\n"
    );
    edge(&[(HOST, "a")]) + &own.secret("a", HOST) + &authority
}

/// Returns a policy that asks clients for certificates.
fn policy(validation: &str) -> String {
    format!(
        "---\napiVersion: gateway.envoyproxy.io/v1alpha1\nkind: ClientTrafficPolicy\nmetadata: {{name: it}}\nspec:\n  \
         targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: edge}}]\n  tls: {{clientValidation: \
         {{caCertificateRefs: [{{kind: ConfigMap, name: clients}}], {validation}}}}}\n"
    )
}

/// Returns whether a client with such a certificate is let in. With TLS 1.3 it learns only afterwards that it is not.
async fn enters(own: &Authority, served: &Served, shown: Option<(Certificate, KeyPair)>) -> bool {
    match own.connect_as(shown, served, HOST, "http/1.1").await {
        Ok(stream) => Asking::new(stream)
            .await
            .answer(HOST)
            .await
            .is_some_and(|status| status == 200),
        Err(_) => false,
    }
}

#[tokio::test]
async fn clients_show_certificates() {
    let (own, clients, others) = (Authority::new(), Authority::new(), Authority::new());
    let base = documents(&own, &clients);
    let gateway = base.replacen(
        "  listeners:\n",
        "  tls: {frontend: {default: {validation: {caCertificateRefs: [{group: '', kind: ConfigMap, name: clients}]}}}}\n  \
         listeners:\n",
        1,
    );
    for (yaml, without) in [
        (gateway, false),
        (base.clone() + &policy(""), false),
        (base.clone() + &policy("optional: true"), true),
    ] {
        let served = serve(&yaml).await;
        assert_eq!(enters(&own, &served, None).await, without);
        assert!(enters(&own, &served, Some(clients.issue("c.test", 2100))).await);
        assert!(!enters(&own, &served, Some(clients.issue("c.test", 2001))).await);
        assert!(!enters(&own, &served, Some(others.issue("c.test", 2100))).await);
    }
}

#[tokio::test]
async fn only_those_that_are_named_fit() {
    let (own, clients) = (Authority::new(), Authority::new());
    let base = documents(&own, &clients);
    let (known, key) = clients.issue("known.test", 2100);
    let hash: String = digest(&SHA256, known.der())
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02X}:"))
        .collect();
    let hash = hash.trim_end_matches(':').to_owned();
    let served = serve(&(base.clone() + &policy(&format!("certificateHashes: ['{hash}']")))).await;
    assert!(!enters(&own, &served, Some(clients.issue("known.test", 2100))).await);
    assert!(enters(&own, &served, Some((known, key))).await);
    for (names, fits) in [
        ("{value: known.test}", true),
        ("{type: Suffix, value: .test}", true),
        ("{type: Prefix, value: unknown}", false),
        ("{type: RegularExpression, value: 'k.*t'}", true),
        ("{type: RegularExpression, value: 'k'}", false),
        ("{value: other.test}, {value: known.test}", true),
    ] {
        let validation = format!("subjectAltNames: {{dnsNames: [{names}]}}");
        let served = serve(&(base.clone() + &policy(&validation))).await;
        let shown = clients.issue("known.test", 2100);
        assert_eq!(enters(&own, &served, Some(shown)).await, fits, "{names}");
    }
}

/// A key may be known, whatever certificate it comes with.
#[tokio::test]
async fn only_those_whose_keys_are_known_fit() {
    let (own, clients) = (Authority::new(), Authority::new());
    let (known, key) = clients.issue("c.test", 2100);
    let hash = STANDARD.encode(digest(&SHA256, &key.subject_public_key_info()));
    let other = STANDARD.encode(digest(&SHA256, b"another key"));
    let validation = format!("spkiHashes: ['{other}', '{hash}']");
    let served = serve(&(documents(&own, &clients) + &policy(&validation))).await;
    assert!(!enters(&own, &served, Some(clients.issue("c.test", 2100))).await);
    assert!(enters(&own, &served, Some((known, key))).await);
}

#[tokio::test]
async fn certificates_that_are_void_let_nobody_in() {
    let (own, clients, others) = (Authority::new(), Authority::new(), Authority::new());
    let lists = |pem: &str| {
        let pem = pem.replace('\n', "\n    ");
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: lists}}\nstringData:\n  ca.crl: |\n    {pem}\n"
        )
    };
    let crl = "crl: {refs: [{kind: Secret, name: lists}]}";
    let base = documents(&own, &clients) + &policy(crl);
    let served = serve(&(base.clone() + &lists(&clients.revoke(&[7, 9])))).await;
    for (number, fits) in [(7, false), (8, true), (9, false)] {
        let shown = clients.issue_numbered("c.test", number);
        assert_eq!(enters(&own, &served, Some(shown)).await, fits, "{number}");
    }
    // A list that is renewed holds for the next connection.
    let renewed = snapshot(&(base.clone() + &lists(&clients.revoke(&[8]))));
    served.gateway.install(renewed).await.expect("served already");
    assert!(!enters(&own, &served, Some(clients.issue_numbered("c.test", 8))).await);
    assert!(enters(&own, &served, Some(clients.issue_numbered("c.test", 7))).await);
    // Without a list of the authority itself nothing is known of its certificates.
    let served = serve(&(base + &lists(&others.revoke(&[7])))).await;
    assert!(!enters(&own, &served, Some(clients.issue_numbered("c.test", 8))).await);
}

/// Upstreams are told of the certificate that was shown, as far as the policy says.
#[tokio::test]
async fn upstreams_are_told_who_has_shown_what() {
    let (own, clients) = (Authority::new(), Authority::new());
    let upstream = Upstream::start(Reply::whole(200, &[], "")).await;
    let base = documents(&own, &clients) + &site(upstream.address().port());
    for (told, expected) in [
        ("", ""),
        ("headers: {xForwardedClientCert: {mode: ForwardOnly}}", ""),
        ("headers: {xForwardedClientCert: {mode: SanitizeSet}}", "Hash={}"),
        (
            "headers: {xForwardedClientCert: {mode: AppendForward, certDetailsToAdd: [DNS, URI]}}",
            "Hash={};DNS=c.test",
        ),
        (
            "headers: {xForwardedClientCert: {mode: SanitizeSet, certDetailsToAdd: [Subject]}}",
            "Hash={};Subject=\"CN=rcgen self signed cert\"",
        ),
    ] {
        let served = serve(&format!("{base}{}  {told}\n", policy("optional: true"))).await;
        let (certificate, key) = clients.issue("c.test", 2100);
        let hash: String = digest(&SHA256, certificate.der())
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert!(enters(&own, &served, Some((certificate, key))).await);
        assert!(enters(&own, &served, None).await);
        let requests = upstream.requests();
        let [.., with, without] = requests.as_slice() else {
            panic!("two requests");
        };
        let header = "x-forwarded-client-cert";
        assert_eq!(with.header(header), expected.replace("{}", &hash), "{told}");
        assert_eq!(without.header(header), "", "{told}");
    }
}

/// Returns documents of a route that hands everything to a port of this machine.
fn site(port: u16) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: site}}\nspec:\n  parentRefs: \
         [{{name: edge}}]\n  rules: [{{backendRefs: [{{group: gateway.envoyproxy.io, kind: Backend, name: site}}]}}]\n---\n\
         apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: Backend\nmetadata: {{name: site}}\nspec: {{endpoints: [{{ip: \
         {{address: 127.0.0.1, port: {port}}}}}]}}\n"
    )
}

#[tokio::test]
async fn a_new_authority_holds_for_the_next_connection() {
    let (own, old, new) = (Authority::new(), Authority::new(), Authority::new());
    let served = serve(&(documents(&own, &old) + &policy(""))).await;
    let shown = Some(old.issue("c.test", 2100));
    let stream = own.connect_as(shown, &served, HOST, "http/1.1").await;
    let mut open = Asking::new(stream.expect("encrypted")).await;
    assert_eq!(open.answer(HOST).await.map(|status| status.as_u16()), Some(200));
    let renewed = documents(&own, &new) + &policy("");
    let installed = served.gateway.install(snapshot(&renewed)).await;
    installed.expect("served already");
    assert_eq!(open.answer(HOST).await.map(|status| status.as_u16()), Some(200));
    assert!(!enters(&own, &served, Some(old.issue("c.test", 2100))).await);
    assert!(enters(&own, &served, Some(new.issue("c.test", 2100))).await);
}

#[tokio::test]
async fn what_cannot_be_checked_lets_nobody_in() {
    let (own, clients) = (Authority::new(), Authority::new());
    let base = documents(&own, &clients);
    for broken in [
        policy("").replace("name: clients", "name: absent"),
        policy("").replace(
            "kind: ClientTrafficPolicy",
            "kind: ClientTrafficPolicy\nnonsense: 1",
        ),
        policy("subjectAltNames: {emailAddresses: [{value: a@b.test}]}"),
        policy("certificateHashes: [nonsense]"),
        policy("spkiHashes: [bm90IGEgaGFzaA==]"),
        policy("crl: {refs: [{kind: Secret, name: absent}]}"),
        policy("crl: {refs: [{kind: ConfigMap, name: clients}]}"),
    ] {
        let served = serve_broken(&(base.clone() + &broken)).await;
        assert!(!enters(&own, &served, None).await, "{broken}");
        let shown = clients.issue("c.test", 2100);
        assert!(!enters(&own, &served, Some(shown)).await, "{broken}");
    }
}

/// Serves what has faults.
async fn serve_broken(yaml: &str) -> Served {
    let surroundings = config::Surroundings {
        environment: &|_| None,
        reader: &|_| Err("no files".to_owned()),
    };
    let mut resources = config::Resources::default();
    // What cannot be read is told elsewhere; here counts who is let in all the same.
    let _ = config::parse("test.yaml", yaml, &surroundings, &mut resources);
    let (mut snapshot, report) = config::resolve(&resources, 0);
    let unread = !resources.unreadable.is_empty();
    assert!(unread || report.has_errors(), "{report}");
    let (_, listener) = snapshot.listeners.pop_first().expect("one port");
    snapshot.listeners.insert(0, listener);
    let gateway = gateway::Gateway::start(crate::fixture::options())
        .await
        .expect("the admin port is free");
    gateway.install(snapshot).await.expect("the port is free");
    let address = *gateway.addresses().first().expect("one listener");
    Served { gateway, address }
}
