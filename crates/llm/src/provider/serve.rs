//! Where the families of providers serve documents, and how they want them said: a function for each family,
//! which its rows call. Paths follow the compatibility specification, "Upstream path", and the providers' API
//! references.

use super::{Target, segment};
use crate::{
    Format,
    document::{Document, Served, Wire, count, embedding, rerank},
};

/// The geographies that stand before the names of models which Bedrock serves from several regions.
const GEOGRAPHIES: &[&str] = &["us-gov.", "us.", "eu.", "apac.", "uk.", "au.", "jp.", "global."];

/// OpenAI itself.
pub(super) fn openai(document: Document, target: &Target<'_>) -> Option<Served> {
    let wire = match document {
        Document::Completion
        | Document::Embedding
        | Document::InputTokens
        | Document::Compaction
        | Document::Image
        | Document::Speech
        | Document::Moderation => return Some(same(document, target, "v1")),
        Document::Tokenize | Document::CountTokens | Document::TotalTokens => {
            Wire::Count(count::Form::Responses)
        }
        Document::Rerank => return None,
    };
    let path = target.site.join("v1", Document::InputTokens.suffix());
    Some(Served { wire, path })
}

/// Servers that speak OpenAI's formats elsewhere, under `prefix` where the site has none. Not all serve all of it.
pub(super) fn hosted(document: Document, target: &Target<'_>, prefix: &str) -> Option<Served> {
    match document {
        Document::Completion
        | Document::Embedding
        | Document::InputTokens
        | Document::Compaction
        | Document::Image
        | Document::Speech
        | Document::Rerank
        | Document::Moderation => Some(same(document, target, prefix)),
        Document::Tokenize | Document::CountTokens | Document::TotalTokens => None,
    }
}

/// Servers of OpenAI's formats that one runs oneself, which have a tokenizer.
pub(super) fn own(document: Document, target: &Target<'_>, prefix: &str) -> Option<Served> {
    let wire = match document {
        Document::Tokenize => Wire::Same(Format::OpenAi),
        Document::CountTokens | Document::TotalTokens => Wire::Count(count::Form::Tokenize),
        Document::Completion
        | Document::Embedding
        | Document::InputTokens
        | Document::Compaction
        | Document::Image
        | Document::Speech
        | Document::Rerank
        | Document::Moderation => return hosted(document, target, prefix),
    };
    // The path is under no prefix.
    let path = "/tokenize".to_owned();
    Some(Served { wire, path })
}

/// Azure OpenAI, where all but Responses is asked of a deployment.
pub(super) fn azure(document: Document, target: &Target<'_>, version: &str) -> Option<Served> {
    let (wire, path) = match document {
        Document::Completion | Document::Embedding | Document::Image | Document::Speech => {
            let model = segment(target.model);
            let path = format!("/openai/deployments/{model}/{}", document.suffix());
            (Wire::Same(Format::OpenAi), path)
        }
        Document::InputTokens | Document::Compaction => (
            Wire::Same(Format::OpenAi),
            format!("/openai/{}", document.suffix()),
        ),
        Document::Tokenize | Document::CountTokens | Document::TotalTokens => (
            Wire::Count(count::Form::Responses),
            "/openai/responses/input_tokens".to_owned(),
        ),
        Document::Rerank | Document::Moderation => return None,
    };
    let path = format!("{path}?api-version={version}");
    Some(Served { wire, path })
}

/// Anthropic, and servers that speak its format.
pub(super) fn anthropic(document: Document, target: &Target<'_>) -> Option<Served> {
    let wire = match document {
        Document::CountTokens => Wire::Same(Format::Messages),
        Document::InputTokens | Document::Tokenize | Document::TotalTokens => {
            Wire::Count(count::Form::Messages)
        }
        Document::Completion
        | Document::Compaction
        | Document::Embedding
        | Document::Image
        | Document::Speech
        | Document::Rerank
        | Document::Moderation => return None,
    };
    let path = target.site.join("v1", Document::CountTokens.suffix());
    Some(Served { wire, path })
}

/// Cohere's own API, whose version is the first segment of the path.
pub(super) fn cohere(document: Document, target: &Target<'_>) -> Option<Served> {
    let (wire, suffix) = match document {
        Document::Rerank => (Wire::Same(Format::Cohere), "rerank"),
        Document::Embedding => (Wire::Embedding(embedding::Form::Cohere), "embed"),
        Document::Completion
        | Document::Compaction
        | Document::InputTokens
        | Document::Tokenize
        | Document::CountTokens
        | Document::TotalTokens
        | Document::Image
        | Document::Speech
        | Document::Moderation => return None,
    };
    let path = match target.site.version.as_deref().unwrap_or("v2") {
        "" => format!("/{suffix}"),
        version => format!("/{version}/{suffix}"),
    };
    Some(Served { wire, path })
}

