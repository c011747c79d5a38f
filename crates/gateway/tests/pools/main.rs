//! Inference pools on real sockets: pickers that keep to the protocol and those that fail, and the pods that they name.

mod encrypted;
mod failing;
mod picked;
mod plain;
mod replies;
mod setup;
