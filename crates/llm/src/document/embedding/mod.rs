//! Embeddings: what a client of OpenAI's form asks for, and what other providers call it.
//!
//! OpenAI's own form is relayed and never read here. Beside its members some that spread from Google's and
//! Cohere's APIs are read: `task_type`, `title`, `auto_truncate`, `input_type`, and `messages` for what is
//! not text alone.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::Serialize;

use crate::{
    ApiError, Field, Format, Losses, Target,
    chat::{Client, Part, Role, openai::OpenAi},
    json::{self, Kind, Object, Path},
};

mod bedrock;
mod cohere;
mod google;

/// The most texts that are asked for one by one; no more may be in a request to OpenAI (API reference, "Create
/// embeddings").
const MAX_TEXTS: usize = 2048;

/// The forms of other providers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Vertex AI's `predict`.
    Predict,
    /// Vertex AI's `embedContent`, of the models that follow `gemini-embedding-001`.
    EmbedContent,
    /// Gemini's `batchEmbedContents`.
    BatchEmbedContents,
    /// Titan's, on Amazon Bedrock.
    Titan,
    /// Nova's, on Amazon Bedrock.
    Nova,
    /// Cohere's, on Amazon Bedrock.
    BedrockCohere,
    /// Cohere's own, version 2.
    Cohere,
}

/// What a client wants to have embedded.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) input: Input,
    /// The length of the vectors.
    pub(crate) dimensions: Option<u64>,
    /// Whether the vectors are wanted in base64.
    pub(crate) base64: bool,
    /// What the vectors are for, for all texts alike, in Google's words.
    pub(crate) task: Option<String>,
    /// The title of all texts.
    pub(crate) title: Option<String>,
    /// Whether a text that is too long is cut off, rather than refused.
    pub(crate) truncate: Option<bool>,
    /// What the vectors are for, in Cohere's words.
    pub(crate) input_type: Option<String>,
}

/// What is to be embedded.
#[derive(Debug)]
pub(crate) enum Input {
    /// Texts, for a vector each.
    Texts(Vec<Text>),
    /// Tokens, which mean something to the tokenizer of one model alone.
    Tokens,
    /// The user's parts of a conversation, for one vector.
    Parts(Vec<Part>),
}

/// One text.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Text {
    pub(crate) text: String,
    /// What this vector is for, in Google's words.
    pub(crate) task: Option<String>,
    pub(crate) title: Option<String>,
}

/// What a provider answers.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Reply {
    pub(crate) vectors: Vec<Vector>,
    pub(crate) tokens: Option<u64>,
}

/// One vector.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Vector {
    pub(crate) values: Vec<f32>,
    /// Whether its text was cut off.
    pub(crate) truncated: bool,
}

impl Form {
    /// Returns the format in which the provider says errors.
    pub(super) fn words(self) -> Format {
        match self {
            Form::Predict | Form::EmbedContent | Form::BatchEmbedContents => Format::Gemini,
            Form::Titan | Form::Nova | Form::BedrockCohere => Format::Converse,
            Form::Cohere => Format::Cohere,
        }
    }

    /// Returns `request` in this form: one body, or one for each text where the form takes no more of them.
    pub(super) fn encode(
        self,
        mut request: Request,
        target: &Target<'_>,
        losses: &mut Losses,
    ) -> (Bytes, Vec<Bytes>) {
        let is_too_much = |texts: &[Text]| self.takes_one() && (2..=MAX_TEXTS).contains(&texts.len());
        let texts = match &mut request.input {
            Input::Texts(texts) if is_too_much(texts) => std::mem::take(texts),
            Input::Texts(_) | Input::Tokens | Input::Parts(_) => Vec::new(),
        };
        let mut bodies = texts.into_iter().map(|text| {
            request.input = Input::Texts(vec![text]);
            self.encode_one(&request, target, losses)
        });
        match bodies.next() {
            Some(first) => (first, bodies.collect()),
            None => {
                drop(bodies);
                (self.encode_one(&request, target, losses), Vec::new())
            }
        }
    }

    /// Returns whether a document in this form holds one text.
    fn takes_one(self) -> bool {
        match self {
            Form::EmbedContent | Form::Titan | Form::Nova => true,
            Form::Predict | Form::BatchEmbedContents | Form::BedrockCohere | Form::Cohere => false,
        }
    }

