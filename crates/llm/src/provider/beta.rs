//! Flags with which clients of Claude ask for what is not generally available (`anthropic-beta`), and the members
//! of a request that go with them.
//!
//! Anthropic gets both as they come. The clouds that serve its models refuse a whole request for a flag that they
//! do not know, and for a member whose flag is missing. So what a cloud does not take is withheld together with
//! the members that it would have unlocked, and each of them is a loss.
//!
//! Sources: the compatibility specification, "Beta filter"; the provider's pages "Beta headers", "Tool search" and
//! "Features overview"; those of Amazon Bedrock on the parameters of Claude.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{json, value::RawValue};

use crate::{
    ApiError, Field, Format, Losses, Severity, Target,
    capability::Family,
    json::{self, Edit, Kind, Path, Shallow},
    provider::Flags,
};

/// The header in which clients send flags.
const BETA: &str = "anthropic-beta";

/// What a cloud makes of flags.
#[derive(Debug)]
pub struct Platform {
    /// What reasons call it.
    name: &'static str,
    takes: Takes,
    /// Flags that are called otherwise there.
    aliases: &'static [(&'static str, &'static str)],
    /// Members that need no flag there.
    general: &'static [&'static str],
    carrier: Carrier,
}

/// Which flags are taken.
#[derive(Debug)]
enum Takes {
    /// These; a request with any other is refused.
    Only(&'static [&'static str]),
    /// All but these.
    AllBut(&'static [&'static str]),
}

/// Where flags are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carrier {
    /// In the header.
    Header,
    /// In the member `anthropic_beta` of the body.
    Body,
    /// In the member of that name of what Converse hands on to the model.
    Fields,
}

/// What a call carries of a request's flags.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    /// Edits of the body.
    pub(crate) edits: Vec<Edit>,
    /// What takes the place of headers of the client's.
    pub(crate) replaces: Vec<(HeaderName, Option<HeaderValue>)>,
}

/// Amazon Bedrock takes few flags.
const BEDROCK_TAKES: Takes = Takes::Only(&[
    "computer-use-2024-10-22",
    "computer-use-2025-01-24",
    "computer-use-2025-11-24",
    "context-1m-2025-08-07",
    "context-management-2025-06-27",
    "dev-full-thinking-2025-05-14",
    "effort-2025-11-24",
    "fine-grained-tool-streaming-2025-05-14",
    "interleaved-thinking-2025-05-14",
    "mcp-client-2025-04-04",
    "mcp-client-2025-11-20",
    "model-context-window-exceeded-2025-08-26",
    "output-128k-2025-02-19",
    "pdfs-2024-09-25",
    "search-results-2025-06-09",
    "token-counting-2024-11-01",
    "token-efficient-tools-2025-02-19",
    "tool-examples-2025-10-29",
    "tool-search-tool-2025-10-19",
    "web-search-2025-03-05",
]);

const ALIASES: &[(&str, &str)] = &[("advanced-tool-use-2025-11-20", "tool-search-tool-2025-10-19")];

/// InvokeModel.
pub(super) const INVOKE_MODEL: Platform = Platform {
    name: "Amazon Bedrock",
    takes: BEDROCK_TAKES,
    aliases: ALIASES,
    general: &["format", "output_format", "strict"],
    carrier: Carrier::Body,
};

/// Converse.
pub(super) const CONVERSE: Platform = Platform {
    carrier: Carrier::Fields,
    ..INVOKE_MODEL
};

/// Vertex AI, whose features are those of Anthropic without what its own servers run or keep. It takes some members
/// without a flag, and refuses the flag.
pub(super) const VERTEX: Platform = Platform {
    name: "Vertex AI",
    takes: Takes::AllBut(&[
        "adaptive-thinking-2026-01-28",
        "advisor-tool-2026-03-01",
        "code-execution-2025-05-22",
        "code-execution-2025-08-25",
        "effort-2025-11-24",
        "fast-mode-2026-02-01",
        "files-api-2025-04-14",
        "mcp-client-2025-04-04",
        "mcp-client-2025-11-20",
        "message-batches-2024-09-24",
        "prompt-caching-scope-2026-01-05",
        "skills-2025-10-02",
        "structured-outputs-2025-11-13",
        "structured-outputs-2025-12-15",
        "web-fetch-2025-09-10",
    ]),
    aliases: ALIASES,
    general: &["effort", "format", "output_format", "strict"],
    carrier: Carrier::Header,
};

