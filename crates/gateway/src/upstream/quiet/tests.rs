//! Replies as servers send them, whole and in pieces.

use std::future::poll_fn;

use http::header;
use proptest::prelude::{any, proptest};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// Sends the pieces as the reply to a request; returns what was asked, the head, the body, and how it broke if it did.
async fn ask(pieces: &[&[u8]]) -> (String, Result<(Response<()>, Vec<u8>, Option<Broken>), Broken>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let answer = async {
        let (mut stream, _) = listener.accept().await.expect("accepted");
        stream.set_nodelay(true).expect("a socket");
        let mut asked = vec![0; 4096];
        let length = stream.read(&mut asked).await.expect("a request");
        for piece in pieces {
            // Whoever has heard enough goes away.
            let _ = stream.write_all(piece).await;
            tokio::task::yield_now().await;
        }
        asked.truncate(length);
        String::from_utf8(asked).expect("text")
    };
    let listen = async {
        let stream = TcpStream::connect(address).await.expect("listening");
        let request = Request::get("/mcp?key=a%20b")
            .header(header::HOST, "tools.test")
            .header("mcp-session-id", "s-1")
            .body(())
            .expect("a request");
        let (head, mut body) = send(Io::Plain(stream), &request).await?.into_parts();
        let (mut whole, mut broken) = (Vec::new(), None);
        while let Some(frame) = poll_fn(|cx| body.poll(cx)).await {
            match frame {
                Ok(frame) => whole.extend_from_slice(&frame.into_data().expect("data")),
                Err(error) => broken = Some(error),
            }
        }
        assert!(body.is_end_stream());
        Ok((Response::from_parts(head, ()), whole, broken))
    };
    tokio::join!(answer, listen)
}

#[tokio::test]
async fn a_request_is_written_and_its_reply_read() {
    let (asked, replied) = ask(&[
        b"HTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n",
        b"set-cookie: a\r\nset-cookie: b\r\ntransfer-encoding: chunked\r\n\r\n5;x=\"y\"\r\nhel",
        b"lo\r\n2 \r\n, \r\n5\r\nworld\r\n0\r\nlast: no\r\n\r\n",
    ])
    .await;
    assert_eq!(
        asked,
        "GET /mcp?key=a%20b HTTP/1.1\r\nhost: tools.test\r\nmcp-session-id: s-1\r\n\r\n"
    );
    let (head, body, broken) = replied.expect("a reply");
    assert_eq!(head.status(), StatusCode::OK);
    assert_eq!(head.headers()[header::CONTENT_TYPE], "text/event-stream");
    assert_eq!(head.headers().get_all("set-cookie").iter().count(), 2);
    assert_eq!(String::from_utf8_lossy(&body), "hello, world");
    assert!(broken.is_none(), "{broken:?}");
}

#[tokio::test]
async fn bodies_end_as_they_are_framed() {
    let check = async |head: &str, rest: &str, wanted: Option<&str>| {
        let reply = format!("HTTP/1.1 {head}\r\n\r\n{rest}");
        let (_, replied) = ask(&[reply.as_bytes()]).await;
        let whole = replied.ok().filter(|(_, _, broken)| broken.is_none());
        let body = whole.map(|(_, body, _)| String::from_utf8_lossy(&body).into_owned());
        assert_eq!(body.as_deref(), wanted, "{reply:?}");
    };
    check("200 OK\r\ncontent-length: 2", "ab", Some("ab")).await;
    check("200 OK\r\ncontent-length: 2", "abc", Some("ab")).await;
    check("200 OK\r\ncontent-length: 3", "ab", None).await;
    check(
        "200 OK\r\ncontent-length: 2\r\ncontent-length: 2",
        "ab",
        Some("ab"),
    )
    .await;
    check("200 OK\r\ncontent-length: 2\r\ncontent-length: 3", "abc", None).await;
    check("200 OK\r\ncontent-length: +2", "ab", None).await;
    check("200 OK", "until the end", Some("until the end")).await;
    check("204 No Content\r\ncontent-length: 2", "ab", Some("")).await;
    check("405 Method Not Allowed\r\ncontent-length: 0", "", Some("")).await;
    check("200 OK\r\ntransfer-encoding: gzip", "zzz", Some("zzz")).await;
    let chunked = "200 OK\r\ntransfer-encoding: gzip, Chunked\r\ncontent-length: 1";
    check(chunked, "1\r\na\r\n0\r\n\r\n", Some("a")).await;
    check(chunked, "1\r\na\r\n", None).await;
    check(chunked, "1\r\nab\r\n0\r\n\r\n", None).await;
    check(chunked, "\r\na\r\n0\r\n\r\n", None).await;
    check(chunked, "g\r\na\r\n0\r\n\r\n", None).await;
    check(chunked, "1\na\n0\n\n", None).await;
    check(chunked, "1;x\na\r\n0\r\n\r\n", None).await;
    check(chunked, "fffffffffffffffff\r\na", None).await;
    check(
        chunked,
        &format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(9000)),
        None,
    )
    .await;
    check("two hundred", "", None).await;
    check("200 OK\r\nno colon", "", None).await;
}

#[tokio::test]
async fn a_head_is_bounded() {
    let header = format!("x: {}\r\n", "y".repeat(8000));
    let large = format!("HTTP/1.1 200 OK\r\n{}", header.repeat(40));
    let (_, replied) = ask(&[large.as_bytes()]).await;
    assert!(matches!(replied, Err(Broken::Large)));
    let (_, replied) = ask(&[]).await;
    assert!(matches!(replied, Err(Broken::Cut)));
}

/// Returns what is read of a chunked body that arrives in these pieces.
fn unchunked(pieces: &[&[u8]]) -> Vec<u8> {
    let mut framing = Framing::Chunked(framing::Chunk::Size(None));
    let mut whole = Vec::new();
    for piece in pieces {
        let mut read = Bytes::copy_from_slice(piece);
        while let Some(data) = framing.next(&mut read).expect("well-formed") {
            whole.extend_from_slice(&data);
        }
    }
    assert!(framing.is_end());
    whole
}

proptest! {
    #[test]
    fn any_split_of_a_body_is_the_same(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6),
        cut in proptest::collection::vec(1..9_usize, 1..20),
    ) {
        let mut sent = Vec::new();
        for chunk in &chunks {
            sent.extend_from_slice(format!("{:x};a\r\n", chunk.len()).as_bytes());
            sent.extend_from_slice(chunk);
            sent.extend_from_slice(b"\r\n");
        }
        sent.extend_from_slice(b"0\r\nt: u\r\n\r\n");
        let mut pieces = Vec::new();
        let (mut rest, mut cuts) = (sent.as_slice(), cut.iter().cycle());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(*cuts.next().expect("endless")));
            pieces.push(piece);
            rest = after;
        }
        assert_eq!(unchunked(&pieces), chunks.concat());
    }

    #[test]
    fn whatever_comes_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = head(&bytes);
        let mut framing = Framing::Chunked(framing::Chunk::Size(None));
        let mut read = Bytes::from(bytes);
        while let Ok(Some(_)) = framing.next(&mut read) {}
    }
}
