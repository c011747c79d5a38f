//! The gateway between MCP clients and MCP servers, on real sockets.

mod calls;
mod errors;
mod lists;
mod resume;
mod served;
mod server;
mod sessions;
mod streams;
