//! Policies, one folder each: what a resource says (`spec`), what it means once resolved, and its application.
//!
//! A policy does no IO. Where one needs the outside it will go through a port trait that the gateway serves.

pub mod body;
pub mod headers;