/// Who gets flags as they come, but for what is declared.
const OPEN: Platform = Platform {
    name: "this backend",
    takes: Takes::AllBut(&[]),
    aliases: &[],
    general: &[],
    carrier: Carrier::Header,
};

/// A member that goes with flags: with any one of them.
struct Member {
    place: Place,
    key: &'static str,
    flags: &'static [&'static str],
    severity: Severity,
}

/// Where a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In the document itself.
    Top,
    /// In `output_config`.
    OutputConfig,
    /// In tools.
    Tool,
    /// In marks for caching.
    Mark,
}

impl Member {
    const fn new(place: Place, key: &'static str, flags: &'static [&'static str]) -> Self {
        Self {
            place,
            key,
            flags,
            severity: Severity::Advisory,
        }
    }

    /// Returns the member as one without which the request means something else.
    const fn needed(self) -> Self {
        Self {
            severity: Severity::Material,
            ..self
        }
    }
}

const MCP: &[&str] = &["mcp-client-2025-04-04", "mcp-client-2025-11-20"];
const STRUCTURED: &[&str] = &["structured-outputs-2025-11-13", "structured-outputs-2025-12-15"];
const TOOL_SEARCH: &[&str] = &["advanced-tool-use-2025-11-20", "tool-search-tool-2025-10-19"];

const MEMBERS: &[Member] = &[
    Member::new(
        Place::Top,
        "container",
        &[
            "code-execution-2025-05-22",
            "code-execution-2025-08-25",
            "skills-2025-10-02",
        ],
    )
    .needed(),
    Member::new(
        Place::Top,
        "context_management",
        &["compact-2026-01-12", "context-management-2025-06-27"],
    ),
    Member::new(Place::Top, "mcp_servers", MCP).needed(),
    Member::new(Place::Top, "output_format", STRUCTURED).needed(),
    Member::new(Place::Top, "speed", &["fast-mode-2026-02-01"]),
    Member::new(Place::OutputConfig, "effort", &["effort-2025-11-24"]),
    Member::new(Place::OutputConfig, "format", STRUCTURED).needed(),
    Member::new(Place::OutputConfig, "task_budget", &["task-budgets-2026-03-13"]),
    Member::new(Place::Tool, "allowed_callers", &["advanced-tool-use-2025-11-20"]),
    Member::new(Place::Tool, "defer_loading", TOOL_SEARCH),
    Member::new(
        Place::Tool,
        "input_examples",
        &["advanced-tool-use-2025-11-20", "tool-examples-2025-10-29"],
    ),
    Member::new(Place::Tool, "strict", STRUCTURED),
    Member::new(Place::Mark, "scope", &["prompt-caching-scope-2026-01-05"]),
];

/// Returns what a call to `target` carries of the flags in a client's `headers`, where `document` is its body
/// otherwise and `format` the format of that. What it does not carry is recorded in `losses`.
///
/// # Errors
/// A 502, if the document is not what it should be.
pub(crate) fn carry(
    target: &Target<'_>,
    format: Format,
    headers: &HeaderMap,
    document: &Shallow,
    losses: &mut Losses,
) -> Result<Carried, ApiError> {
    let sent = sent(headers);
    if sent.is_empty() {
        return Ok(Carried::default());
    }
    let declared = &target.site.flags;
    let judged = !declared.is_empty() && format == Format::Messages;
    let platform = target.provider.betas().or(judged.then_some(&OPEN));
    let Some(platform) = platform else {
        // The header goes along, but nobody else reads it.
        if format != Format::Messages {
            lose(&sent, target.provider.name(), losses);
        }
        return Ok(Carried::default());
    };
    if platform.carrier == Carrier::Fields && target.hosted().family != Family::Claude {
        lose(&sent, "this model", losses);
        return Ok(Carried::default());
    }
    let mut taken: Vec<&str> = Vec::with_capacity(sent.len());
    let mut dropped: Vec<&str> = Vec::new();
    // Flags by names that are declared go with the members that go with them by their own.
    let mut own: Vec<&str> = Vec::new();
    for flag in &sent {
        match platform.named(flag, declared) {
            Some(name) if taken.contains(&name) => {}
            Some(name) => taken.push(name),
            None => dropped.push(flag),
        }
        own.extend(declared.of(flag).flatten().map(|_| *flag));
    }
    lose(&dropped, platform.name, losses);
    own.extend(&taken);
    let withheld = |member: &&Member| {
        let wanted = |flags: &[&str]| flags.iter().any(|flag| member.flags.contains(flag));
        wanted(&sent) && !wanted(&own) && !platform.general.contains(&member.key)
    };
    let withheld: Vec<&Member> = MEMBERS.iter().filter(withheld).collect();
    platform.write(&taken, &withheld, document, losses)
}

/// Returns whether a client's `headers` have flags.
pub(crate) fn is_sent(headers: &HeaderMap) -> bool {
    headers.contains_key(BETA)
}

/// Records that the counter of an upstream takes no flags; returns what is to become of the header.
pub(crate) fn withhold(headers: &HeaderMap, losses: &mut Losses) -> Vec<(HeaderName, Option<HeaderValue>)> {
    let sent = sent(headers);
    if sent.is_empty() {
        return Vec::new();
    }
    lose(&sent, "the counter", losses);
    vec![(HeaderName::from_static(BETA), None)]
}

impl Platform {
    /// Returns what `flag` is called there; `None` if it is not taken. What is `declared` counts, of either name.
    fn named<'f>(&self, flag: &'f str, declared: &'f Flags) -> Option<&'f str> {
        let alias = self.aliases.iter().find(|(name, _)| *name == flag);
        let name = alias.map_or(flag, |(_, name)| *name);
        if let Some(said) = declared.of(flag).or_else(|| declared.of(name)) {
            return said;
        }
        let takes = match self.takes {
            Takes::Only(flags) => flags.contains(&name),
            Takes::AllBut(flags) => !flags.contains(&name),
        };
        takes.then_some(name)
    }

