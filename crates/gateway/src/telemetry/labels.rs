//! The labels of what is counted of requests, and how they are written.

use std::{fmt, sync::Arc};

use llm::Field;
use prometheus_client::encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder};

use super::tools::Mapped;

/// The labels of the `gen_ai_*` families.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct GenAi {
    pub(super) operation: &'static str,
    pub(super) provider: &'static str,
    pub(super) original_model: Arc<str>,
    pub(super) request_model: Arc<str>,
    pub(super) response_model: Arc<str>,
    pub(super) token_type: Option<&'static str>,
    pub(super) error: Option<&'static str>,
    pub(super) mapped: Mapped,
}

/// A request, by how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Request {
    pub(super) operation: &'static str,
    pub(super) provider: &'static str,
    pub(super) status: u16,
    pub(super) outcome: &'static str,
    pub(super) route: Option<Arc<str>>,
    pub(super) mapped: Mapped,
}

/// A call to an upstream, by what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Attempt {
    pub(super) backend: Arc<str>,
    pub(super) outcome: &'static str,
}

/// What could not be carried.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Loss {
    pub(super) field: &'static str,
    pub(super) severity: &'static str,
}

/// Who was asked to put documents in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Searched {
    pub(super) provider: &'static str,
    pub(super) model: Arc<str>,
}

/// A rule that did not let a request through.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Limited {
    pub(super) rule: String,
    pub(super) reason: &'static str,
}

/// The resource that OpenTelemetry's exporters would name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Target;

/// Returns a label for `field`, without index or name: a client chooses those.
pub(super) fn field(field: &Field) -> &'static str {
    match field {
        Field::Instructions => "instructions",
        Field::Message(_) => "message",
        Field::Tool(_) => "tool",
        Field::ToolChoice => "tool_choice",
        Field::ParallelToolCalls => "parallel_tool_calls",
        Field::Output => "output",
        Field::Temperature => "temperature",
        Field::TopP => "top_p",
        Field::TopK => "top_k",
        Field::Seed => "seed",
        Field::FrequencyPenalty => "frequency_penalty",
        Field::PresencePenalty => "presence_penalty",
        Field::Logprobs => "logprobs",
        Field::Stop => "stop",
        Field::Choices => "choices",
        Field::Reasoning => "reasoning",
        Field::MaxOutput => "max_output",
        Field::User => "user",
        Field::ServiceTier => "service_tier",
        Field::Cache => "cache",
        Field::Extension(_) => "extension",
        Field::Reply(_) | Field::Member(_) => "reply",
    }
}

impl EncodeLabelSet for GenAi {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        ("gen_ai_operation_name", self.operation).encode(encoder.encode_label())?;
        ("gen_ai_provider_name", self.provider).encode(encoder.encode_label())?;
        ("gen_ai_original_model", &*self.original_model).encode(encoder.encode_label())?;
        ("gen_ai_request_model", &*self.request_model).encode(encoder.encode_label())?;
        ("gen_ai_response_model", &*self.response_model).encode(encoder.encode_label())?;
        if let Some(token_type) = self.token_type {
            ("gen_ai_token_type", token_type).encode(encoder.encode_label())?;
        }
        if let Some(error) = self.error {
            ("error_type", error).encode(encoder.encode_label())?;
        }
        for (label, value) in &*self.mapped {
            (&**label, &**value).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

impl EncodeLabelSet for Request {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        ("operation", self.operation).encode(encoder.encode_label())?;
        ("provider", self.provider).encode(encoder.encode_label())?;
        ("status", self.status).encode(encoder.encode_label())?;
        ("outcome", self.outcome).encode(encoder.encode_label())?;
        if let Some(route) = &self.route {
            ("route", &**route).encode(encoder.encode_label())?;
        }
        for (label, value) in &*self.mapped {
            (&**label, &**value).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

impl EncodeLabelSet for Attempt {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        ("backend", &*self.backend).encode(encoder.encode_label())?;
        ("outcome", self.outcome).encode(encoder.encode_label())
    }
}

impl EncodeLabelSet for Searched {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        ("gen_ai_provider_name", self.provider).encode(encoder.encode_label())?;
        ("gen_ai_request_model", &*self.model).encode(encoder.encode_label())
    }
}

impl EncodeLabelSet for Limited {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        ("rule", self.rule.as_str()).encode(encoder.encode_label())?;
        ("reason", self.reason).encode(encoder.encode_label())
    }
}

impl EncodeLabelSet for Loss {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        ("field", self.field).encode(encoder.encode_label())?;
        ("severity", self.severity).encode(encoder.encode_label())
    }
}

impl EncodeLabelSet for Target {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        ("service_name", "ai-gateway").encode(encoder.encode_label())
    }
}
