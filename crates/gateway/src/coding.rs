//! Content codings (RFC 9110, section 8.4.1): what is compressed, decoded while it arrives.
//!
//! Bytes go in, bytes come out; nothing is read ahead and nothing waits for the end. What a few bytes may stand
//! for is bounded, whatever the coding: compressed text is seldom a fiftieth of its length, and what claims to
//! be much less was made to fill our memory.

use std::io::{self, Write};

use brotli_decompressor::DecompressorWriter;
use bytes::Bytes;
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::HeaderValue;

/// How many bytes one compressed byte may stand for, and how many are allowed whatever came.
const MAX_EXPANSION: usize = 256;
const ALLOWANCE: usize = 1024 * 1024;

/// The most that zstd may look back, as a power of two: 8 MiB (RFC 9659, section 3).
const ZSTD_WINDOW: u32 = 23;

/// How much brotli decodes at once.
const PIECE: usize = 16 * 1024;

/// How something is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    /// The zlib format; some send what that wraps.
    Deflate,
    Brotli,
    Zstd,
}

/// Decodes what is compressed.
pub(crate) struct Decoder {
    inner: Inner,
    received: usize,
}

enum Inner {
    Gzip(MultiGzDecoder<Sink>),
    /// The first byte tells the format.
    Undecided,
    Zlib(ZlibDecoder<Sink>),
    Deflate(DeflateDecoder<Sink>),
    Brotli(Box<DecompressorWriter<Sink>>),
    Zstd(zstd::stream::write::Decoder<'static, Sink>),
}

/// What was decoded and not taken yet.
#[derive(Default)]
struct Sink {
    decoded: Vec<u8>,
    /// How many more bytes may be decoded.
    room: usize,
    overrun: bool,
}

/// Why something cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// Not what it claims to be.
    #[error("it is not compressed as its content-encoding says")]
    Malformed,
    /// More than its length lets expect.
    #[error("it stands for too many bytes")]
    Bomb,
    /// The end is missing.
    #[error("it ends early")]
    Cut,
}

impl Coding {
    /// Returns what a `content-encoding` names; `None` if it is none that is known.
    pub(crate) fn of(value: &HeaderValue) -> Option<Self> {
        let known: [(&[u8], Coding); 5] = [
            (b"gzip", Coding::Gzip),
            (b"x-gzip", Coding::Gzip),
            (b"deflate", Coding::Deflate),
            (b"br", Coding::Brotli),
            (b"zstd", Coding::Zstd),
        ];
        let value = value.as_bytes().trim_ascii();
        let mut known = known.into_iter();
        known
            .find(|(name, _)| value.eq_ignore_ascii_case(name))
            .map(|(_, coding)| coding)
    }
}

/// Returns whether `accepted`, a client's `accept-encoding`, names `coding` (RFC 9110, section 12.5.3).
pub(crate) fn accepts(accepted: &HeaderValue, coding: &HeaderValue) -> bool {
    let wanted = coding.as_bytes().trim_ascii();
    accepted.as_bytes().split(|byte| *byte == b',').any(|entry| {
        let mut parts = entry.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(wanted));
        let refused = |weight: &[u8]| {
            let digits = weight.strip_prefix(b"q=").or(weight.strip_prefix(b"Q="));
            digits.is_some_and(|digits| digits.iter().all(|digit| matches!(digit, b'0' | b'.')))
        };
        named && !parts.any(refused)
    })
}

impl Decoder {
    /// Returns a decoder; `None` if there is no memory for one.
    pub(crate) fn new(coding: Coding) -> Option<Self> {
        let sink = Sink {
            room: ALLOWANCE,
            ..Sink::default()
        };
        let inner = match coding {
            Coding::Gzip => Inner::Gzip(MultiGzDecoder::new(sink)),
            Coding::Deflate => Inner::Undecided,
            Coding::Brotli => Inner::Brotli(Box::new(DecompressorWriter::new(sink, PIECE))),
            Coding::Zstd => {
                let mut decoder = zstd::stream::write::Decoder::new(sink).ok()?;
                decoder.window_log_max(ZSTD_WINDOW).ok()?;
                Inner::Zstd(decoder)
            }
        };
        Some(Self { inner, received: 0 })
    }

