//! Rerank through models on Amazon Bedrock, Amazon's own and Cohere's, which InvokeModel takes in one form ("Supported
//! Regions and models for reranking" and the parameters of either, Bedrock's user guide), and through Google's ranking
//! API ("Method: projects.locations.rankingConfigs.rank").
//!
//! Everyone else who serves rerank is relayed to.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{broken, to_bytes};
use crate::{
    ApiError, Field, Format, Losses,
    json::{self, Kind, Object, Path},
};

/// The version of Cohere's form that is spoken; Amazon's has none.
const COHERE: u64 = 2;

/// The forms of other providers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// That of models on Amazon Bedrock.
    Bedrock,
    /// Google's, whose documents are records with ids: here, where they stand.
    Google,
}

impl Form {
    /// Returns the format in which the provider says errors.
    pub(super) fn words(self) -> Format {
        match self {
            Form::Bedrock => Format::Converse,
            Form::Google => Format::Gemini,
        }
    }

    fn write(self, model: &str, query: &str, documents: &[String], top_n: Option<u64>) -> Bytes {
        #[derive(Serialize)]
        struct Asked<'a> {
            query: &'a str,
            documents: &'a [String],
            #[serde(skip_serializing_if = "Option::is_none")]
            top_n: Option<u64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            api_version: Option<u64>,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct AskedGoogle<'a> {
            model: &'a str,
            query: &'a str,
            records: Vec<Record<'a>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            top_n: Option<u64>,
            ignore_record_details_in_response: bool,
        }
        #[derive(Serialize)]
        struct Record<'a> {
            id: String,
            content: &'a str,
        }

        match self {
            Form::Bedrock => to_bytes(&Asked {
                query,
                documents,
                top_n,
                api_version: model.contains("cohere.").then_some(COHERE),
            }),
            Form::Google => {
                let records = documents.iter().enumerate().map(|(index, content)| Record {
                    id: index.to_string(),
                    content,
                });
                to_bytes(&AskedGoogle {
                    model,
                    query,
                    records: records.collect(),
                    top_n,
                    ignore_record_details_in_response: true,
                })
            }
        }
    }

    /// Returns the places of documents and how relevant each is.
    fn read(self, body: &[u8]) -> Result<Vec<(usize, f64)>, ApiError> {
        #[derive(Deserialize)]
        struct Ranked {
            results: Vec<Scored>,
        }
        #[derive(Deserialize)]
        struct Scored {
            index: usize,
            relevance_score: f64,
        }
        #[derive(Deserialize)]
        struct RankedGoogle {
            records: Vec<ScoredGoogle>,
        }
        #[derive(Deserialize)]
        struct ScoredGoogle {
            id: String,
            #[serde(default)]
            score: f64,
        }

        match self {
            Form::Bedrock => {
                let ranked: Ranked = serde_json::from_slice(body).map_err(broken)?;
                let results = ranked.results.into_iter();
                Ok(results.map(|one| (one.index, one.relevance_score)).collect())
            }
            Form::Google => {
                let ranked: RankedGoogle = serde_json::from_slice(body).map_err(broken)?;
                let place = |one: ScoredGoogle| Ok((one.id.parse().map_err(broken)?, one.score));
                ranked.records.into_iter().map(place).collect()
            }
        }
    }
}

/// Returns what `model` is sent for `body` in `form`, and the documents where the client wants them back.
///
/// # Errors
/// A 400 that names the member at fault.
pub(super) fn encode(
    form: Form,
    body: &[u8],
    model: &str,
    losses: &mut Losses,
) -> Result<(Bytes, Option<Vec<String>>), ApiError> {
    let path = Path::Root;
    let mut object = Object::parse_slice(body)?;
    object.take("model");
    let query: String = object.required("query", &path)?;
    let raw: &RawValue = object.required("documents", &path)?;
    let documents = documents(raw, &path.key("documents"), losses)?;
    let top_n = object.optional("top_n", &path)?;
    let asked = form.write(model, &query, &documents, top_n);
    let returned = object.optional("return_documents", &path)?.unwrap_or(false);
    for (key, _) in object.rest() {
        let member = Field::Extension(key.into_owned());
        losses.advisory(member, "the provider's rerank has no such member");
    }
    Ok((asked, returned.then_some(documents)))
}

/// Returns the reply in `body`, in `form`, as clients of Cohere's form and of those like it expect it.
///
/// # Errors
/// A 502, if it breaks its form.
pub(super) fn decode(
    form: Form,
    body: &[u8],
    model: &str,
    documents: Option<&[String]>,
) -> Result<Bytes, ApiError> {
    #[derive(Serialize)]
    struct Answer<'a> {
        model: &'a str,
        results: Vec<Placed<'a>>,
    }
    #[derive(Serialize)]
    struct Placed<'a> {
        index: usize,
        relevance_score: f64,
        #[serde(skip_serializing_if = "Option::is_none")]
        document: Option<Text<'a>>,
    }
    #[derive(Serialize)]
    struct Text<'a> {
        text: &'a str,
    }

    let results = form.read(body)?.into_iter().map(|(index, relevance_score)| {
        let document = documents.and_then(|documents| documents.get(index));
        Placed {
            index,
            relevance_score,
            document: document.map(|text| Text { text }),
        }
    });
    Ok(to_bytes(&Answer {
        model,
        results: results.collect(),
    }))
}

/// Reads documents: texts, or objects with a `text`.
fn documents(raw: &RawValue, path: &Path<'_>, losses: &mut Losses) -> Result<Vec<String>, ApiError> {
    let elements = json::elements(raw, path)?.into_iter().enumerate();
    let texts = elements.map(|(index, element)| {
        let path = path.index(index);
        match json::kind(element) {
            Kind::String => json::read(element, &path),
            Kind::Object => {
                let mut document = Object::parse(element, &path)?;
                let text: Option<String> = document.optional("text", &path)?;
                if text.is_none() {
                    let member = Field::Extension(path.to_string());
                    losses.material(member, "the provider ranks texts alone");
                }
                for (key, _) in document.rest() {
                    let member = Field::Extension(path.key(&key).to_string());
                    losses.advisory(member, "the provider ranks by the text alone");
                }
                Ok(text.unwrap_or_default())
            }
            Kind::Array | Kind::Number | Kind::Bool | Kind::Null => {
                Err(path.invalid("a text, or an object with \"text\", is expected"))
            }
        }
    });
    texts.collect()
}
