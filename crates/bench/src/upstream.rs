//! The mock upstream: a single-threaded HTTP/1.1 server that answers chat completions and messages requests with
//! fixed replies, as cheaply as it can.
//!
//! It is written on bare sockets instead of a server library for two reasons: it must cost little beside what is
//! measured, and a stream must leave it in exactly the writes that a case asks for. It understands what proxies
//! send (a head and a `Content-Length`), and refuses the rest.

use std::{
    cell::Cell,
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use anyhow::{Context, bail};
use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::LocalSet,
};

use crate::{contender, mcp, script};

/// How much is read at once.
const READ: usize = 256 << 10;
/// The most that a head may have.
const MAX_HEAD: usize = 64 << 10;
/// `"stream":true` is looked for in this much of the start and of the end of a body. Reading all of a 10 MB
/// prompt would cost more than answering it.
const SEARCHED: usize = 4 << 10;

/// How replies are given, from the next request on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manner {
    /// Between two writes of a stream.
    pub(crate) pace: Duration,
    /// Between the end of a request and its reply.
    pub(crate) hold: Duration,
    /// Events in one write of a stream, less one.
    pub(crate) joined: u32,
}

impl Manner {
    /// Returns the path that sets this manner.
    pub(crate) fn path(self) -> String {
        let Self { pace, hold, joined } = self;
        format!("/manner/{}/{}/{joined}", pace.as_millis(), hold.as_millis())
    }

    fn parse(path: &str) -> Option<Self> {
        let mut fields = path.strip_prefix("/manner/")?.split('/').map(str::parse);
        let mut next = || fields.next()?.ok();
        Some(Self {
            pace: Duration::from_millis(next()?),
            hold: Duration::from_millis(next()?),
            joined: u32::try_from(next()?).ok()?,
        })
    }
}

/// Serves until the process ends.
pub(crate) fn serve(port: u16) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tasks = LocalSet::new();
    tasks.block_on(&runtime, async {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}"))?;
        let replies = Rc::new(Replies::new());
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let replies = Rc::clone(&replies);
            // A connection that breaks is seen by the load generator, which counts it.
            tokio::task::spawn_local(async move { connection(stream, &replies).await.ok() });
        }
    })
}

/// Every reply, ready to be written.
struct Replies {
    manner: Cell<Manner>,
    chat: Vec<u8>,
    chat_stream: Vec<Vec<u8>>,
    chat_stream_usage: Vec<Vec<u8>>,
    messages: Vec<u8>,
    messages_stream: Vec<Vec<u8>>,
    converse_stream: Vec<Vec<u8>>,
    gemini_stream: Vec<Vec<u8>>,
}

impl Replies {
    fn new() -> Self {
        Self {
            manner: Cell::default(),
            chat: unary("200 OK", &script::chat_reply()),
            chat_stream: events(script::chat_stream(false)),
            chat_stream_usage: events(script::chat_stream(true)),
            messages: unary("200 OK", &script::messages_reply()),
            messages_stream: events(script::messages_stream()),
            converse_stream: chunked("application/vnd.amazon.eventstream", script::converse_stream()),
            gemini_stream: events(script::gemini_stream()),
        }
    }
}

pub(crate) fn unary(status: &str, body: &str) -> Vec<u8> {
    let len = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len}\r\n\r\n{body}")
        .into_bytes()
}

fn events(events: Vec<String>) -> Vec<Vec<u8>> {
    chunked(
        "text/event-stream",
        events.into_iter().map(String::into_bytes).collect(),
    )
}

/// Returns head, events and end of a stream, each in HTTP's framing.
fn chunked(kind: &str, events: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let events = events.iter().map(|event| {
        let length = format!("{:x}\r\n", event.len());
        [length.as_bytes(), event, b"\r\n"].concat()
    });
    let mut parts = vec![head.into_bytes()];
    parts.extend(events);
    parts.push(b"0\r\n\r\n".to_vec());
    parts
}

async fn connection(mut stream: TcpStream, replies: &Replies) -> anyhow::Result<()> {
    let mut buffer = BytesMut::with_capacity(READ);
    while let Some(head) = read_head(&mut stream, &mut buffer).await? {
        let body = read_body(&mut stream, &mut buffer, head.content_length).await?;
        if let Some(manner) = Manner::parse(&head.path) {
            replies.manner.set(manner);
            stream.write_all(&unary("200 OK", "{}")).await?;
            continue;
        }
        let manner = replies.manner.get();
        if !manner.hold.is_zero() {
            tokio::time::sleep(manner.hold).await;
        }
        if let Some(server) = mcp::server::Server::parse(&head.path) {
            stream.write_all(&server.reply(&body.text())).await?;
            continue;
        }
        match (head.path.as_str(), body.says("stream")) {
            ("/v1/chat/completions", false) => stream.write_all(&replies.chat).await?,
            ("/v1/chat/completions", true) if body.says("include_usage") => {
                write_stream(&mut stream, &replies.chat_stream_usage, manner).await?;
            }
            ("/v1/chat/completions", true) => write_stream(&mut stream, &replies.chat_stream, manner).await?,
            ("/v1/messages", false) => stream.write_all(&replies.messages).await?,
            ("/v1/messages", true) => write_stream(&mut stream, &replies.messages_stream, manner).await?,
            (path, _) if path.ends_with("/converse-stream") => {
                write_stream(&mut stream, &replies.converse_stream, manner).await?;
            }
            (path, _) if path.ends_with(":streamGenerateContent?alt=sse") => {
                write_stream(&mut stream, &replies.gemini_stream, manner).await?;
            }
            (contender::RECEIVER, _) => stream.write_all(&unary("200 OK", "{}")).await?,
            (path, _) => {
                let refusal =
                    serde_json::json!({"error": {"message": format!("the mock does not serve {path}")}});
                stream
                    .write_all(&unary("404 Not Found", &refusal.to_string()))
                    .await?;
            }
        }
    }
    Ok(())
}

