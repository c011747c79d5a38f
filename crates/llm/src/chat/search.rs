//! Searches of the web that providers run themselves, said by each in its own words: Anthropic's `web_search`, OpenAI's of
//! Responses, Google's `googleSearch` (the providers' pages "Web search tool", "Web search" and "Grounding with Google
//! Search").
//!
//! What is found comes back as text and the pages that it is from, which formats carry anyway.

use serde::Serialize;
use serde_json::{json, value::RawValue};

use super::{Extensions, Request, Tool, ToolBody, ToolChoice};
use crate::{
    Field, Format, Loss, Losses, Severity, Target,
    json::{self, Object, Path},
};

/// Anthropic's search: its type, and what it is called there.
const ANTHROPIC: &str = "web_search_20250305";
const NAME: &str = "web_search";

/// Google's.
const GOOGLE: &str = "googleSearch";

/// What clients of chat completions ask for a search with, beside their tools; their models always search.
const OPTIONS: &str = "web_search_options";

/// What a client asks of a search.
#[derive(Debug, Default, PartialEq)]
struct Search {
    /// How often the model may search.
    uses: Option<u64>,
    /// Pages are taken from these hosts alone.
    allowed: Vec<String>,
    /// And from none of these.
    blocked: Vec<String>,
    /// How much of what is found the model reads, in OpenAI's words.
    context: Option<String>,
    /// Where the user is.
    place: Option<Place>,
}

/// Where a user is, about.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Place {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    city: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    country: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timezone: Option<String>,
}

/// Says the search among the tools of `request` as an upstream of `format` has it; leaves it alone where that has none,
/// which is a loss there.
pub(crate) fn lower(request: &mut Request, format: Format, target: &Target<'_>, losses: &mut Losses) {
    join(request, format, target, losses);
    let foreign = |tool: &Tool| of(tool).is_some_and(|own| own != format);
    let Some(index) = request.tools.iter().position(foreign) else {
        return;
    };
    if !target.provider.searches() || !fits(request, format) {
        return;
    }
    let field = Field::Tool(index);
    let Some((name, search)) = request
        .tools
        .get(index)
        .and_then(|tool| read(tool, &field, losses))
    else {
        return;
    };
    let Some(body) = search.write(format, &field, losses) else {
        return;
    };
    if let Some(tool) = request.tools.get_mut(index) {
        tool.body = body;
    }
    choose(request, &name, format, losses);
}

/// Puts the search that a client of chat completions asks for beside its tools among them, where an upstream of `format`
/// has one; elsewhere it stays, and is a loss.
fn join(request: &mut Request, format: Format, target: &Target<'_>, losses: &mut Losses) {
    let mut extensions = request.extensions.0.iter();
    let options =
        extensions.position(|extension| extension.format == Format::OpenAi && extension.key == OPTIONS);
    let Some(at) = options.filter(|_| target.provider.searches() && fits(request, format)) else {
        return;
    };
    let field = Field::Extension(OPTIONS.to_owned());
    let options = request.extensions.0.get(at);
    let search = options.and_then(|options| read_options(&options.value, &field, losses));
    let Some(body) = search.and_then(|search| search.write(format, &field, losses)) else {
        return;
    };
    request.extensions.0.remove(at);
    request.tools.push(Tool {
        body,
        cache: None,
        extensions: Extensions::default(),
    });
    losses.advisory(field, "this upstream searches as its model sees fit");
}

/// Reads the options of a search; `None` if they are not written as they should be.
fn read_options(raw: &RawValue, field: &Field, losses: &mut Losses) -> Option<Search> {
    let path = Path::Root;
    let mut options = Object::parse(raw, &path).ok()?;
    let mut search = Search {
        context: options.optional("search_context_size", &path).ok()?,
        ..Search::default()
    };
    if let Some(location) = options.take("user_location") {
        let mut location = Object::parse(location, &path).ok()?;
        location.take("type");
        search.place = place(&mut location, "approximate", field, losses)?;
        lose_rest(location, field, losses);
    }
    lose_rest(options, field, losses);
    Some(search)
}

