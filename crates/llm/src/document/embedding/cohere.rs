//! Cohere's form, at Cohere ("Embed API v2") and on Amazon Bedrock, where the model is named in the path.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Reply, Request, Text, Vector, field};
use crate::{
    ApiError, Losses,
    document::{broken, to_bytes, whole},
};

/// What a text is taken to be where nothing is said: the member is required.
const DOCUMENT: &str = "search_document";

/// Google's words for what vectors are for, and Cohere's.
const TASKS: &[(&str, &str)] = &[
    ("RETRIEVAL_DOCUMENT", DOCUMENT),
    ("RETRIEVAL_QUERY", "search_query"),
    ("QUESTION_ANSWERING", "search_query"),
    ("FACT_VERIFICATION", "search_query"),
    ("CODE_RETRIEVAL_QUERY", "search_query"),
    ("CLASSIFICATION", "classification"),
    ("CLUSTERING", "clustering"),
];

/// Writes a request.
pub(super) fn encode(request: &Request, model: Option<&str>, losses: &mut Losses) -> Bytes {
    #[derive(Serialize)]
    struct Embed<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        model: Option<&'a str>,
        texts: Vec<&'a str>,
        input_type: &'a str,
        embedding_types: [&'static str; 1],
        #[serde(skip_serializing_if = "Option::is_none")]
        output_dimension: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        truncate: Option<&'static str>,
    }

    let texts = request.texts(losses);
    if texts.iter().any(|text| text.told(request).1.is_some()) {
        losses.advisory(field("title"), "Cohere has no titles");
    }
    let input_type = match &request.input_type {
        Some(said) => said,
        None => input_type(request, texts, losses),
    };
    to_bytes(&Embed {
        model,
        texts: texts.iter().map(|text| text.text.as_str()).collect(),
        input_type,
        embedding_types: ["float"],
        output_dimension: request.dimensions,
        truncate: request
            .truncate
            .map(|truncate| if truncate { "END" } else { "NONE" }),
    })
}

/// Returns what the texts are, of which all must be the same.
fn input_type(request: &Request, texts: &[Text], losses: &mut Losses) -> &'static str {
    let task = |text: &Text| text.told(request).0.map(str::to_owned);
    let first = texts.first().and_then(task);
    if texts.iter().any(|text| task(text) != first) {
        losses.material(field("input"), "Cohere takes texts of one task at a time");
    }
    let Some(task) = first else {
        return DOCUMENT;
    };
    match TASKS.iter().find(|(google, _)| *google == task) {
        Some((_, cohere)) => cohere,
        None => {
            losses.advisory(field("task_type"), "Cohere has no such task");
            DOCUMENT
        }
    }
}

/// Reads a reply.
pub(super) fn read(body: &[u8]) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    struct Embedded {
        embeddings: Embeddings,
        #[serde(default)]
        meta: Meta,
    }
    /// By type, or bare, as older models answer.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Embeddings {
        ByType { float: Vec<Vec<f32>> },
        Floats(Vec<Vec<f32>>),
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Meta {
        billed_units: Units,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Units {
        input_tokens: Option<f64>,
    }

    let reply: Embedded = serde_json::from_slice(body).map_err(broken)?;
    let (Embeddings::ByType { float: vectors } | Embeddings::Floats(vectors)) = reply.embeddings;
    let vectors = vectors.into_iter().map(|values| Vector {
        values,
        truncated: false,
    });
    Ok(Reply {
        vectors: vectors.collect(),
        tokens: reply.meta.billed_units.input_tokens.map(whole),
    })
}
