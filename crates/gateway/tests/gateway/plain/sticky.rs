//! Services whose clients go to one of their endpoints each.

use std::net::{Ipv4Addr, SocketAddr};

use testkit::{Reply, Upstream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
};

use super::{EVERYTHING, Setup};

/// Asks from an address of this machine.
async fn ask(at: SocketAddr, from: u8) {
    let socket = TcpSocket::new_v4().expect("a socket");
    let own = SocketAddr::from((Ipv4Addr::new(127, 0, 0, from), 0));
    socket.bind(own).expect("an address of this machine");
    let mut stream = socket.connect(at).await.expect("listening");
    let request = b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Returns how many requests each of two endpoints has seen: of one client that asks 12 times, and then of 40.
async fn asked(affinity: &str, policy: &str) -> ([usize; 2], [usize; 2]) {
    let reply = || Reply::whole(200, &[], "");
    let upstreams = vec![Upstream::start(reply()).await, Upstream::start(reply()).await];
    let ports: Vec<String> = upstreams
        .iter()
        .map(|upstream| format!("{{port: {}}}", upstream.address().port()))
        .collect();
    let yaml = format!(
        "{}---\napiVersion: v1\nkind: Service\nmetadata: {{name: sticky}}\nspec: {{ports: [{{port: 8080}}], sessionAffinity: \
         {affinity}}}\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: sticky, labels: \
         {{kubernetes.io/service-name: sticky}}}}\naddressType: IPv4\nendpoints: [{{addresses: [127.0.0.1]}}]\nports: \
         [{}]\n{policy}",
        EVERYTHING.replace("name: v1", "name: sticky"),
        ports.join(", "),
    );
    let setup = Setup::over(&yaml, upstreams).await;
    let seen = || {
        let mut counts = setup.upstreams.iter().map(|upstream| upstream.requests().len());
        [
            counts.next().unwrap_or_default(),
            counts.next().unwrap_or_default(),
        ]
    };
    for _ in 0..12 {
        ask(setup.served.address, 7).await;
    }
    let first = seen();
    for from in 10..50 {
        ask(setup.served.address, from).await;
    }
    (first, seen())
}

#[tokio::test]
async fn a_client_goes_to_one_endpoint_of_a_service() {
    let policy = "---\napiVersion: gateway.envoyproxy.io/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {name: \
                  again}\nspec:\n  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge}]\n  retry: \
                  {numRetries: 1}\n";
    for policy in ["", policy] {
        let (first, all) = asked("ClientIP", policy).await;
        assert!(first == [12, 0] || first == [0, 12], "{first:?} {policy}");
        assert!(all.iter().all(|count| *count >= 4), "{all:?} {policy}");
    }
}

#[tokio::test]
async fn a_policy_may_choose_otherwise() {
    let policy = "---\napiVersion: gateway.envoyproxy.io/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {name: \
                  turns}\nspec:\n  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge}]\n  \
                  loadBalancer: {type: RoundRobin}\n";
    assert_eq!(asked("ClientIP", policy).await, ([6, 6], [26, 26]));
    assert_eq!(asked("None", policy).await, ([6, 6], [26, 26]));
}