/// Returns the format of the search that `tool` is, if it is one.
fn of(tool: &Tool) -> Option<Format> {
    let ToolBody::Native { format, kind, .. } = &tool.body else {
        return None;
    };
    let is_search = match format {
        Format::Messages | Format::Responses => kind == NAME || kind.starts_with("web_search_"),
        Format::Gemini => kind == GOOGLE,
        Format::OpenAi | Format::Converse | Format::Cohere => false,
    };
    is_search.then_some(*format)
}

/// Returns whether an upstream of `format` takes a search beside the other tools of `request`.
fn fits(request: &Request, format: Format) -> bool {
    let mut functions = request.tools.iter().filter_map(|tool| match &tool.body {
        ToolBody::Function { name, .. } => Some(name.as_str()),
        ToolBody::Native { .. } => None,
    });
    match format {
        Format::Messages => functions.all(|name| name != NAME),
        Format::Responses => true,
        // Its models take one or the other.
        Format::Gemini => functions.next().is_none(),
        Format::OpenAi | Format::Converse | Format::Cohere => false,
    }
}

/// Reads what `tool` is called and asks for; `None` if it is not written as it should be. What no other provider's search
/// knows is a loss of `field`.
fn read(tool: &Tool, field: &Field, losses: &mut Losses) -> Option<(String, Search)> {
    let ToolBody::Native { format, kind, raw } = &tool.body else {
        return None;
    };
    let path = Path::Root;
    let mut object = Object::parse(raw, &path).ok()?;
    let mut search = Search::default();
    let mut name = kind.clone();
    match format {
        Format::Messages => {
            object.take("type");
            name = object.optional("name", &path).ok()?.unwrap_or_default();
            search.uses = object.optional("max_uses", &path).ok()?;
            search.allowed = hosts(&mut object, "allowed_domains")?;
            search.blocked = hosts(&mut object, "blocked_domains")?;
            search.place = place(&mut object, "user_location", field, losses)?;
        }
        Format::Responses => {
            object.take("type");
            if let Some(filters) = object.take("filters") {
                let mut filters = Object::parse(filters, &path).ok()?;
                search.allowed = hosts(&mut filters, "allowed_domains")?;
                search.blocked = hosts(&mut filters, "blocked_domains")?;
                lose_rest(filters, field, losses);
            }
            search.context = object.optional("search_context_size", &path).ok()?;
            search.place = place(&mut object, "user_location", field, losses)?;
        }
        Format::Gemini => {
            let mut options = Object::parse(object.take(kind)?, &path).ok()?;
            search.blocked = hosts(&mut options, "excludeDomains")?;
            lose_rest(options, field, losses);
        }
        Format::OpenAi | Format::Converse | Format::Cohere => return None,
    }
    lose_rest(object, field, losses);
    Some((name, search))
}

fn hosts(object: &mut Object<'_>, key: &str) -> Option<Vec<String>> {
    Some(object.optional(key, &Path::Root).ok()?.unwrap_or_default())
}

/// Takes out where the user is, which `key` says; the outer `None` tells that it is not written as it should be.
fn place(object: &mut Object<'_>, key: &str, field: &Field, losses: &mut Losses) -> Option<Option<Place>> {
    let path = Path::Root;
    let Some(raw) = object.take(key) else {
        return Some(None);
    };
    let mut said = Object::parse(raw, &path).ok()?;
    said.take("type");
    let mut word = |key: &str| said.optional::<String>(key, &path).ok();
    let place = Place {
        kind: "approximate",
        city: word("city")?,
        country: word("country")?,
        region: word("region")?,
        timezone: word("timezone")?,
    };
    lose_rest(said, field, losses);
    Some(Some(place))
}

