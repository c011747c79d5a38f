//! The counters as a document, so many at a time: there may be a great many, and each is asked for under a lock that
//! requests wait for.

use percent_encoding::percent_decode_str;
use policy::rate_limit::store::Entry;
use serde::Serialize;

use super::Limiter;

/// Which counters are asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// Those whose names come after this.
    after: String,
    /// How many of them.
    limit: usize,
}

#[derive(Serialize)]
struct Usage<'a> {
    counters: Vec<Counted<'a>>,
    /// After which name the next ones are, if there are more.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redis: Option<Reached>,
}

#[derive(Serialize)]
struct Counted<'a> {
    rule: &'a str,
    counter: &'a str,
    used: u64,
    held: u64,
    limit: u64,
    remaining: u64,
    resets: u64,
}

#[derive(Serialize)]
struct Reached {
    answers: bool,
}

impl Page {
    /// Reads which counters `query` asks for, as `after=NAME&limit=100`; `None` if that is no number from 1.
    pub(crate) fn parse(query: &str) -> Option<Self> {
        let pair = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find_map(|(found, value)| (found == name).then_some(value))
        };
        let limit = pair("limit").map_or(Ok(MAX_PAGE), str::parse).ok()?;
        let after = percent_decode_str(pair("after").unwrap_or_default());
        (limit > 0).then(|| Self {
            after: after.decode_utf8_lossy().into_owned(),
            limit: limit.min(MAX_PAGE),
        })
    }

    /// Returns the counters of `limiter`, written as JSON.
    ///
    /// # Errors
    /// None that are known: numbers and texts can be written.
    pub(crate) fn of(&self, limiter: &Limiter, now: u64) -> serde_json::Result<Vec<u8>> {
        let mut entries = limiter.entries(&self.after, self.limit + 1, now);
        let more = entries.len() > self.limit;
        entries.truncate(self.limit);
        serde_json::to_vec(&Usage {
            counters: entries.iter().map(counted).collect(),
            next: entries.last().filter(|_| more).map(|entry| &*entry.counter),
            redis: limiter.answers().map(|answers| Reached { answers }),
        })
    }
}

fn counted(entry: &Entry) -> Counted<'_> {
    let Entry {
        rule,
        counter,
        used,
        held,
        limit,
        end,
    } = entry;
    Counted {
        rule,
        counter,
        used: *used,
        held: *held,
        limit: *limit,
        remaining: limit.saturating_sub(used.saturating_add(*held)),
        resets: *end,
    }
}

/// The most counters of one answer.
const MAX_PAGE: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages() {
        let check = |query: &str, expected: Option<(&str, usize)>| {
            let page = Page::parse(query);
            let found = page.as_ref().map(|page| (page.after.as_str(), page.limit));
            assert_eq!(found, expected, "{query}");
        };
        check("", Some(("", MAX_PAGE)));
        check("limit=2&after=a_b%2Fc_60", Some(("a_b/c_60", 2)));
        check("after=a%3Db&limit=1000000", Some(("a=b", MAX_PAGE)));
        for query in ["limit=0", "limit=-1", "limit=many", "limit="] {
            check(query, None);
        }
    }
}
