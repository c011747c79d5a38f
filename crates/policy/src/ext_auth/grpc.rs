//! Asking by gRPC: one call of `envoy.service.auth.v3.Authorization/Check`.
//!
//! Numbers of fields are those of the definitions that Envoy publishes, named beside each.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version, header};
use serde_json::{Map, Value as Json, json};

use super::{Asked, ExtAuth, Extensions, NoVerdict, PARTIAL_BODY, Pass, Shown, Verdict, denial, edit::Edit};
use crate::{
    Egress, Place, grpc,
    header_edit::{HeaderEdit, Written, code, removable},
    protobuf::{Fields, Malformed, Message},
    structure,
};

/// What a service answers: a CheckResponse.
#[derive(Debug, Default, PartialEq)]
pub struct Answer {
    /// The code of `status`; 0 lets a request in.
    pub code: i32,
    /// What else there is to it.
    pub decision: Decision,
    /// What it says of the request.
    pub metadata: Map<String, Json>,
}

/// What there is to an answer.
#[derive(Debug, Default, PartialEq)]
pub enum Decision {
    /// Nothing more.
    #[default]
    Bare,
    /// How the request is let in.
    Ok(Let),
    /// What the client is told.
    Denied(Denied),
}

/// How a request is let in: an OkHttpResponse.
#[derive(Debug, Default, PartialEq)]
pub struct Let {
    edits: Vec<Edit>,
    response: Vec<(HeaderName, HeaderValue)>,
    metadata: Map<String, Json>,
}

/// What a client is told: a DeniedHttpResponse.
#[derive(Debug, Default, PartialEq)]
pub struct Denied {
    status: Option<StatusCode>,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

impl ExtAuth {
    /// Asks the service about `asked`.
    pub(super) async fn ask_grpc(
        &self,
        egress: &dyn Egress,
        extensions: &Extensions,
        asked: &Asked<'_>,
    ) -> Result<Verdict, NoVerdict> {
        let request = grpc::question(CHECK, self.question(extensions, asked), self.timeout);
        let response = egress.call(&self.service, request, self.timeout).await?;
        answer(&response).map(Answer::verdict)
    }

    /// Returns a CheckRequest: attributes = 1.
    fn question(&self, extensions: &Extensions, asked: &Asked<'_>) -> Message {
        let mut question = Message::default();
        // AttributeContext: source = 1, request = 4, context_extensions = 10, route_metadata_context = 13.
        question.message(1, |attributes| {
            // Peer: address = 1; Address: socket_address = 1; SocketAddress: address = 2, port_value = 3.
            attributes.message(1, |peer| {
                peer.message(1, |address| {
                    address.message(1, |socket| {
                        socket.text(2, &asked.client.to_string());
                        socket.number(3, 0);
                    });
                });
            });
            // Request: http = 2.
            attributes.message(4, |request| {
                request.message(2, |http| self.http(asked, http));
            });
            for (name, value) in &extensions.0 {
                attributes.entry(10, name, value);
            }
            if let Some(rule) = asked.rule {
                // Metadata: filter_metadata = 1, by namespace.
                let said = Map::from_iter([("resources".to_owned(), json!([declared(rule)]))]);
                attributes.message(13, |metadata| {
                    metadata.message(1, |entry| {
                        entry.text(1, ROUTES);
                        entry.message(2, |object| structure::write(object, &said));
                    });
                });
            }
        });
        question
    }

