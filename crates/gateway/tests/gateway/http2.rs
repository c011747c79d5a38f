//! Cleartext HTTP/2 on the same port.

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use testkit::{Reply, Upstream, fixture};
use tokio::net::TcpStream;

use crate::fixture::{CHAT, MODEL, openai, serve};

#[tokio::test]
async fn requests_share_a_connection() {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let served = serve([openai(&upstream)]).await;
    let stream = TcpStream::connect(served.address).await.expect("listening");
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.expect("HTTP/2 is spoken");
    let ask = async |model: &str| {
        let body = fixture::openai::request(model, false).to_string();
        let request = Request::post(format!("http://gateway.test{CHAT}"))
            .body(Full::new(Bytes::from(body)))
            .expect("a request");
        let response = sender.clone().send_request(request).await.expect("a reply");
        assert_eq!(response.version(), Version::HTTP_2);
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        (status, body)
    };
    let asked = async {
        let (good, bad) = tokio::join!(ask(MODEL), ask("unknown"));
        assert_eq!(good, (200, fixture::openai::response("gpt")));
        assert_eq!((bad.0, &bad.1["error"]["code"]), (404, &"model_not_found".into()));
    };
    tokio::select! {
        () = asked => {}
        ended = connection => panic!("the connection ended: {ended:?}"),
    }
}
