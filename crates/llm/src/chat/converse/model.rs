//! The members that belong to one family of models and lie in `additionalModelRequestFields`: how to think, and
//! what the format has no member for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    ApiError, Field, Format, Losses,
    capability::{Capability, Family},
    chat::{
        Extension, Extensions, Reasoning, ReasoningMode, Request, Tool, ToolBody, ToolChoice,
        messages::{request::Thinking, think},
    },
    json,
};

/// The members of one model.
pub(super) type Fields = BTreeMap<String, Box<RawValue>>;

/// The efforts that Nova and gpt-oss know.
const EFFORTS: &[&str] = &["low", "medium", "high"];

/// Members of Messages that Claude takes beside those of the format.
const OWN: &[&str] = &["context_management"];

/// Anthropic's tools that Claude knows on Amazon Bedrock, without the dates of their versions ("Computer use" and "Tool
/// use"). Of the others some are run by Anthropic's servers, and the search for tools is for InvokeModel alone.
const OWN_TOOLS: &[&str] = &["bash", "computer", "memory", "text_editor"];

/// The effort where the client asked for thinking and said nothing else.
const MODERATE: &str = "medium";

/// Adds how a model of `family` is told what the request's reasoning asks for; `forced` tells that it must call
/// a tool. Returns whether it is known to think, so that some members are not taken.
///
/// # Errors
/// A 422, if the effort is a word that Claude does not know.
pub(super) fn reason(
    request: &Request,
    family: Family,
    capability: &Capability,
    forced: bool,
    fields: &mut Fields,
    losses: &mut Losses,
) -> Result<bool, ApiError> {
    let Some(reasoning) = &request.reasoning else {
        return Ok(false);
    };
    match family {
        Family::Claude => {
            let limit = request.max_output.unwrap_or(capability.max_output);
            let plan = think::plan(Some(reasoning), capability, limit, forced, losses)?;
            if let Some(thinking) = &plan.thinking {
                put(fields, "thinking", thinking);
            }
            if let Some(effort) = plan.effort {
                put(fields, "output_config", &BTreeMap::from([("effort", effort)]));
            }
            return Ok(plan.is_on());
        }
        Family::Nova => {
            if is_off(reasoning) {
                put(fields, "reasoningConfig", &BTreeMap::from([("type", "disabled")]));
            } else {
                let effort = effort(reasoning, losses);
                let config = BTreeMap::from([("type", "enabled"), ("maxReasoningEffort", effort)]);
                put(fields, "reasoningConfig", &config);
            }
        }
        Family::GptOss if is_off(reasoning) => {
            losses.advisory(Field::Reasoning, "this model always thinks");
        }
        Family::GptOss => put(fields, "reasoning_effort", effort(reasoning, losses)),
        Family::Other => {
            if let Some(effort) = &reasoning.effort {
                put(fields, "reasoning_config", effort);
            }
            if let Some(thinking) = thinking(reasoning) {
                put(fields, "thinking", &thinking);
            }
        }
    }
    if reasoning.display.is_some() && family != Family::Other {
        losses.advisory(
            Field::Reasoning,
            "this model does not let its reasoning be hidden",
        );
    }
    Ok(false)
}

/// Adds how a model of `family` is told from how many tokens to draw.
pub(super) fn draw(family: Family, top_k: Option<u64>, fields: &mut Fields) {
    let Some(top_k) = top_k else {
        return;
    };
    match family {
        Family::Claude | Family::GptOss | Family::Other => put(fields, "top_k", &top_k),
        Family::Nova => put(fields, "inferenceConfig", &BTreeMap::from([("topK", top_k)])),
    }
}

