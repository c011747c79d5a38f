//! Where the body of a reply ends (RFC 9112, sections 6.3 and 7.1).

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, StatusCode, header};

/// The most bytes of what stands beside the data of a chunk, and of all trailers.
const MAX_ASIDE: u16 = 8192;

/// What is left of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes.
    Length(u64),
    /// Chunks, each with its length.
    Chunked(Chunk),
    /// All that comes until the connection is closed.
    Connection,
}

/// A place in a chunked body: what comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    /// A digit of a chunk's size, of which this is known; none may be missing.
    Size(Option<u64>),
    /// What may stand behind the size and means nothing; of this length until now.
    Extension(u64, u16),
    /// The end of the line with the size.
    SizeEnd(u64),
    /// So many bytes of data.
    Data(u64),
    /// The end of the line with the data, in two bytes.
    DataEnd,
    DataLine,
    /// A trailer, all of which have had this length until now, and whether its line has begun.
    Trailer(u16, bool),
    /// The last byte.
    Last,
    /// Nothing.
    End,
}

/// A body is not framed as its head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body of the reply is malformed")]
pub(crate) struct Malformed;

impl Framing {
    /// Nothing is left.
    pub(super) const END: Self = Framing::Length(0);

    /// Returns how the body is framed of a reply with this head, to a request that is no `HEAD`.
    pub(super) fn of(status: StatusCode, headers: &HeaderMap) -> Result<Self, Malformed> {
        if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            return Ok(Self::END);
        }
        if let Some(coding) = headers.get_all(header::TRANSFER_ENCODING).iter().next_back() {
            let last = coding.as_bytes().rsplit(|byte| *byte == b',').next();
            let last = last.unwrap_or_default().trim_ascii();
            return Ok(if last.eq_ignore_ascii_case(b"chunked") {
                Framing::Chunked(Chunk::Size(None))
            } else {
                Framing::Connection
            });
        }
        let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
        let Some(first) = lengths.next() else {
            return Ok(Framing::Connection);
        };
        if lengths.any(|other| other != first) {
            return Err(Malformed);
        }
        let digits = first
            .to_str()
            .ok()
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let length = digits.and_then(|digits| digits.parse().ok());
        length.map(Framing::Length).ok_or(Malformed)
    }

    /// Returns whether nothing is left.
    pub(super) fn is_end(self) -> bool {
        matches!(self, Framing::END | Framing::Chunked(Chunk::End))
    }

    /// Returns whether the connection's end is that of the body.
    pub(super) fn ends_with_connection(self) -> bool {
        self == Framing::Connection
    }

    /// Takes the next piece of the body off `read`; `None` if there is none in it.
    pub(super) fn next(&mut self, read: &mut Bytes) -> Result<Option<Bytes>, Malformed> {
        let piece = match self {
            Framing::Connection => std::mem::take(read),
            Framing::Length(left) => within(left, read),
            Framing::Chunked(chunk) => {
                chunk.advance(read)?;
                match chunk {
                    Chunk::Data(left) => {
                        let piece = within(left, read);
                        if *left == 0 {
                            *chunk = Chunk::DataEnd;
                        }
                        piece
                    }
                    _ => Bytes::new(),
                }
            }
        };
        Ok((!piece.is_empty()).then_some(piece))
    }
}

/// Takes as much off `read` as is `left`.
fn within(left: &mut u64, read: &mut Bytes) -> Bytes {
    let most = usize::try_from(*left).unwrap_or(usize::MAX);
    let piece = read.split_to(most.min(read.len()));
    *left -= piece.len() as u64;
    piece
}

impl Chunk {
    /// Takes what is not data off the beginning of `read`.
    fn advance(&mut self, read: &mut Bytes) -> Result<(), Malformed> {
        while !matches!(self, Chunk::Data(_) | Chunk::End)
            && let Some(&byte) = read.first()
        {
            read.advance(1);
            *self = self.after(byte)?;
        }
        Ok(())
    }

    /// Returns the place after `byte`.
    fn after(self, byte: u8) -> Result<Self, Malformed> {
        match (self, byte) {
            (Chunk::Size(size), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).map(u64::from).unwrap_or_default();
                let size = size.unwrap_or(0).checked_mul(16).map(|size| size + digit);
                Ok(Chunk::Size(Some(size.ok_or(Malformed)?)))
            }
            (Chunk::Size(Some(size)) | Chunk::Extension(size, _), b'\r') => Ok(Chunk::SizeEnd(size)),
            (Chunk::Size(Some(size)), b';' | b' ' | b'\t') => Ok(Chunk::Extension(size, 0)),
            // A bare end of line in here may be taken for one by somebody else.
            (Chunk::Extension(size, length), _) if byte != b'\n' && length < MAX_ASIDE => {
                Ok(Chunk::Extension(size, length + 1))
            }
            (Chunk::SizeEnd(0), b'\n') => Ok(Chunk::Trailer(0, false)),
            (Chunk::SizeEnd(size), b'\n') => Ok(Chunk::Data(size)),
            (Chunk::DataEnd, b'\r') => Ok(Chunk::DataLine),
            (Chunk::DataLine, b'\n') => Ok(Chunk::Size(None)),
            (Chunk::Trailer(_, false), b'\r') => Ok(Chunk::Last),
            (Chunk::Trailer(length, true), b'\n') => Ok(Chunk::Trailer(length, false)),
            (Chunk::Trailer(length, _), _) if length < MAX_ASIDE => Ok(Chunk::Trailer(length + 1, true)),
            (Chunk::Last, b'\n') => Ok(Chunk::End),
            _ => Err(Malformed),
        }
    }
}
