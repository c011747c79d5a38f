//! Operations that are asked for with a form and a file: transcriptions, translations, edits and variations
//! of pictures.
//!
//! They are relayed, never translated: only OpenAI's form of them exists. What differs from other operations
//! is that a request is not held. A [`Form`] is told the bytes as they come from the client, finds the model
//! in them and refuses what is malformed; a [`Call`] says what an upstream is sent in their place, which is
//! the same bytes but for the model. Nothing here keeps a file.

mod listen;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::{
    ApiError, Endpoint, ErrorKind, Format, Observed, Operation, Target,
    chat::{Client, StreamOptions, Upstream, openai::OpenAi},
    frame::Framing,
    multipart::{self, Boundary, Editor, Event, Scanner},
    provider::Ask,
    relay,
    reply::Answer,
};

/// What is asked for with a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Upload {
    /// What is said in a recording, in its own language.
    Transcription,
    /// What is said in a recording, in English.
    Translation,
    /// A picture changed as a text says.
    ImageEdit,
    /// A picture like another one.
    ImageVariation,
}

/// A client's form, read while it arrives.
#[derive(Debug)]
pub struct Form {
    /// Where it was sent.
    pub endpoint: &'static Endpoint,
    upload: Upload,
    content_type: HeaderValue,
    boundary: Boundary,
    scanner: Scanner,
    /// How many bytes have come.
    read: u64,
    found: Found,
}

/// What a form asks for in short, for whoever tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The model that the client names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What its first file is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
    /// How many bytes the file has, once it has all come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_size: Option<u64>,
    /// The language of a recording.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// In which form the answer is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_format: Option<String>,
}

/// What was found in a form so far.
#[derive(Debug)]
struct Found {
    summary: Summary,
    /// How many bytes had come when the content of the first file began.
    file_begun: Option<u64>,
    model_begun: bool,
    stream: bool,
    /// The fields that must still come, each under all its names.
    missing: Vec<&'static [&'static str]>,
}

/// What one upstream is sent in place of a form.
pub struct Call {
    /// Path and query.
    pub path: String,
    /// Headers of the format and the provider; neither credentials nor the client's own.
    pub headers: HeaderMap,
    /// The form's content type, which holds its boundary.
    pub content_type: HeaderValue,
    /// What changes the form on its way; `None` where it goes as it is.
    pub editor: Option<Editor>,
    /// How much longer the form becomes.
    pub growth: i64,
    /// What is to be done with the reply.
    pub reply: crate::Reply,
}

/// What is to be done with the reply to a form.
pub struct Reply {
    pub(crate) framing: Framing,
    model: String,
}

impl Upload {
    /// Returns the path of the operation at servers of OpenAI's kind, without what the site puts before it.
    pub fn path(self) -> &'static str {
        match self {
            Upload::Transcription => "audio/transcriptions",
            Upload::Translation => "audio/translations",
            Upload::ImageEdit => "images/edits",
            Upload::ImageVariation => "images/variations",
        }
    }

    /// Returns the fields beside `model` without which no provider serves the operation, each under all names
    /// that servers of OpenAI's kind have for it.
    fn required(self) -> &'static [&'static [&'static str]] {
        match self {
            Upload::Transcription | Upload::Translation => &[RECORDING],
            Upload::ImageEdit => &[&["image", "images"], &["prompt"]],
            Upload::ImageVariation => &[&["image"]],
        }
    }
}

/// Beside a file some servers take where one lies.
const RECORDING: &[&str] = &["file", "file_id", "file_url", "url"];

/// The fields that are read.
const WANTED: &[&str] = &["model", "stream", "language", "response_format"];

impl Form {
    /// Begins to read the form that `headers` announce, sent to `endpoint`.
    ///
    /// # Errors
    /// A 400, if they announce anything else.
    pub fn begin(endpoint: &'static Endpoint, upload: Upload, headers: &HeaderMap) -> Result<Self, ApiError> {
        let boundary = Boundary::of(headers)?;
        let content_type = headers.get(header::CONTENT_TYPE).cloned();
        let (Some(boundary), Some(content_type)) = (boundary, content_type) else {
            return Err(ApiError::invalid(format!(
                "{} takes a form: the content-type must be multipart/form-data",
                endpoint.path
            )));
        };
        Ok(Self {
            endpoint,
            upload,
            content_type,
            scanner: Scanner::new(&boundary, WANTED),
            boundary,
            read: 0,
            found: Found {
                summary: Summary::default(),
                file_begun: None,
                model_begun: false,
                stream: false,
                missing: upload.required().to_vec(),
            },
        })
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// A 400, if the form is malformed, names the model twice or in vain, or has come to its end without a
    /// field that it must have. Nothing that follows can be read.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), ApiError> {
        let mut fault = None;
        let (found, before) = (&mut self.found, self.read);
        let delimiter = self.boundary.length();
        let scanned = self.scanner.push(bytes, |event, read| {
            if fault.is_none() {
                found.measure(event, before + read as u64, delimiter);
                fault = found.note(event).err();
            }
        });
        self.read += bytes.len() as u64;
        match fault {
            Some(fault) => Err(fault),
            None => Ok(scanned?),
        }
    }

    /// Hears that the client sent everything.
    ///
    /// # Errors
    /// A 400, if the form is cut off.
    pub fn end(&self) -> Result<(), ApiError> {
        Ok(self.scanner.end()?)
    }

    /// Returns the model that the client names, once it is known.
    pub fn model(&self) -> Option<&str> {
        self.found.summary.model.as_deref()
    }

