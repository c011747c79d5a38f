//! Sources: what an answer may cite, and what it does cite.
//!
//! Messages and Converse let a request mark material that is to be cited, documents and search results; their
//! answers then say for each text where it is taken from. Other formats have no such material: for them
//! `lower` makes text of search results, once, before a request is written. Pages on the web are cited in all.

use super::{Delta, Part, PartBody, Request, Role, Seal};
use crate::{Field, Format, Losses};

/// Where a text of an answer is taken from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Citation {
    /// The address of the source, or whatever else names it.
    pub source: Option<String>,
    /// What the source is called.
    pub title: Option<String>,
    /// The words that are cited.
    pub quote: Option<String>,
    /// Where these words stand; `None` on the web, or where the provider does not say.
    pub place: Option<Place>,
    /// The characters of the answer's text that are taken from there, up to the one after the last; `None` is all of
    /// them.
    pub span: Option<(usize, usize)>,
    /// By which the provider knows its own search again.
    pub seal: Option<Seal>,
}

/// Where in the material of a request something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// What the range counts.
    pub unit: Unit,
    /// The number of the document or search result, counted through the whole request from 0.
    pub index: u64,
    /// Where it begins.
    pub start: u64,
    /// Where it ends, itself not included.
    pub end: u64,
}

/// What a place counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Characters of a document, from 0.
    Characters,
    /// Pages of a document, from 1.
    Pages,
    /// Pieces of a document that was given in pieces, from 0.
    Pieces,
    /// Texts of a search result, from 0.
    Texts,
}

/// A result of a search that the client made, for the model to cite.
#[derive(Clone, Debug)]
pub struct SearchResult {
    /// Its address, or whatever else names it.
    pub source: String,
    /// What it is called.
    pub title: String,
    /// What it says.
    pub parts: Vec<Part>,
    /// Whether answers are to cite it; `None` leaves it to the provider.
    pub citable: Option<bool>,
}

impl Citation {
    /// Returns the address of the page that is cited, if it is one on the web.
    pub(super) fn page(&self) -> Option<&str> {
        match self.place {
            Some(_) => None,
            None => self.source.as_deref(),
        }
    }

    /// Returns about how many bytes the citation takes in memory.
    pub fn weight(&self) -> usize {
        let texts = [&self.source, &self.title, &self.quote];
        let texts = texts.into_iter().flatten().map(String::len);
        let seal = self.seal.as_ref().map_or(0, |seal| seal.bytes.len());
        size_of::<Self>() + texts.sum::<usize>() + seal
    }
}

impl SearchResult {
    /// Returns the result as one text.
    pub fn to_text(&self) -> String {
        let texts = self.parts.iter().filter_map(|part| match &part.body {
            PartBody::Text(text) => Some(text.as_str()),
            PartBody::Media(_)
            | PartBody::SearchResult(_)
            | PartBody::Reasoning(_)
            | PartBody::ToolCall(_)
            | PartBody::ToolResult(_)
            | PartBody::Refusal(_)
            | PartBody::Native { .. } => None,
        });
        let lines = [self.title.as_str(), self.source.as_str()]
            .into_iter()
            .chain(texts);
        let lines = lines.filter(|line| !line.is_empty());
        // What follows may be joined to it.
        lines.flat_map(|line| [line, "\n"]).collect()
    }
}

impl SearchResult {
    /// Records what the texts of the result carry beside themselves, which only Messages has.
    pub(super) fn lose_inner(&self, format: Format, field: &Field, losses: &mut Losses) {
        for part in &self.parts {
            if part.cache.is_some() {
                losses.advisory(Field::Cache, "texts of search results cannot carry cache marks");
            }
            part.extensions.lose(format, losses, |_| field.clone());
        }
    }
}

/// Why a search result that is sent as text is not what it was.
pub(super) const AS_TEXT: &str = "a search result is sent as text, which is not cited";

/// Says in plain text what only Messages and Converse have, if `format` is neither.
pub(crate) fn lower(request: &mut Request, format: Format, losses: &mut Losses) {
    match format {
        Format::Messages | Format::Converse => return,
        Format::OpenAi | Format::Responses | Format::Gemini | Format::Cohere => {}
    }
    for turn in &mut request.turns {
        let field = Field::Message(turn.origin);
        // What a model's earlier answers cited is told to no provider of these formats.
        let cites = turn.parts.iter().any(|part| !part.citations.is_empty());
        if cites && turn.role == Role::Assistant {
            losses.advisory(field.clone(), "citations are not told back in this format");
        }
        for part in &mut turn.parts {
            part.citations.clear();
            lower_part(part, format, &field, losses);
        }
    }
}

fn lower_part(part: &mut Part, format: Format, field: &Field, losses: &mut Losses) {
    match &mut part.body {
        PartBody::SearchResult(result) => {
            losses.advisory(field.clone(), AS_TEXT);
            result.lose_inner(format, field, losses);
            part.body = PartBody::Text(result.to_text());
        }
        PartBody::Media(media) => {
            if media.citable.take() == Some(true) {
                losses.advisory(field.clone(), "this format has no citations of documents");
            }
            if media.context.take().is_some() {
                losses.advisory(field.clone(), "this format has no context of documents");
            }
        }
        PartBody::ToolResult(result) => {
            for part in &mut result.parts {
                lower_part(part, format, field, losses);
            }
        }
        PartBody::Text(_)
        | PartBody::Reasoning(_)
        | PartBody::ToolCall(_)
        | PartBody::Refusal(_)
        | PartBody::Native { .. } => {}
    }
}

/// Records that what an answer's parts cite of the request is not told to a client whose format knows pages alone.
pub(super) fn lose_all(parts: &[Part], losses: &mut Losses) {
    let mut citations = parts.iter().flat_map(|part| &part.citations);
    if citations.any(|citation| citation.page().is_none()) {
        lose(losses);
    }
    let mut citations = parts.iter().flat_map(|part| &part.citations);
    if citations.any(|citation| citation.seal.is_some()) {
        lose_seals(losses);
    }
}

/// Records that nobody but its issuer has a place for the seal of a citation.
fn lose_seals(losses: &mut Losses) {
    let reason = "by what the provider knows its search again is known to messages only";
    losses.advisory(Field::Reply("encrypted_index"), reason);
}

/// Records that what `delta` cites is not told to a client whose format knows pages alone; returns whether it cites
/// anything else.
pub(super) fn lose_delta(delta: &Delta, losses: &mut Losses) -> bool {
    match delta {
        Delta::Citation(citation) if citation.page().is_none() => {
            lose(losses);
            true
        }
        Delta::Citation(citation) => {
            if citation.seal.is_some() {
                lose_seals(losses);
            }
            false
        }
        Delta::Text(_) | Delta::Arguments(_) | Delta::Seal(_) | Delta::Tokens(_) => false,
    }
}

/// Records that what is cited is not told.
pub(super) fn lose(losses: &mut Losses) {
    losses.advisory(
        Field::Reply("citations"),
        "the sources of the answer are not told in this format",
    );
}
