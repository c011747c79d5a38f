//! The list of models, answered from the snapshot.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use config::router::Model;
use http::request::Parts;
use llm::{ApiError, Endpoint, Format, operation::Place};
use percent_encoding::percent_decode_str;
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
        Format::Messages => {
            let query = head.uri.query().unwrap_or_default();
            let (page, has_more) = Page::read(query)?.of(&models)?;
            messages(page, has_more)
        }
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

/// Which part of a list a client of Anthropic's wants (API reference, "List Models"). Without a limit it is all there is.
#[derive(Debug, Default)]
struct Page<'q> {
    limit: Option<usize>,
    after: Option<Cow<'q, str>>,
    before: Option<Cow<'q, str>>,
}

impl<'q> Page<'q> {
    /// Reads the parameters of a query; others are not looked at.
    ///
    /// # Errors
    /// A 400 if the limit is none.
    fn read(query: &'q str) -> Result<Self, ApiError> {
        let mut page = Self::default();
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let value = percent_decode_str(value).decode_utf8_lossy();
            match name {
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit));
                    let wrong =
                        || ApiError::invalid(format!("limit: expected a number from 1 to {MAX_PAGE}"));
                    page.limit = Some(limit.ok_or_else(wrong)?);
                }
                "after_id" => page.after = Some(value),
                "before_id" => page.before = Some(value),
                _ => {}
            }
        }
        Ok(page)
    }

    /// Returns the part of `models`, and whether there are more beyond it.
    ///
    /// # Errors
    /// A 400 if it begins or ends at a model that is not among them.
    fn of<'m, 'c>(&self, models: &'m [&'c Model]) -> Result<(&'m [&'c Model], bool), ApiError> {
        let place = |name: &str, id: &Option<Cow<'_, str>>| match id {
            None => Ok(None),
            Some(id) => {
                let at = models.iter().position(|model| *model.id == **id);
                let unknown = || ApiError::invalid(format!("{name}: there is no model \"{id}\""));
                at.map(Some).ok_or_else(unknown)
            }
        };
        let first = place("after_id", &self.after)?.map_or(0, |at| at + 1);
        let end = place("before_id", &self.before)?.unwrap_or(models.len());
        let part = models.get(first..end).unwrap_or_default();
        let Some(limit) = self.limit.filter(|limit| *limit < part.len()) else {
            return Ok((part, false));
        };
        // Whoever goes backwards wants those next to where they are.
        let page = match self.after.is_none() && self.before.is_some() {
            true => part.get(part.len() - limit..),
            false => part.get(..limit),
        };
        Ok((page.unwrap_or_default(), true))
    }
}

/// Anthropic's API reference, "List Models".
fn messages(models: &[&Model], has_more: bool) -> Bytes {
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
        has_more,
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

/// The most models of a page.
const MAX_PAGE: usize = 1000;

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
        assert_eq!(messages(&models, false), expected_messages);
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

    #[track_caller]
    fn check_page(query: &str, expected: Result<(&[&str], bool), u16>) {
        let models: Vec<Model> = ["a", "b/c", "d", "e"]
            .into_iter()
            .map(|id| Model {
                id: id.into(),
                owned_by: "o".into(),
                created: 0,
            })
            .collect();
        let models: Vec<&Model> = models.iter().collect();
        let page = Page::read(query).and_then(|page| {
            let (models, has_more) = page.of(&models)?;
            let ids: Vec<String> = models.iter().map(|model| model.id.to_string()).collect();
            Ok((ids, has_more))
        });
        let page = page.map_err(|error| error.status.as_u16());
        let expected =
            expected.map(|(ids, has_more)| (ids.iter().map(|id| (*id).to_owned()).collect(), has_more));
        assert_eq!(page, expected, "{query}");
    }

    #[test]
    fn lists_come_in_pages() {
        check_page("", Ok((&["a", "b/c", "d", "e"], false)));
        check_page("limit=2", Ok((&["a", "b/c"], true)));
        check_page("limit=2&after_id=b%2Fc", Ok((&["d", "e"], false)));
        check_page("after_id=a&limit=1", Ok((&["b/c"], true)));
        check_page("after_id=e", Ok((&[], false)));
        check_page("before_id=e&limit=2", Ok((&["b/c", "d"], true)));
        check_page("before_id=b/c&limit=2", Ok((&["a"], false)));
        check_page("after_id=a&before_id=e", Ok((&["b/c", "d"], false)));
        check_page("after_id=e&before_id=a", Ok((&[], false)));
        check_page("limit=4&beta=true", Ok((&["a", "b/c", "d", "e"], false)));
        for query in [
            "limit=0",
            "limit=1001",
            "limit=",
            "limit=x",
            "after_id=x",
            "before_id=x",
        ] {
            check_page(query, Err(400));
        }
    }
}
