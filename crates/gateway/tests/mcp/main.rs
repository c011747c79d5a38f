//! The gateway between MCP clients and MCP servers, on real sockets.

mod calls;
mod errors;
mod lists;
#[cfg(unix)]
mod programs;
mod resume;
mod served;
mod server;
mod sessions;
mod streams;
