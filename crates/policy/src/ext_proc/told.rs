//! What a service says: ProcessingResponses.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value as Json};

use super::{BodyMode, DESTINATION, Modes, Side};
use crate::{
    header_edit::{HeaderEdit, Written, code, removable},
    protobuf::{Fields, Malformed},
    structure,
};

/// What a service says at once.
#[derive(Debug, Default, PartialEq)]
pub struct Told {
    /// What becomes of what.
    pub what: What,
    /// What it says of the request, by namespace.
    pub metadata: Map<String, Json>,
    /// What it wants to see from now on.
    pub modes: Option<Modes>,
}

/// What becomes of what.
#[derive(Debug, Default, PartialEq)]
pub enum What {
    /// Nothing that is understood.
    #[default]
    Nothing,
    /// Of a head.
    Head(Side, Change),
    /// Of a body, or a piece of one.
    Body(Side, Change),
    /// Of what comes after a body.
    Trailers(Side, Change),
    /// The client is told this, and nothing else happens.
    Answer(Immediate),
}

/// A change of something that passes: a CommonResponse.
#[derive(Debug, Default, PartialEq)]
pub struct Change {
    /// Whether the body that comes with it stands for all of the body, of which nothing more is shown.
    pub replaces: bool,
    /// Of headers.
    pub edits: Vec<HeaderEdit>,
    /// What is asked for in place of the path.
    pub path: Option<String>,
    /// What is answered in place of the status.
    pub status: Option<StatusCode>,
    /// Where the request goes, as it is written.
    pub destination: Option<String>,
    /// Of the body.
    pub body: BodyChange,
}

/// A change of a body: a BodyMutation.
#[derive(Debug, Default, PartialEq)]
pub enum BodyChange {
    /// It stays as it is.
    #[default]
    Kept,
    /// These bytes stand for what was shown; none, where it is cleared.
    Replaced(Bytes),
    /// A piece of what is handed on, whatever was shown.
    Piece {
        /// The piece.
        bytes: Bytes,
        /// Whether it is the last one.
        is_last: bool,
    },
}

/// What a client is told: an ImmediateResponse.
#[derive(Debug, PartialEq)]
pub struct Immediate {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The status of gRPC, where the client speaks that.
    pub grpc: Option<u64>,
}

impl Told {
    /// Reads a ProcessingResponse, whose parts are not copied: request_headers = 1, response_headers = 2,
    /// request_body = 3, response_body = 4, request_trailers = 5, response_trailers = 6, immediate_response = 7,
    /// dynamic_metadata = 8, mode_override = 9.
    ///
    /// # Errors
    /// If it is none.
    pub fn decode(message: &Bytes) -> Result<Self, Malformed> {
        let mut told = Self::default();
        for field in Fields::of(message) {
            let (field, value) = field?;
            match field {
                1..=6 => {
                    let side = if field % 2 == 1 {
                        Side::Request
                    } else {
                        Side::Reply
                    };
                    let response = value.as_bytes()?;
                    told.what = match field {
                        1 | 2 => What::Head(side, Change::of_response(message, response)?),
                        3 | 4 => What::Body(side, Change::of_response(message, response)?),
                        // TrailersResponse: header_mutation = 1.
                        _ => What::Trailers(side, Change::of_mutation(response, 1)?),
                    };
                }
                7 => told.what = What::Answer(Immediate::decode(message, value.as_bytes()?)?),
                8 => told.metadata = structure::read(value.as_bytes()?)?,
                9 => told.modes = Some(modes(value.as_bytes()?)?),
                _ => {}
            }
        }
        Ok(told)
    }
}

impl Change {
    /// Reads a HeadersResponse or a BodyResponse: response = 1.
    fn of_response(message: &Bytes, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut change = Self::default();
        for field in Fields::of(bytes) {
            if let (1, common) = field? {
                change = Self::of_common(message, common.as_bytes()?)?;
            }
        }
        Ok(change)
    }

    /// Reads a CommonResponse: status = 1, header_mutation = 2, body_mutation = 3.
    fn of_common(message: &Bytes, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut change = Self::of_mutation(bytes, 2)?;
        for field in Fields::of(bytes) {
            match field? {
                (1, status) => change.replaces = status.as_number()? == CONTINUE_AND_REPLACE,
                (3, body) => change.body = BodyChange::decode(message, body.as_bytes()?)?,
                _ => {}
            }
        }
        Ok(change)
    }