    /// Writes an HttpRequest: id = 1, method = 2, headers = 3, path = 4, host = 5, scheme = 6, size = 9,
    /// protocol = 10, body = 11, raw_body = 12.
    fn http(&self, asked: &Asked<'_>, http: &mut Message) {
        let Asked {
            head,
            id,
            scheme,
            body,
            ..
        } = asked;
        let authority = head.uri.authority().map(http::uri::Authority::as_str);
        let host = || head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = authority.or_else(host).unwrap_or_default();
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        http.text(1, id);
        http.text(2, head.method.as_str());
        for (name, value) in [
            (":authority", host),
            (":method", head.method.as_str()),
            (":path", target),
            (":scheme", scheme),
        ] {
            http.entry(3, name, value);
        }
        for name in head.headers.keys().filter(|name| self.tells(name)) {
            let lines: Vec<&[u8]> = head
                .headers
                .get_all(name)
                .iter()
                .map(HeaderValue::as_bytes)
                .collect();
            http.entry(3, name.as_str(), &String::from_utf8_lossy(&lines.join(&b","[..])));
        }
        if self.body.is_some() {
            http.entry(3, PARTIAL_BODY.as_str(), "false");
        }
        http.text(4, target);
        http.text(5, host);
        http.text(6, scheme);
        let announced = head.headers.get(header::CONTENT_LENGTH);
        let announced = announced.and_then(|length| length.to_str().ok()?.parse().ok());
        let size = match self.body {
            Some(_) => i64::try_from(body.len()).unwrap_or(i64::MAX),
            None => announced.unwrap_or(UNKNOWN),
        };
        http.varint(9, size.cast_unsigned());
        http.text(10, protocol(head.version));
        match std::str::from_utf8(body) {
            Ok(body) => http.text(11, body),
            Err(_) => http.bytes(12, body),
        }
    }

    fn tells(&self, name: &HeaderName) -> bool {
        match &self.shown {
            Shown::All => true,
            Shown::These(names) => *name == header::AUTHORIZATION || names.contains(name),
        }
    }
}

/// Returns what is told of a rule: as the reference has it, of the HTTPRoute that it makes of any route.
fn declared(place: Place<'_>) -> Json {
    let (namespace, name) = place.route.split_once('/').unwrap_or_default();
    let mut told = json!({ "kind": "HTTPRoute", "namespace": namespace, "name": name });
    if let Some(rule) = place.rule {
        told["sectionName"] = json!(rule);
    }
    if let Some(annotations) = place.annotations {
        told["annotations"] = json!(annotations);
    }
    told
}

/// Returns the name of a version of HTTP that Envoy uses.
fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

fn answer(response: &Response<Bytes>) -> Result<Answer, NoVerdict> {
    let message = grpc::message(response).map_err(|error| NoVerdict::Answer(error.to_string()))?;
    Ok(Answer::decode(message)?)
}

impl Answer {
    /// Reads a CheckResponse: status = 1, denied_response = 2, ok_response = 3, dynamic_metadata = 4.
    ///
    /// # Errors
    /// If it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut answer = Self::default();
        for field in Fields::of(bytes) {
            match field? {
                (1, status) => answer.code = code(status)?,
                (2, denied) => answer.decision = Decision::Denied(Denied::decode(denied.as_bytes()?)?),
                (3, ok) => answer.decision = Decision::Ok(Let::decode(ok.as_bytes()?)?),
                (4, said) => answer.metadata = structure::read(said.as_bytes()?)?,
                _ => {}
            }
        }
        Ok(answer)
    }

    fn verdict(self) -> Verdict {
        match (self.code, self.decision) {
            (_, Decision::Denied(denied)) => denied.verdict(),
            (0, Decision::Ok(ok)) => ok.verdict(self.metadata),
            (0, Decision::Bare) => Let::default().verdict(self.metadata),
            // A code alone is a refusal, whatever stands beside it.
            (_, Decision::Ok(_) | Decision::Bare) => Denied::default().verdict(),
        }
    }
}

impl Let {
    /// Reads an OkHttpResponse: headers = 2, dynamic_metadata = 3, headers_to_remove = 5, response_headers_to_add = 6,
    /// query_parameters_to_set = 7, query_parameters_to_remove = 8.
    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut ok = Self::default();
        let mut removed = Vec::new();
        for field in Fields::of(bytes) {
            match field? {
                (2, option) => ok
                    .edits
                    .extend(Written::decode(option.as_bytes()?)?.edit().map(Edit::Header)),
                (3, said) => ok.metadata = structure::read(said.as_bytes()?)?,
                (5, name) => removed
                    .extend(removable(name.as_text()?).map(|name| Edit::Header(HeaderEdit::Remove(name)))),
                (6, option) => ok.response.extend(Written::decode(option.as_bytes()?)?.header()),
                (7, pair) => {
                    let (name, value) = pair_of(pair.as_bytes()?)?;
                    ok.edits.push(Edit::SetParam(name.to_owned(), value.to_owned()));
                }
                (8, name) => ok.edits.push(Edit::RemoveParam(name.as_text()?.to_owned())),
                _ => {}
            }
        }
        // What is taken off is the client's; what is put is not taken off again.
        removed.append(&mut ok.edits);
        ok.edits = removed;
        Ok(ok)
    }

    fn verdict(self, mut metadata: Map<String, Json>) -> Verdict {
        let Self {
            edits,
            response,
            metadata: older,
        } = self;
        if metadata.is_empty() {
            metadata = older;
        }
        Verdict::In(Pass {
            edits,
            response,
            metadata,
        })
    }
}

