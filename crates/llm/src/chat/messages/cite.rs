//! Citations, read and written ("Citations" and "Search results", API guide).

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::wire;
use crate::{
    Losses,
    chat::{
        Citation,
        citation::{Place, Unit},
    },
    json::{self, Path, Typed},
    unread,
};

/// A citation as it is read; which members count depends on its type.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Read {
    #[serde(rename = "type")]
    kind: String,
    cited_text: Option<String>,
    document_index: Option<u64>,
    document_title: Option<String>,
    start_char_index: Option<u64>,
    end_char_index: Option<u64>,
    start_page_number: Option<u64>,
    end_page_number: Option<u64>,
    start_block_index: Option<u64>,
    end_block_index: Option<u64>,
    search_result_index: Option<u64>,
    source: Option<String>,
    title: Option<String>,
    url: Option<String>,
    encrypted_index: Option<String>,
}

/// The types of citations that other formats have too.
const KINDS: &[&str] = &[
    "char_location",
    "page_location",
    "content_block_location",
    "search_result_location",
    "web_search_result_location",
];

/// A citation as it is written.
#[derive(Debug, Serialize)]
#[serde(tag = "type")]
pub(super) enum Cited<'a> {
    #[serde(rename = "char_location")]
    Characters {
        cited_text: &'a str,
        document_index: u64,
        document_title: Option<&'a str>,
        start_char_index: u64,
        end_char_index: u64,
    },
    #[serde(rename = "page_location")]
    Pages {
        cited_text: &'a str,
        document_index: u64,
        document_title: Option<&'a str>,
        start_page_number: u64,
        end_page_number: u64,
    },
    #[serde(rename = "content_block_location")]
    Blocks {
        cited_text: &'a str,
        document_index: u64,
        document_title: Option<&'a str>,
        start_block_index: u64,
        end_block_index: u64,
    },
    #[serde(rename = "search_result_location")]
    SearchResult {
        cited_text: &'a str,
        search_result_index: u64,
        source: &'a str,
        title: Option<&'a str>,
        start_block_index: u64,
        end_block_index: u64,
    },
    #[serde(rename = "web_search_result_location")]
    Web {
        cited_text: &'a str,
        /// By which the provider knows its own search again; nobody else has one.
        encrypted_index: &'a str,
        title: Option<&'a str>,
        url: &'a str,
    },
}

/// Returns whether the citation `raw` is of a kind that other formats have too.
fn is_known(raw: &RawValue) -> bool {
    let typed = serde_json::from_str::<Typed<'_>>(raw.get());
    typed.is_ok_and(|typed| typed.kind.is_some_and(|kind| KINDS.contains(&&*kind)))
}

/// Reads the citation at `path`; `None` if it is of a kind that no other format has.
pub(super) fn read(raw: &RawValue, path: &Path<'_>, losses: &mut Losses) -> Option<Citation> {
    if !is_known(raw) {
        return None;
    }
    let read: Read = unread::read(raw.get(), path, losses).ok()?;
    let place = |unit, index: Option<u64>, start: Option<u64>, end: Option<u64>| {
        Some(Place {
            unit,
            index: index?,
            start: start?,
            end: end?,
        })
    };
    let (title, source, place) = match read.kind.as_str() {
        "char_location" => (
            read.document_title,
            None,
            place(
                Unit::Characters,
                read.document_index,
                read.start_char_index,
                read.end_char_index,
            ),
        ),
        "page_location" => (
            read.document_title,
            None,
            place(
                Unit::Pages,
                read.document_index,
                read.start_page_number,
                read.end_page_number,
            ),
        ),
        "content_block_location" => (
            read.document_title,
            None,
            place(
                Unit::Pieces,
                read.document_index,
                read.start_block_index,
                read.end_block_index,
            ),
        ),
        "search_result_location" => (
            read.title,
            read.source,
            place(
                Unit::Texts,
                read.search_result_index,
                read.start_block_index,
                read.end_block_index,
            ),
        ),
        "web_search_result_location" => (read.title, read.url, None),
        _ => return None,
    };
    Some(Citation {
        source,
        title,
        quote: read.cited_text,
        place,
        span: None,
        seal: read.encrypted_index.as_deref().and_then(wire::seal),
    })
}

/// Reads the list of citations at `path`, what is no list being an empty one; `None` if one of them is of a kind that
/// no other format has.
pub(super) fn read_all(raw: &RawValue, path: &Path<'_>, losses: &mut Losses) -> Option<Vec<Citation>> {
    let raws = json::elements(raw, path).unwrap_or_default();
    if !raws.iter().all(|raw| is_known(raw)) {
        return None;
    }
    let raws = raws.into_iter().enumerate();
    raws.map(|(index, raw)| read(raw, &path.index(index), losses))
        .collect()
}

/// Returns `citation` as it is written.
pub(super) fn write(citation: &Citation) -> Cited<'_> {
    let cited_text = citation.quote.as_deref().unwrap_or_default();
    let title = citation.title.as_deref();
    let source = citation.source.as_deref().unwrap_or_default();
    let Some(Place {
        unit,
        index,
        start,
        end,
    }) = citation.place
    else {
        return Cited::Web {
            cited_text,
            encrypted_index: citation.seal.as_ref().map_or("", |seal| &seal.bytes),
            title,
            url: source,
        };
    };
    match unit {
        Unit::Characters => Cited::Characters {
            cited_text,
            document_index: index,
            document_title: title,
            start_char_index: start,
            end_char_index: end,
        },
        Unit::Pages => Cited::Pages {
            cited_text,
            document_index: index,
            document_title: title,
            start_page_number: start,
            end_page_number: end,
        },
        Unit::Pieces => Cited::Blocks {
            cited_text,
            document_index: index,
            document_title: title,
            start_block_index: start,
            end_block_index: end,
        },
        Unit::Texts => Cited::SearchResult {
            cited_text,
            search_result_index: index,
            source,
            title,
            start_block_index: start,
            end_block_index: end,
        },
    }
}

/// Returns `citations` as they are written.
pub(super) fn write_all(citations: &[Citation]) -> Vec<Cited<'_>> {
    citations.iter().map(write).collect()
}