    fn encode_one(self, request: &Request, target: &Target<'_>, losses: &mut Losses) -> Bytes {
        let is_google = matches!(
            self,
            Form::Predict | Form::EmbedContent | Form::BatchEmbedContents
        );
        if is_google && request.input_type.is_some() {
            losses.advisory(field("input_type"), "Google says it in \"task_type\"");
        }
        match self {
            Form::Predict => google::predict(request, losses),
            Form::EmbedContent => google::embed_content(request, losses),
            Form::BatchEmbedContents => google::batch(request, target.model, losses),
            Form::Titan => bedrock::titan(request, losses),
            Form::Nova => bedrock::nova(request, losses),
            Form::BedrockCohere => cohere::encode(request, None, losses),
            Form::Cohere => cohere::encode(request, Some(target.model), losses),
        }
    }

    /// Reads a reply in this form.
    ///
    /// # Errors
    /// A 502, if it breaks the form.
    pub(super) fn decode(self, body: &[u8]) -> Result<Reply, ApiError> {
        match self {
            Form::Predict => google::read_predict(body),
            Form::EmbedContent => google::read_embed_content(body),
            Form::BatchEmbedContents => google::read_batch(body),
            Form::Titan => bedrock::read_titan(body),
            Form::Nova => bedrock::read_nova(body),
            Form::BedrockCohere | Form::Cohere => cohere::read(body),
        }
    }
}

impl Request {
    /// Reads what a client sent. A member that no other form has is a loss.
    ///
    /// # Errors
    /// A 400 that names the member at fault.
    pub(super) fn parse(body: &[u8], losses: &mut Losses) -> Result<Self, ApiError> {
        let path = Path::Root;
        let mut object = Object::parse_slice(body)?;
        let model = object.take("model");
        let input = match (object.take("input"), object.take("messages")) {
            (Some(_), Some(_)) => {
                return Err(path.key("messages").invalid("it excludes \"input\""));
            }
            (Some(input), None) => read_input(input, &path.key("input"))?,
            (None, Some(messages)) => read_messages(model, messages)?,
            (None, None) => return Err(path.key("input").invalid("this member is required")),
        };
        let base64 = match object.optional::<String>("encoding_format", &path)?.as_deref() {
            None | Some("float") => false,
            Some("base64") => true,
            Some(_) => {
                return Err(path
                    .key("encoding_format")
                    .invalid("\"float\" or \"base64\" is expected"));
            }
        };
        let request = Self {
            input,
            dimensions: object
                .optional("dimensions", &path)?
                .filter(|dimensions| *dimensions > 0),
            base64,
            task: object.optional("task_type", &path)?,
            title: object.optional("title", &path)?,
            truncate: object.optional("auto_truncate", &path)?,
            input_type: object.optional("input_type", &path)?,
        };
        for (key, _) in object.rest() {
            losses.advisory(
                Field::Extension(key.into_owned()),
                "the provider's embeddings have no such member",
            );
        }
        Ok(request)
    }

    /// Returns the texts. Anything else is a loss without which nothing is left.
    fn texts(&self, losses: &mut Losses) -> &[Text] {
        match &self.input {
            Input::Texts(texts) => texts,
            Input::Tokens => {
                tokens(losses);
                &[]
            }
            Input::Parts(_) => {
                losses.material(field("messages"), "the provider embeds texts alone");
                &[]
            }
        }
    }

    /// Returns the one text, for a form that takes no other number.
    fn text(&self, losses: &mut Losses) -> Option<&Text> {
        let texts = self.texts(losses);
        if let [text] = texts {
            return Some(text);
        }
        if let Input::Texts(_) = self.input {
            let count = texts.len();
            losses.material(
                field("input"),
                format!("{count} texts are no request, or too many, for a model that embeds one at a time"),
            );
        }
        None
    }
}

impl Text {
    /// Returns the text with what is said of it alone replaced by what is said of all.
    fn told<'t>(&'t self, request: &'t Request) -> (Option<&'t str>, Option<&'t str>) {
        let task = request.task.as_deref().or(self.task.as_deref());
        let own = self
            .title
            .as_deref()
            .filter(|_| self.task.as_deref() == Some("RETRIEVAL_DOCUMENT"));
        (task, request.title.as_deref().or(own))
    }
}

impl Reply {
    /// Adds a `later` reply, whose head counted `tokens` if its document did not.
    pub(super) fn add(&mut self, later: Reply, tokens: Option<u64>) {
        self.vectors.extend(later.vectors);
        if let Some(tokens) = later.tokens.or(tokens) {
            self.tokens = Some(self.tokens.unwrap_or(0).saturating_add(tokens));
        }
    }

