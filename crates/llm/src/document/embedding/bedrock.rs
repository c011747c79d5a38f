//! Titan's form on Amazon Bedrock ("Amazon Titan Text Embeddings", Bedrock's user guide), and Nova's ("Complete
//! embeddings request and response schema", Nova's user guide). Either takes one text.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Reply, Request, Vector, field};
use crate::{
    ApiError, Losses,
    document::{broken, to_bytes},
};

/// Writes a request, which holds one text.
pub(super) fn titan(request: &Request, losses: &mut Losses) -> Bytes {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Titan<'a> {
        input_text: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        dimensions: Option<u64>,
    }

    let text = request.text(losses);
    let (task, title) = text.map_or((None, None), |text| text.told(request));
    let unsaid = [
        ("task_type", task.is_some()),
        ("title", title.is_some()),
        ("auto_truncate", request.truncate.is_some()),
        ("input_type", request.input_type.is_some()),
    ];
    for (key, _) in unsaid.iter().filter(|(_, said)| *said) {
        losses.advisory(field(key), "Titan has no such member");
    }
    to_bytes(&Titan {
        input_text: text.map_or("", |text| &text.text),
        dimensions: request.dimensions,
    })
}

/// Writes a request to Nova, which holds one text.
pub(super) fn nova(request: &Request, losses: &mut Losses) -> Bytes {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Nova<'a> {
        task_type: &'static str,
        single_embedding_params: Single<'a>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Single<'a> {
        embedding_purpose: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        embedding_dimension: Option<u64>,
        text: NovaText<'a>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct NovaText<'a> {
        truncation_mode: &'static str,
        value: &'a str,
    }

    let text = request.text(losses);
    let (task, title) = text.map_or((None, None), |text| text.told(request));
    if title.is_some() {
        losses.advisory(field("title"), "Nova has no such member");
    }
    let (member, wanted) = match (task, request.input_type.as_deref()) {
        (Some(task), _) => ("task_type", Some(task)),
        (None, input_type) => ("input_type", input_type),
    };
    let known = PURPOSES.iter().find(|(word, _)| Some(*word) == wanted);
    if wanted.is_some() && known.is_none() {
        losses.advisory(field(member), "Nova has no word for it");
    }
    to_bytes(&Nova {
        task_type: "SINGLE_EMBEDDING",
        single_embedding_params: Single {
            embedding_purpose: known.map_or("GENERIC_INDEX", |(_, purpose)| *purpose),
            embedding_dimension: request.dimensions,
            text: NovaText {
                truncation_mode: if request.truncate == Some(false) {
                    "NONE"
                } else {
                    "END"
                },
                value: text.map_or("", |text| &text.text),
            },
        },
    })
}

/// What vectors are for, in Google's words and Cohere's, and in Nova's.
const PURPOSES: &[(&str, &str)] = &[
    ("RETRIEVAL_DOCUMENT", "GENERIC_INDEX"),
    ("RETRIEVAL_QUERY", "GENERIC_RETRIEVAL"),
    ("CLASSIFICATION", "CLASSIFICATION"),
    ("CLUSTERING", "CLUSTERING"),
    ("search_document", "GENERIC_INDEX"),
    ("search_query", "GENERIC_RETRIEVAL"),
    ("classification", "CLASSIFICATION"),
    ("clustering", "CLUSTERING"),
];

/// Reads a reply of Nova's, which counts tokens in its head, if at all.
pub(super) fn read_nova(body: &[u8]) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    struct Embedded {
        embeddings: Vec<One>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct One {
        embedding: Vec<f32>,
        truncated_char_length: Option<u64>,
    }

    let reply: Embedded = serde_json::from_slice(body).map_err(broken)?;
    let vectors = reply.embeddings.into_iter().map(|one| Vector {
        values: one.embedding,
        truncated: one.truncated_char_length.is_some(),
    });
    Ok(Reply {
        vectors: vectors.collect(),
        tokens: None,
    })
}

/// Reads a reply of Titan's.
pub(super) fn read_titan(body: &[u8]) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Embedded {
        embedding: Vec<f32>,
        input_text_token_count: Option<u64>,
    }

    let reply: Embedded = serde_json::from_slice(body).map_err(broken)?;
    Ok(Reply {
        vectors: vec![Vector {
            values: reply.embedding,
            truncated: false,
        }],
        tokens: reply.input_text_token_count,
    })
}
