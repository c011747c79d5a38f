//! The gateway as an MCP server over standard input and output, for clients that start their servers as programs.
//!
//! Messages come and go a line each. Every one goes through the gateway as a request over HTTP would, on a connection
//! inside the process, so that nothing is done twice and no port is open.

mod exchange;
mod talk;

use anyhow::bail;
use config::Snapshot;
use http::{HeaderMap, HeaderValue, header};

pub(crate) use talk::serve;

/// Which route is spoken to, and what it is told of the client.
#[derive(Clone, Debug)]
pub(crate) struct Front {
    /// The port that the configuration declares for it.
    port: u16,
    path: String,
    headers: HeaderMap,
}

impl Front {
    /// Returns the way to the route at `path` of `snapshot`; to its only one if no path is given. `headers` are sent with
    /// every request.
    ///
    /// # Errors
    /// If there is none, or it is not clear which.
    pub(crate) fn find(snapshot: &Snapshot, path: Option<&str>, headers: HeaderMap) -> anyhow::Result<Self> {
        let listeners = snapshot.listeners.iter();
        let mut routes: Vec<(u16, &str)> = listeners
            .flat_map(|(port, listener)| listener.mcp.routes().map(|route| (*port, route.path.as_str())))
            .filter(|(_, own)| path.is_none_or(|path| path == *own))
            .collect();
        routes.dedup_by_key(|(_, path)| *path);
        match (routes.as_slice(), path) {
            ([(port, path), ..], Some(_)) | ([(port, path)], None) => Ok(Self {
                port: *port,
                path: (*path).to_owned(),
                headers: about(headers),
            }),
            ([], Some(path)) => bail!("no MCPRoute is served at {path}"),
            ([], None) => bail!("no MCPRoute is served"),
            (several, None) => {
                let paths: Vec<&str> = several.iter().map(|(_, path)| *path).collect();
                bail!("--path must say which MCPRoute is meant: {}", paths.join(", "))
            }
        }
    }
}

fn about(mut headers: HeaderMap) -> HeaderMap {
    let local = HeaderValue::from_static("localhost");
    headers.entry(header::HOST).or_insert(local);
    headers
}
