//! A proxy that takes CONNECT, and remembers what it was asked.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::upstream::{parse_headers, read_until_blank_line};

/// A proxy on the loopback interface; stops when dropped.
pub struct Tunnel {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    _serving: JoinSet<()>,
}

impl Tunnel {
    /// Returns a proxy that serves whoever sends `credentials` as `proxy-authorization`, and refuses others with
    /// 407; everybody where it is `None`. Wherever it is asked to connect to, it connects to that port of the
    /// loopback interface.
    ///
    /// # Panics
    /// If there is no port.
    #[expect(clippy::disallowed_methods, reason = "the proxy serves until it is dropped")]
    pub async fn start(credentials: Option<&str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("the port has an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let wanted = credentials.map(str::to_owned);
        let mut serving = JoinSet::new();
        let noted = Arc::clone(&asked);
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (noted, wanted) = (Arc::clone(&noted), wanted.clone());
                connections.spawn(async move {
                    // Who goes away has no more to ask.
                    let _ = serve(stream, &noted, wanted.as_deref()).await;
                });
            }
        });
        Self {
            address,
            asked,
            _serving: serving,
        }
    }

    /// Returns where the proxy listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the first lines of what it was asked.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(mut stream: TcpStream, asked: &Mutex<Vec<String>>, wanted: Option<&str>) -> io::Result<()> {
    let mut buffer = Vec::new();
    let Some(_) = read_until_blank_line(&mut stream, &mut buffer).await? else {
        return Ok(());
    };
    let head = String::from_utf8_lossy(&buffer).into_owned();
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap_or_default().to_owned();
    let headers = parse_headers(lines);
    let port = line
        .strip_prefix("CONNECT ")
        .and_then(|rest| rest.split(' ').next()?.rsplit(':').next()?.parse::<u16>().ok());
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    let given = headers
        .get("proxy-authorization")
        .and_then(|value| value.to_str().ok());
    let Some(port) = port else {
        return stream.write_all(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n").await;
    };
    if wanted.is_some() && given != wanted {
        return stream
            .write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            .await;
    }
    let mut upstream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream
        .write_all(b"HTTP/1.1 200 Connection established\r\nvia: tunnel\r\n\r\n")
        .await?;
    copy_bidirectional(&mut stream, &mut upstream).await?;
    Ok(())
}
