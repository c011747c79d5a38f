//! Citations, read and written (`Citation`, `CitationLocation`, API reference).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{
    chat::{
        Citation,
        citation::{Place, Unit},
    },
    unread::Silent,
};

/// A citation, in either direction.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Cited<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    source_content: Vec<Words<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<Location<'a>>,
}

/// Text of the source, or of the answer.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Words<'a> {
    pub(super) text: Cow<'a, str>,
}

/// Where the source's text stands.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
enum Location<'a> {
    Web {
        #[serde(default)]
        url: Cow<'a, str>,
        /// A part of that.
        #[serde(default, rename = "domain", skip_serializing)]
        _domain: Silent,
    },
    DocumentChar(Range),
    DocumentPage(Range),
    DocumentChunk(Range),
    #[serde(rename = "searchResultLocation")]
    SearchResult(Range),
}

/// A piece of a document or a search result.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Range {
    #[serde(skip_serializing_if = "Option::is_none")]
    document_index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    search_result_index: Option<u64>,
    start: u64,
    end: u64,
}

impl From<Cited<'_>> for Citation {
    fn from(cited: Cited<'_>) -> Self {
        let quote: String = cited.source_content.iter().map(|words| &*words.text).collect();
        let mut source = cited.source.map(Cow::into_owned);
        let place = |unit, range: Range| Place {
            unit,
            index: range.document_index.or(range.search_result_index).unwrap_or(0),
            start: range.start,
            end: range.end,
        };
        let place = cited.location.and_then(|location| match location {
            Location::Web { url, .. } => {
                source = Some(url.into_owned());
                None
            }
            Location::DocumentChar(range) => Some(place(Unit::Characters, range)),
            Location::DocumentPage(range) => Some(place(Unit::Pages, range)),
            Location::DocumentChunk(range) => Some(place(Unit::Pieces, range)),
            Location::SearchResult(range) => Some(place(Unit::Texts, range)),
        });
        Self {
            source,
            title: cited.title.map(Cow::into_owned),
            quote: (!quote.is_empty()).then_some(quote),
            place,
            span: None,
            seal: None,
        }
    }
}

impl<'a> From<&'a Citation> for Cited<'a> {
    fn from(citation: &'a Citation) -> Self {
        let text = |text: &'a Option<String>| text.as_deref().map(Cow::Borrowed);
        let source = text(&citation.source);
        let location = match citation.place {
            None => source.clone().map(|url| Location::Web { url, _domain: Silent }),
            Some(place) => Some(location(place)),
        };
        Self {
            title: text(&citation.title),
            source: source.filter(|_| citation.place.is_some()),
            source_content: text(&citation.quote)
                .into_iter()
                .map(|text| Words { text })
                .collect(),
            location,
        }
    }
}

fn location(place: Place) -> Location<'static> {
    let Place {
        unit,
        index,
        start,
        end,
    } = place;
    let document = Range {
        document_index: Some(index),
        search_result_index: None,
        start,
        end,
    };
    match unit {
        Unit::Characters => Location::DocumentChar(document),
        Unit::Pages => Location::DocumentPage(document),
        Unit::Pieces => Location::DocumentChunk(document),
        Unit::Texts => Location::SearchResult(Range {
            document_index: None,
            search_result_index: Some(index),
            ..document
        }),
    }
}
