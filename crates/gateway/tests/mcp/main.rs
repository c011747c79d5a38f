//! The gateway between MCP clients and MCP servers, on real sockets.

mod bridged;
mod calls;
mod errors;
mod lists;
mod modern;
#[cfg(unix)]
mod programs;
mod resume;
mod served;
mod server;
mod sessions;
mod streams;
mod subscriptions;