/// Gemini's own API.
pub(super) fn gemini(document: Document, target: &Target<'_>) -> Option<Served> {
    let (wire, method) = match document {
        Document::Embedding => (
            Wire::Embedding(embedding::Form::BatchEmbedContents),
            "batchEmbedContents",
        ),
        Document::TotalTokens => (Wire::Same(Format::Gemini), document.suffix()),
        Document::InputTokens | Document::Tokenize | Document::CountTokens => {
            (Wire::Count(count::Form::Gemini), Document::TotalTokens.suffix())
        }
        Document::Completion
        | Document::Compaction
        | Document::Image
        | Document::Speech
        | Document::Rerank
        | Document::Moderation => return None,
    };
    let model = segment(target.model.trim_start_matches("models/"));
    let path = target.site.join("v1beta", &format!("models/{model}:{method}"));
    Some(Served { wire, path })
}

/// Google's models on Vertex AI. `default` is the prefix where the site has none.
pub(super) fn vertex(document: Document, target: &Target<'_>, default: &str) -> Option<Served> {
    let model = target.model;
    let (wire, method) = match document {
        // The models that follow the first of Gemini's are served by another method.
        Document::Embedding if model.contains("gemini") && model != "gemini-embedding-001" => {
            (Wire::Embedding(embedding::Form::EmbedContent), "embedContent")
        }
        Document::Embedding => (Wire::Embedding(embedding::Form::Predict), "predict"),
        Document::TotalTokens => (Wire::Same(Format::Gemini), document.suffix()),
        Document::InputTokens | Document::Tokenize | Document::CountTokens => {
            (Wire::Count(count::Form::Vertex), Document::TotalTokens.suffix())
        }
        // Google ranks at another host, which the backend names; places in a project are called the same there.
        Document::Rerank => {
            let path = target
                .site
                .join(default, "rankingConfigs/default_ranking_config:rank");
            let wire = Wire::Rerank(rerank::Form::Google);
            return Some(Served { wire, path });
        }
        Document::Completion
        | Document::Compaction
        | Document::Image
        | Document::Speech
        | Document::Moderation => return None,
    };
    let suffix = format!("publishers/google/models/{}:{method}", segment(model));
    let path = target.site.join(default, &suffix);
    Some(Served { wire, path })
}

/// Claude on Vertex AI. `default` is the prefix where the site has none.
pub(super) fn vertex_claude(document: Document, target: &Target<'_>, default: &str) -> Option<Served> {
    let path = target
        .site
        .join(default, "publishers/anthropic/models/count-tokens:rawPredict");
    counted(document, count::Form::VertexClaude, path)
}

/// Models on Amazon Bedrock.
pub(super) fn bedrock(document: Document, target: &Target<'_>) -> Option<Served> {
    let model = target.model;
    let form = match document {
        Document::Embedding if model.contains("titan-embed-text") => embedding::Form::Titan,
        Document::Embedding if model.contains("nova") && model.contains("embeddings") => {
            embedding::Form::Nova
        }
        Document::Embedding if model.contains("cohere.embed") => embedding::Form::BedrockCohere,
        Document::Rerank if model.contains(".rerank") => {
            let path = invoked(target, model, "invoke");
            return Some(Served {
                wire: Wire::Rerank(rerank::Form::Bedrock),
                path,
            });
        }
        Document::InputTokens | Document::Tokenize | Document::CountTokens | Document::TotalTokens => {
            if model.contains("anthropic.") {
                return bedrock_claude(document, target);
            }
            let base = GEOGRAPHIES
                .iter()
                .find_map(|geography| model.strip_prefix(geography));
            let path = invoked(target, base.unwrap_or(model), "count-tokens");
            return counted(document, count::Form::Converse, path);
        }
        Document::Embedding
        | Document::Completion
        | Document::Compaction
        | Document::Image
        | Document::Speech
        | Document::Rerank
        | Document::Moderation => return None,
    };
    let path = invoked(target, model, "invoke");
    Some(Served {
        wire: Wire::Embedding(form),
        path,
    })
}

/// Claude on Amazon Bedrock. Its counter knows models alone, and no profiles of them.
pub(super) fn bedrock_claude(document: Document, target: &Target<'_>) -> Option<Served> {
    let base = target
        .model
        .find("anthropic.")
        .and_then(|at| target.model.get(at..));
    let path = invoked(target, base.unwrap_or(target.model), "count-tokens");
    counted(document, count::Form::BedrockClaude, path)
}

fn counted(document: Document, form: count::Form, path: String) -> Option<Served> {
    match document {
        Document::InputTokens | Document::Tokenize | Document::CountTokens | Document::TotalTokens => {
            Some(Served {
                wire: Wire::Count(form),
                path,
            })
        }
        Document::Completion
        | Document::Compaction
        | Document::Embedding
        | Document::Image
        | Document::Speech
        | Document::Rerank
        | Document::Moderation => None,
    }
}

fn same(document: Document, target: &Target<'_>, prefix: &str) -> Served {
    Served {
        wire: Wire::Same(Format::OpenAi),
        path: target.site.join(prefix, document.suffix()),
    }
}

fn invoked(target: &Target<'_>, model: &str, action: &str) -> String {
    target
        .site
        .join("", &format!("model/{}/{action}", segment(model)))
}