    /// Returns what is asked for in short, as far as it has come.
    pub fn summary(&self) -> &Summary {
        &self.found.summary
    }

    /// Returns whether the client wants a stream, as far as is known.
    pub fn stream(&self) -> bool {
        self.found.stream
    }

    /// Returns what `target` is to be sent in place of the form, whose model must be known.
    ///
    /// # Errors
    /// A 422, if the target does not serve the operation.
    pub fn call(&self, target: &Target<'_>) -> Result<Call, ApiError> {
        let operation = Operation::Upload(self.upload);
        let provider = target.provider;
        if !provider
            .formats(operation, target.model)
            .contains(&Format::OpenAi)
        {
            return Err(ApiError::new(
                ErrorKind::Unprocessable,
                format!("{} does not serve {}", provider.name(), self.endpoint.path),
            ));
        }
        let ask = Ask {
            operation,
            format: Format::OpenAi,
            stream: self.stream(),
        };
        let named = self.model().unwrap_or_default();
        let editor = (named != target.model)
            .then(|| {
                Editor::new(&self.boundary, "model", target.model).ok_or_else(|| {
                    let message = "the upstream's name of the model cannot stand in a form";
                    ApiError::new(ErrorKind::Internal, message)
                })
            })
            .transpose()?;
        Ok(Call {
            path: provider.path(ask, target),
            headers: crate::inbound::headers(provider, Format::OpenAi),
            content_type: self.content_type.clone(),
            editor,
            growth: length(target.model) - length(named),
            reply: crate::Reply::Upload(Reply {
                framing: provider.framing(Format::OpenAi),
                model: target.model.to_owned(),
            }),
        })
    }
}

impl Found {
    /// Notes how long the first file is; `at` bytes had come when `event` was complete.
    fn measure(&mut self, event: Event<'_>, at: u64, delimiter: u64) {
        match event {
            Event::Begin(head) if head.is_file && self.file_begun.is_none() => {
                self.file_begun = Some(at);
                self.summary.file_name.clone_from(&head.file);
            }
            Event::End(head, _) if head.is_file && self.summary.file_size.is_none() => {
                let begun = self.file_begun.unwrap_or(at);
                self.summary.file_size = Some(at.saturating_sub(begun + delimiter));
            }
            Event::Begin(_) | Event::End(..) | Event::Close => {}
        }
    }

    fn note(&mut self, event: Event<'_>) -> Result<(), ApiError> {
        match event {
            Event::Begin(head) => {
                // Several pictures are sent as `image[]` or `image[0]`.
                let name = head.name.split('[').next().unwrap_or_default();
                self.missing.retain(|names| !names.contains(&name));
                if head.name != "model" {
                    return Ok(());
                }
                if std::mem::replace(&mut self.model_begun, true) {
                    return Err(of_model("it is given twice"));
                }
                if head.is_file || head.is_bound {
                    return Err(of_model("a plain field is expected, not a file and not encoded"));
                }
                Ok(())
            }
            Event::End(head, Some(value)) if head.name == "model" => match std::str::from_utf8(value) {
                Ok("") => Err(unnamed()),
                Ok(model) => {
                    self.summary.model = Some(model.to_owned());
                    Ok(())
                }
                Err(_) => Err(of_model("it is not UTF-8 text")),
            },
            Event::End(head, Some(value)) => {
                let text = || String::from_utf8_lossy(value).into_owned();
                match head.name.as_str() {
                    "stream" => self.stream = value.eq_ignore_ascii_case(b"true"),
                    "language" => self.summary.language = Some(text()),
                    "response_format" => self.summary.response_format = Some(text()),
                    _ => {}
                }
                Ok(())
            }
            Event::End(_, None) => Ok(()),
            Event::Close => {
                if self.summary.model.is_none() {
                    return Err(unnamed());
                }
                match self.missing.first().and_then(|names| names.first()) {
                    Some(name) => {
                        Err(ApiError::invalid(format!("{name}: this field is required")).with_param(name))
                    }
                    None => Ok(()),
                }
            }
        }
    }
}

/// Refuses a form that is sent to `path`, which takes a document.
///
/// # Errors
/// A 400, if `headers` announce a form.
pub fn refuse(headers: &HeaderMap, path: &str) -> Result<(), ApiError> {
    if multipart::is_announced(headers) {
        return Err(ApiError::invalid(format!(
            "{path} takes JSON: a multipart body is not supported there"
        )));
    }
    Ok(())
}

impl Reply {
    pub(crate) fn response(self, body: Bytes) -> Answer {
        let mut observed = self.observed();
        listen::response(&body, &mut observed);
        Answer::new(body, observed)
    }

    pub(crate) fn error(&self, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> ApiError {
        OpenAi.decode_error(status, headers, body)
    }

    pub(crate) fn stream(self) -> relay::Stream {
        let client: &'static dyn Client = &OpenAi;
        let listen = listen::Listener::new(OpenAi.listen_stream(false));
        let observed = self.observed();
        relay::Stream::overheard(
            client,
            StreamOptions::default(),
            self.framing,
            Box::new(listen),
            observed,
        )
    }

    /// Replies do not say which model they are from.
    fn observed(&self) -> Observed {
        Observed {
            model: Some(self.model.clone()),
            ..Observed::default()
        }
    }
}

fn of_model(message: &str) -> ApiError {
    ApiError::invalid(format!("model: {message}")).with_param("model")
}

fn unnamed() -> ApiError {
    of_model("you must name a model").with_code("model_required")
}

fn length(text: &str) -> i64 {
    i64::try_from(text.len()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
