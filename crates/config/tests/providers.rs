//! The page about providers says what the rows say.

use std::{fmt::Write, fs};

use config::resolve::schema_of;
use llm::{
    Format, Operation, Provider, Site, Target,
    provider::{Ask, Dialect, Member, PROVIDERS, Replay, Thinking, Trigger},
};

/// The page between these two lines is what this test expects.
const BEGIN: &str = "<!-- the rows, checked by a test -->\n";
const END: &str = "<!-- end of the rows -->\n";

#[test]
fn the_page_has_every_row() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/providers.md");
    let page = fs::read_to_string(page).expect("the page can be read");
    let (_, rest) = page.split_once(BEGIN).expect("the rows begin");
    let (written, _) = rest.split_once(END).expect("the rows end");
    let rows = rows();
    assert!(
        written == rows,
        "docs/providers.md is stale; it should say:\n{rows}"
    );
}

fn rows() -> String {
    let mut text = String::from(
        "\n| provider | schema | host | prefix | Responses | found by |\n|---|---|---|---|---|---|\n",
    );
    for provider in PROVIDERS {
        writeln!(text, "{}", place(*provider)).expect("a String takes everything");
    }
    text.push_str("\n| provider | takes more | by another name | does not take |\n|---|---|---|---|\n");
    let site = Site::default();
    for provider in PROVIDERS {
        let dialect = provider.dialect(&site);
        if dialect != Dialect::PLAIN {
            writeln!(text, "{}", habits(provider.id(), &dialect)).expect("a String takes everything");
        }
    }
    text.push('\n');
    text
}

fn place(provider: &'static dyn Provider) -> String {
    let formats = provider.formats(Operation::Chat, "");
    let site = Site::default();
    let path = provider.path(
        Ask {
            operation: Operation::Chat,
            format: formats.first().copied().unwrap_or(Format::OpenAi),
            stream: false,
        },
        &Target {
            provider,
            site: &site,
            model: "MODEL",
            now: 0,
        },
    );
    let suffixes = [
        "/chat/completions",
        "/responses",
        "/messages",
        "/publishers/google/models/MODEL:generateContent",
        "/models/MODEL:generateContent",
    ];
    let prefix = suffixes.iter().find_map(|suffix| path.strip_suffix(suffix));
    let found = provider.preset().map(|preset| match preset.trigger {
        Trigger::Key => format!("`{}`", preset.key),
        Trigger::Base => format!("`{}`", preset.base),
        Trigger::Both => format!(
            "`{}`, `{}`, `{}`",
            preset.key,
            preset.base,
            preset.version.unwrap_or_default()
        ),
    });
    let code = |text: &str| format!("`{text}`");
    format!(
        "| `{}` | {} | {} | {} | {} | {} |",
        provider.id(),
        schema_of(provider).map_or_else(String::new, |schema| format!("{schema:?}")),
        provider.host().map(code).unwrap_or_default(),
        prefix
            .map(|prefix| code(prefix.trim_matches('/')))
            .unwrap_or_default(),
        if formats == [Format::Responses] {
            "alone"
        } else if formats.contains(&Format::Responses) {
            "yes"
        } else {
            ""
        },
        found.unwrap_or_default(),
    )
}

fn habits(id: &str, dialect: &Dialect) -> String {
    let more = [
        (dialect.top_k, "`top_k`"),
        (dialect.effort, "`reasoning_effort` with any model"),
        (dialect.thinking == Thinking::Switch, "`thinking`, on or off"),
        (dialect.thinking == Thinking::Budget, "`thinking` with a budget"),
        (dialect.thinking == Thinking::Reasoning, "`reasoning`"),
        (
            dialect.replay == Replay::Reasoning,
            "earlier reasoning, as `reasoning`",
        ),
        (
            matches!(dialect.replay, Replay::ReasoningContent | Replay::ThinkingBlocks),
            "earlier reasoning, as `reasoning_content`",
        ),
        (dialect.replay == Replay::ThinkingBlocks, "`thinking_blocks`"),
        (dialect.cache_control, "`cache_control`"),
        (dialect.audio_url, "`audio_url`"),
        (dialect.video_url, "`video_url`"),
    ];
    let more: Vec<_> = more
        .iter()
        .filter(|(taken, _)| *taken)
        .map(|(_, name)| *name)
        .collect();
    let mut renames: Vec<_> = dialect
        .renames
        .iter()
        .map(|(from, to)| format!("`{from}`: `{to}`"))
        .collect();
    if dialect.short_call_ids {
        renames.push("ids of calls: nine letters and digits".to_owned());
    }
    let refuses = dialect
        .refuses
        .iter()
        .map(|member| format!("`{}`", Member::name(*member)));
    format!(
        "| `{id}` | {} | {} | {} |",
        more.join(", "),
        renames.join(", "),
        refuses.collect::<Vec<_>>().join(", "),
    )
}