impl Denied {
    /// Reads a DeniedHttpResponse: status = 1, headers = 2, body = 3.
    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut denied = Self::default();
        for field in Fields::of(bytes) {
            match field? {
                (1, status) => {
                    let code = u16::try_from(code(status)?).ok();
                    denied.status = code.and_then(|code| StatusCode::from_u16(code).ok());
                }
                (2, option) => denied
                    .headers
                    .extend(Written::decode(option.as_bytes()?)?.header()),
                (3, body) => denied.body = Bytes::copy_from_slice(body.as_bytes()?),
                _ => {}
            }
        }
        Ok(denied)
    }

    fn verdict(self) -> Verdict {
        let mut headers = HeaderMap::new();
        for (name, value) in self.headers {
            headers.append(name, value);
        }
        // An interim status would be no answer at all.
        let status = self.status.filter(|status| !status.is_informational());
        Verdict::Out(denial(
            status.unwrap_or(StatusCode::FORBIDDEN),
            headers,
            self.body,
        ))
    }
}

/// Reads two texts: key = 1, value = 2.
fn pair_of(bytes: &[u8]) -> Result<(&str, &str), Malformed> {
    let mut pair = ("", "");
    for field in Fields::of(bytes) {
        match field? {
            (1, key) => pair.0 = key.as_text()?,
            (2, value) => pair.1 = value.as_text()?,
            _ => {}
        }
    }
    Ok(pair)
}

