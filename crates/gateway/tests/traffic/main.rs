//! What a BackendTrafficPolicy makes of a rule's upstreams, on real sockets. All of it is configured as users do
//! it, in YAML.

mod balance;
mod breaker;
mod encryption;
mod fallback;
mod fault;
mod health;
mod http2;
mod plain;
mod serving;
mod setup;
mod socket;
mod table;
