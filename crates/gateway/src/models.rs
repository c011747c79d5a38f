//! The list of models, answered from the snapshot.

use std::sync::Arc;

use bytes::Bytes;
use config::router::Model;
use http::request::Parts;
use llm::{Endpoint, Format, operation::Place};
use policy::Policies;
use serde::Serialize;

use crate::{
    access::{self, Passed},
    ctx::Ctx,
    refusal::{Answer, Refusal},
};

/// Returns the model that `place` names, if the client may ask the request's host for it, in the client's format.
///
/// # Errors
/// A 404 that names the nearest models; what the policies say, if they let the client have none.
pub(crate) async fn one(ctx: &mut Ctx, place: &Place<'_>, head: &Parts) -> Result<Answer, Box<Refusal>> {
    let wanted = place.name.as_deref().unwrap_or_default();
    let passed = access::passed(ctx, head).await?;
    let found = visible(ctx, &passed)
        .into_iter()
        .find(|model| *model.id == *wanted);
    let model = found.ok_or_else(|| ctx.unknown_model(wanted))?;
    Ok(Answer::json(match place.endpoint.format {
        Format::Messages => to_json(&MessagesModel::from(model)),
        Format::OpenAi | Format::Responses | Format::Gemini | Format::Converse | Format::Cohere => {
            to_json(&OpenAiModel::from(model))
        }
    }))
}

/// Returns the models that the client may ask the request's host for, in the client's format.
///
/// # Errors
/// What the policies say, if they let the client have none.
pub(crate) async fn list(ctx: &mut Ctx, endpoint: &Endpoint, head: &Parts) -> Result<Answer, Box<Refusal>> {
    let passed = access::passed(ctx, head).await?;
    let models = visible(ctx, &passed);
    Ok(Answer::json(match endpoint.format {
        Format::Messages => messages(&models),
        Format::OpenAi | Format::Responses | Format::Gemini | Format::Converse | Format::Cohere => {
            openai(&models)
        }
    }))
}

/// Returns the models of the request's host that are behind nothing but what was `passed`.
fn visible<'c>(ctx: &'c Ctx, passed: &[Passed]) -> Vec<&'c Model> {
    let passes = |policies: &Arc<Policies>| {
        passed
            .iter()
            .any(|passed| Arc::ptr_eq(&passed.policies, policies))
    };
    let listener = ctx.listener();
    let models = listener.map(|listener| listener.router.models_behind(&ctx.facts.host, passes));
    models.unwrap_or_default()
}

/// OpenAI's API reference, "List models"; the order of members is part of the compatibility specification.
fn openai(models: &[&Model]) -> Bytes {
    #[derive(Serialize)]
    struct List<'a> {
        data: Vec<OpenAiModel<'a>>,
        object: &'static str,
    }
    to_json(&List {
        data: models.iter().map(|model| OpenAiModel::from(*model)).collect(),
        object: "list",
    })
}

/// Anthropic's API reference, "List Models".
fn messages(models: &[&Model]) -> Bytes {
    #[derive(Serialize)]
    struct List<'a> {
        data: Vec<MessagesModel<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        first_id: Option<&'a str>,
        has_more: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        last_id: Option<&'a str>,
    }
    to_json(&List {
        data: models.iter().map(|model| MessagesModel::from(*model)).collect(),
        first_id: models.first().map(|model| &*model.id),
        has_more: false,
        last_id: models.last().map(|model| &*model.id),
    })
}

/// OpenAI's API reference, "The model object".
#[derive(Serialize)]
struct OpenAiModel<'a> {
    id: &'a str,
    created: u64,
    object: &'static str,
    owned_by: &'a str,
}

/// Anthropic's API reference, "Get a Model".
#[derive(Serialize)]
struct MessagesModel<'a> {
    id: &'a str,
    r#type: &'static str,
    display_name: &'a str,
    created_at: String,
}

impl<'a> From<&'a Model> for OpenAiModel<'a> {
    fn from(model: &'a Model) -> Self {
        Self {
            id: &model.id,
            created: model.created,
            object: "model",
            owned_by: &model.owned_by,
        }
    }
}

impl<'a> From<&'a Model> for MessagesModel<'a> {
    fn from(model: &'a Model) -> Self {
        Self {
            id: &model.id,
            r#type: "model",
            display_name: &model.id,
            created_at: rfc3339(model.created),
        }
    }
}

fn rfc3339(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds)
        .unwrap_or_default()
        .to_string()
}

fn to_json(value: &impl Serialize) -> Bytes {
    // Strings and numbers cannot fail to serialise.
    serde_json::to_vec(value).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(models: &[(&str, u64)], expected_openai: &str, expected_messages: &str) {
        let models: Vec<Model> = models
            .iter()
            .map(|(id, created)| Model {
                id: Arc::from(*id),
                owned_by: "openai".into(),
                created: *created,
            })
            .collect();
        let models: Vec<&Model> = models.iter().collect();
        assert_eq!(openai(&models), expected_openai);
        assert_eq!(messages(&models), expected_messages);
    }

    #[test]
    fn lists_are_written_as_specified() {
        check(
            &[("gpt-4o-mini", 1_735_689_600)],
            r#"{"data":[{"id":"gpt-4o-mini","created":1735689600,"object":"model","owned_by":"openai"}],"object":"list"}"#,
            r#"{"data":[{"id":"gpt-4o-mini","type":"model","display_name":"gpt-4o-mini","created_at":"2025-01-01T00:00:00Z"}],"first_id":"gpt-4o-mini","has_more":false,"last_id":"gpt-4o-mini"}"#,
        );
        check(
            &[],
            r#"{"data":[],"object":"list"}"#,
            r#"{"data":[],"has_more":false}"#,
        );
    }
}
