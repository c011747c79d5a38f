//! Tokens, ids, names and URIs that clients of MCP send back: what was not issued opens nothing.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| fuzz::mcp_token(&String::from_utf8_lossy(data)));
