//! Nobody in particular: an upstream that is handed requests as they are, whatever they say.

use super::{Ask, CredentialKind, Provider, Target};
use crate::{Format, Operation};

/// An upstream of plain requests. It serves no operation in any format.
#[derive(Debug)]
pub struct Plain;

impl Provider for Plain {
    fn id(&self) -> &'static str {
        "plain"
    }

    fn name(&self) -> &'static str {
        "plain"
    }

    fn formats(&self, _operation: Operation, _model: &str) -> &'static [Format] {
        &[]
    }

    fn path(&self, _ask: Ask, _target: &Target<'_>) -> String {
        "/".to_owned()
    }

    fn host(&self) -> Option<&'static str> {
        None
    }

    fn credential(&self) -> CredentialKind {
        CredentialKind::Bearer
    }
}
