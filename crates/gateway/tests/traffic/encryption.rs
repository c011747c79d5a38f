//! Encryption towards upstreams: whose certificates are trusted, and what is said of the others.

#![expect(
    clippy::disallowed_methods,
    reason = "the encrypted side runs beside the test"
)]

use std::{net::SocketAddr, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

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

    /// Returns an encrypted way to what listens at `to`, with a certificate for `host` that is valid until `year`, where
    /// `protocols` are agreed to.
    pub(super) async fn serve(&self, to: SocketAddr, host: &str, year: i32, protocols: &[&str]) -> Encrypted {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([host.to_owned()]).expect("a host name");
        params.not_after = date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("known versions")
            .with_no_client_auth()
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
                    if let Ok(mut stream) = acceptor.accept(stream).await
                        && let Ok(mut upstream) = TcpStream::connect(to).await
                    {
                        let _ = copy_bidirectional(&mut stream, &mut upstream).await;
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
