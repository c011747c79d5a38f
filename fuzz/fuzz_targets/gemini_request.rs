//! Gemini requests from a client, said to an upstream of each format.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| fuzz::request("/v1beta/models/m:generateContent", data));
