//! The gateway between MCP clients and MCP servers, on real sockets.

mod attached;
mod bridged;
mod cached;
mod calls;
mod errors;
mod failures;
mod guarded;
mod healed;
mod issued;
mod lasting;
mod lent;
mod lists;
mod login;
mod measured;
mod modern;
mod offered;
mod owners;
mod paged;
mod permitted;
mod pinned;
mod plain;
#[cfg(unix)]
mod programs;
mod records;
mod resume;
mod served;
mod server;
mod sessions;
mod streams;
mod subscriptions;
mod treated;
