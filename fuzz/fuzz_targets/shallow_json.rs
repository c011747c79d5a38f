//! The shallow reader: what is not edited stays byte for byte.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| fuzz::shallow(data));
