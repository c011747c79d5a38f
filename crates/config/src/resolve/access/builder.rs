//! Makes policies of what a resource says, whatever its kind. Every fault is told to that resource, and makes
//! the whole of it unusable.

use super::super::{End, Notes, permitted, target};
use crate::{
    Key, Resources, Severity,
    kind::{reference::SecretRef, secret::SecretData},
};

/// Makes policies of what one resource says.
pub(in crate::resolve) struct Builder<'a> {
    pub(super) resources: &'a Resources,
    owner: End<'a>,
    kind: &'static str,
    notes: &'a mut Notes,
    fault: Option<String>,
}

impl<'a> Builder<'a> {
    /// Returns what makes policies for the resource called `key` of a kind, which comes with its API group.
    pub(in crate::resolve) fn new(
        resources: &'a Resources,
        (group, kind): (&'static str, &'static str),
        key: &'a Key,
        notes: &'a mut Notes,
    ) -> Self {
        Self {
            resources,
            owner: End { group, kind, key },
            kind,
            notes,
            fault: None,
        }
    }

    /// Says that a field is not well-formed.
    pub(in crate::resolve) fn invalid(&mut self, field: &str, message: impl Into<String>) {
        let message = message.into();
        self.note_fault(field, &message);
        self.notes
            .refuse(self.kind, self.owner.key, "Invalid", field.to_owned(), message);
    }

    /// Says that what a field refers to cannot be used.
    pub(in crate::resolve) fn unresolved(
        &mut self,
        reason: &'static str,
        field: &str,
        message: impl Into<String>,
    ) {
        let message = message.into();
        self.note_fault(field, &message);
        self.notes
            .unresolved(self.kind, self.owner.key, reason, field.to_owned(), message);
    }

    /// Says that a field is understood and cannot be honoured.
    pub(in crate::resolve) fn unsupported(&mut self, field: &str, message: &str) {
        self.note_fault(field, message);
        self.notes
            .unsupported(self.kind, self.owner.key, Severity::Error, field, message);
    }

    /// Says that a field is served, but perhaps not as meant.
    pub(in crate::resolve) fn warn(&mut self, reason: &'static str, field: &str, message: impl Into<String>) {
        self.notes.warn(self.kind, self.owner.key, reason, field, message);
    }

    /// Returns whether what was made may be used, or the first thing that was wrong.
    ///
    /// # Errors
    /// The first fault.
    pub(in crate::resolve) fn finish(self) -> Result<(), String> {
        self.fault.map_or(Ok(()), Err)
    }

    /// Returns what a field refers to, with its name; says so if it cannot be used.
    pub(super) fn secret(&mut self, reference: &SecretRef, field: &str) -> Option<(Key, &'a SecretData)> {
        let (group, kind) = (reference.group.as_deref(), reference.kind.as_deref());
        if !group.unwrap_or_default().is_empty() || !matches!(kind, None | Some("" | "Secret")) {
            self.invalid(field, "only a Secret can be referred to");
            return None;
        }
        let home = &self.owner.key.namespace;
        let to = target(reference.namespace.as_deref(), &reference.name, home);
        if !permitted(self.resources, self.owner, End::secret(&to), self.notes) {
            let message = format!("no ReferenceGrant allows the reference to Secret {to}");
            self.unresolved("RefNotPermitted", field, message);
            return None;
        }
        let Some(declared) = self.resources.secrets.get(&to) else {
            self.unresolved("InvalidSecret", field, format!("Secret {to} does not exist"));
            return None;
        };
        self.notes.used("Secret", &to);
        Some((to, &declared.spec))
    }

    fn note_fault(&mut self, field: &str, message: &str) {
        let End { kind, key, .. } = self.owner;
        self.fault
            .get_or_insert_with(|| format!("{kind} {key}: {field}: {message}"));
    }
}
