//! Lines with operators in them, as `%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%`.

use http::HeaderName;
use serde_json::Value;

/// A line with operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// The value is cut after so many characters.
    Operator(Operator, Option<usize>),
}

/// What stands for a value of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// When the request began, by a format of `strftime` if there is one.
    StartTime(Option<String>),
    /// A header of the request, or else another one.
    Request(Header, Option<Header>),
    /// A header of the answer, or else another one.
    Response(Header, Option<Header>),
    /// `HTTP/1.1` or `HTTP/2`.
    Protocol,
    /// The status.
    ResponseCode,
    /// Why there is this status.
    ResponseCodeDetails,
    /// Envoy's letters for what went wrong.
    ResponseFlags,
    /// Why the connection ended.
    ConnectionTerminationDetails,
    /// Why there was no connection to the upstream.
    UpstreamTransportFailureReason,
    /// Bytes of the request's body.
    BytesReceived,
    /// Bytes of the answer's body.
    BytesSent,
    /// Milliseconds until the end.
    Duration,
    /// The upstream's address.
    UpstreamHost,
    /// The upstream's name.
    UpstreamCluster,
    /// The address from which the upstream was called.
    UpstreamLocalAddress,
    /// The address that the client called.
    DownstreamLocalAddress,
    /// The client's address, with or without its port.
    DownstreamRemoteAddress {
        /// Whether the port is shown.
        port: bool,
    },
    /// The name that the client asked for when it encrypted its connection.
    RequestedServerName,
    /// The route.
    RouteName,
    /// Something that is known of the request, by namespace and path.
    DynamicMetadata(String, Vec<String>),
}

/// A header, or what HTTP/2 calls a pseudo-header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Header {
    /// `:method`
    Method,
    /// `:path`
    Path,
    /// `:authority`
    Authority,
    /// `:scheme`
    Scheme,
    /// `:status`
    Status,
    /// Any other.
    Named(HeaderName),
}

/// Why a line cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperatorError {
    /// A percent sign opens an operator that does not end.
    #[error("the operator at \"{0}\" does not end")]
    Unclosed(String),
    /// Not one that is served.
    #[error("%{0}% is not an operator that is served")]
    Unknown(String),
    /// Not a header.
    #[error("\"{0}\" is not a header name")]
    Header(String),
}

impl Line {
    /// Reads a line; `%%` is a percent sign.
    ///
    /// # Errors
    /// The first operator that is not one.
    pub fn parse(text: &str) -> Result<Self, OperatorError> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            plain.push_str(before);
            if let Some(after) = after.strip_prefix('%') {
                plain.push('%');
                rest = after;
                continue;
            }
            let end = end(after).ok_or_else(|| OperatorError::Unclosed(after.chars().take(40).collect()))?;
            let (written, after) = after.split_at(end);
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(operator(written)?);
            rest = after.strip_prefix('%').unwrap_or_default();
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self(pieces))
    }

    /// Returns the operators of the line.
    pub fn operators(&self) -> impl Iterator<Item = &Operator> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Operator(operator, _) => Some(operator),
        })
    }

    /// Returns the operator that is the whole line.
    pub(super) fn alone(&self) -> Option<&Operator> {
        match self.0.as_slice() {
            [Piece::Operator(operator, None)] => Some(operator),
            _ => None,
        }
    }

    pub(super) fn write(&self, out: &mut String, value: &dyn Fn(&Operator) -> Value) {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Operator(operator, limit) => {
                    let shown = match value(operator) {
                        Value::Null => "-".to_owned(),
                        Value::String(text) => text,
                        other => other.to_string(),
                    };
                    out.extend(shown.chars().take(limit.unwrap_or(usize::MAX)));
                }
            }
        }
    }
}