    /// Returns what `bytes` add.
    ///
    /// # Errors
    /// If they are malformed or stand for too much; nothing may be pushed after that.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Bytes, Fault> {
        let Some(first) = bytes.first() else {
            return Ok(Bytes::new());
        };
        if matches!(self.inner, Inner::Undecided) {
            let sink = Sink {
                room: ALLOWANCE,
                ..Sink::default()
            };
            // RFC 1950, section 2.2: the method of zlib is 8, which no block of bare deflate begins with.
            self.inner = if first & 0x0f == 8 {
                Inner::Zlib(ZlibDecoder::new(sink))
            } else {
                Inner::Deflate(DeflateDecoder::new(sink))
            };
        }
        self.received = self.received.saturating_add(bytes.len());
        if let Some(sink) = self.sink() {
            sink.room = sink
                .room
                .saturating_add(bytes.len().saturating_mul(MAX_EXPANSION));
        }
        let written = match &mut self.inner {
            Inner::Undecided => Ok(()),
            Inner::Gzip(decoder) => write(decoder, bytes),
            Inner::Zlib(decoder) => write(decoder, bytes),
            Inner::Deflate(decoder) => write(decoder, bytes),
            Inner::Brotli(decoder) => write(decoder.as_mut(), bytes),
            Inner::Zstd(decoder) => write(decoder, bytes),
        };
        self.take(written)
    }

    /// Returns what is left when nothing follows.
    ///
    /// # Errors
    /// If the end is missing. Nothing at all is nothing, compressed.
    pub(crate) fn end(&mut self) -> Result<Bytes, Fault> {
        if self.received == 0 {
            return Ok(Bytes::new());
        }
        let ended = match &mut self.inner {
            Inner::Undecided => Ok(()),
            Inner::Gzip(decoder) => decoder.try_finish(),
            Inner::Zlib(decoder) => decoder.try_finish(),
            Inner::Deflate(decoder) => decoder.try_finish(),
            Inner::Brotli(decoder) => decoder.close(),
            Inner::Zstd(decoder) => decoder.do_finish(),
        };
        self.take(ended).map_err(|fault| match fault {
            Fault::Malformed | Fault::Cut => Fault::Cut,
            Fault::Bomb => Fault::Bomb,
        })
    }

    fn take(&mut self, written: io::Result<()>) -> Result<Bytes, Fault> {
        let sink = self.sink();
        match (written, sink) {
            (Ok(()), Some(sink)) => Ok(Bytes::from(std::mem::take(&mut sink.decoded))),
            (Ok(()), None) => Ok(Bytes::new()),
            (Err(_), Some(sink)) if sink.overrun => Err(Fault::Bomb),
            (Err(_), _) => Err(Fault::Malformed),
        }
    }

    fn sink(&mut self) -> Option<&mut Sink> {
        Some(match &mut self.inner {
            Inner::Undecided => return None,
            Inner::Gzip(decoder) => decoder.get_mut(),
            Inner::Zlib(decoder) => decoder.get_mut(),
            Inner::Deflate(decoder) => decoder.get_mut(),
            Inner::Brotli(decoder) => decoder.get_mut(),
            Inner::Zstd(decoder) => decoder.get_mut(),
        })
    }
}

