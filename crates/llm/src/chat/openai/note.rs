//! What is said about a text, as OpenAI's two formats write it: log-probabilities alike, citations nearly so.

use std::borrow::Cow;

use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};
use serde_json::{Number, value::RawValue};

use crate::{
    Losses,
    chat::{Citation, Token},
    json::{Path, Typed},
    unread::{self, Silent},
};

/// The type of a citation that other formats have too.
const URL_CITATION: &str = "url_citation";

/// Reads an array of tokens; those that cannot be read are left out.
pub(in crate::chat) fn read_tokens(raw: &RawValue, path: &Path<'_>, losses: &mut Losses) -> Vec<Token> {
    #[derive(Deserialize)]
    struct Wire {
        token: String,
        logprob: Number,
        #[serde(default)]
        bytes: Option<Vec<u8>>,
        #[serde(default)]
        top_logprobs: Option<Vec<Wire>>,
    }

    impl From<Wire> for Token {
        fn from(wire: Wire) -> Self {
            let likeliest = wire.top_logprobs.unwrap_or_default();
            Self {
                text: wire.token,
                logprob: wire.logprob,
                bytes: wire.bytes,
                likeliest: likeliest.into_iter().map(Token::from).collect(),
            }
        }
    }

    let tokens: Vec<&RawValue> = serde_json::from_str(raw.get()).unwrap_or_default();
    let tokens = tokens.into_iter().enumerate();
    let tokens =
        tokens.filter_map(|(index, raw)| unread::read::<Wire>(raw.get(), &path.index(index), losses).ok());
    tokens.map(Token::from).collect()
}

/// Reads an annotation; `None` if it is of a type that only one format has. Chat completions put its members into an
/// object of their own.
pub(in crate::chat) fn read_citation(
    raw: &RawValue,
    path: &Path<'_>,
    losses: &mut Losses,
) -> Option<Citation> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Wire<'a> {
        #[serde(rename = "type")]
        _type: Silent,
        #[serde(borrow)]
        url_citation: Option<&'a RawValue>,
        url: Option<String>,
        title: Option<String>,
        start_index: Option<usize>,
        end_index: Option<usize>,
    }

    let typed: Typed<'_> = serde_json::from_str(raw.get()).ok()?;
    typed.kind.filter(|kind| kind == URL_CITATION)?;
    let wire: Wire<'_> = unread::read(raw.get(), path, losses).ok()?;
    let inner = match wire.url_citation {
        Some(raw) => unread::read(raw.get(), &path.key(URL_CITATION), losses).ok()?,
        None => wire,
    };
    Some(Citation {
        source: Some(inner.url?),
        title: inner.title,
        quote: None,
        place: None,
        span: inner.start_index.zip(inner.end_index),
        seal: None,
    })
}

/// Tokens as they are written.
#[derive(Clone, Debug, Default)]
pub(in crate::chat) struct Tokens<'a>(pub(in crate::chat) Cow<'a, [Token]>);

impl Serialize for Tokens<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Written<'a> {
            token: &'a Token,
            likeliest: bool,
        }

        impl Serialize for Written<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(None)?;
                map.serialize_entry("token", &self.token.text)?;
                map.serialize_entry("logprob", &self.token.logprob)?;
                match &self.token.bytes {
                    Some(bytes) => map.serialize_entry("bytes", bytes)?,
                    None => map.serialize_entry("bytes", self.token.text.as_bytes())?,
                }
                if self.likeliest {
                    let likeliest = self.token.likeliest.iter().map(|token| Written {
                        token,
                        likeliest: false,
                    });
                    map.serialize_entry("top_logprobs", &likeliest.collect::<Vec<_>>())?;
                }
                map.end()
            }
        }

        serializer.collect_seq(self.0.iter().map(|token| Written {
            token,
            likeliest: true,
        }))
    }
}

/// A citation as Responses write it.
#[derive(Serialize)]
pub(in crate::chat) struct UrlCitation<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    page: Page<'a>,
}

/// A citation as chat completions write it.
#[derive(Serialize)]
pub(super) struct Annotation<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    url_citation: Page<'a>,
}

#[derive(Serialize)]
struct Page<'a> {
    url: &'a str,
    title: &'a str,
    start_index: usize,
    end_index: usize,
}

impl<'a> UrlCitation<'a> {
    /// Returns `citation` of a text of `length` characters.
    pub(in crate::chat) fn new(citation: &'a Citation, length: usize) -> Self {
        Self {
            kind: URL_CITATION,
            page: Page::new(citation, 0, length),
        }
    }
}

impl<'a> Annotation<'a> {
    /// Returns `citation` of a text that lies between `start` and `end` in the message's content.
    pub(super) fn new(citation: &'a Citation, start: usize, end: usize) -> Self {
        Self {
            kind: URL_CITATION,
            url_citation: Page::new(citation, start, end),
        }
    }
}

impl<'a> Page<'a> {
    fn new(citation: &'a Citation, start: usize, end: usize) -> Self {
        let (first, last) = match citation.span {
            Some((first, last)) => (start + first, start + last),
            None => (start, end),
        };
        Self {
            url: citation.page().unwrap_or_default(),
            title: citation.title.as_deref().unwrap_or_default(),
            start_index: first,
            end_index: last,
        }
    }
}