/// Under which name routes are told of.
const ROUTES: &str = "envoy-gateway";

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// The size of a body of which nothing is known.
const UNKNOWN: i64 = -1;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::header_edit::{ADD_IF_ABSENT, OVERWRITE_IF_EXISTS};

    /// Writes a HeaderValueOption.
    fn option(
        message: &mut Message,
        field: u32,
        (name, value): (&str, &str),
        append: Option<bool>,
        action: u64,
    ) {
        message.message(field, |option| {
            option.message(1, |header| {
                header.text(1, name);
                header.text(2, value);
            });
            if let Some(append) = append {
                option.message(2, |flag| flag.varint(1, u64::from(append)));
            }
            option.varint(3, action);
        });
    }

    fn read(write: impl FnOnce(&mut Message)) -> Verdict {
        let mut message = Message::default();
        write(&mut message);
        let mut response = Response::new(grpc::framed(message.into_bytes()));
        let ok = HeaderValue::from_static("0");
        response.headers_mut().insert("grpc-status", ok);
        answer(&response).expect("an answer").verdict()
    }

    #[track_caller]
    fn passed(verdict: Verdict) -> Pass {
        match verdict {
            Verdict::In(pass) => pass,
            Verdict::Out(refusal) => panic!("{refusal:?}"),
        }
    }

    #[track_caller]
    fn refused(verdict: Verdict) -> Box<crate::Refusal> {
        match verdict {
            Verdict::In(pass) => panic!("{pass:?}"),
            Verdict::Out(refusal) => refusal,
        }
    }

    #[test]
    fn what_lets_in() {
        let pass = passed(read(|answer| {
            answer.message(3, |ok| {
                option(ok, 2, ("X-User", "u1"), None, 0);
                option(ok, 2, ("x-group", "g"), Some(true), 0);
                option(ok, 2, ("x-kept", "k"), None, ADD_IF_ABSENT);
                option(ok, 2, ("x-had", "h"), None, OVERWRITE_IF_EXISTS);
                option(ok, 2, ("x-ai-eg-model", "other"), None, 0);
                ok.text(5, "X-Secret");
                ok.text(5, "host");
                option(ok, 6, ("x-told", "1"), None, 0);
                ok.entry(7, "q", "v");
                ok.text(8, "gone");
            });
            // metadata: {"limit": 5, "list": [0.5, true], "deep": {"text": "t"}}
            answer.message(4, |object| {
                let mut entry = |name: &str, write: &dyn Fn(&mut Message)| {
                    object.message(1, |entry| {
                        entry.text(1, name);
                        entry.message(2, write);
                    });
                };
                entry("limit", &|value| value.double(2, 5.0));
                entry("list", &|value| {
                    value.message(6, |list| {
                        list.message(1, |value| value.double(2, 0.5));
                        list.message(1, |value| value.number(4, 1));
                    });
                });
                entry("deep", &|value| {
                    value.message(5, |object| {
                        object.message(1, |entry| {
                            entry.text(1, "text");
                            entry.message(2, |value| value.text(3, "t"));
                        });
                    });
                });
            });
        }));
        let edits: Vec<String> = pass.edits.iter().map(|edit| format!("{edit:?}")).collect();
        let expected = [
            "Header(Remove(\"x-secret\"))",
            "Header(Set(\"x-user\", \"u1\"))",
            "Header(Append(\"x-group\", \"g\"))",
            "Header(Fill(\"x-kept\", \"k\"))",
            "Header(Replace(\"x-had\", \"h\"))",
            "SetParam(\"q\", \"v\")",
            "RemoveParam(\"gone\")",
        ];
        assert_eq!(edits, expected);
        assert_eq!(pass.response.len(), 1);
        let said = json!({"limit": 5, "list": [0.5, true], "deep": {"text": "t"}});
        assert_eq!(Json::Object(pass.metadata), said);
    }

    #[test]
    fn what_does_not() {
        let refusal = refused(read(|answer| {
            answer.message(1, |status| status.varint(1, 7));
            answer.message(2, |denied| {
                denied.message(1, |status| status.varint(1, 429));
                option(denied, 2, ("x-why", "because"), None, 0);
                denied.text(3, "no");
            });
        }));
        assert_eq!(refusal.error.status, 429);
        assert_eq!(refusal.headers["x-why"], "because");
        assert_eq!(refusal.document.as_deref(), Some(&b"no"[..]));
        // A code alone is a refusal, whatever stands beside it.
        let refusal = refused(read(|answer| {
            answer.message(1, |status| status.varint(1, 16));
            answer.message(3, |_| {});
        }));
        assert_eq!(refusal.error.status, 403);
        // So is the other thing without a code.
        let refusal = refused(read(|answer| {
            answer.message(2, |denied| denied.message(1, |status| status.varint(1, 100)));
        }));
        assert_eq!(refusal.error.status, 403);
    }

    #[test]
    fn what_is_none() {
        for (status, body) in [
            (Some("14"), &b"\0\0\0\0\0"[..]),
            (None, b"\0\0\0\0\0"),
            (Some("0"), b""),
            (Some("0"), b"\x01\0\0\0\0"),
            (Some("0"), b"\0\0\0\0\x02\x08"),
            (Some("0"), b"\0\0\0\0\x01\xff"),
            (Some("0"), b"\0\0\0\0\x02\x1a\x05"),
        ] {
            let mut response = Response::new(Bytes::from_static(body));
            if let Some(status) = status {
                let status = HeaderValue::from_static(status);
                response.headers_mut().insert("grpc-status", status);
            }
            assert!(answer(&response).is_err(), "{body:?}");
        }
        // Without a word against it, and with status 0, a request is let in.
        passed(read(|_| {}));
    }

    #[test]
    fn what_is_written_of_a_rule_is_read() {
        let annotations = [("team".to_owned(), "a".to_owned())].into();
        let told = declared(Place {
            route: "n/r",
            rule: Some("first"),
            annotations: Some(&annotations),
        });
        let all = json!({ "resources": [told] });
        let mut message = Message::default();
        structure::write(&mut message, all.as_object().expect("an object"));
        let read = structure::read(&message.into_bytes());
        assert_eq!(read.map(Json::Object), Ok(all));
    }
}