    fn write(
        &self,
        taken: &[&str],
        withheld: &[&Member],
        document: &Shallow,
        losses: &mut Losses,
    ) -> Result<Carried, ApiError> {
        let flags = (!taken.is_empty()).then(|| json!(taken).to_string());
        match self.carrier {
            Carrier::Header => Ok(Carried {
                edits: without(document, withheld, losses)?,
                replaces: vec![(
                    HeaderName::from_static(BETA),
                    HeaderValue::from_str(&taken.join(","))
                        .ok()
                        .filter(|_| flags.is_some()),
                )],
            }),
            Carrier::Body => {
                let mut edits = without(document, withheld, losses)?;
                edits.extend(flags.map(|flags| ("anthropic_beta", Some(flags))));
                Ok(Carried {
                    edits,
                    ..Carried::default()
                })
            }
            Carrier::Fields => {
                let key = "additionalModelRequestFields";
                let fields = Bytes::copy_from_slice(document.get(key).unwrap_or("{}").as_bytes());
                let fields = Shallow::parse(fields)?;
                let mut edits = without(&fields, withheld, losses)?;
                edits.extend(flags.map(|flags| ("anthropic_beta", Some(flags))));
                if edits.is_empty() {
                    return Ok(Carried::default());
                }
                let fields = String::from_utf8_lossy(&fields.with(&edits)).into_owned();
                Ok(Carried {
                    edits: vec![(key, Some(fields))],
                    ..Carried::default()
                })
            }
        }
    }
}

/// Returns the flags in `headers`, which may be repeated.
fn sent(headers: &HeaderMap) -> Vec<&str> {
    let values = headers.get_all(BETA).iter();
    let lists = values.filter_map(|value| value.to_str().ok());
    let flags = lists.flat_map(|list| list.split(',')).map(str::trim);
    flags.filter(|flag| !flag.is_empty()).collect()
}

fn lose(flags: &[&str], who: &str, losses: &mut Losses) {
    if !flags.is_empty() {
        let field = Field::Extension(BETA.to_owned());
        losses.advisory(field, format!("{who} does not take {}", flags.join(", ")));
    }
}

/// Returns the edits that take `withheld` out of `document`.
fn without(document: &Shallow, withheld: &[&Member], losses: &mut Losses) -> Result<Vec<Edit>, ApiError> {
    let mut edits: Vec<Edit> = Vec::new();
    let keys = |place: Place| {
        let members = withheld.iter().filter(move |member| member.place == place);
        members.copied()
    };
    for member in keys(Place::Top).filter(|member| document.get(member.key).is_some()) {
        edits.push((member.key, None));
        lost(member, Field::Extension(member.key.to_owned()), losses);
    }
    if let Some(config) = document.get("output_config") {
        let config = Shallow::parse(Bytes::copy_from_slice(config.as_bytes()))?;
        let mut inner: Vec<Edit> = Vec::new();
        for member in keys(Place::OutputConfig).filter(|member| config.get(member.key).is_some()) {
            inner.push((member.key, None));
            lost(
                member,
                Field::Extension(format!("output_config.{}", member.key)),
                losses,
            );
        }
        if !inner.is_empty() {
            edits.push(("output_config", Some(text(&config.with(&inner)))));
        }
    }
    let of_tools: Vec<&Member> = keys(Place::Tool).collect();
    let mark = keys(Place::Mark).next();
    for key in ["tools", "system", "messages"] {
        let Some(said) = document.get(key) else {
            continue;
        };
        let mut said = Some(said.to_owned());
        let mut changed = None;
        if key == "tools" && !of_tools.is_empty() {
            changed = tools(said.as_deref().unwrap_or_default(), &of_tools, losses)?;
            said = changed.clone().or(said);
        }
        if let Some(member) = mark
            && let Some(unmarked) = unmarked(said.as_deref().unwrap_or_default(), member.key)?
        {
            lost(member, Field::Cache, losses);
            changed = Some(unmarked);
        }
        edits.extend(changed.map(|changed| (key, Some(changed))));
    }
    Ok(edits)
}

fn lost(member: &Member, field: Field, losses: &mut Losses) {
    losses.push(crate::Loss {
        field,
        severity: member.severity,
        reason: format!("the flag that {} needs is not taken there", member.key).into(),
    });
}

/// Returns `tools` without `withheld`, if any of them is there.
fn tools(tools: &str, withheld: &[&Member], losses: &mut Losses) -> Result<Option<String>, ApiError> {
    let Ok(raw) = serde_json::from_str::<&RawValue>(tools) else {
        return Ok(None);
    };
    let mut changed = false;
    let mut written = Vec::new();
    for (index, raw) in json::elements(raw, &Path::Root.key("tools"))?
        .into_iter()
        .enumerate()
    {
        let tool = Shallow::parse(Bytes::copy_from_slice(raw.get().as_bytes()))?;
        let mut edits: Vec<Edit> = Vec::new();
        for member in withheld.iter().filter(|member| tool.get(member.key).is_some()) {
            edits.push((member.key, None));
            lost(member, Field::Tool(index), losses);
        }
        changed |= !edits.is_empty();
        written.push(text(&tool.with(&edits)));
    }
    Ok(changed.then(|| format!("[{}]", written.join(","))))
}

/// Returns `value` with `key` taken out of the marks for caching of what is in it, if it is in any.
fn unmarked(value: &str, key: &'static str) -> Result<Option<String>, ApiError> {
    if !value.contains(key) {
        return Ok(None);
    }
    let Ok(raw) = serde_json::from_str::<&RawValue>(value) else {
        return Ok(None);
    };
    match json::kind(raw) {
        Kind::Array => {
            let mut changed = false;
            let mut written = Vec::new();
            for raw in json::elements(raw, &Path::Root)? {
                let element = unmarked(raw.get(), key)?;
                changed |= element.is_some();
                written.push(element.unwrap_or_else(|| raw.get().to_owned()));
            }
            Ok(changed.then(|| format!("[{}]", written.join(","))))
        }
        Kind::Object => {
            let object = Shallow::parse(Bytes::copy_from_slice(value.as_bytes()))?;
            let mut edits: Vec<Edit> = Vec::new();
            if let Some(mark) = object.get("cache_control").filter(|mark| mark.starts_with('{')) {
                let mark = Shallow::parse(Bytes::copy_from_slice(mark.as_bytes()))?;
                if mark.get(key).is_some() {
                    edits.push(("cache_control", Some(text(&mark.with(&[(key, None)])))));
                }
            }
            if let Some(content) = object.get("content") {
                let content = unmarked(content, key)?;
                edits.extend(content.map(|content| ("content", Some(content))));
            }
            Ok((!edits.is_empty()).then(|| text(&object.with(&edits))))
        }
        Kind::String | Kind::Number | Kind::Bool | Kind::Null => Ok(None),
    }
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Provider, Site,
        provider::{Anthropic, Bedrock, BedrockClaude, OpenAi, VertexClaude},
    };

