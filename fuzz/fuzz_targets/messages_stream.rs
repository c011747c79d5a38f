//! Messages streamed by an upstream, to a client of each format.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm::provider::Anthropic;

fuzz_target!(|data: &[u8]| fuzz::stream(&Anthropic, data));
