//! Converse streamed by an upstream, to a client of each format.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| fuzz::converse(text));
