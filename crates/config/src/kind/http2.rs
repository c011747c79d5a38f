//! HTTP/2, towards clients and towards upstreams.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Duration, Quantity};

/// HTTP/2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Http2 {
    /// Bytes that may arrive on one stream before they are read.
    pub initial_stream_window_size: Option<Quantity>,
    /// Bytes that may arrive on one connection before they are read.
    pub initial_connection_window_size: Option<Quantity>,
    /// How many requests a connection carries at once.
    pub max_concurrent_streams: Option<u32>,
    /// What ends where the other side breaks the rules.
    pub on_invalid_message: Option<OnInvalidMessage>,
    /// Whether the other side is asked if it is there, while it is silent.
    pub connection_keepalive: Option<Http2Keepalive>,
}

/// What ends where the other side breaks the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnInvalidMessage {
    /// The stream.
    TerminateStream,
    /// The connection.
    TerminateConnection,
}

/// How the other side is asked if it is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Http2Keepalive {
    /// How often.
    pub interval: Option<Duration>,
    /// How long an answer may take.
    pub timeout: Option<Duration>,
}

impl Http2 {
    /// Returns what is wrong: members and messages.
    pub fn faults(&self) -> Vec<(&'static str, &'static str)> {
        let fits = |size: Option<Quantity>| size.is_none_or(|size| WINDOWS.contains(&size.0));
        let message = "must be from 65535 to 2147483647 bytes";
        [
            (
                fits(self.initial_stream_window_size),
                "initialStreamWindowSize",
                message,
            ),
            (
                fits(self.initial_connection_window_size),
                "initialConnectionWindowSize",
                message,
            ),
            (
                self.max_concurrent_streams != Some(0),
                "maxConcurrentStreams",
                "must be 1 or more",
            ),
        ]
        .into_iter()
        .filter_map(|(fits, member, message)| (!fits).then_some((member, message)))
        .collect()
    }
}

/// The sizes that a window may have at first.
const WINDOWS: std::ops::RangeInclusive<u64> = 65_535..=2_147_483_647;