    /// A model that Converse hands flags on to.
    const CLAUDE: &str = "us.anthropic.claude-sonnet-4-6";

    /// Checks the body that is left of `body`, the header in place of the client's where it is replaced, and what
    /// is lost: a material loss has a mark of exclamation.
    #[track_caller]
    fn check(
        provider: &'static dyn Provider,
        flags: &[&str],
        body: &str,
        left: &str,
        header: Option<&str>,
        lost: &str,
    ) {
        let site = Site::default();
        let target = Target {
            provider,
            site: &site,
            model: CLAUDE,
            now: 0,
        };
        let format = provider.formats(crate::Operation::Chat, CLAUDE)[0];
        let mut headers = HeaderMap::new();
        for flag in flags {
            headers.append(BETA, flag.parse().unwrap());
        }
        let document = Shallow::parse(Bytes::copy_from_slice(body.as_bytes())).unwrap();
        let mut losses = Losses::default();
        let carried = carry(&target, format, &headers, &document, &mut losses).unwrap();
        assert_eq!(document.with(&carried.edits), left);
        let replaced = carried.replaces.iter().map(|(name, value)| {
            let value = value.as_ref().map(|value| value.to_str().unwrap());
            assert_eq!(*name, BETA);
            value.unwrap_or("none")
        });
        assert_eq!(replaced.collect::<Vec<_>>().first().copied(), header);
        let words = losses.iter().map(|loss| {
            let mark = if loss.severity == Severity::Material {
                "!"
            } else {
                ""
            };
            format!("{}{mark}", Format::Messages.field(&loss.field))
        });
        assert_eq!(words.collect::<Vec<_>>().join(" "), lost);
    }

