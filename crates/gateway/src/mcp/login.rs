//! Documents that tell clients where to log in. Anybody may read them.

use std::sync::Arc;

use bytes::Bytes;
use config::{
    mcp_access::{Described, Document},
    mcp_route::Route,
};
use http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};

use super::lent;
use crate::{
    ctx::Ctx,
    refusal::{Answer, Content},
};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const ANYBODY: HeaderValue = HeaderValue::from_static("*");
const GET: HeaderValue = HeaderValue::from_static("GET");
const VERSION: HeaderValue = HeaderValue::from_static("mcp-protocol-version");

/// Answers with a document.
pub(crate) async fn serve(ctx: &mut Ctx, route: &Route, document: Document, head: &Parts) -> Answer {
    ctx.facts.route = Some(Arc::clone(&route.id));
    let found = match (&route.access.login, document) {
        (Some(login), Document::Resource) => Some(Bytes::copy_from_slice(login.document.as_bytes())),
        (Some(login), Document::Server) => match &login.server {
            Described::There(issuer) => ctx.runtime.keys.document(issuer).await,
            Described::Here(document) => Some(Bytes::copy_from_slice(document.as_bytes())),
        },
        (_, Document::Lent) => lent::document(ctx, route, &lent::Seen::of(ctx, head)).await,
        (None, Document::Resource | Document::Server) => None,
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, JSON);
    open(&mut headers);
    let status = match found {
        Some(_) => StatusCode::OK,
        // It may be that the server asks nobody.
        None if document == Document::Lent => StatusCode::NOT_FOUND,
        None => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    let none = || match document {
        Document::Lent => Bytes::from_static(br#"{"error":"not_found"}"#),
        Document::Resource | Document::Server => {
            Bytes::from_static(br#"{"error":"temporarily_unavailable"}"#)
        }
    };
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
