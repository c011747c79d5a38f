//! Gemini replies streamed by an upstream, to a client of each format.

#![no_main]

use libfuzzer_sys::fuzz_target;
use llm::provider::AiStudio;

fuzz_target!(|data: &[u8]| fuzz::stream(&AiStudio, data));