    #[test]
    fn each_platform_gets_the_flags_that_it_takes() {
        let two = &["interleaved-thinking-2025-05-14, files-api-2025-04-14"];
        check(&Anthropic, two, "{}", "{}", None, "");
        check(&OpenAi, two, "{}", "{}", None, "anthropic-beta");
        check(
            &BedrockClaude,
            two,
            r#"{"max_tokens":5}"#,
            r#"{"anthropic_beta":["interleaved-thinking-2025-05-14"],"max_tokens":5}"#,
            None,
            "anthropic-beta",
        );
        check(
            &VertexClaude,
            two,
            "{}",
            "{}",
            Some("interleaved-thinking-2025-05-14"),
            "anthropic-beta",
        );
        check(
            &Bedrock,
            two,
            r#"{"additionalModelRequestFields":{"top_k":1}}"#,
            r#"{"additionalModelRequestFields":{"anthropic_beta":["interleaved-thinking-2025-05-14"],"top_k":1}}"#,
            None,
            "anthropic-beta",
        );
        check(
            &VertexClaude,
            &["skills-2025-10-02"],
            "{}",
            "{}",
            Some("none"),
            "anthropic-beta",
        );
        for provider in [
            &Anthropic as &'static dyn Provider,
            &BedrockClaude,
            &VertexClaude,
            &Bedrock,
        ] {
            check(
                provider,
                &[],
                r#"{"mcp_servers":[]}"#,
                r#"{"mcp_servers":[]}"#,
                None,
                "",
            );
        }
    }

