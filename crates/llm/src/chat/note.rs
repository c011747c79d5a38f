//! What a provider says about a text beside the text: how likely its tokens were, and what it is taken from.

use serde_json::Number;

use super::Citation;
use crate::{Field, Losses};

/// What is said about a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Notes {
    /// The tokens of the text, as far as the provider tells them.
    pub(super) tokens: Vec<Token>,
    /// The pages that the text is taken from.
    pub(super) citations: Vec<Citation>,
}

/// A token, and how likely it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The token as text.
    pub text: String,
    /// The logarithm of its probability.
    pub logprob: Number,
    /// The token as bytes, where the provider tells them: it may be a part of a character.
    pub bytes: Option<Vec<u8>>,
    /// The likeliest tokens at its place; these have none of their own.
    pub likeliest: Vec<Token>,
}

impl Token {
    /// Returns about how many bytes it takes.
    pub(super) fn weight(&self) -> usize {
        let own = size_of::<Self>() + self.text.len() + self.bytes.as_ref().map_or(0, Vec::len);
        own + self.likeliest.iter().map(Self::weight).sum::<usize>()
    }
}

/// Records `tokens`, if there are any, as lost to a client whose format has none.
pub(super) fn lose(tokens: &[Token], losses: &mut Losses) {
    if !tokens.is_empty() {
        lose_tokens(losses);
    }
}

/// Records that the client's format does not tell how likely tokens were.
pub(super) fn lose_tokens(losses: &mut Losses) {
    losses.advisory(
        Field::Reply("logprobs"),
        "the client's format does not tell how likely tokens were",
    );
}
