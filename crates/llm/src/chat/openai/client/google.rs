//! What Google's models take and clients of this format send along; the compatibility specification, "Chat
//! request as parsed". It is of the Gemini format, so that it reaches those models and is a loss elsewhere.

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::value::RawValue;

use crate::{
    ApiError, Format, Losses, Severity,
    chat::{Extension, Extensions, ToolBody},
    json::{self, Object, Path},
};

/// The tools of Google's and what the Gemini format calls them.
const TOOLS: &[(&str, &str)] = &[
    ("google_search", "googleSearch"),
    ("enterprise_search", "enterpriseWebSearch"),
];

/// Takes the members out that are Google's.
///
/// # Errors
/// A 400 that names the member at fault.
pub(super) fn members(
    object: &mut Object<'_>,
    extensions: &mut Extensions,
    losses: &mut Losses,
) -> Result<(), ApiError> {
    let mut push = |key: &str, value: &RawValue| {
        extensions.0.push(Extension {
            format: Format::Gemini,
            key: key.to_owned(),
            value: value.to_owned(),
            severity: Severity::Advisory,
        });
    };
    if let Some(settings) = object.take("safetySettings") {
        push("safetySettings", settings);
    }
    let path = Path::Root.key("generationConfig");
    if let Some(raw) = object.take("generationConfig") {
        let mut config = Object::parse(raw, &path)?;
        if let Some(resolution) = config.take("media_resolution") {
            push("generationConfig.mediaResolution", resolution);
        }
        losses.rest(config, &path);
    }
    Ok(())
}

/// Returns the tool of type `kind` that `raw` is, if it is one of Google's; `raw` lies at `path`.
///
/// # Errors
/// A 400 that names the member at fault.
pub(super) fn tool(
    kind: &str,
    raw: &RawValue,
    path: &Path<'_>,
    losses: &mut Losses,
) -> Result<Option<ToolBody>, ApiError> {
    let Some((_, name)) = TOOLS.iter().find(|(known, _)| *known == kind) else {
        return Ok(None);
    };
    let mut tool = Object::parse(raw, path)?;
    tool.take("type");
    let options = match tool.take(kind) {
        Some(options) => search(options, &path.key(kind))?,
        None => BTreeMap::new(),
    };
    losses.rest(tool, path);
    Ok(Some(ToolBody::Native {
        format: Format::Gemini,
        kind: (*name).to_owned(),
        raw: json::raw(&BTreeMap::from([(name, options)])),
    }))
}

/// Returns the options of a search in the spelling of the Gemini format.
fn search(raw: &RawValue, path: &Path<'_>) -> Result<BTreeMap<String, Box<RawValue>>, ApiError> {
    let mut options = BTreeMap::new();
    for (key, value) in Object::parse(raw, path)?.rest() {
        let (key, value) = match key.as_ref() {
            "exclude_domains" => ("excludeDomains", value.to_owned()),
            "blocking_confidence" => ("blockingConfidence", value.to_owned()),
            "time_range_filter" => ("timeRangeFilter", range(value, &path.key("time_range_filter"))?),
            other => (other, value.to_owned()),
        };
        options.insert(key.to_owned(), value);
    }
    Ok(options)
}

fn range(raw: &RawValue, path: &Path<'_>) -> Result<Box<RawValue>, ApiError> {
    let members = Object::parse(raw, path)?.rest();
    let written = members.map(|(key, value)| match key.as_ref() {
        "start_time" => (Cow::Borrowed("startTime"), value),
        "end_time" => (Cow::Borrowed("endTime"), value),
        _ => (key, value),
    });
    Ok(json::raw(&written.collect::<BTreeMap<_, _>>()))
}
