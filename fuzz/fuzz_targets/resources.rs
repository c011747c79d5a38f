//! Configuration: documents of any text, parsed and resolved.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| fuzz::resources(text));
