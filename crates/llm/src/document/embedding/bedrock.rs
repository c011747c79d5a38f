//! Titan's form on Amazon Bedrock ("Amazon Titan Text Embeddings", Bedrock's user guide).

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

/// Reads a reply.
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
