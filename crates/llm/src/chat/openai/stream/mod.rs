//! Both directions of the format's streams.

mod choice;
mod chunk;
mod decode;
mod encode;

#[cfg(test)]
mod tests;

pub(super) use decode::Decoder;
pub(super) use encode::{Encoder, KEEP_ALIVE};
