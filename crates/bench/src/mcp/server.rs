//! The mock MCP server: one reply to each method, with the request's id.

use serde_json::{Value, json};

use crate::upstream::unary;

/// A server, chosen by the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    /// How many tools it has.
    tools: usize,
    /// Whether calls are answered by streams.
    stream: bool,
}

/// What its tools answer.
pub(super) const SAID: &str = "hello MCP";

impl Server {
    /// Reads `/mcp/<tools>/<json or sse>`.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let (tools, manner) = path.strip_prefix("/mcp/")?.split_once('/')?;
        Some(Self {
            tools: tools.parse().ok()?,
            stream: manner == "sse",
        })
    }

    /// Returns the path.
    pub(super) fn path(tools: usize, stream: bool) -> String {
        format!("/mcp/{tools}/{}", if stream { "sse" } else { "json" })
    }

    /// Returns the whole reply to a request with this body, or to one without.
    pub(crate) fn reply(self, body: &str) -> Vec<u8> {
        let Ok(message) = serde_json::from_str::<Value>(body) else {
            // A stream that says nothing.
            return b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n\
                d\r\n: listening\n\n\r\n"
                .to_vec();
        };
        let id = &message["id"];
        let method = message["method"].as_str().unwrap_or_default();
        if id.is_null() {
            return b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n".to_vec();
        }
        let result = match method {
            "initialize" => json!({ "protocolVersion": "2025-11-25", "capabilities": { "tools": {} },
                "serverInfo": { "name": "mock", "version": "1" } }),
            "tools/list" => json!({ "tools": self.list() }),
            _ => json!({ "content": [{ "type": "text", "text": SAID }] }),
        };
        let answer = json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string();
        if method == "initialize" {
            let session = "HTTP/1.1 200 OK\r\nmcp-session-id: bench\r\n";
            let whole = String::from_utf8_lossy(&unary("200 OK", &answer)).into_owned();
            return whole.replacen("HTTP/1.1 200 OK\r\n", session, 1).into_bytes();
        }
        if self.stream && method == "tools/call" {
            let event = format!("event: message\ndata: {answer}\n\n");
            let len = event.len();
            return format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {len}\r\n\r\n{event}"
            )
            .into_bytes();
        }
        unary("200 OK", &answer)
    }

    fn list(self) -> Vec<Value> {
        let tool = |index: usize| {
            json!({ "name": format!("tool_{index}"), "description": "does one thing and says so",
                "inputSchema": { "type": "object", "properties": { "text": { "type": "string" } } } })
        };
        (0..self.tools).map(tool).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_whole_and_carry_the_id() {
        let server = Server::parse(&Server::path(3, true)).expect("a path");
        assert_eq!(
            server,
            Server {
                tools: 3,
                stream: true
            }
        );
        assert_eq!(Server::parse("/v1/messages"), None);
        let check = |method: &str, wanted: &str| {
            let request = json!({ "jsonrpc": "2.0", "id": 7, "method": method }).to_string();
            let reply = String::from_utf8(server.reply(&request)).expect("text");
            assert!(
                reply.starts_with("HTTP/1.1 200") && reply.contains(r#""id":7"#),
                "{reply}"
            );
            assert!(reply.contains(wanted), "{reply}");
        };
        check("initialize", "mcp-session-id: bench");
        check("tools/list", "tool_2");
        check("tools/call", "event: message\ndata: {");
    }
}
