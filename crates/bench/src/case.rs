//! What is measured: the table of the cases, and which limits they have to keep.

use std::time::Duration;

use crate::contender::{CONVERSED, GENERATED, RELAYED, TRANSLATED};

/// One kind of traffic, played against every contender.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// Chooses the case on the command line.
    pub(crate) name: &'static str,
    /// Says it to a reader.
    pub(crate) title: &'static str,
    /// Bytes of the request's body.
    pub(crate) size: usize,
    /// Whether the reply is streamed.
    pub(crate) stream: bool,
    /// What the gateway makes of it.
    pub(crate) way: Way,
    /// Requests in flight.
    pub(crate) connections: usize,
    /// Between two events of a stream.
    pub(crate) pace: Duration,
    /// Who is measured.
    pub(crate) field: Field,
    /// The most processor time per request, as a multiple of plain Envoy's.
    pub(crate) limit: Option<f64>,
    /// The same, as a multiple of the gateway's own where it relays such a stream.
    pub(crate) relay_limit: Option<f64>,
}

/// What the gateway makes of a request. Plain proxies relay it, which is what translation is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The upstream's format is the client's.
    Relay,
    /// It is Anthropic's.
    Messages,
    /// It is Bedrock's, with signed calls and binary streams.
    Converse,
    /// It is Google's.
    Gemini,
}

impl Way {
    /// Returns the model that goes this way.
    pub(crate) fn model(self) -> &'static str {
        match self {
            Way::Relay => RELAYED,
            Way::Messages => TRANSLATED,
            Way::Converse => CONVERSED,
            Way::Gemini => GENERATED,
        }
    }
}

/// The case that `relay_limit` is held against.
pub(crate) const RELAY_STREAM: &str = "relay-stream";

/// Who takes part in a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// Every proxy, and the gateway with few models.
    Proxies,
    /// The gateway with few and with many models.
    Models,
    /// The gateway without limits, with limits that it counts itself, and with limits in Redis.
    Limits,
    /// The gateway that tells of requests as it does by default, that tells nothing, and that exports a span of each.
    Telling,
}

/// The limits that are not ratios of processor time.
pub(crate) mod limit {
    use std::time::Duration;

    /// From the start of the process to its first answer.
    pub(crate) const READY: Duration = Duration::from_millis(100);
    /// The same with many models.
    pub(crate) const LOADED: Duration = Duration::from_millis(200);
    /// From a change of one route of many until it is served.
    pub(crate) const RELOADED: Duration = Duration::from_millis(50);
    /// Resident once started.
    pub(crate) const IDLE: f64 = 20.0 * (1 << 20) as f64;
    /// Memory per request in flight, as a multiple of its body.
    pub(crate) const MEMORY: f64 = 3.0;
    /// p50 with many models, as a multiple of p50 with few: flat, but for noise.
    pub(crate) const MODELS: f64 = 1.1;
    /// Processor time per request with a limit, as a multiple of that without.
    pub(crate) const LIMITED: f64 = 1.15;
    /// Processor time per request with its span, content included, as a multiple of that without.
    pub(crate) const TRACED: f64 = 1.3;
    /// Processor time per request with its access record, as a multiple of that without.
    pub(crate) const RECORDED: f64 = 1.05;
    /// Processor time that a limit in memory adds to a request.
    pub(crate) const LIMIT: Duration = Duration::from_micros(2);
}

const KB: usize = 1 << 10;
const MB: usize = 1 << 20;

/// Every case, in the order of the report.
pub(crate) const CASES: &[Case] = &[
    Case {
        limit: Some(0.7),
        ..Case::relay("relay-json", "1 KB JSON, relay")
    },
    Case {
        connections: 1,
        ..Case::relay("relay-json-1", "1 KB JSON, relay, one at a time")
    },
    Case {
        stream: true,
        limit: Some(1.0),
        ..Case::relay(RELAY_STREAM, "50-chunk stream, relay")
    },
    Case {
        stream: true,
        pace: Duration::from_millis(5),
        limit: Some(1.0),
        ..Case::relay("relay-stream-paced", "50-chunk stream at 5 ms a chunk, relay")
    },
    Case {
        stream: true,
        connections: 1,
        ..Case::relay("relay-stream-1", "50-chunk stream, relay, one at a time")
    },
    Case {
        limit: Some(1.0),
        ..Case::translate("translate-json", "1 KB JSON, OpenAI to Anthropic")
    },
    Case {
        connections: 1,
        ..Case::translate(
            "translate-json-1",
            "1 KB JSON, OpenAI to Anthropic, one at a time",
        )
    },
    Case {
        stream: true,
        limit: Some(1.5),
        ..Case::translate("translate-stream", "50-chunk stream, OpenAI to Anthropic")
    },
    Case {
        stream: true,
        pace: Duration::from_millis(5),
        limit: Some(1.5),
        ..Case::translate(
            "translate-stream-paced",
            "50-chunk stream at 5 ms a chunk, OpenAI to Anthropic",
        )
    },
    Case {
        stream: true,
        connections: 1,
        ..Case::translate(
            "translate-stream-1",
            "50-chunk stream, OpenAI to Anthropic, one at a time",
        )
    },
    Case {
        stream: true,
        way: Way::Converse,
        relay_limit: Some(2.0),
        ..Case::relay("converse-stream", "50-chunk stream, OpenAI to Bedrock Converse")
    },
    Case {
        stream: true,
        way: Way::Gemini,
        relay_limit: Some(2.0),
        ..Case::relay("gemini-stream", "50-chunk stream, OpenAI to Gemini")
    },
    Case {
        size: 100 * KB,
        ..Case::relay("relay-100k", "100 KB prompt, relay")
    },
    Case {
        size: 100 * KB,
        ..Case::translate("translate-100k", "100 KB prompt, OpenAI to Anthropic")
    },
    Case {
        size: MB,
        connections: 8,
        ..Case::relay("relay-1m", "1 MB prompt, relay")
    },
    Case {
        size: MB,
        connections: 8,
        ..Case::translate("translate-1m", "1 MB prompt, OpenAI to Anthropic")
    },
    Case {
        size: 10 * MB,
        connections: 4,
        ..Case::relay("relay-10m", "10 MB prompt, relay")
    },
    Case {
        size: 10 * MB,
        connections: 4,
        ..Case::translate("translate-10m", "10 MB prompt, OpenAI to Anthropic")
    },
    Case {
        field: Field::Models,
        ..Case::relay("models", "1 KB JSON, relay, 10 and 10,000 models")
    },
    Case {
        field: Field::Models,
        connections: 1,
        ..Case::relay(
            "models-1",
            "1 KB JSON, relay, 10 and 10,000 models, one at a time",
        )
    },
    Case {
        field: Field::Limits,
        ..Case::relay("limits", "1 KB JSON, relay, without and with limits")
    },
    Case {
        field: Field::Telling,
        ..Case::relay(
            "telling",
            "1 KB JSON, relay, told of in records and spans, or not",
        )
    },
];

impl Case {
    const fn relay(name: &'static str, title: &'static str) -> Self {
        Self {
            name,
            title,
            size: KB,
            stream: false,
            way: Way::Relay,
            connections: 32,
            pace: Duration::ZERO,
            field: Field::Proxies,
            limit: None,
            relay_limit: None,
        }
    }

    const fn translate(name: &'static str, title: &'static str) -> Self {
        Self {
            way: Way::Messages,
            ..Self::relay(name, title)
        }
    }

    /// Returns the case called `name`.
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        CASES.iter().find(|case| case.name == name)
    }
}
