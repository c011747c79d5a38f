//! Providers that every client's chat is said to in Responses, and not in chat completions: what their newer
//! models do best there, such as keeping what they thought between two calls of tools.

use super::{Ask, Azure, CredentialKind, Dialect, OpenAi, Provider, Site, Target};
use crate::{Document, Format, Operation, document::Served, frame::Framing, json::Edit};

/// A provider whose Responses alone are asked for chat; in all else it is as its base.
#[derive(Debug)]
pub struct Responding {
    id: &'static str,
    base: &'static dyn Provider,
}

/// OpenAI's Responses.
pub const OPENAI_RESPONSES: Responding = Responding {
    id: "openai-responses",
    base: &OpenAi,
};

/// The Responses of Azure OpenAI.
pub const AZURE_RESPONSES: Responding = Responding {
    id: "azure-openai-responses",
    base: &Azure,
};

impl Provider for Responding {
    fn id(&self) -> &'static str {
        self.id
    }

    fn name(&self) -> &'static str {
        self.base.name()
    }

    fn base(&self) -> Option<&'static dyn Provider> {
        Some(self.base)
    }

    fn formats(&self, operation: Operation, model: &str) -> &'static [Format] {
        match operation {
            Operation::Chat => &[Format::Responses],
            Operation::Document(_)
            | Operation::Upload(_)
            | Operation::Models
            | Operation::Model
            | Operation::Kept => self.base.formats(operation, model),
        }
    }

    fn document(&self, document: Document, target: &Target<'_>) -> Option<Served> {
        self.base.document(document, target)
    }

    fn path(&self, ask: Ask, target: &Target<'_>) -> String {
        self.base.path(ask, target)
    }

    fn headers(&self, format: Format) -> &'static [(&'static str, &'static str)] {
        self.base.headers(format)
    }

    fn edits(&self, ask: Ask, target: &Target<'_>) -> Vec<Edit> {
        self.base.edits(ask, target)
    }

    fn framing(&self, format: Format) -> Framing {
        self.base.framing(format)
    }

    /// Hosts mean the base; this one is named.
    fn host(&self) -> Option<&'static str> {
        None
    }

    fn credential(&self) -> CredentialKind {
        self.base.credential()
    }

    fn dialect(&self, site: &Site) -> Dialect {
        self.base.dialect(site)
    }
}
