//! Google's forms: Vertex AI's `predict` and `embedContent`, and Gemini's `batchEmbedContents`.
//!
//! Follows "Text embeddings API" of Vertex AI and "Embeddings" of the Gemini API.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Input, Reply, Request, Text, Vector, field, tokens};
use crate::{
    ApiError, Losses,
    chat::PartBody,
    document::{broken, to_bytes, whole},
    media::{Media, Source},
};

/// Writes a request to `predict`: an instance for each text.
pub(super) fn predict(request: &Request, losses: &mut Losses) -> Bytes {
    #[derive(Serialize)]
    struct Predict<'a> {
        instances: Vec<Instance<'a>>,
        parameters: Parameters,
    }
    #[derive(Serialize)]
    struct Instance<'a> {
        content: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        task_type: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<&'a str>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Parameters {
        #[serde(skip_serializing_if = "Option::is_none")]
        auto_truncate: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        output_dimensionality: Option<u64>,
    }

    let instances = request.texts(losses).iter().map(|text| {
        let (task_type, title) = text.told(request);
        Instance {
            content: &text.text,
            task_type,
            title,
        }
    });
    to_bytes(&Predict {
        instances: instances.collect(),
        parameters: Parameters {
            auto_truncate: request.truncate,
            output_dimensionality: request.dimensions,
        },
    })
}

/// Reads a reply of `predict`.
pub(super) fn read_predict(body: &[u8]) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    struct Predicted {
        #[serde(default)]
        predictions: Vec<Prediction>,
    }
    #[derive(Deserialize)]
    struct Prediction {
        embeddings: Embeddings,
    }
    #[derive(Deserialize)]
    struct Embeddings {
        values: Vec<f32>,
        #[serde(default)]
        statistics: Statistics,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Statistics {
        truncated: bool,
        token_count: Option<f64>,
    }

    let reply: Predicted = serde_json::from_slice(body).map_err(broken)?;
    let mut tokens: Option<f64> = None;
    let vectors = reply.predictions.into_iter().map(|prediction| {
        let Embeddings { values, statistics } = prediction.embeddings;
        if let Some(count) = statistics.token_count {
            tokens = Some(tokens.unwrap_or(0.0) + count);
        }
        Vector {
            values,
            truncated: statistics.truncated,
        }
    });
    Ok(Reply {
        vectors: vectors.collect(),
        tokens: tokens.map(whole),
    })
}

/// What is said beside the content.
#[derive(Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Config<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    task_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimensionality: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auto_truncate: Option<bool>,
}

