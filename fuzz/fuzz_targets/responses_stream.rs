//! Responses streamed by an upstream, to a client of each format.

#![no_main]

use fuzz::Only;
use libfuzzer_sys::fuzz_target;
use llm::Format;

fuzz_target!(|data: &[u8]| fuzz::stream(&Only(Format::Responses), data));