async fn write_stream(stream: &mut TcpStream, parts: &[Vec<u8>], manner: Manner) -> anyhow::Result<()> {
    let joined = usize::try_from(manner.joined)? + 1;
    for (index, parts) in parts.chunks(joined).enumerate() {
        if index > 0 && !manner.pace.is_zero() {
            tokio::time::sleep(manner.pace).await;
        }
        match parts {
            [part] => stream.write_all(part).await?,
            parts => stream.write_all(&parts.concat()).await?,
        }
    }
    Ok(())
}

struct Head {
    path: String,
    content_length: usize,
}

/// Returns the next head, or `None` once the peer has closed between two requests.
async fn read_head(stream: &mut TcpStream, buffer: &mut BytesMut) -> anyhow::Result<Option<Head>> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if buffer.len() > MAX_HEAD {
            bail!("head is too large");
        }
        buffer.reserve(READ);
        if stream.read_buf(buffer).await? == 0 {
            if buffer.is_empty() {
                return Ok(None);
            }
            bail!("connection ended within a head");
        }
    };
    let head = buffer.split_to(end);
    buffer.advance(4);
    let head = std::str::from_utf8(&head)?;
    let mut lines = head.split("\r\n");
    let path = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .context("no request line")?;
    let mut content_length = 0;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            content_length = value.trim().parse()?;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            stream.write_all(&unary("411 Length Required", "{}")).await?;
            bail!("request without a length");
        }
    }
    Ok(Some(Head {
        path: path.to_owned(),
        content_length,
    }))
}

/// The two ends of a body.
#[derive(Default)]
struct Body {
    start: Vec<u8>,
    end: Vec<u8>,
}

impl Body {
    fn push(&mut self, bytes: &[u8]) {
        let room = SEARCHED.saturating_sub(self.start.len()).min(bytes.len());
        let (start, rest) = bytes.split_at(room);
        self.start.extend_from_slice(start);
        let (_, tail) = rest.split_at(rest.len().saturating_sub(SEARCHED));
        self.end.extend_from_slice(tail);
        let surplus = self.end.len().saturating_sub(SEARCHED);
        self.end.drain(..surplus);
    }

    /// Returns the start, which is all of a small body.
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.start).into_owned()
    }

    /// Whether `key` is true, in either of the two usual spacings.
    fn says(&self, key: &str) -> bool {
        let tight = format!(r#""{key}":true"#);
        let loose = format!(r#""{key}": true"#);
        [&self.start, &self.end].iter().any(|part| {
            // Strings are searched with vector instructions, slices of bytes are not.
            let part = String::from_utf8_lossy(part);
            part.contains(&tight) || part.contains(&loose)
        })
    }
}

async fn read_body(stream: &mut TcpStream, buffer: &mut BytesMut, len: usize) -> anyhow::Result<Body> {
    let mut body = Body::default();
    let mut left = len;
    loop {
        let here = left.min(buffer.len());
        body.push(&buffer.split_to(here));
        left -= here;
        if left == 0 {
            return Ok(body);
        }
        buffer.reserve(READ);
        if stream.read_buf(buffer).await? == 0 {
            bail!("connection ended within a body");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manner_travels_in_the_path() {
        let manner = Manner {
            pace: Duration::from_millis(5),
            hold: Duration::from_secs(1),
            joined: 3,
        };
        assert_eq!(Manner::parse(&manner.path()), Some(manner));
        assert_eq!(Manner::parse("/v1/messages"), None);
    }

    #[test]
    fn stream_is_found_at_both_ends_however_the_body_is_cut() {
        let check = |body: &str, cut: usize, wanted: bool| {
            let mut seen = Body::default();
            body.as_bytes().chunks(cut).for_each(|piece| seen.push(piece));
            assert_eq!(seen.says("stream"), wanted, "cut at {cut}");
        };
        let filler = "x".repeat(20_000);
        for cut in [1, 7, 4096, 5000, 100_000] {
            check(&format!(r#"{{"stream":true,"text":"{filler}"}}"#), cut, true);
            check(&format!(r#"{{"text":"{filler}","stream": true}}"#), cut, true);
            check(&format!(r#"{{"text":"{filler}","stream":false}}"#), cut, false);
            check(r#"{"stream":true}"#, cut, true);
        }
    }
}