    /// Returns the reply as clients of OpenAI's form expect it.
    pub(super) fn encode(&self, model: &str, base64: bool) -> Bytes {
        #[derive(Serialize)]
        struct List<'a> {
            object: &'static str,
            data: Vec<Datum<'a>>,
            model: &'a str,
            usage: Counts,
        }
        #[derive(Serialize)]
        struct Datum<'a> {
            object: &'static str,
            index: usize,
            embedding: Embedding<'a>,
            #[serde(skip_serializing_if = "std::ops::Not::not")]
            truncated: bool,
        }
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Embedding<'a> {
            Numbers(&'a [f32]),
            Base64(String),
        }
        #[derive(Serialize)]
        struct Counts {
            prompt_tokens: u64,
            total_tokens: u64,
        }

        let data = self.vectors.iter().enumerate().map(|(index, vector)| Datum {
            object: "embedding",
            index,
            embedding: if base64 {
                let bytes: Vec<u8> = vector
                    .values
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect();
                Embedding::Base64(STANDARD.encode(bytes))
            } else {
                Embedding::Numbers(&vector.values)
            },
            truncated: vector.truncated,
        });
        // The member is required; a count that was never reported stays out of our own records.
        let tokens = self.tokens.unwrap_or(0);
        super::to_bytes(&List {
            object: "list",
            data: data.collect(),
            model,
            usage: Counts {
                prompt_tokens: tokens,
                total_tokens: tokens,
            },
        })
    }
}

fn field(key: &str) -> Field {
    Field::Extension(key.to_owned())
}

fn tokens(losses: &mut Losses) {
    losses.material(
        field("input"),
        "tokens of another model's tokenizer mean nothing to the provider",
    );
}

/// Reads a text, tokens, an object with texts and what they are for, or an array of either.
fn read_input(raw: &serde_json::value::RawValue, path: &Path<'_>) -> Result<Input, ApiError> {
    match json::kind(raw) {
        Kind::String => Ok(Input::Texts(vec![Text {
            text: json::read(raw, path)?,
            ..Text::default()
        }])),
        Kind::Object => read_item(raw, path).map(Input::Texts),
        Kind::Array => {
            let elements = json::elements(raw, path)?;
            let mut texts = Vec::with_capacity(elements.len());
            for (index, element) in elements.into_iter().enumerate() {
                let path = path.index(index);
                match json::kind(element) {
                    Kind::String => texts.push(Text {
                        text: json::read(element, &path)?,
                        ..Text::default()
                    }),
                    Kind::Object => texts.extend(read_item(element, &path)?),
                    Kind::Number | Kind::Array => return Ok(Input::Tokens),
                    Kind::Bool | Kind::Null => return Err(expected(&path)),
                }
            }
            Ok(Input::Texts(texts))
        }
        Kind::Number | Kind::Bool | Kind::Null => Err(expected(path)),
    }
}

fn expected(path: &Path<'_>) -> ApiError {
    path.invalid("a text, tokens, or an object with \"content\" is expected")
}

/// Reads `{"content","task_type","title"}`, whose content may be several texts.
fn read_item(raw: &serde_json::value::RawValue, path: &Path<'_>) -> Result<Vec<Text>, ApiError> {
    let mut item = Object::parse(raw, path)?;
    let content: &serde_json::value::RawValue = item.required("content", path)?;
    let at = path.key("content");
    let contents: Vec<String> = match json::kind(content) {
        Kind::Array => json::read(content, &at)?,
        Kind::String | Kind::Object | Kind::Number | Kind::Bool | Kind::Null => {
            vec![json::read(content, &at)?]
        }
    };
    if contents.is_empty() || contents.iter().any(String::is_empty) {
        return Err(at.invalid("it must not be empty"));
    }
    let task: Option<String> = item.optional("task_type", path)?;
    let title: Option<String> = item.optional("title", path)?;
    Ok(contents
        .into_iter()
        .map(|text| Text {
            text,
            task: task.clone(),
            title: title.clone(),
        })
        .collect())
}

/// Reads the user's parts of messages in the grammar of chat completions.
fn read_messages(
    model: Option<&serde_json::value::RawValue>,
    messages: &serde_json::value::RawValue,
) -> Result<Input, ApiError> {
    let model = model.map_or("\"\"", |model| model.get());
    let chat = format!(r#"{{"model":{model},"messages":{messages}}}"#);
    let request = OpenAi.decode_request(chat.as_bytes(), &mut Losses::default())?;
    let users = request.turns.into_iter().filter(|turn| turn.role == Role::User);
    Ok(Input::Parts(users.flat_map(|turn| turn.parts).collect()))
}

#[cfg(test)]
mod tests;
