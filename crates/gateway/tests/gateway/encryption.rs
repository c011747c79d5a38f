//! HTTPS towards clients: which certificate a name is shown, and what a new one changes.

use std::sync::Arc;

use bytes::Bytes;
use config::{Resources, Snapshot, Surroundings};
use gateway::Gateway;
use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, IsCa,
    KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::fixture::{Served, options};

/// An authority whose certificates the clients of a test trust.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    /// Returns the authority's own certificate, in PEM.
    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Returns a certificate that is valid until `year`, and its key.
    pub(super) fn issue(&self, host: &str, year: i32) -> (Certificate, KeyPair) {
        let mut params = CertificateParams::new([host.to_owned()]).expect("a host name");
        params.not_after = date_time_ymd(year, 1, 1);
        self.sign(&params)
    }

    /// Returns a certificate with that serial number, and its key.
    pub(super) fn issue_numbered(&self, host: &str, number: u64) -> (Certificate, KeyPair) {
        let mut params = CertificateParams::new([host.to_owned()]).expect("a host name");
        params.serial_number = Some(SerialNumber::from(number));
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        (certificate, key)
    }

    /// Returns the list that says that the certificates with these serial numbers are void, in PEM.
    pub(super) fn revoke(&self, numbers: &[u64]) -> String {
        let long_ago = date_time_ymd(2020, 1, 1);
        let revoked = numbers.iter().map(|number| RevokedCertParams {
            serial_number: SerialNumber::from(*number),
            revocation_time: long_ago,
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: long_ago,
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.0).expect("a list");
        list.pem().expect("the list in PEM")
    }

    /// Returns a Secret called `name` with a certificate for `host`.
    pub(super) fn secret(&self, name: &str, host: &str) -> String {
        let (certificate, key) = self.issue(host, 2100);
        let indent = |pem: String| pem.replace('\n', "\n    ");
        let (chain, key) = (indent(certificate.pem()), indent(key.serialize_pem()));
        format!(
            "---\nkind: Secret\napiVersion: v1\nmetadata: {{name: {name}}}\nstringData:\n  tls.crt: |\n    {chain}\n  \
             tls.key: |\n    {key}\n"
        )
    }

    /// Connects to `served` and asks for `name`, speaking `protocol`.
    async fn connect(
        &self,
        served: &Served,
        name: &str,
        protocol: &str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        self.connect_as(None, served, name, protocol).await
    }

    /// Connects to `served` with a certificate.
    pub(super) async fn connect_as(
        &self,
        own: Option<(Certificate, KeyPair)>,
        served: &Served,
        name: &str,
        protocol: &str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut trusted = RootCertStore::empty();
        trusted.add(self.0.der().clone()).expect("a certificate");
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("known versions")
            .with_root_certificates(trusted);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivatePkcs8KeyDer::from(key.serialize_der());
                let shown = builder.with_client_auth_cert(vec![certificate.der().clone()], key.into());
                shown.expect("a certificate and its key")
            }
        };
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = TcpStream::connect(served.address).await?;
        let name = ServerName::try_from(name.to_owned()).expect("a host name");
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol.as_bytes()));
        Ok(stream)
    }
}

/// Returns what `yaml` means, with its one port moved to any that is free.
pub(super) fn snapshot(yaml: &str) -> Snapshot {
    let surroundings = Surroundings {
        environment: &|_| None,
        reader: &|_| Err("no files".to_owned()),
    };
    let mut resources = Resources::default();
    let faults = config::parse("test.yaml", yaml, &surroundings, &mut resources);
    assert_eq!(faults, []);
    let (mut snapshot, _) = config::resolve(&resources, 0);
    let (_, listener) = snapshot.listeners.pop_first().expect("one port");
    snapshot.listeners.insert(0, listener);
    snapshot
}

/// Returns a Gateway with a listener for each of `hosts`, each with the Secret that is named for it.
pub(super) fn edge(hosts: &[(&str, &str)]) -> String {
    let mut yaml =
        "kind: Gateway\napiVersion: gateway.networking.k8s.io/v1\nmetadata: {name: edge}\nspec:\n  \
                    gatewayClassName: tollgate\n  listeners:\n"
            .to_owned();
    for (host, secret) in hosts {
        yaml += &format!(
            "    - {{name: {secret}, protocol: HTTPS, port: 443, hostname: \"{host}\", tls: {{certificateRefs: [{{name: \
             {secret}}}]}}}}\n"
        );
    }
    yaml
}

pub(super) async fn serve(yaml: &str) -> Served {
    let gateway = Gateway::start(options()).await.expect("the admin port is free");
    gateway.install(snapshot(yaml)).await.expect("the port is free");
    let address = *gateway.addresses().first().expect("one listener");
    Served { gateway, address }
}

fn list(host: &str, version: Version) -> Request<Empty<Bytes>> {
    let uri = match version {
        Version::HTTP_2 => format!("https://{host}/v1/models"),
        _ => "/v1/models".to_owned(),
    };
    let mut request = Request::get(uri).version(version);
    if version != Version::HTTP_2 {
        request = request.header("host", host);
    }
    request.body(Empty::new()).expect("a request")
}

