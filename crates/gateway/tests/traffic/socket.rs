//! Upstreams of the same machine, at Unix sockets.

#![expect(clippy::disallowed_methods, reason = "the socket is served beside the test")]

use std::path::Path;

use testkit::Upstream;
use tokio::{
    io::copy_bidirectional,
    net::{TcpStream, UnixListener},
    task::JoinSet,
};

use crate::setup::{Setup, good, socket};

/// Has `upstream` reached at the socket `path` too; until what is returned is dropped.
fn serve(path: &Path, upstream: &Upstream) -> JoinSet<()> {
    let listener = UnixListener::bind(path).expect("the folder is new");
    let to = upstream.address();
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                if let Ok(mut upstream) = TcpStream::connect(to).await {
                    // Either side may go away.
                    let _ = copy_bidirectional(&mut stream, &mut upstream).await;
                }
            });
        }
    });
    serving
}

#[tokio::test]
async fn a_socket_is_called() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, upstream) = (folder.path().join("model.sock"), good().await);
    let _serving = serve(&path, &upstream);
    let setup = Setup::beside("", &[socket(&path)]).await;
    for count in 1..=2 {
        assert_eq!(setup.ask().await.status, 200);
        let requests = upstream.requests();
        assert_eq!(requests.len(), count);
        assert_eq!(requests.last().expect("a request").header("host"), "localhost");
    }
    assert_eq!(upstream.connections(), 1, "the connection is kept");
}

#[tokio::test]
async fn where_no_socket_is_another_backend_is_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, upstream) = (folder.path().join("none.sock"), good().await);
    let setup = Setup::beside("", &[socket(&path)]).await;
    let answer = setup.ask().await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    let backends = [socket(&path), crate::setup::at(&upstream).after(1)];
    let setup = Setup::start("timeout: {}", &backends).await;
    assert_eq!(setup.ask().await.status, 200);
}
