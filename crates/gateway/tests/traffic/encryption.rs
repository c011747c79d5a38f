//! Encryption towards upstreams: whose certificates are trusted, and what is said of the others.

#![expect(
    clippy::disallowed_methods,
    reason = "the encrypted side runs beside the test"
)]

use std::{net::SocketAddr, sync::Arc};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd,
};
use rustls::{
    ALL_VERSIONS, RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::{NoClientAuth, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};
use tokio::{
    io::{copy, copy_bidirectional, sink},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use gateway::Options;

use crate::setup::{Setup, good, nowhere};

/// An authority that signs the certificates of a test.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// An encrypted way to an upstream; ends when dropped.
pub(super) struct Encrypted {
    pub(super) address: SocketAddr,
    _serving: JoinSet<()>,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    /// Returns a certificate for `host` that is valid until `year`, and its key.
    fn issue(&self, host: &str, year: i32) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([host.to_owned()]).expect("a host name");
        params.not_after = date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        (certificate, key)
    }

    /// Returns the Secret `own` with a certificate and its key.
    fn own(&self, year: i32) -> String {
        let (certificate, key) = self.issue("gateway.test", year);
        let indent = |pem: String| pem.replace('\n', "\n    ");
        let (chain, key) = (indent(certificate.pem()), indent(key.serialize_pem()));
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{ name: own }}\nstringData:\n  tls.crt: |\n    {chain}\n  \
             tls.key: |\n    {key}\n"
        )
    }

    /// Returns an encrypted way to what listens at `to`, with a certificate for `host` that is valid until `year`, where
    /// `protocols` are agreed to.
    pub(super) async fn serve(&self, to: SocketAddr, host: &str, year: i32, protocols: &[&str]) -> Encrypted {
        self.serve_to((None, ALL_VERSIONS), to, host, year, protocols)
            .await
    }

    /// Returns the same for clients with a certificate of `clients`, if that is some, by one of the versions.
    async fn serve_to(
        &self,
        (clients, versions): (Option<&Authority>, &[&'static SupportedProtocolVersion]),
        to: SocketAddr,
        host: &str,
        year: i32,
        protocols: &[&str],
    ) -> Encrypted {
        let (certificate, key) = self.issue(host, year);
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier: Arc<dyn ClientCertVerifier> = match clients {
            None => Arc::new(NoClientAuth),
            Some(authority) => {
                let mut trusted = RootCertStore::empty();
                trusted.add(authority.0.der().clone()).expect("a certificate");
                let builder = WebPkiClientVerifier::builder_with_provider(trusted.into(), provider.clone());
                builder.build().expect("an authority")
            }
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("known versions")
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a certificate and its key");
        let protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec());
        config.alpn_protocols = protocols.collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("loopback can be bound");
        let address = listener.local_addr().expect("a bound socket has an address");
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                connections.spawn(async move {
                    // A client that does not trust us goes away; so does one that is done.
                    match acceptor.accept(stream).into_fallible().await {
                        Ok(mut stream) => {
                            if let Ok(mut upstream) = TcpStream::connect(to).await {
                                let _ = copy_bidirectional(&mut stream, &mut upstream).await;
                            }
                        }
                        // To hang up on what it has sent already would keep the reason from it.
                        Err((_, mut stream)) => {
                            let _ = copy(&mut stream, &mut sink()).await;
                        }
                    }
                });
            }
        });
        Encrypted {
            address,
            _serving: serving,
        }
    }

    /// Returns the documents that have an upstream trusted by this authority.
    pub(super) fn trusted(&self, validation: &str) -> String {
        let pem = self.0.pem().replace('\n', "\n    ");
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{ name: authority }}\nstringData:\n  ca.crt: |\n    {pem}\n{}",
            policy(&format!(
                "caCertificateRefs: [{{ group: '', kind: Secret, name: authority }}], {validation}"
            ))
        )
    }
}

fn policy(validation: &str) -> String {
    format!(
        r"---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {{ name: tls }}
spec:
  targetRefs: [{{ group: gateway.envoyproxy.io, kind: Backend, name: b0 }}]
  validation: {{ {validation} }}
"
    )
}