    #[test]
    fn a_flag_has_one_name_and_is_told_once() {
        check(
            &BedrockClaude,
            &[
                "advanced-tool-use-2025-11-20",
                "pdfs-2024-09-25,tool-search-tool-2025-10-19,,",
            ],
            r#"{"anthropic_beta":["theirs"]}"#,
            r#"{"anthropic_beta":["tool-search-tool-2025-10-19","pdfs-2024-09-25"]}"#,
            None,
            "",
        );
        check(
            &BedrockClaude,
            &["prompt-caching-2024-07-31"],
            r#"{"anthropic_beta":["theirs"]}"#,
            r#"{"anthropic_beta":["theirs"]}"#,
            None,
            "anthropic-beta",
        );
        for (from, to) in ALIASES {
            let Takes::Only(flags) = BEDROCK_TAKES else {
                unreachable!("Bedrock takes few flags");
            };
            assert!(!flags.contains(from) && flags.contains(to));
        }
    }

    #[test]
    fn a_member_goes_with_its_flag() {
        check(
            &BedrockClaude,
            &[
                "context-management-2025-06-27,fast-mode-2026-02-01,task-budgets-2026-03-13,structured-outputs-2025-11-13",
            ],
            r#"{"context_management":{},"speed":"fast","output_config":{"effort":"low","task_budget":{},"format":{}}}"#,
            r#"{"anthropic_beta":["context-management-2025-06-27"],"context_management":{},"output_config":{"effort":"low","format":{}}}"#,
            None,
            "anthropic-beta speed output_config.task_budget",
        );
        check(
            &BedrockClaude,
            &["advanced-tool-use-2025-11-20"],
            r#"{"tools":[{"name":"f","defer_loading":true,"input_examples":[1.50]},{"name":"g"}]}"#,
            r#"{"anthropic_beta":["tool-search-tool-2025-10-19"],"tools":[{"name":"f","defer_loading":true},{"name":"g"}]}"#,
            None,
            "tools[0]",
        );
        check(
            &VertexClaude,
            &["mcp-client-2025-11-20"],
            r#"{"mcp_servers":[{}],"messages":[]}"#,
            r#"{"messages":[]}"#,
            Some("none"),
            "anthropic-beta mcp_servers!",
        );
        check(
            &Bedrock,
            &["compact-2026-01-12"],
            r#"{"additionalModelRequestFields":{"context_management":{}},"messages":[]}"#,
            r#"{"additionalModelRequestFields":{},"messages":[]}"#,
            None,
            "anthropic-beta context_management",
        );
    }

    #[test]
    fn what_is_general_outlives_its_flag() {
        check(
            &VertexClaude,
            &["effort-2025-11-24,structured-outputs-2025-12-15"],
            r#"{"output_config":{"effort":"low","format":{}},"tools":[{"name":"f","strict":true}]}"#,
            r#"{"output_config":{"effort":"low","format":{}},"tools":[{"name":"f","strict":true}]}"#,
            Some("none"),
            "anthropic-beta",
        );
    }

    #[test]
    fn marks_lose_the_scope_that_is_not_taken() {
        let mark = r#""cache_control":{"type":"ephemeral","scope":"global"}"#;
        let plain = r#""cache_control":{"type":"ephemeral"}"#;
        let body = |mark: &str| {
            format!(
                r#"{{"system":[{{"type":"text",{mark}}}],"messages":[{{"role":"user","content":[{{"type":"tool_result","content":[{{"n":1.50,{mark}}}]}}]}},{{"role":"user","content":"scope"}}],"tools":[{{"name":"f",{mark}}}]}}"#
            )
        };
        let flags = &["prompt-caching-scope-2026-01-05"];
        let lost = "anthropic-beta cache_control";
        check(&BedrockClaude, flags, &body(mark), &body(plain), None, lost);
        check(&Anthropic, flags, &body(mark), &body(mark), None, "");
    }
}
