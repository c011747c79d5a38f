//! Messages of the Model Context Protocol: what is read comes back, and what is rewritten stays a message.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| fuzz::mcp_message(data));
