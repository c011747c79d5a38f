//! What is inside the tokens of MCP: sessions, places in streams, and requests that go on later.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| fuzz::mcp_sealed(data));
