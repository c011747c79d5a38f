//! Asking over HTTP: a request like the client's, without its body unless that is wanted.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};

use super::{Asked, ExtAuth, NoVerdict, PARTIAL_BODY, Pass, Shown, Verdict, denial, edit::Edit};
use crate::{Egress, header_edit::HeaderEdit, is_reserved};

impl ExtAuth {
    /// Asks the service about `asked`.
    pub(super) async fn ask_http(
        &self,
        egress: &dyn Egress,
        path: &str,
        to_upstream: &[HeaderName],
        asked: &Asked<'_>,
    ) -> Result<Verdict, NoVerdict> {
        let request = self.request(path, asked)?;
        let response = egress.call(&self.service, request, self.timeout).await?;
        verdict(response, to_upstream)
    }

    fn request(&self, path: &str, asked: &Asked<'_>) -> Result<Request<Bytes>, NoVerdict> {
        let head = asked.head;
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        let target = format!("{}{target}", path.trim_end_matches('/'));
        let mut request = Request::new(asked.body.clone());
        request.method_mut().clone_from(&head.method);
        *request.uri_mut() = target
            .parse()
            .map_err(|_| NoVerdict::Answer("no path that could be asked for".to_owned()))?;
        let headers = request.headers_mut();
        for (name, value) in &head.headers {
            if self.shows(name) {
                headers.append(name.clone(), value.clone());
            }
        }
        if self.body.is_some() {
            headers.insert(PARTIAL_BODY, HeaderValue::from_static("false"));
        }
        if let Some(authority) = head.uri.authority()
            && let Ok(host) = HeaderValue::try_from(authority.as_str())
        {
            headers.insert(header::HOST, host);
        }
        Ok(request)
    }

    fn shows(&self, name: &HeaderName) -> bool {
        if [header::HOST, header::AUTHORIZATION].contains(name) {
            return true;
        }
        let with_body = self.body.is_some() && name == header::CONTENT_TYPE;
        let wanted = match &self.shown {
            Shown::All => true,
            Shown::These(names) => names.contains(name),
        };
        // The rest says how the client's message was delimited, not ours.
        (wanted || with_body) && !is_reserved(name.as_str())
    }
}

fn verdict(response: Response<Bytes>, to_upstream: &[HeaderName]) -> Result<Verdict, NoVerdict> {
    let (head, body) = response.into_parts();
    if head.status.is_server_error() {
        return Err(NoVerdict::Answer(format!("status {}", head.status.as_u16())));
    }
    if head.status != StatusCode::OK {
        return Ok(Verdict::Out(denial(head.status, for_client(&head.headers), body)));
    }
    let mut edits: Vec<Edit> = to_upstream
        .iter()
        .cloned()
        .map(HeaderEdit::Remove)
        .map(Edit::Header)
        .collect();
    for name in to_upstream {
        let values = head.headers.get_all(name).iter().cloned();
        edits.extend(values.map(|value| Edit::Header(HeaderEdit::Append(name.clone(), value))));
    }
    Ok(Verdict::In(Pass {
        edits,
        ..Pass::default()
    }))
}

/// Returns the headers of a refusal that the client may see.
fn for_client(headers: &HeaderMap) -> HeaderMap {
    let mut seen = HeaderMap::new();
    for (name, value) in headers {
        if *name == header::CONTENT_ENCODING || !is_reserved(name.as_str()) {
            seen.append(name.clone(), value.clone());
        }
    }
    seen
}
