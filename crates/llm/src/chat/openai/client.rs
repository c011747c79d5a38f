//! Answers clients in this format.

use std::borrow::Cow;

use bytes::Bytes;

use super::OpenAi;
use crate::{
    ApiError, Field, Losses,
    chat::{Client, EncodeStream, Request, Response, StreamOptions},
};

impl Client for OpenAi {
    fn decode_request(&self, _body: &[u8], _losses: &mut Losses) -> Result<Request, ApiError> {
        unimplemented!()
    }
    fn encode_response(&self, _response: &Response, _losses: &mut Losses) -> Bytes {
        unimplemented!()
    }
    fn encode_stream(&self, _stream: StreamOptions) -> Box<dyn EncodeStream> {
        unimplemented!()
    }
    fn encode_error(&self, _error: &ApiError) -> Bytes {
        unimplemented!()
    }
    fn encode_error_event(&self, _error: &ApiError) -> Bytes {
        unimplemented!()
    }
    fn keep_alive(&self) -> &'static [u8] {
        unimplemented!()
    }
    fn field(&self, _field: &Field) -> Cow<'static, str> {
        unimplemented!()
    }
}