/// An HTTP/1.1 connection that is driven while it is used.
pub(super) struct Asking {
    sender: http1::SendRequest<Empty<Bytes>>,
    connection: http1::Connection<TokioIo<TlsStream<TcpStream>>, Empty<Bytes>>,
}

impl Asking {
    pub(super) async fn new(stream: TlsStream<TcpStream>) -> Self {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
        Self { sender, connection }
    }

    async fn status(&mut self, host: &str) -> StatusCode {
        self.answer(host).await.expect("the connection is open")
    }

    /// Returns the status of an answer; `None` if the connection ends in its place.
    pub(super) async fn answer(&mut self, host: &str) -> Option<StatusCode> {
        let asked = async {
            let reply = self.sender.send_request(list(host, Version::HTTP_11)).await;
            let reply = reply.ok()?;
            let status = reply.status();
            reply.into_body().collect().await.expect("a whole reply");
            Some(status)
        };
        tokio::select! {
            status = asked => status,
            _ = &mut self.connection => None,
        }
    }
}

/// Returns the certificate that the server showed.
fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    let chain = stream.get_ref().1.peer_certificates().expect("a certificate");
    chain.first().expect("a certificate").clone()
}

#[tokio::test]
async fn a_name_is_shown_the_certificate_of_its_listener() {
    let authority = Authority::new();
    let yaml = edge(&[("a.test", "a"), ("*.b.test", "b")])
        + &authority.secret("a", "a.test")
        + &authority.secret("b", "*.b.test");
    let served = serve(&yaml).await;
    for (name, serves) in [("a.test", true), ("x.b.test", true), ("c.test", false)] {
        let connected = authority.connect(&served, name, "http/1.1").await;
        assert_eq!(connected.is_ok(), serves, "{name}: {connected:?}");
        if let Ok(stream) = connected {
            assert_eq!(Asking::new(stream).await.status(name).await, StatusCode::OK);
        }
    }
    // Whoever the listener trusts is not whom another one does.
    let other = Authority::new();
    assert!(other.connect(&served, "a.test", "http/1.1").await.is_err());
}

#[tokio::test]
async fn http2_is_agreed_on() {
    let authority = Authority::new();
    let served = serve(&(edge(&[("a.test", "a")]) + &authority.secret("a", "a.test"))).await;
    let stream = authority
        .connect(&served, "a.test", "h2")
        .await
        .expect("encrypted");
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.expect("HTTP/2 is spoken");
    tokio::select! {
        reply = sender.send_request(list("a.test", Version::HTTP_2)) => {
            assert_eq!(reply.expect("a reply").status(), StatusCode::OK);
        }
        ended = connection => panic!("the connection ended: {ended:?}"),
    }
}

#[tokio::test]
async fn a_new_certificate_disturbs_no_connection() {
    let authority = Authority::new();
    let gateway = edge(&[("a.test", "a")]);
    let served = serve(&(gateway.clone() + &authority.secret("a", "a.test"))).await;
    let stream = authority.connect(&served, "a.test", "http/1.1").await;
    let stream = stream.expect("encrypted");
    let before = shown(&stream);
    let mut open = Asking::new(stream).await;
    assert_eq!(open.status("a.test").await, StatusCode::OK);

    let renewed = snapshot(&(gateway + &authority.secret("a", "a.test")));
    served.gateway.install(renewed).await.expect("served already");
    assert_eq!(open.status("a.test").await, StatusCode::OK);
    let stream = authority.connect(&served, "a.test", "http/1.1").await;
    let stream = stream.expect("encrypted");
    assert_ne!(shown(&stream), before);
    assert_eq!(Asking::new(stream).await.status("a.test").await, StatusCode::OK);
}

#[tokio::test]
async fn a_connection_serves_the_hosts_of_its_listener_alone() {
    let authority = Authority::new();
    let yaml = edge(&[("a.test", "a"), ("b.test", "b")])
        + &authority.secret("a", "a.test")
        + &authority.secret("b", "b.test");
    let served = serve(&yaml).await;
    let stream = authority.connect(&served, "a.test", "http/1.1").await;
    let mut open = Asking::new(stream.expect("encrypted")).await;
    assert_eq!(open.status("a.test").await, StatusCode::OK);
    assert_eq!(open.status("b.test").await, StatusCode::MISDIRECTED_REQUEST);
}

#[tokio::test]
async fn nothing_is_served_in_clear_once_a_port_is_encrypted() {
    let clear = "kind: Gateway\napiVersion: gateway.networking.k8s.io/v1\nmetadata: {name: edge}\nspec:\n  \
                 gatewayClassName: tollgate\n  listeners: [{name: clear, protocol: HTTP, port: 443}]\n";
    let served = serve(clear).await;
    let mut client = testkit::Client::connect(served.address).await;
    client.get("/v1/models", &[]).await.expect("sent");
    assert_eq!(client.answer().await.expect("a reply").status, 200);
    let authority = Authority::new();
    let encrypted = snapshot(&(edge(&[("a.test", "a")]) + &authority.secret("a", "a.test")));
    served.gateway.install(encrypted).await.expect("served already");
    client.get("/v1/models", &[]).await.expect("sent");
    assert_eq!(client.answer().await.expect("a reply").status, 421);
}