    /// Reads the HeaderMutation with this number: set_headers = 1, remove_headers = 2.
    fn of_mutation(bytes: &[u8], number: u32) -> Result<Self, Malformed> {
        let mut change = Self::default();
        let mut set = Vec::new();
        for field in Fields::of(bytes) {
            let (field, mutation) = field?;
            if field != number {
                continue;
            }
            for field in Fields::of(mutation.as_bytes()?) {
                match field? {
                    (1, option) => set.extend(change.set(&Written::decode(option.as_bytes()?)?)),
                    (2, name) => {
                        let name = removable(name.as_text()?);
                        change.edits.extend(name.map(HeaderEdit::Remove));
                    }
                    _ => {}
                }
            }
        }
        // What is taken off is what came; what is put is not taken off again.
        change.edits.append(&mut set);
        Ok(change)
    }

    /// Takes note of what is no header, or of what decides about the request; returns any other change.
    fn set(&mut self, written: &Written<'_>) -> Option<HeaderEdit> {
        let (name, value) = written.pair();
        let text = || std::str::from_utf8(value).ok();
        match name {
            ":path" => self.path = text().map(str::to_owned),
            ":status" => self.status = text().and_then(|text| text.parse().ok()),
            name if name.eq_ignore_ascii_case(DESTINATION) => self.destination = text().map(str::to_owned),
            _ => return written.edit(),
        }
        None
    }
}

impl BodyChange {
    /// Reads a BodyMutation: body = 1, clear_body = 2, streamed_response = 3.
    fn decode(message: &Bytes, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut change = Self::default();
        for field in Fields::of(bytes) {
            match field? {
                (1, body) => change = BodyChange::Replaced(message.slice_ref(body.as_bytes()?)),
                (2, clear) if clear.as_number()? != 0 => change = BodyChange::Replaced(Bytes::new()),
                (3, streamed) => {
                    let (mut bytes, mut is_last) = (Bytes::new(), false);
                    // StreamedBodyResponse: body = 1, end_of_stream = 2.
                    for field in Fields::of(streamed.as_bytes()?) {
                        match field? {
                            (1, body) => bytes = message.slice_ref(body.as_bytes()?),
                            (2, end) => is_last = end.as_number()? != 0,
                            _ => {}
                        }
                    }
                    change = BodyChange::Piece { bytes, is_last };
                }
                _ => {}
            }
        }
        Ok(change)
    }
}

impl Immediate {
    /// Reads an ImmediateResponse: status = 1, headers = 2, body = 3, grpc_status = 4.
    fn decode(message: &Bytes, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut immediate = Self {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            grpc: None,
        };
        for edit in Change::of_mutation(bytes, 2)?.edits {
            edit.apply(&mut immediate.headers);
        }
        for field in Fields::of(bytes) {
            match field? {
                (1, status) => {
                    let status = u16::try_from(code(status)?).map_err(|_| Malformed)?;
                    immediate.status = StatusCode::from_u16(status).map_err(|_| Malformed)?;
                }
                (3, body) => immediate.body = message.slice_ref(body.as_bytes()?),
                (4, status) => {
                    let code = code(status)?;
                    immediate.grpc = Some(u64::try_from(code).map_err(|_| Malformed)?);
                }
                _ => {}
            }
        }
        // An interim status would be no answer at all.
        if immediate.status.is_informational() {
            return Err(Malformed);
        }
        Ok(immediate)
    }
}

/// Reads a ProcessingMode: response_header_mode = 2, request_body_mode = 3, response_body_mode = 4,
/// response_trailer_mode = 6. Heads are seen unless they are to be skipped, trailers if they are wanted.
fn modes(bytes: &[u8]) -> Result<Modes, Malformed> {
    let mut modes = Modes {
        reply_trailers: false,
        ..Modes::all(BodyMode::Skipped)
    };
    for field in Fields::of(bytes) {
        match field? {
            (2, mode) => modes.reply_head = mode.as_number()? != SKIP,
            (3, mode) => modes.request = BodyMode::of(mode.as_number()?),
            (4, mode) => modes.reply = BodyMode::of(mode.as_number()?),
            (6, mode) => modes.reply_trailers = mode.as_number()? == SEND,
            _ => {}
        }
    }
    Ok(modes)
}

/// `CommonResponse.ResponseStatus`, as far as it is not the default.
const CONTINUE_AND_REPLACE: u64 = 1;

/// `ProcessingMode.HeaderSendMode`, as far as it is not the default.
const SEND: u64 = 1;
const SKIP: u64 = 2;