fn lose_rest(object: Object<'_>, field: &Field, losses: &mut Losses) {
    for (key, _) in object.rest() {
        let reason = format!("the search of this upstream has no \"{key}\"");
        losses.advisory(field.clone(), reason);
    }
}

impl Search {
    /// Returns the search as an upstream of `format` has it; what that has no word for is a loss of `field`.
    fn write(self, format: Format, field: &Field, losses: &mut Losses) -> Option<ToolBody> {
        // Where to look is what the client wants kept; how often, and from where, is a nuance.
        let mut lose = |said: bool, severity: Severity, what: &str| {
            if said {
                losses.push(Loss {
                    field: field.clone(),
                    severity,
                    reason: format!("the search of this upstream has no {what}").into(),
                });
            }
        };
        if format != Format::Responses {
            let what = "word for how much of what is found is read";
            lose(self.context.is_some(), Severity::Advisory, what);
        }
        let (kind, raw) = match format {
            Format::Messages => {
                let both = !self.allowed.is_empty() && !self.blocked.is_empty();
                lose(
                    both,
                    Severity::Material,
                    "list of hosts to leave out beside one of those to look at",
                );
                (ANTHROPIC, json::raw(&Anthropic::from(self)))
            }
            Format::Responses => {
                lose(
                    self.uses.is_some(),
                    Severity::Advisory,
                    "limit on how often it is used",
                );
                lose(
                    !self.blocked.is_empty(),
                    Severity::Material,
                    "list of hosts to leave out",
                );
                (NAME, json::raw(&OpenAi::from(self)))
            }
            Format::Gemini => {
                lose(
                    self.uses.is_some(),
                    Severity::Advisory,
                    "limit on how often it is used",
                );
                lose(
                    !self.allowed.is_empty(),
                    Severity::Material,
                    "list of hosts to look at",
                );
                lose(
                    !self.blocked.is_empty(),
                    Severity::Material,
                    "list of hosts to leave out",
                );
                lose(self.place.is_some(), Severity::Advisory, "place of the user");
                (GOOGLE, json::raw(&json!({ GOOGLE: {} })))
            }
            Format::OpenAi | Format::Converse | Format::Cohere => return None,
        };
        Some(native(format, kind, raw))
    }
}

/// Anthropic's search.
#[derive(Serialize)]
struct Anthropic {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_uses: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allowed_domains: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    blocked_domains: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_location: Option<Place>,
}

impl From<Search> for Anthropic {
    fn from(search: Search) -> Self {
        let blocked = search.blocked;
        Self {
            kind: ANTHROPIC,
            name: NAME,
            max_uses: search.uses,
            blocked_domains: if search.allowed.is_empty() {
                blocked
            } else {
                Vec::new()
            },
            allowed_domains: search.allowed,
            user_location: search.place,
        }
    }
}

/// OpenAI's search, of Responses.
#[derive(Serialize)]
struct OpenAi {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    filters: Option<Filters>,
    #[serde(skip_serializing_if = "Option::is_none")]
    search_context_size: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_location: Option<Place>,
}

#[derive(Serialize)]
struct Filters {
    allowed_domains: Vec<String>,
}

impl From<Search> for OpenAi {
    fn from(search: Search) -> Self {
        let allowed_domains = search.allowed;
        Self {
            kind: NAME,
            filters: (!allowed_domains.is_empty()).then_some(Filters { allowed_domains }),
            search_context_size: search.context,
            user_location: search.place,
        }
    }
}

fn native(format: Format, kind: &str, raw: Box<RawValue>) -> ToolBody {
    ToolBody::Native {
        format,
        kind: kind.to_owned(),
        raw,
    }
}

