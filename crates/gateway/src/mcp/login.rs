//! Documents that tell clients where to log in. Anybody may read them.

use std::sync::Arc;

use bytes::Bytes;
use config::{mcp_access::Document, mcp_route::Route};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::{
    ctx::Ctx,
    refusal::{Answer, Content},
};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const ANYBODY: HeaderValue = HeaderValue::from_static("*");
const GET: HeaderValue = HeaderValue::from_static("GET");
const VERSION: HeaderValue = HeaderValue::from_static("mcp-protocol-version");

/// Answers with a document.
pub(crate) async fn serve(ctx: &mut Ctx, route: &Route, document: Document) -> Answer {
    ctx.facts.route = Some(Arc::clone(&route.id));
    let found = match (&route.access.login, document) {
        (Some(login), Document::Resource) => Some(Bytes::copy_from_slice(login.document.as_bytes())),
        (Some(login), Document::Server) => ctx.runtime.keys.document(&login.issuer).await,
        (None, Document::Resource | Document::Server) => None,
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, JSON);
    open(&mut headers);
    let status = match found {
        Some(_) => StatusCode::OK,
        None => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    let none = || Bytes::from_static(br#"{"error":"temporarily_unavailable"}"#);
    Answer {
        status,
        headers,
        content: Content::Whole(found.unwrap_or_else(none)),
    }
}

/// Lets pages in browsers read an answer.
pub(super) fn open(headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, ANYBODY);
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, GET);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, VERSION);
}
