//! Pickers that are called encrypted: with any certificate, or with one that a policy has checked.

#![expect(
    clippy::disallowed_methods,
    reason = "the encrypted side runs beside the test"
)]

use std::{net::SocketAddr, sync::Arc};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use testkit::{Picker, picker::Plan};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::setup::{Pool, Setup, pod};

/// An encrypted way to a picker; ends when dropped.
struct Encrypted {
    address: SocketAddr,
    /// The certificate that it shows.
    certificate: String,
    _serving: JoinSet<()>,
}

impl Encrypted {
    async fn to(picker: SocketAddr) -> Self {
        let own = generate_simple_self_signed(["epp.test".to_owned()]);
        let CertifiedKey { cert, signing_key } = own.expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .expect("a certificate and its key");
        config.alpn_protocols = vec![b"h2".to_vec()];
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
                    let Ok(mut secured) = acceptor.accept(stream).await else {
                        return;
                    };
                    let mut to = TcpStream::connect(picker).await.expect("the picker listens");
                    // Either side may break off.
                    let _ = copy_bidirectional(&mut secured, &mut to).await;
                });
            }
        });
        Self {
            address,
            certificate: cert.pem(),
            _serving: serving,
        }
    }
}

/// Returns a policy for the picker's Service, which trusts `certificate`.
fn policy(certificate: &str, host: &str) -> String {
    let indented = certificate.replace('\n', "\n    ");
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: ca}}\ndata:\n  ca.crt: |\n    {indented}\n---\napiVersion: \
         gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {{name: epp}}\nspec:\n  targetRefs: [{{group: \
         \"\", kind: Service, name: picker}}]\n  validation: {{hostname: {host}, caCertificateRefs: [{{group: \"\", kind: \
         ConfigMap, name: ca}}]}}\n"
    )
}

#[tokio::test]
async fn any_certificate_will_do_unless_a_policy_says_whose() {
    let pod = pod().await;
    let target = pod.address();
    let picker = Picker::start(move |_, _| Plan::to(&[target])).await;
    let way = Encrypted::to(picker.address()).await;
    let other = Encrypted::to(picker.address()).await;
    let pool = Pool {
        encrypted: true,
        ..Pool::of(way.address)
    };
    let cases = [
        (String::new(), 200),
        (policy(&way.certificate, "epp.test"), 200),
        (policy(&way.certificate, "other.test"), 503),
        (policy(&other.certificate, "epp.test"), 503),
    ];
    for (beside, status) in cases {
        let setup = Setup::start(pool.clone().beside(&beside)).await;
        assert_eq!(setup.ask().await.status, status, "{beside}");
    }
    assert_eq!(picker.seen().len(), 2);
}
