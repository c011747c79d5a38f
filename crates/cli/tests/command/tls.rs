//! Upstreams and receivers that are reached over TLS: whose certificate is taken, and who is shown ours.

use std::{fs, net::SocketAddr, path::Path, sync::Arc};

use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::PrivateKeyDer,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use serde_json::json;
use tempfile::TempDir;
use testkit::{
    Provider, Received, Reply, Upstream, client,
    http2::{self, Act, Http2},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use crate::process::Gateway;

/// The name that the certificate is for.
pub(crate) const NAME: &str = "models.test";

#[tokio::test]
async fn a_certificate_counts_for_its_name_and_authority_alone() {
    let upstream = Provider::OpenAi.start("sk-upstream").await;
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("authority.pem");
    let address = encrypt(upstream.address(), &authority).await;
    let trusting = [("SSL_CERT_FILE", authority.to_str().unwrap())];

    check(&folder, address, NAME, &trusting, Ok(())).await;
    let another = Err("the upstream's certificate is for another name");
    check(&folder, address, "other.test", &trusting, another).await;
    // An authority that is not among those of the system: here there is none at all, or none that signed.
    let other = folder.path().join("other.pem");
    encrypt(upstream.address(), &other).await;
    let elsewhere = [("SSL_CERT_FILE", other.to_str().unwrap())];
    let unknown = Err("the upstream's certificate is not signed by a trusted authority");
    check(&folder, address, NAME, &elsewhere, unknown).await;
    assert_eq!(upstream.requests().len(), 1);
}

/// Asks a gateway whose policy demands a certificate for `name`.
async fn check(
    folder: &TempDir,
    address: SocketAddr,
    name: &str,
    variables: &[(&str, &str)],
    expected: Result<(), &str>,
) {
    let file = folder.path().join("gateway.yaml");
    fs::write(&file, configuration(address, name)).unwrap();
    let gateway = Gateway::start(&[file.to_str().unwrap()], variables);
    let request = json!({"model": "gpt-5", "messages": [{"role": "user", "content": "Hello"}]});
    let answer = client::post(gateway.address, "/v1/chat/completions", &[], &request).await;
    match expected {
        Ok(()) => assert_eq!(answer.status, 200, "{name}: {}", answer.text()),
        Err(message) => {
            assert_eq!(answer.status, 503, "{name}: {}", answer.text());
            assert!(answer.text().contains(message), "{name}: {}", answer.text());
        }
    }
}

/// A receiver of OTLP that takes nothing from whom it does not know.
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_is_shown_the_certificate_that_it_asks_for() {
    let receiver = Upstream::start(Reply::json(200, &json!({}))).await;
    let took = || receiver.requests().len();
    check_certificate("http/protobuf", receiver.address(), took).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_of_grpc_is_shown_it_too() {
    let taken = |_, _: &Received| {
        let answer = http2::Answer::new(200, "application/grpc", &[""]);
        Act::Answer(answer.trailer("grpc-status", "0"))
    };
    let receiver = Http2::start(taken).await;
    check_certificate("grpc", receiver.address(), || receiver.requests().len()).await;
}

/// Has spans told to a `receiver` that asks for certificates, which says how many calls it `took`.
async fn check_certificate(protocol: &str, receiver: SocketAddr, took: impl Fn() -> usize) {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let authority = authority();
    fs::write(file("authority"), authority.pem()).unwrap();
    let (certificate, key) = signed(&authority);
    fs::write(file("certificate"), certificate.pem()).unwrap();
    fs::write(file("key"), key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let asks = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let address = decrypt(receiver, &authority, Some(asks.unwrap())).await;
    let endpoint = format!("https://localhost:{}/v1/traces", address.port());
    let unknown = [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", &file("authority")),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
    ];
    let shown = [
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", &*file("certificate")),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", &file("key")),
    ];
    let shown = [&unknown[..], &shown].concat();
    for (variables, expected) in [(unknown.to_vec(), 0), (shown, 1)] {
        let mut gateway = Gateway::start(&[], &variables);
        let request = json!({"model": "sim-1", "messages": [{"role": "user", "content": "Hello"}]});
        let answer = client::post(gateway.address, "/v1/chat/completions", &[], &request).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        gateway.signal("TERM");
        assert_eq!(gateway.ended(), 0);
        assert_eq!(took(), expected, "{variables:?}");
    }
}

/// Starts what decrypts for `plain`, and writes the certificate of the authority behind it to `file`.
pub(crate) async fn encrypt(plain: SocketAddr, file: &Path) -> SocketAddr {
    let authority = authority();
    fs::write(file, authority.pem()).unwrap();
    decrypt(plain, &authority, None).await
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn signed(authority: &CertifiedIssuer<'static, KeyPair>) -> (Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new([NAME.to_owned(), "localhost".to_owned()]).unwrap();
    (leaf.signed_by(&key, authority).unwrap(), key)
}

/// Starts what decrypts for `plain` with a certificate of `authority`, and lets in whom `asks` does, or anybody.
#[expect(
    clippy::disallowed_methods,
    reason = "a server of a test lives as long as the test"
)]
async fn decrypt(
    plain: SocketAddr,
    authority: &CertifiedIssuer<'static, KeyPair>,
    asks: Option<Arc<dyn ClientCertVerifier>>,
) -> SocketAddr {
    let (certificate, key) = signed(authority);
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match asks {
        Some(asks) => builder.with_client_cert_verifier(asks),
        None => builder.with_no_client_auth(),
    };
    let config = builder.with_single_cert(
        vec![certificate.der().clone()],
        PrivateKeyDer::Pkcs8(key.serialize_der().into()),
    );
    let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not trust us, or whom we do not know, ends with the handshake.
                if let Ok(mut encrypted) = acceptor.accept(stream).await {
                    let mut upstream = TcpStream::connect(plain).await.unwrap();
                    let _ = copy_bidirectional(&mut encrypted, &mut upstream).await;
                }
            });
        }
    });
    address
}

fn configuration(address: SocketAddr, name: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{ name: tollgate }}
spec: {{ controllerName: gateway.envoyproxy.io/gatewayclass-controller }}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{ name: tollgate }}
spec:
  gatewayClassName: tollgate
  listeners: [{{ name: http, protocol: HTTP, port: 1975 }}]
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata: {{ name: chat }}
spec:
  parentRefs: [{{ name: tollgate }}]
  rules:
    - matches: [{{ headers: [{{ name: x-ai-eg-model, value: gpt-5 }}] }}]
      backendRefs: [{{ name: up }}]
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIServiceBackend
metadata: {{ name: up }}
spec:
  schema: {{ name: OpenAI }}
  backendRef: {{ group: gateway.envoyproxy.io, kind: Backend, name: up }}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {{ name: up }}
spec:
  endpoints: [{{ ip: {{ address: {}, port: {} }} }}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {{ name: up }}
spec:
  targetRefs: [{{ group: gateway.envoyproxy.io, kind: Backend, name: up }}]
  validation: {{ hostname: {name}, wellKnownCACertificates: System }}
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: BackendSecurityPolicy
metadata: {{ name: up }}
spec:
  targetRefs: [{{ group: aigateway.envoyproxy.io, kind: AIServiceBackend, name: up }}]
  type: APIKey
  apiKey: {{ secretRef: {{ name: up }} }}
---
apiVersion: v1
kind: Secret
metadata: {{ name: up }}
stringData: {{ apiKey: sk-upstream }}
",
        address.ip(),
        address.port()
    )
}
