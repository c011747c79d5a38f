//! How much a model is to think: one wish, said in levels or budgets, as the model takes it.

use super::wire::Fields;
use crate::{
    ApiError, ErrorKind, Field, Losses,
    capability::Capability,
    chat::{Reasoning, ReasoningMode},
};

/// The efforts of other formats and the budgets that stand for them on models that know budgets only (the
/// provider's page "OpenAI compatibility"); the last two ask for all that a model has.
const EFFORTS: &[(&str, u64)] = &[
    ("minimal", 1_024),
    ("low", 1_024),
    ("medium", 8_192),
    ("high", 24_576),
    ("xhigh", u64::MAX),
    ("max", u64::MAX),
];

/// How much to think.
enum Wish {
    /// One of the model's levels.
    Level(&'static str),
    /// A budget in tokens.
    Budget(u64),
    /// As the model sees fit.
    Free,
    /// Nothing is said.
    Unsaid,
}

/// Returns how a model with `capability` is told what `reasoning` asks for: the `thinkingConfig` object.
///
/// # Errors
/// A 422, if the effort is a word that nobody knows, or asks a model not to think that always does.
pub(super) fn plan(
    reasoning: Option<&Reasoning>,
    capability: &Capability,
    losses: &mut Losses,
) -> Result<Fields, ApiError> {
    let mut fields = Fields::default();
    let Some(reasoning) = reasoning else {
        return Ok(fields);
    };
    let rests =
        reasoning.mode == Some(ReasoningMode::Disabled) || reasoning.effort.as_deref() == Some("none");
    if !capability.effort && !capability.thinking_budget {
        if !rests {
            losses.advisory(Field::Reasoning, "this model is not told how much to think");
        }
        return Ok(fields);
    }
    let wish = if rests {
        rest(reasoning, capability, losses)?
    } else {
        wish(reasoning, capability, losses)?
    };
    match wish {
        Wish::Level(level) => fields.put("thinkingLevel", Some(level)),
        Wish::Budget(budget) => fields.put("thinkingBudget", Some(budget)),
        Wish::Free if capability.levels.is_empty() => fields.put("thinkingBudget", Some(-1)),
        Wish::Free | Wish::Unsaid => {}
    }
    let shown = match (reasoning.display.as_deref(), reasoning.mode) {
        _ if rests => false,
        (Some("omitted"), _) => false,
        (Some(_), _) => true,
        // Who asks for thinking in so many words is shown it by other providers.
        (None, Some(ReasoningMode::Enabled | ReasoningMode::Adaptive)) => true,
        (None, Some(ReasoningMode::Disabled) | None) => false,
    };
    fields.put("includeThoughts", shown.then_some(true));
    Ok(fields)
}

/// Returns how a model is told not to think.
fn rest(reasoning: &Reasoning, capability: &Capability, losses: &mut Losses) -> Result<Wish, ApiError> {
    let least = capability.levels.first().copied();
    match (least, capability.budgets) {
        (Some("MINIMAL"), _) => Ok(Wish::Level("MINIMAL")),
        (Some(_), _) if reasoning.effort.as_deref() == Some("none") => Err(unknown("none")),
        (Some(least), _) => {
            losses.advisory(
                Field::Reasoning,
                "this model always thinks; the least level was set",
            );
            Ok(Wish::Level(least))
        }
        (None, Some((least, _))) if capability.always_thinks => {
            losses.advisory(
                Field::Reasoning,
                "this model always thinks; the least budget was set",
            );
            Ok(Wish::Budget(least))
        }
        (None, _) => Ok(Wish::Budget(0)),
    }
}

fn wish(reasoning: &Reasoning, capability: &Capability, losses: &mut Losses) -> Result<Wish, ApiError> {
    if let Some(budget) = reasoning.budget {
        return Ok(Wish::Budget(within(budget, capability, losses)));
    }
    let Some(effort) = reasoning.effort.as_deref() else {
        return Ok(match reasoning.mode {
            Some(ReasoningMode::Enabled | ReasoningMode::Adaptive) => Wish::Free,
            Some(ReasoningMode::Disabled) | None => Wish::Unsaid,
        });
    };
    let Some((_, budget)) = EFFORTS.iter().find(|(name, _)| *name == effort) else {
        return Err(unknown(effort));
    };
    if capability.levels.is_empty() {
        let (least, most) = capability.budgets.unwrap_or((0, u64::MAX));
        return Ok(Wish::Budget((*budget).clamp(least, most)));
    }
    let (level, exact) = level(effort, capability.levels);
    if !exact {
        let reason = format!("this model has no level for the effort \"{effort}\"; {level} was set");
        losses.advisory(Field::Reasoning, reason);
    }
    Ok(Wish::Level(level))
}

/// Returns the level that comes closest to `effort`, and whether it is what was asked for.
fn level(effort: &str, levels: &'static [&'static str]) -> (&'static str, bool) {
    let named = levels.iter().find(|level| level.eq_ignore_ascii_case(effort));
    let (first, last) = (levels.first(), levels.last());
    let closest = match effort {
        "minimal" | "low" => first,
        _ => last,
    };
    (
        named.or(closest).copied().unwrap_or("HIGH"),
        // The compatibility specification says a medium effort as the highest level where there is no other.
        named.is_some() || effort == "medium",
    )
}

/// Returns `budget` within the limits of the model.
fn within(budget: u64, capability: &Capability, losses: &mut Losses) -> u64 {
    let Some((least, most)) = capability.budgets else {
        return budget;
    };
    let fitting = budget.clamp(least, most);
    if fitting != budget {
        let reason = format!("the thinking budget was set to {fitting}, the nearest that the model takes");
        losses.advisory(Field::Reasoning, reason);
    }
    fitting
}

fn unknown(effort: &str) -> ApiError {
    let message = format!("reasoning effort \"{effort}\" is not supported by this model");
    ApiError::new(ErrorKind::Unprocessable, message).with_param("reasoning_effort")
}
