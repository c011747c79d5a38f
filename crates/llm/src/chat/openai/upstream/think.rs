//! Writes how much to think, in the way that the server has for it.

use serde::Serialize;

use crate::{
    Field, Losses,
    chat::{Reasoning, ReasoningMode},
    provider::{Dialect, Thinking},
};

/// As Anthropic has it.
#[derive(Serialize)]
pub(super) struct ThinkingObject<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    display: Option<&'a str>,
}

/// As OpenRouter has it: one of the first three, and whether the reasoning is shown.
#[derive(Default, Serialize)]
pub(super) struct ReasoningObject<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    effort: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exclude: Option<bool>,
}

/// What says how much to think, in one way or another.
#[derive(Default)]
pub(super) struct Think<'a> {
    /// `reasoning_effort`.
    pub(super) effort: Option<&'a str>,
    /// `thinking`.
    pub(super) thinking: Option<ThinkingObject<'a>>,
    /// `reasoning`.
    pub(super) reasoning: Option<ReasoningObject<'a>>,
}

/// Returns what says how much to think.
pub(super) fn think<'a>(
    reasoning: &'a Reasoning,
    dialect: &Dialect,
    effort_taken: bool,
    losses: &mut Losses,
) -> Think<'a> {
    let by_effort = |losses: &mut Losses| Think {
        effort: think_by_effort(reasoning, effort_taken, losses),
        ..Think::default()
    };
    match (dialect.thinking, reasoning.mode) {
        (Thinking::None, _) | (Thinking::Switch | Thinking::Budget, None) => by_effort(losses),
        (Thinking::Switch, Some(ReasoningMode::Disabled)) => Think {
            thinking: Some(ThinkingObject::of("disabled")),
            ..Think::default()
        },
        (Thinking::Switch, Some(ReasoningMode::Enabled | ReasoningMode::Adaptive)) => Think {
            thinking: Some(ThinkingObject::of("enabled")),
            effort: match (&reasoning.effort, reasoning.budget) {
                (Some(effort), _) => Some(effort_word(effort, losses)),
                (None, Some(budget)) => Some(effort_of(Some(budget))),
                (None, None) => None,
            },
            ..Think::default()
        },
        (Thinking::Budget, Some(mode)) => Think {
            thinking: Some(ThinkingObject {
                budget_tokens: reasoning.budget,
                display: reasoning.display.as_deref(),
                ..ThinkingObject::of(match mode {
                    ReasoningMode::Enabled => "enabled",
                    ReasoningMode::Disabled => "disabled",
                    ReasoningMode::Adaptive => "adaptive",
                })
            }),
            effort: reasoning
                .effort
                .as_deref()
                .and_then(|effort| taken(effort_word(effort, losses), effort_taken, losses)),
            ..Think::default()
        },
        (Thinking::Reasoning, _) => Think {
            reasoning: Some(reasoning_object(reasoning)),
            ..Think::default()
        },
    }
}

fn reasoning_object(reasoning: &Reasoning) -> ReasoningObject<'_> {
    let object = match (reasoning.mode, &reasoning.effort, reasoning.budget) {
        (Some(ReasoningMode::Disabled), _, _) => ReasoningObject {
            effort: Some("none"),
            ..ReasoningObject::default()
        },
        (_, Some(effort), _) => ReasoningObject {
            effort: Some(effort),
            ..ReasoningObject::default()
        },
        (_, None, Some(budget)) => ReasoningObject {
            max_tokens: Some(budget),
            ..ReasoningObject::default()
        },
        (Some(ReasoningMode::Enabled | ReasoningMode::Adaptive), None, None) => ReasoningObject {
            enabled: Some(true),
            ..ReasoningObject::default()
        },
        (None, None, None) => ReasoningObject::default(),
    };
    ReasoningObject {
        exclude: (reasoning.display.as_deref() == Some("omitted")).then_some(true),
        ..object
    }
}

/// Returns the effort that is nearest to what is asked for, for upstreams that have nothing but efforts.
fn think_by_effort<'a>(reasoning: &'a Reasoning, effort_taken: bool, losses: &mut Losses) -> Option<&'a str> {
    let effort = match (&reasoning.effort, reasoning.mode) {
        (Some(effort), _) => Some(effort_word(effort, losses)),
        (None, Some(ReasoningMode::Enabled)) => Some(effort_of(reasoning.budget)),
        (None, Some(ReasoningMode::Disabled)) if effort_taken => {
            losses.advisory(
                Field::Reasoning,
                "reasoning cannot be switched off at this upstream; the least effort is asked for",
            );
            Some("low")
        }
        // Models without reasoning do not reason, and those with it do as they see fit.
        (None, Some(ReasoningMode::Disabled | ReasoningMode::Adaptive) | None) => None,
    };
    let effort = effort.and_then(|effort| taken(effort, effort_taken, losses));
    if reasoning.display.as_deref() == Some("summarized") {
        losses.advisory(Field::Reasoning, "this upstream does not show its reasoning");
    }
    effort
}

fn taken<'a>(effort: &'a str, effort_taken: bool, losses: &mut Losses) -> Option<&'a str> {
    if !effort_taken {
        losses.advisory(Field::Reasoning, "the upstream's model takes no reasoning effort");
    }
    Some(effort).filter(|_| effort_taken)
}

/// Returns an effort that every reasoning model takes; the two above `high` are known to few.
pub(in crate::chat) fn effort_word<'a>(effort: &'a str, losses: &mut Losses) -> &'a str {
    match effort {
        "xhigh" | "max" => {
            losses.advisory(Field::Reasoning, "the highest effort of this upstream is high");
            "high"
        }
        effort => effort,
    }
}

/// Returns the effort that is nearest to a thinking budget; without one, the middle.
pub(in crate::chat) fn effort_of(budget: Option<u64>) -> &'static str {
    let Some(budget) = budget else {
        return "medium";
    };
    EFFORTS
        .iter()
        .find(|(from, _)| budget >= *from)
        .map_or("low", |(_, effort)| effort)
}

impl ThinkingObject<'_> {
    fn of(kind: &'static str) -> Self {
        Self {
            kind,
            budget_tokens: None,
            display: None,
        }
    }
}

/// Thinking budgets from which on an effort fits, the highest first: Anthropic's smallest budget is 1,024
/// tokens, and 16,384 is where its guide begins to speak of complex tasks.
const EFFORTS: &[(u64, &str)] = &[(16_384, "high"), (4_096, "medium"), (0, "low")];
