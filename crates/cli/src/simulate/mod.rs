//! The simulated provider: what answers when there is no key, so that the gateway can be tried at once.
//!
//! It is a server of its own on the loopback interface, and the gateway reaches it as it reaches any provider:
//! through resources, over HTTP, in the provider's own format. It speaks OpenAI's two, and Anthropic's with other
//! models, so that a client of any format sees relay and translation both.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use llm::{
    ApiError, ErrorKind, Format, Losses,
    chat::{Client, messages::Messages, openai::OpenAi, responses::Responses},
    json::Shallow,
};
use tokio::net::TcpListener;

use stream::Pieces;

mod instance;
mod model;
mod stream;
#[cfg(test)]
mod tests;
mod tokens;

/// The models that answer in OpenAI's form.
pub(crate) const OPENAI_MODELS: &[&str] = &["sim-1", "sim-1-mini"];

/// The models that answer in Anthropic's form.
pub(crate) const ANTHROPIC_MODELS: &[&str] = &["claude-sim-1"];

type Body = Either<Full<Bytes>, Pieces>;

/// Starts the provider on a port that the system chooses, and returns where it listens. It ends with the
/// runtime.
///
/// # Errors
/// If no port can be had.
#[expect(
    clippy::disallowed_methods,
    reason = "the provider serves the process, as a listener does"
)]
pub(crate) async fn start() -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(accept(listener));
    Ok(address)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a connection is served beside the next ones"
)]
async fn accept(listener: TcpListener) {
    loop {
        // What fails here is one connection, or all of them for want of descriptors: both pass.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(RETRY).await;
            continue;
        };
        // Without it a small piece waits for the acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        tokio::spawn(async move {
            let mut server = auto::Builder::new(TokioExecutor::new());
            server.http1().timer(TokioTimer::new());
            // A connection that breaks concerns its client, which is the gateway.
            let _ = server
                .serve_connection(TokioIo::new(stream), service_fn(serve))
                .await;
        });
    }
}

async fn serve(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let format = match request.uri().path() {
        path if path.starts_with("/v1/messages") => Format::Messages,
        path if path.starts_with("/v1/responses") => Format::Responses,
        _ => Format::OpenAi,
    };
    Ok(answer(request, format)
        .await
        .unwrap_or_else(|error| refuse(&error, format)))
}

async fn answer(request: Request<Incoming>, format: Format) -> Result<Response<Body>, ApiError> {
    let (head, body) = request.into_parts();
    let (path, models) = match format {
        Format::Messages => ("/v1/messages", ANTHROPIC_MODELS),
        Format::Responses => ("/v1/responses", OPENAI_MODELS),
        Format::OpenAi | Format::Gemini | Format::Converse | Format::Cohere => {
            ("/v1/chat/completions", OPENAI_MODELS)
        }
    };
    if head.uri.path() != path {
        let message = format!("unknown path {}", head.uri.path());
        return Err(ApiError::new(ErrorKind::NotFound, message));
    }
    if head.method != Method::POST {
        let message = format!("{} is not allowed here; use POST", head.method);
        return Err(ApiError::new(ErrorKind::MethodNotAllowed, message));
    }
    if format == Format::Messages && !head.headers.contains_key("anthropic-version") {
        return Err(ApiError::invalid("anthropic-version: this header is required"));
    }
    let body = Limited::new(body, MAX_BODY)
        .collect()
        .await
        .map_err(|_| {
            ApiError::new(
                ErrorKind::TooLarge,
                "the request cannot be read or exceeds 64 MiB",
            )
        })?
        .to_bytes();
    let mut losses = Losses::default();
    let client = half(format);
    let request = client.decode_request(&body, &mut losses)?;
    if !models.contains(&request.model.as_str()) {
        let message = format!(
            "the simulated provider has no model {:?} here, only {}",
            request.model,
            models.join(", ")
        );
        return Err(ApiError::new(ErrorKind::NotFound, message)
            .with_param("model")
            .with_code("model_not_found"));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut answer = model::answer(&request, format, now.as_secs())?;
    answer.head.echo = client.echo(&Shallow::parse(body)?, false);
    let (media_type, body) = match request.stream {
        Some(options) => (
            "text/event-stream",
            Either::Right(Pieces::of(&answer, client, options)),
        ),
        None => (
            "application/json",
            Either::Left(Full::new(client.encode_response(&answer, &mut losses))),
        ),
    };
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    Ok(response)
}

/// Returns the half that answers in one of the formats spoken here.
fn half(format: Format) -> &'static dyn Client {
    match format {
        Format::Messages => &Messages,
        Format::Responses => &Responses,
        Format::OpenAi | Format::Gemini | Format::Converse | Format::Cohere => &OpenAi,
    }
}

fn refuse(error: &ApiError, format: Format) -> Response<Body> {
    let body = format.encode_error(error);
    let mut response = Response::new(Either::Left(Full::new(body)));
    *response.status_mut() = error.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if error.kind == ErrorKind::MethodNotAllowed {
        headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

/// The most bytes of a request; twice what the gateway lets through.
const MAX_BODY: usize = 64 * 1024 * 1024;

/// How long to wait when no connection can be accepted.
const RETRY: std::time::Duration = std::time::Duration::from_millis(50);