#[derive(Serialize)]
struct Content<'a> {
    parts: Vec<Piece<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Piece<'a> {
    Text(&'a str),
    InlineData(Blob<'a>),
    FileData(FileUri<'a>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Blob<'a> {
    mime_type: &'a str,
    data: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FileUri<'a> {
    file_uri: &'a str,
}

/// Writes a request to `embedContent`, which makes one vector.
pub(super) fn embed_content(request: &Request, losses: &mut Losses) -> Bytes {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct EmbedContent<'a> {
        content: Content<'a>,
        #[serde(skip_serializing_if = "is_empty")]
        embed_content_config: Config<'a>,
    }
    fn is_empty(config: &Config<'_>) -> bool {
        *config == Config::default()
    }

    let (content, text) = match &request.input {
        Input::Parts(_) => (parts(request, losses), None),
        Input::Texts(_) | Input::Tokens => {
            let text = request.text(losses);
            (text.map(of_text).unwrap_or_default(), text)
        }
    };
    let (task_type, title) = text.map_or_else(|| of_all(request), |text| text.told(request));
    to_bytes(&EmbedContent {
        content: Content { parts: content },
        embed_content_config: Config {
            task_type,
            title,
            output_dimensionality: request.dimensions,
            auto_truncate: request.truncate,
        },
    })
}

/// Reads a reply of `embedContent`.
pub(super) fn read_embed_content(body: &[u8]) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Embedded {
        embedding: Option<Values>,
        #[serde(default)]
        truncated: bool,
        #[serde(default)]
        usage_metadata: Counts,
    }

    let reply: Embedded = serde_json::from_slice(body).map_err(broken)?;
    let vector = reply.embedding.map(|embedding| Vector {
        values: embedding.values,
        truncated: reply.truncated,
    });
    Ok(Reply {
        vectors: vector.into_iter().collect(),
        tokens: reply.usage_metadata.prompt_token_count,
    })
}

/// Writes a request to `batchEmbedContents`: one of its own for each text.
pub(super) fn batch(request: &Request, model: &str, losses: &mut Losses) -> Bytes {
    #[derive(Serialize)]
    struct Batch<'a> {
        requests: Vec<One<'a>>,
    }
    #[derive(Serialize)]
    struct One<'a> {
        model: &'a str,
        content: Content<'a>,
        #[serde(flatten)]
        config: Config<'a>,
    }

    if request.truncate.is_some() {
        losses.advisory(
            field("auto_truncate"),
            "Gemini's API always cuts off what is too long",
        );
    }
    let model = format!("models/{}", model.trim_start_matches("models/"));
    let one = |parts, (task_type, title)| One {
        model: &model,
        content: Content { parts },
        config: Config {
            task_type,
            title,
            output_dimensionality: request.dimensions,
            auto_truncate: None,
        },
    };
    let requests = match &request.input {
        Input::Texts(texts) => texts
            .iter()
            .map(|text| one(of_text(text), text.told(request)))
            .collect(),
        Input::Parts(_) => vec![one(parts(request, losses), of_all(request))],
        Input::Tokens => {
            tokens(losses);
            Vec::new()
        }
    };
    to_bytes(&Batch { requests })
}

/// Reads a reply of `batchEmbedContents`.
pub(super) fn read_batch(body: &[u8]) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Embedded {
        #[serde(default)]
        embeddings: Vec<Values>,
        #[serde(default)]
        usage_metadata: Counts,
    }

    let reply: Embedded = serde_json::from_slice(body).map_err(broken)?;
    let vectors = reply.embeddings.into_iter().map(|embedding| Vector {
        values: embedding.values,
        truncated: false,
    });
    Ok(Reply {
        vectors: vectors.collect(),
        tokens: reply.usage_metadata.prompt_token_count,
    })
}

#[derive(Deserialize)]
struct Values {
    values: Vec<f32>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Counts {
    prompt_token_count: Option<u64>,
}

fn of_text(text: &Text) -> Vec<Piece<'_>> {
    vec![Piece::Text(&text.text)]
}

fn of_all(request: &Request) -> (Option<&str>, Option<&str>) {
    (request.task.as_deref(), request.title.as_deref())
}

/// Writes the user's parts of a conversation.
fn parts<'a>(request: &'a Request, losses: &mut Losses) -> Vec<Piece<'a>> {
    let Input::Parts(parts) = &request.input else {
        return Vec::new();
    };
    let mut pieces = Vec::with_capacity(parts.len());
    for part in parts {
        match &part.body {
            PartBody::Text(text) => pieces.push(Piece::Text(text)),
            PartBody::Media(media) => match piece(media) {
                Some(piece) => pieces.push(piece),
                None => losses.material(field("messages"), "files of another provider cannot be embedded"),
            },
            PartBody::Reasoning(_)
            | PartBody::ToolCall(_)
            | PartBody::SearchResult(_)
            | PartBody::ToolResult(_)
            | PartBody::Refusal(_)
            | PartBody::Native { .. } => {
                losses.material(field("messages"), "only texts and media can be embedded");
            }
        }
    }
    if pieces.is_empty() {
        losses.material(
            field("messages"),
            "no message of the user holds anything to embed",
        );
    }
    pieces
}

fn piece(media: &Media) -> Option<Piece<'_>> {
    match &media.source {
        Source::Inline { media_type, data } => Some(Piece::InlineData(Blob {
            mime_type: media_type,
            data,
        })),
        Source::Text(text) => Some(Piece::Text(text)),
        Source::Url(url) => Some(Piece::FileData(FileUri { file_uri: url })),
        Source::File { .. } => None,
    }
}