/// Says that the search, which the client calls `name`, must be used, where the client says so.
fn choose(request: &mut Request, name: &str, format: Format, losses: &mut Losses) {
    let chosen = |value: &RawValue| {
        let mut choice = Object::parse(value, &Path::Root).ok()?;
        choice.optional::<String>("type", &Path::Root).ok()?
    };
    let extensions = &mut request.extensions.0;
    let hosted = extensions.iter().position(|extension| {
        let is_choice = extension.format == Format::Responses && extension.key == "tool_choice";
        is_choice && chosen(&extension.value).is_some_and(|kind| kind.starts_with(NAME))
    });
    let named = match &request.tool_choice {
        Some(ToolChoice::Tool(tool)) => tool == name,
        Some(ToolChoice::Auto | ToolChoice::None | ToolChoice::Required) | None => false,
    };
    if let Some(at) = hosted {
        extensions.remove(at);
    }
    let must = named || hosted.is_some();
    let alone = request.tools.len() == 1;
    let required = alone && request.tool_choice == Some(ToolChoice::Required);
    request.tool_choice = match format {
        Format::Messages if must => Some(ToolChoice::Tool(NAME.to_owned())),
        Format::Responses if must && alone => Some(ToolChoice::Required),
        Format::Responses | Format::Gemini if must || (required && format == Format::Gemini) => {
            losses.advisory(Field::ToolChoice, "this upstream searches as its model sees fit");
            None
        }
        Format::Messages
        | Format::Responses
        | Format::Gemini
        | Format::OpenAi
        | Format::Converse
        | Format::Cohere => request.tool_choice.take(),
    };
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{
        Provider, Site,
        provider::{AiStudio, Anthropic, Bedrock, BedrockClaude, OPENAI_RESPONSES, OpenAi},
    };

    /// Checks what the tools of a client of `client` are for `provider`, which tool must be used, and how many nuances
    /// are lost; `None` where the search stays as it was.
    #[track_caller]
    fn check(
        client: Format,
        members: Value,
        provider: &'static dyn Provider,
        expected: Option<(Value, Option<ToolChoice>, usize)>,
    ) {
        let mut body = match client {
            Format::Responses => json!({ "model": "m", "input": "hi" }),
            Format::Gemini => json!({ "contents": [{ "role": "user", "parts": [{ "text": "hi" }] }] }),
            Format::OpenAi | Format::Messages | Format::Converse | Format::Cohere => {
                json!({ "model": "m", "max_tokens": 9, "messages": [{ "role": "user", "content": "hi" }] })
            }
        };
        for (key, value) in members.as_object().expect("an object") {
            body[key] = value.clone();
        }
        let (mut losses, site) = (Losses::default(), Site::default());
        let target = Target {
            provider,
            site: &site,
            model: "m",
            now: 0,
        };
        let half = client.client().expect("a client half");
        let mut request = half
            .decode_request(body.to_string().as_bytes(), &mut losses)
            .expect("a request");
        let before = format!("{:?}", request.tools);
        let format = provider.formats(crate::Operation::Chat, "m")[0];
        lower(&mut request, format, &target, &mut losses);
        let Some((tool, choice, lost)) = expected else {
            assert_eq!(format!("{:?}", request.tools), before, "{members}");
            return;
        };
        let found = request.tools.iter().find_map(|tool| match &tool.body {
            ToolBody::Native { raw, format: own, .. } if *own == format => {
                serde_json::from_str(raw.get()).ok()
            }
            ToolBody::Native { .. } | ToolBody::Function { .. } => None,
        });
        assert_eq!(found, Some(tool), "{members}");
        assert_eq!(request.tool_choice, choice, "{members}");
        assert!(
            request
                .extensions
                .0
                .iter()
                .all(|extension| extension.key != "tool_choice")
        );
        assert_eq!(losses.iter().count(), lost, "{losses:?}");
    }

    #[test]
    fn a_search_is_said_in_the_words_of_whoever_runs_it() {
        let anthropic = json!({ "type": ANTHROPIC, "name": "web_search", "max_uses": 3, "allowed_domains": ["a.example"],
            "user_location": { "type": "approximate", "city": "Paris" } });
        let openai = json!({ "type": "web_search", "filters": { "allowed_domains": ["a.example"] },
            "user_location": { "type": "approximate", "city": "Paris" } });
        let google = json!({ GOOGLE: {} });
        let forced = json!({ "type": "tool", "name": "web_search" });
        let asked = json!({ "tools": [anthropic], "tool_choice": forced });
        check(
            Format::Messages,
            asked.clone(),
            &OPENAI_RESPONSES,
            Some((openai.clone(), Some(ToolChoice::Required), 1)),
        );
        check(
            Format::Messages,
            asked.clone(),
            &AiStudio,
            Some((google.clone(), None, 4)),
        );
        check(Format::Messages, asked.clone(), &Anthropic, None);
        for provider in [&OpenAi as &'static dyn Provider, &Bedrock] {
            check(Format::Messages, asked.clone(), provider, None);
        }
        let mut plain = anthropic.clone();
        plain.as_object_mut().expect("an object").remove("max_uses");
        let named = Some(ToolChoice::Tool("web_search".to_owned()));
        check(
            Format::Responses,
            json!({ "tools": [openai], "tool_choice": { "type": "web_search_preview" } }),
            &Anthropic,
            Some((plain.clone(), named, 0)),
        );
        let mut wide = openai.clone();
        wide["search_context_size"] = json!("low");
        check(
            Format::Responses,
            json!({ "tools": [wide] }),
            &Anthropic,
            Some((plain, None, 1)),
        );
        check(
            Format::Responses,
            json!({ "tools": [openai] }),
            &BedrockClaude,
            None,
        );
        let excluding = json!({ "tools": [{ GOOGLE: { "excludeDomains": ["b.example"] } }] });
        let blocked = json!({ "type": ANTHROPIC, "name": "web_search", "blocked_domains": ["b.example"] });
        check(Format::Gemini, excluding, &Anthropic, Some((blocked, None, 0)));
    }

    #[test]
    fn a_search_that_is_asked_for_beside_tools_is_one_of_them() {
        let place = json!({ "type": "approximate", "approximate": { "city": "Paris" } });
        let asked = json!({ OPTIONS: { "search_context_size": "low", "user_location": place } });
        let place = json!({ "type": "approximate", "city": "Paris" });
        let anthropic = json!({ "type": ANTHROPIC, "name": "web_search", "user_location": place });
        let openai = json!({ "type": "web_search", "search_context_size": "low", "user_location": place });
        let google = json!({ GOOGLE: {} });
        for (provider, tool, lost) in [
            (&Anthropic as &'static dyn Provider, anthropic, 2),
            (&OPENAI_RESPONSES, openai, 1),
            (&AiStudio, google, 3),
        ] {
            check(Format::OpenAi, asked.clone(), provider, Some((tool, None, lost)));
        }
        for provider in [&OpenAi as &'static dyn Provider, &Bedrock, &BedrockClaude] {
            check(Format::OpenAi, asked.clone(), provider, None);
        }
        let function =
            json!({ "type": "function", "function": { "name": "f", "parameters": { "type": "object" } } });
        let mut both = asked;
        both["tools"] = json!([function]);
        check(Format::OpenAi, both, &AiStudio, None);
    }

    #[test]
    fn a_search_stands_beside_functions_where_it_may() {
        let function = json!({ "type": "function", "name": "f", "parameters": { "type": "object" } });
        let search = json!({ "type": "web_search" });
        let anthropic = json!({ "type": ANTHROPIC, "name": "web_search" });
        let both = json!({ "tools": [function, search] });
        check(
            Format::Responses,
            both.clone(),
            &Anthropic,
            Some((anthropic, None, 0)),
        );
        check(Format::Responses, both, &AiStudio, None);
        let mut named = function;
        named["name"] = json!("web_search");
        check(
            Format::Responses,
            json!({ "tools": [named, search] }),
            &Anthropic,
            None,
        );
    }
}
