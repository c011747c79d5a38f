//! What is said about a text: log-probabilities and where it is from ("LogprobsResult" and "GroundingMetadata", API
//! reference). The format tells both of an answer as a whole, and counts a text in bytes.

use serde::{Deserialize, Serialize};
use serde_json::{Number, value::RawValue};

use crate::{
    Losses,
    chat::{Citation, Finish, Token},
    json::Path,
    unread::{self, Silent},
};

/// What the format calls it.
const MEMBER: &str = "groundingMetadata";

/// Reads tokens.
pub(super) fn read_tokens(raw: &RawValue, path: &Path<'_>, losses: &mut Losses) -> Vec<Token> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Wire {
        chosen_candidates: Vec<Candidate>,
        top_candidates: Vec<Candidates>,
        #[serde(rename = "logProbabilitySum")]
        _log_probability_sum: Silent,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Candidates {
        candidates: Vec<Candidate>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Candidate {
        #[serde(default)]
        token: String,
        log_probability: Option<Number>,
        #[serde(default, rename = "tokenId")]
        _token_id: Silent,
    }

    let token = |candidate: Candidate, likeliest: Vec<Token>| Token {
        text: candidate.token,
        logprob: candidate.log_probability.unwrap_or_else(|| Number::from(0)),
        bytes: None,
        likeliest,
    };
    let wire: Wire = unread::read(raw.get(), path, losses).unwrap_or_default();
    let mut top = wire.top_candidates.into_iter();
    let chosen = wire.chosen_candidates.into_iter();
    chosen
        .map(|chosen| {
            let likeliest = top.next().unwrap_or_default().candidates.into_iter();
            token(chosen, likeliest.map(|other| token(other, Vec::new())).collect())
        })
        .collect()
}

/// What is said of where an answer is from.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Grounding {
    grounding_chunks: Vec<Chunk>,
    grounding_supports: Vec<Support>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Chunk {
    #[serde(skip_serializing_if = "Option::is_none")]
    web: Option<Web>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Web {
    uri: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Support {
    segment: Segment,
    grounding_chunk_indices: Vec<usize>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Segment {
    start_index: usize,
    end_index: usize,
    text: String,
}

/// Reads where `text`, an answer, is from.
pub(super) fn read_citations(raw: &RawValue, text: &str) -> Vec<Citation> {
    let grounding: Grounding = serde_json::from_str(raw.get()).unwrap_or_default();
    let page = |index: usize| grounding.grounding_chunks.get(index)?.web.clone();
    let mut citations = Vec::new();
    let mut referred = vec![false; grounding.grounding_chunks.len()];
    for support in &grounding.grounding_supports {
        let span = support.segment.span(text);
        for index in &support.grounding_chunk_indices {
            if let Some(referred) = referred.get_mut(*index) {
                *referred = true;
            }
            citations.extend(page(*index).map(|web| web.cited(span)));
        }
    }
    // A page that nothing refers to is one of the whole answer.
    let others = referred.iter().enumerate().filter(|(_, referred)| !**referred);
    let others = others.filter_map(|(index, _)| page(index));
    citations.extend(others.map(|web| web.cited(None)));
    citations
}

impl Web {
    fn cited(self, span: Option<(usize, usize)>) -> Citation {
        Citation {
            source: Some(self.uri),
            title: self.title,
            quote: None,
            place: None,
            span,
            seal: None,
        }
    }
}

impl Segment {
    /// Returns the characters of `text` that this is; `None` if it is not there.
    fn span(&self, text: &str) -> Option<(usize, usize)> {
        let stands = text.get(self.start_index..self.end_index);
        let there = self.text.is_empty() || stands == Some(&self.text);
        let (first, last) = match stands.filter(|_| there) {
            Some(_) => (self.start_index, self.end_index),
            None if self.text.is_empty() => return None,
            None => {
                let first = text.find(&self.text)?;
                (first, first + self.text.len())
            }
        };
        let characters = |end: usize| text.get(..end).map(|before| before.chars().count());
        Some((characters(first)?, characters(last)?))
    }

    /// Returns the piece of `text` that has these characters.
    fn of(text: &str, span: Option<(usize, usize)>) -> Self {
        let (first, last) = span.unwrap_or((0, usize::MAX));
        let byte = |character: usize| {
            let mut indices = text.char_indices();
            indices.nth(character).map_or(text.len(), |(at, _)| at)
        };
        let (start_index, end_index) = (byte(first), byte(last));
        Self {
            start_index,
            end_index,
            text: text.get(start_index..end_index).unwrap_or_default().to_owned(),
        }
    }
}

impl Grounding {
    /// Adds that `text` is from the pages of `citations`.
    pub(super) fn add(&mut self, citations: &[Citation], text: &str) {
        for citation in citations {
            let Some(page) = citation.page() else {
                continue;
            };
            let known = |chunk: &Chunk| chunk.web.as_ref().is_some_and(|web| web.uri == page);
            let index = self.grounding_chunks.iter().position(known);
            let index = index.unwrap_or_else(|| {
                self.grounding_chunks.push(Chunk {
                    web: Some(Web {
                        uri: page.to_owned(),
                        title: citation.title.clone(),
                    }),
                });
                self.grounding_chunks.len() - 1
            });
            self.grounding_supports.push(Support {
                segment: Segment::of(text, citation.span),
                grounding_chunk_indices: vec![index],
            });
        }
    }

    /// Returns what there is to say, unless the provider has said it itself where an answer ended with `finish`.
    pub(super) fn unless_said(self, finish: &Finish) -> Option<Self> {
        let said = finish.remarks.iter().any(|remark| remark.key == MEMBER);
        (!said && !self.grounding_chunks.is_empty()).then_some(self)
    }
}

/// Log-probabilities as they are written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Logprobs<'a> {
    top_candidates: Vec<Top<'a>>,
    chosen_candidates: Vec<Candidate<'a>>,
}

#[derive(Serialize)]
struct Top<'a> {
    candidates: Vec<Candidate<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Candidate<'a> {
    token: &'a str,
    log_probability: &'a Number,
}

impl<'a> Logprobs<'a> {
    /// Returns how likely `tokens` were; `None` if there are none.
    pub(super) fn new(tokens: impl IntoIterator<Item = &'a Token>) -> Option<Self> {
        let candidate = |token: &'a Token| Candidate {
            token: &token.text,
            log_probability: &token.logprob,
        };
        let mut logprobs = Self {
            top_candidates: Vec::new(),
            chosen_candidates: Vec::new(),
        };
        for token in tokens {
            let candidates = token.likeliest.iter().map(candidate).collect();
            logprobs.top_candidates.push(Top { candidates });
            logprobs.chosen_candidates.push(candidate(token));
        }
        (!logprobs.chosen_candidates.is_empty()).then_some(logprobs)
    }
}
