//! How much a model is to think: one wish, said in efforts, budgets or adaptively, as the model takes it.

use super::request::Thinking;
use crate::{
    ApiError, ErrorKind, Field, Losses,
    capability::Capability,
    chat::{Reasoning, ReasoningMode},
};

/// The efforts that the format knows and the budgets in tokens that stand for them on models that know
/// budgets only. The budgets are ours; each is within the provider's limits ("Extended thinking").
const EFFORTS: &[(&str, u64)] = &[
    ("low", 2_048),
    ("medium", 8_192),
    ("high", 16_384),
    ("xhigh", 24_576),
    ("max", 32_000),
];

/// The smallest budget that the provider takes.
const LEAST: u64 = 1_024;

/// The budget where the client asked for thinking and said nothing else.
const MODERATE: u64 = 8_192;

/// How a model is told to think.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::chat) struct Plan<'a> {
    /// The `thinking` object.
    pub(in crate::chat) thinking: Option<Thinking<'a>>,
    /// The effort of `output_config`.
    pub(in crate::chat) effort: Option<&'static str>,
}

impl Plan<'_> {
    /// Returns whether the model thinks; some members are then not taken.
    pub(in crate::chat) fn is_on(&self) -> bool {
        match self.thinking {
            Some(Thinking::Enabled { .. } | Thinking::Adaptive { .. }) => true,
            Some(Thinking::Disabled) | None => false,
        }
    }
}

/// Returns how a model with `capability` is told what `reasoning` asks for. `forced` tells that it must call a
/// tool, which excludes thinking.
///
/// # Errors
/// A 422, if the effort is a word that the format does not know.
pub(in crate::chat) fn plan<'a>(
    reasoning: Option<&'a Reasoning>,
    capability: &Capability,
    max_tokens: u64,
    forced: bool,
    losses: &mut Losses,
) -> Result<Plan<'a>, ApiError> {
    let Some(reasoning) = reasoning else {
        return Ok(Plan::default());
    };
    let effort = effort(reasoning, capability, losses)?;
    let display = reasoning.display.as_deref();
    let budget = reasoning.budget.or(effort.map(|(_, budget)| budget));
    let wanted = match reasoning.mode {
        Some(ReasoningMode::Disabled) => Some(Thinking::Disabled),
        _ if reasoning.effort.as_deref() == Some("none") => Some(Thinking::Disabled),
        Some(ReasoningMode::Adaptive) if capability.thinking_budget && !capability.adaptive_thinking => {
            losses.advisory(
                Field::Reasoning,
                "this model has no adaptive thinking; a budget was set",
            );
            Some(enabled(budget, display))
        }
        Some(ReasoningMode::Adaptive) => Some(Thinking::Adaptive { display }),
        Some(ReasoningMode::Enabled) if capability.adaptive_thinking && !capability.thinking_budget => {
            losses.advisory(
                Field::Reasoning,
                "this model thinks adaptively; the budget was not sent",
            );
            Some(Thinking::Adaptive { display })
        }
        Some(ReasoningMode::Enabled) => Some(enabled(budget, display)),
        None if reasoning.budget.is_some() && capability.thinking_budget => Some(enabled(budget, display)),
        None if effort.is_some() && !capability.effort && capability.thinking_budget => {
            Some(enabled(budget, display))
        }
        None => {
            if reasoning.budget.is_some() {
                losses.advisory(Field::Reasoning, "this model takes no thinking budget");
            }
            None
        }
    };
    let thinking = wanted
        .filter(|wanted| !exclude(*wanted, forced, losses))
        .and_then(|wanted| within(wanted, max_tokens, losses));
    Ok(Plan {
        thinking,
        effort: effort.filter(|_| capability.effort).map(|(word, _)| word),
    })
}

/// Returns the format's word for the effort, and the budget that stands for it.
fn effort(
    reasoning: &Reasoning,
    capability: &Capability,
    losses: &mut Losses,
) -> Result<Option<(&'static str, u64)>, ApiError> {
    let word = match reasoning.effort.as_deref() {
        None | Some("none") => return Ok(None),
        Some(word) => word,
    };
    if !capability.effort && !capability.thinking_budget {
        losses.advisory(Field::Reasoning, "this model takes no effort");
        return Ok(None);
    }
    let known = match word {
        "minimal" => {
            losses.advisory(Field::Reasoning, "the least effort of the messages format is low");
            "low"
        }
        word => word,
    };
    match EFFORTS.iter().find(|(name, _)| *name == known) {
        Some(effort) => Ok(Some(*effort)),
        None => {
            let known: Vec<&str> = EFFORTS.iter().map(|(name, _)| *name).collect();
            let message = format!(
                "reasoning effort \"{word}\" is not supported by Anthropic; supported are {}",
                known.join(", ")
            );
            Err(ApiError::new(ErrorKind::Unprocessable, message).with_param("reasoning_effort"))
        }
    }
}

fn enabled(budget: Option<u64>, display: Option<&str>) -> Thinking<'_> {
    Thinking::Enabled {
        budget_tokens: budget.unwrap_or(MODERATE),
        display,
    }
}

/// Returns whether a forced tool call excludes `wanted` ("Extended thinking with tool use").
fn exclude(wanted: Thinking<'_>, forced: bool, losses: &mut Losses) -> bool {
    match wanted {
        Thinking::Enabled { .. } | Thinking::Adaptive { .. } if forced => {
            losses.advisory(Field::Reasoning, "a model that must call a tool does not think");
            true
        }
        Thinking::Enabled { .. } | Thinking::Adaptive { .. } | Thinking::Disabled => false,
    }
}

/// Returns `wanted` with a budget below the limit on all generated tokens; `None` where none fits.
fn within<'a>(wanted: Thinking<'a>, max_tokens: u64, losses: &mut Losses) -> Option<Thinking<'a>> {
    match wanted {
        Thinking::Enabled { budget_tokens, .. } if budget_tokens < max_tokens => Some(wanted),
        Thinking::Enabled { display, .. } if max_tokens > LEAST => {
            let reason = "the thinking budget was lowered below the limit on generated tokens";
            losses.advisory(Field::Reasoning, reason);
            Some(enabled(Some(max_tokens - 1), display))
        }
        Thinking::Enabled { .. } => {
            let reason = "the limit on generated tokens leaves no room for thinking";
            losses.advisory(Field::Reasoning, reason);
            None
        }
        Thinking::Adaptive { .. } | Thinking::Disabled => Some(wanted),
    }
}
