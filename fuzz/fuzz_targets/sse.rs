//! Server-sent events: any split of the bytes gives the same frames.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| fuzz::sse(data));
