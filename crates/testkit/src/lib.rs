//! Scripted upstreams and clients: what tests and benchmarks put on either side of the gateway.
