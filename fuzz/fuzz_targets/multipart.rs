//! Forms with files, in any pieces, and with one field replaced.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| fuzz::multipart(data));
