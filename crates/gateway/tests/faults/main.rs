//! What clients, upstreams and the books see when something breaks, on real sockets.
//!
//! `matrix` crosses every fault of an upstream with both client formats, both upstream formats, unary and
//! streamed, with one backend and with a fallback of either format. `clients` turns to clients that are
//! slow or go away, `load` to swaps and the end under load. All of it is configured as users do it, in YAML.

mod clients;
mod fault;
mod load;
mod matrix;
mod setup;
