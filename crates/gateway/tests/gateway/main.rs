//! The gateway between scripted clients and upstreams, on real sockets.

mod access;
mod access_log;
mod admin;
mod bedrock;
mod credential;
mod decisions;
mod disconnect;
mod documents;
mod drain;
mod encryption;
mod errors;
mod fixture;
mod headers;
mod http2;
mod kept;
mod limits;
mod matrix;
mod models;
mod plain;
mod relay;
mod reload;
mod retry;
mod speech;
mod stream;
mod translate;
mod upload;