/// Returns where the operator ends that `text` begins with: at a percent sign that is not in parentheses.
fn end(text: &str) -> Option<usize> {
    match (text.find('%')?, text.find('(')) {
        (percent, Some(open)) if open < percent => {
            let close = open + text.get(open..)?.find(')')?;
            Some(close + text.get(close..)?.find('%')?)
        }
        (percent, _) => Some(percent),
    }
}

fn operator(written: &str) -> Result<Piece, OperatorError> {
    let unknown = || OperatorError::Unknown(written.to_owned());
    let (name, arguments, limit) = match written.split_once('(') {
        None => (written, None, None),
        Some((name, rest)) => {
            let (arguments, after) = rest.split_once(')').ok_or_else(unknown)?;
            let limit = match after.strip_prefix(':') {
                Some(limit) => Some(limit.parse().map_err(|_| unknown())?),
                None if after.is_empty() => None,
                None => return Err(unknown()),
            };
            (name, Some(arguments), limit)
        }
    };
    let operator = match (name, arguments) {
        ("START_TIME", format) => {
            Operator::StartTime(format.filter(|format| !format.is_empty()).map(str::to_owned))
        }
        ("REQ", Some(names)) => {
            let (first, second) = headers(names)?;
            Operator::Request(first, second)
        }
        ("RESP", Some(names)) => {
            let (first, second) = headers(names)?;
            Operator::Response(first, second)
        }
        ("DYNAMIC_METADATA", Some(path)) => {
            let mut path = path.split(':').map(str::to_owned);
            let namespace = path.next().unwrap_or_default();
            Operator::DynamicMetadata(namespace, path.collect())
        }
        (name, None) => plain(name).ok_or_else(unknown)?,
        (_, Some(_)) => return Err(unknown()),
    };
    Ok(Piece::Operator(operator, limit))
}

fn plain(name: &str) -> Option<Operator> {
    Some(match name {
        "PROTOCOL" => Operator::Protocol,
        "RESPONSE_CODE" => Operator::ResponseCode,
        "RESPONSE_CODE_DETAILS" => Operator::ResponseCodeDetails,
        "RESPONSE_FLAGS" => Operator::ResponseFlags,
        "CONNECTION_TERMINATION_DETAILS" => Operator::ConnectionTerminationDetails,
        "UPSTREAM_TRANSPORT_FAILURE_REASON" => Operator::UpstreamTransportFailureReason,
        "BYTES_RECEIVED" => Operator::BytesReceived,
        "BYTES_SENT" => Operator::BytesSent,
        "DURATION" => Operator::Duration,
        "UPSTREAM_HOST" => Operator::UpstreamHost,
        "UPSTREAM_CLUSTER" => Operator::UpstreamCluster,
        "UPSTREAM_LOCAL_ADDRESS" => Operator::UpstreamLocalAddress,
        "DOWNSTREAM_LOCAL_ADDRESS" => Operator::DownstreamLocalAddress,
        "DOWNSTREAM_REMOTE_ADDRESS" => Operator::DownstreamRemoteAddress { port: true },
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Operator::DownstreamRemoteAddress { port: false },
        "REQUESTED_SERVER_NAME" => Operator::RequestedServerName,
        "ROUTE_NAME" => Operator::RouteName,
        _ => return None,
    })
}

/// Reads `X`, `X?Y` or `X?:y`, where the colon belongs to the second name.
fn headers(names: &str) -> Result<(Header, Option<Header>), OperatorError> {
    match names.split_once('?') {
        None => Ok((header(names)?, None)),
        Some((first, second)) => Ok((header(first)?, Some(header(second)?))),
    }
}

fn header(name: &str) -> Result<Header, OperatorError> {
    Ok(match name.trim().to_ascii_lowercase().as_str() {
        ":method" => Header::Method,
        ":path" => Header::Path,
        ":authority" => Header::Authority,
        ":scheme" => Header::Scheme,
        ":status" => Header::Status,
        name => {
            let named = HeaderName::try_from(name).map_err(|_| OperatorError::Header(name.to_owned()))?;
            Header::Named(named)
        }
    })
}
