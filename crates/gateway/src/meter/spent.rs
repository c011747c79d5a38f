//! What a request has used: counted by its upstream, or estimated where it was not.

use llm::{Document, Estimate, Operation, Usage};

use crate::facts::{Facts, Outcome};

/// What a request has used; every request has exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spent {
    /// No upstream has answered it.
    Nothing,
    /// What the upstream has counted.
    Known(Usage),
    /// What the upstream has counted, and estimates where it has not.
    Estimated(Usage),
}

impl Spent {
    /// Returns what a request has used that ended as `outcome`, whose prompt was estimated before.
    pub(super) fn of(facts: &Facts, outcome: Outcome, estimate: Estimate) -> Self {
        let (usage, said) = (facts.usage, facts.said.tokens());
        let writes = facts.endpoint.is_some_and(|endpoint| writes(endpoint.operation));
        if facts.attempt.is_none() {
            return Spent::Nothing;
        }
        if !facts.status.is_success() {
            // Nobody waited for the answer that an upstream was working on: it has read the prompt at least.
            let gone = outcome == Outcome::Dropped && facts.error.is_none();
            return if gone {
                Spent::Estimated(prompt(usage, estimate))
            } else {
                Spent::Nothing
            };
        }
        let read = prompt(usage, estimate);
        let whole = outcome == Outcome::Complete;
        let written = match usage.output {
            Some(counted) if whole => Some(counted),
            // Counts come with the end of an answer; what came before is less than what was said.
            Some(counted) => Some(counted.max(said)),
            None if !writes => None,
            None if said > 0 => Some(said),
            None => Some(facts.bytes_sent.div_ceil(BYTES_PER_TOKEN)),
        };
        // Nobody tells the gateway what such an answer comes to in the end: it is charged as all that it may be.
        let written = match written {
            Some(written) if facts.later => Some(written.max(most(estimate))),
            written => written,
        };
        let spent = Usage {
            output: written,
            ..read
        };
        if spent == usage {
            Spent::Known(spent)
        } else {
            Spent::Estimated(spent)
        }
    }
}

/// Returns how many tokens all answers of a request may have, as far as the client says so.
pub(super) fn most(estimate: Estimate) -> u64 {
    estimate.of_answers(estimate.output.unwrap_or(DEFAULT_OUTPUT))
}

/// Returns the counts with an estimate of the prompt, where it was not counted.
pub(super) fn prompt(usage: Usage, estimate: Estimate) -> Usage {
    let counted = usage.input.or(usage.cache_read).or(usage.cache_write).is_some();
    Usage {
        input: if counted {
            usage.input
        } else {
            Some(estimate.input)
        },
        ..usage
    }
}

/// Returns whether answers of an operation are made of tokens.
pub(super) fn writes(operation: Operation) -> bool {
    match operation {
        Operation::Chat | Operation::Document(Document::Completion) => true,
        Operation::Document(
            Document::Embedding
            | Document::Image
            | Document::Speech
            | Document::Rerank
            | Document::Moderation
            | Document::InputTokens
            | Document::Compaction
            | Document::Tokenize
            | Document::CountTokens
            | Document::TotalTokens,
        )
        | Operation::Upload(_)
        | Operation::Models
        | Operation::Model
        | Operation::Kept => false,
    }
}

/// How long an answer is taken to be whose client does not say how long it may be.
const DEFAULT_OUTPUT: u64 = 1024;

/// What documents have that answer without counts, about.
const BYTES_PER_TOKEN: u64 = 4;
