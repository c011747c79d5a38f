//! Documents that are no chat: what each provider is sent for them, and their replies.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| fuzz::documents(data));