/// Asks an upstream whose certificate is for `host` and valid until `year`; returns the status and the text.
async fn ask(host: &str, year: i32, documents: impl Fn(&Authority) -> String) -> (u16, String) {
    let (authority, upstream) = (Authority::new(), good().await);
    let encrypted = authority.serve(upstream.address(), host, year, &[]).await;
    let setup = Setup::beside(&documents(&authority), &[nowhere(encrypted.address)]).await;
    let answer = setup.ask().await;
    assert_eq!(upstream.requests().len(), usize::from(answer.status == 200));
    (answer.status, answer.text())
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted() {
    let documents = |authority: &Authority| authority.trusted("hostname: a.test");
    let (status, text) = ask("a.test", 2100, documents).await;
    assert_eq!(status, 200, "{text}");
}

#[tokio::test]
async fn other_names_may_be_the_certificates() {
    let names = "hostname: a.test, subjectAltNames: [{ type: Hostname, hostname: c.test }, { type: Hostname, hostname: b.test }]";
    let documents = |authority: &Authority| authority.trusted(names);
    let (status, text) = ask("b.test", 2100, documents).await;
    assert_eq!(status, 200, "{text}");
    let (status, text) = ask("a.test", 2100, documents).await;
    assert!(
        status == 503 && text.contains("is for another name"),
        "{status}: {text}"
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_said() {
    let own = |authority: &Authority| authority.trusted("hostname: a.test");
    let other = |_: &Authority| Authority::new().trusted("hostname: a.test");
    let system = |_: &Authority| policy("hostname: a.test, wellKnownCACertificates: System");
    let (status, text) = ask("b.test", 2100, own).await;
    assert!(
        status == 503 && text.contains("is for another name"),
        "{status}: {text}"
    );
    let (status, text) = ask("a.test", 2001, own).await;
    assert!(status == 503 && text.contains("has expired"), "{status}: {text}");
    let (status, text) = ask("a.test", 2100, other).await;
    assert!(
        status == 503 && text.contains("not signed by a trusted"),
        "{status}: {text}"
    );
    let (status, text) = ask("a.test", 2100, system).await;
    assert!(
        status == 503 && text.contains("not signed by a trusted"),
        "{status}: {text}"
    );
}

#[tokio::test]
async fn an_authority_may_lie_in_a_config_map() {
    let documents = |authority: &Authority| {
        let secret = authority.trusted("hostname: a.test");
        secret
            .replace("kind: Secret", "kind: ConfigMap")
            .replace("stringData:", "data:")
    };
    let (status, text) = ask("a.test", 2100, documents).await;
    assert_eq!(status, 200, "{text}");
    let (status, _) = ask("b.test", 2100, documents).await;
    assert_eq!(status, 503);
}

#[tokio::test]
async fn who_wants_a_certificate_is_shown_one() {
    let shows = "tls: { wellKnownCACertificates: System, clientCertificateRef: { name: own } }";
    let (authority, clients, upstream) = (Authority::new(), Authority::new(), good().await);
    let to = upstream.address();
    let encrypted = authority
        .serve_to((Some(&clients), ALL_VERSIONS), to, "a.test", 2100, &[])
        .await;
    let trusted = authority.trusted("hostname: a.test");
    let backend = || nowhere(encrypted.address).saying(shows);
    for (own, status) in [
        (clients.own(2100), 200),
        (clients.own(2001), 503),
        (Authority::new().own(2100), 503),
    ] {
        let setup = Setup::beside(&format!("{trusted}{own}"), &[backend()]).await;
        let answer = setup.ask().await;
        assert_eq!(answer.status, status, "{}", answer.text());
        let told = answer.text().contains("does not take the certificate");
        assert_eq!(told, status == 503, "{}", answer.text());
    }
    let setup = Setup::beside(&trusted, &[nowhere(encrypted.address)]).await;
    let answer = setup.ask().await;
    assert!(
        answer.status == 503 && answer.text().contains("or wants one"),
        "{}",
        answer.text()
    );
}

/// The certificate of the Gateway, or that of its EnvoyProxy, is for backends of plain requests too.
#[tokio::test]
async fn backends_are_shown_what_their_gateway_has() {
    let (authority, clients, upstream) = (Authority::new(), Authority::new(), good().await);
    let to = upstream.address();
    let encrypted = authority
        .serve_to((Some(&clients), ALL_VERSIONS), to, "a.test", 2100, &[])
        .await;
    let documents = authority.trusted("hostname: a.test") + &clients.own(2100);
    let own = "tls: { backend: { clientCertificateRef: { name: own } } }";
    let proxy =
        "infrastructure: { parametersRef: { group: gateway.envoyproxy.io, kind: EnvoyProxy, name: proxy } }";
    for (gateway, status) in [(own, 200), (proxy, 200), ("", 503)] {
        let yaml = format!(
            r"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{ name: gateway }}
spec:
  gatewayClassName: tollgate
  listeners: [{{ name: http, protocol: HTTP, port: 8080 }}]
  {gateway}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{ name: site }}
spec:
  parentRefs: [{{ name: gateway }}]
  rules: [{{ backendRefs: [{{ group: gateway.envoyproxy.io, kind: Backend, name: b0 }}] }}]
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: EnvoyProxy
metadata: {{ name: proxy }}
spec: {{ backendTLS: {{ clientCertificateRef: {{ name: own }}, alpnProtocols: [http/1.1] }} }}
{}{documents}",
            nowhere(encrypted.address).document(0)
        );
        let setup = Setup::of(Options::default(), &yaml).await;
        let answer = testkit::client::get(setup.address, "/", &[]).await;
        assert_eq!(answer.status, status, "{gateway}: {}", answer.text());
    }
}

/// Versions, ciphers and groups.
#[tokio::test]
async fn only_what_is_agreed_to_is_spoken() {
    let (authority, upstream) = (Authority::new(), good().await);
    let trusted = authority.trusted("hostname: a.test");
    // The key of the upstream is on a curve.
    for (version, said, status) in [
        (&TLS12, "minVersion: '1.3'", 503),
        (&TLS12, "maxVersion: '1.2'", 200),
        (&TLS13, "maxVersion: '1.2'", 503),
        (&TLS13, "minVersion: '1.3', maxVersion: Auto", 200),
        (&TLS12, "ciphers: [ECDHE-ECDSA-AES128-GCM-SHA256]", 200),
        (&TLS12, "ciphers: [ECDHE-RSA-AES128-GCM-SHA256]", 503),
        (&TLS13, "ecdhCurves: [P-384]", 200),
    ] {
        let to = upstream.address();
        let encrypted = authority
            .serve_to((None, &[version]), to, "a.test", 2100, &[])
            .await;
        let says = format!("tls: {{ wellKnownCACertificates: System, {said} }}");
        let setup = Setup::beside(&trusted, &[nowhere(encrypted.address).saying(&says)]).await;
        let answer = setup.ask().await;
        assert_eq!(answer.status, status, "{said}: {}", answer.text());
    }
}