/// Has `decoder` decode all of `bytes` and hand out what it can.
fn write(decoder: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    decoder.write_all(bytes)?;
    decoder.flush()
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(left) = self.room.checked_sub(bytes.len()) else {
            self.overrun = true;
            return Err(io::Error::other(Fault::Bomb));
        };
        self.room = left;
        self.decoded.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use flate2::{
        Compression,
        write::{DeflateEncoder, GzEncoder, ZlibEncoder},
    };

    use super::*;

    const CODINGS: [Coding; 4] = [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd];

    /// The text and the zeros, compressed by another program: there is no encoder of brotli here.
    const BROTLI_TEXT: &str = "GxUDSIzDxmFdtiwYxYcRKl2nQ2np4Wq7LBVARJAJBwDD0CK9YWYvyqkXGJBJvesdv774OABCMBKFxmAnDguIkqxUqTXYxBBESVaq1BpsUgiiJCtVak0X";
    const BROTLI_ZEROS: &str = "y///P/gnAOKxQCD3/i/////wTwDEYRGA7v0f";

    const LINES: usize = 40;
    const ZEROS: usize = 16 * 1024 * 1024;

    fn text() -> Vec<u8> {
        let lines = (0..LINES).map(|line| format!("data: {{\"index\":{line}}}\n\n"));
        lines.collect::<String>().into_bytes()
    }

    fn compressed(coding: Coding, content: &[u8]) -> Vec<u8> {
        let best = Compression::best();
        let written = match coding {
            Coding::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), best);
                encoder.write_all(content).and_then(|()| encoder.finish())
            }
            Coding::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), best);
                encoder.write_all(content).and_then(|()| encoder.finish())
            }
            Coding::Brotli if content.len() == ZEROS => Ok(STANDARD.decode(BROTLI_ZEROS).expect("base64")),
            Coding::Brotli => Ok(STANDARD.decode(BROTLI_TEXT).expect("base64")),
            Coding::Zstd => zstd::encode_all(content, 0),
        };
        written.expect("a Vec takes everything")
    }

    fn decode(coding: Coding, pieces: &[&[u8]]) -> Result<Vec<u8>, Fault> {
        let mut decoder = Decoder::new(coding).expect("there is memory");
        let mut decoded = Vec::new();
        for piece in pieces {
            decoded.extend(decoder.push(piece)?);
        }
        decoded.extend(decoder.end()?);
        Ok(decoded)
    }

    #[test]
    fn any_split_gives_the_same() {
        let text = text();
        for coding in CODINGS {
            let bytes = compressed(coding, &text);
            for size in [1, 7, bytes.len()] {
                let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
                assert_eq!(
                    decode(coding, &pieces).as_deref(),
                    Ok(&text[..]),
                    "{coding:?} {size}"
                );
            }
        }
        let mut bare = DeflateEncoder::new(Vec::new(), Compression::best());
        let bare = bare.write_all(&text).and_then(|()| bare.finish());
        let bare = bare.expect("a Vec takes everything");
        assert_eq!(decode(Coding::Deflate, &[&bare]).as_deref(), Ok(&text[..]));
    }

    #[test]
    fn what_has_arrived_is_told_at_once() {
        for coding in CODINGS {
            let mut decoder = Decoder::new(coding).expect("there is memory");
            let told = decoder.push(&compressed(coding, &text()));
            assert_eq!(told.as_deref(), Ok(&text()[..]), "{coding:?}");
        }
    }

    #[test]
    fn what_is_cut_or_malformed_is_told() {
        for coding in CODINGS {
            let bytes = compressed(coding, &text());
            assert_eq!(
                decode(coding, &[&bytes[..bytes.len() - 9]]),
                Err(Fault::Cut),
                "{coding:?}"
            );
            let plain: &[u8] = b"{\"not\": \"compressed\"}";
            assert!(decode(coding, &[plain]).is_err(), "{coding:?}");
            assert_eq!(decode(coding, &[]), Ok(Vec::new()), "{coding:?}");
        }
    }

    #[test]
    fn bombs_are_refused() {
        for coding in CODINGS {
            let bytes = compressed(coding, &vec![0; ZEROS]);
            assert_eq!(decode(coding, &[&bytes]), Err(Fault::Bomb), "{coding:?}");
            let pieces: Vec<&[u8]> = bytes.chunks(512).collect();
            assert_eq!(decode(coding, &pieces), Err(Fault::Bomb), "{coding:?}");
        }
    }

    #[test]
    fn codings_are_known_by_name() {
        let of = |name| Coding::of(&HeaderValue::from_static(name));
        assert_eq!(of("GZIP"), Some(Coding::Gzip));
        assert_eq!(of("x-gzip"), Some(Coding::Gzip));
        assert_eq!(of("br"), Some(Coding::Brotli));
        assert_eq!(of("gzip, br"), None);
        assert_eq!(of("compress"), None);
    }
}