/// Adds the tools that a model of `family` knows by itself; returns what they are called.
pub(super) fn offer(tools: &[Tool], family: Family, fields: &mut Fields) -> Vec<String> {
    #[derive(Deserialize)]
    struct Named {
        #[serde(default)]
        name: String,
    }

    let own = tools.iter().filter_map(|tool| match &tool.body {
        ToolBody::Native { format, kind, raw } if has(family, *format, kind) => Some(&**raw),
        ToolBody::Native { .. } | ToolBody::Function { .. } => None,
    });
    let own: Vec<&RawValue> = own.collect();
    if !own.is_empty() {
        put(fields, "tools", &own);
    }
    own.iter()
        .filter_map(|raw| serde_json::from_str::<Named>(raw.get()).ok())
        .map(|named| named.name)
        .collect()
}

/// Returns whether a model of `family` knows tools of type `kind` of `format` by itself.
pub(super) fn has(family: Family, format: Format, kind: &str) -> bool {
    let name = kind.rsplit_once('_').map_or(kind, |(name, _)| name);
    family == Family::Claude && format == Format::Messages && OWN_TOOLS.contains(&name)
}

/// Says in Claude's own words which tool to call, and whether it must be one at a time.
pub(super) fn choose(
    choice: &ToolChoice,
    one_at_a_time: bool,
    name: impl Fn(&str) -> String,
    fields: &mut Fields,
) {
    #[derive(Serialize)]
    struct Choice {
        #[serde(rename = "type")]
        kind: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        disable_parallel_tool_use: bool,
    }

    let (kind, name) = match choice {
        ToolChoice::Auto => ("auto", None),
        ToolChoice::None => ("none", None),
        ToolChoice::Required => ("any", None),
        ToolChoice::Tool(tool) => ("tool", Some(name(tool))),
    };
    let choice = Choice {
        kind,
        name,
        disable_parallel_tool_use: one_at_a_time,
    };
    put(fields, "tool_choice", &choice);
}

/// Adds the members of the client's document that a model of `family` reads as they are.
pub(super) fn hand_on(extensions: &Extensions, family: Family, fields: &mut Fields) {
    for extension in extensions.0.iter().filter(|extension| is_told(family, extension)) {
        fields.insert(extension.key.clone(), extension.value.clone());
    }
}

/// Returns whether a model of `family` is told `extension` as it is. Claude takes members of Messages that the
/// format has none for, with their flags.
pub(super) fn is_told(family: Family, extension: &Extension) -> bool {
    family == Family::Claude && extension.format == Format::Messages && OWN.contains(&extension.key.as_str())
}

fn is_off(reasoning: &Reasoning) -> bool {
    reasoning.mode == Some(ReasoningMode::Disabled) || reasoning.effort.as_deref() == Some("none")
}

/// Returns the nearest effort that the model knows.
fn effort(reasoning: &Reasoning, losses: &mut Losses) -> &'static str {
    if reasoning.budget.is_some() {
        losses.advisory(Field::Reasoning, "this model takes no thinking budget");
    }
    let Some(word) = reasoning.effort.as_deref() else {
        return MODERATE;
    };
    if let Some(known) = EFFORTS.iter().find(|known| **known == word) {
        return known;
    }
    let nearest = match word {
        "minimal" => "low",
        "xhigh" | "max" => "high",
        _ => MODERATE,
    };
    let reason = format!("this model knows no effort \"{word}\"; {nearest} was sent");
    losses.advisory(Field::Reasoning, reason);
    nearest
}

/// Returns the `thinking` object that a client of another format asked for.
fn thinking(reasoning: &Reasoning) -> Option<Thinking<'_>> {
    let display = reasoning.display.as_deref();
    match (reasoning.mode?, reasoning.budget) {
        (ReasoningMode::Enabled, Some(budget_tokens)) => Some(Thinking::Enabled {
            budget_tokens,
            display,
        }),
        (ReasoningMode::Enabled | ReasoningMode::Adaptive, _) => Some(Thinking::Adaptive { display }),
        (ReasoningMode::Disabled, _) => Some(Thinking::Disabled),
    }
}

fn put<T: Serialize + ?Sized>(fields: &mut Fields, key: &str, value: &T) {
    fields.insert(key.to_owned(), json::raw(value));
}
