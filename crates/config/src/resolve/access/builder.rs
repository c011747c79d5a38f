//! Makes policies of what a resource says, whatever its kind. Every fault is told to that resource, and makes
//! the whole of it unusable.

use std::sync::Arc;

use policy::Remote;

use super::super::{End, Notes, Reach, permitted, target};
use crate::{
    Key, Resources, Severity,
    kind::{reference::SecretRef, secret::SecretData},
    snapshot::{Outside, Service},
};

/// Makes policies of what one resource says.
pub(in crate::resolve) struct Builder<'a> {
    pub(super) resources: &'a Resources,
    pub(super) reach: &'a Reach<'a>,
    pub(super) owner: End<'a>,
    kind: &'static str,
    pub(super) notes: &'a mut Notes,
    outside: Outside,
    fault: Option<String>,
}

impl<'a> Builder<'a> {
    /// Returns what makes policies for the resource called `key` of a kind, which comes with its API group.
    pub(in crate::resolve) fn new(
        reach: &'a Reach<'a>,
        (group, kind): (&'static str, &'static str),
        key: &'a Key,
        notes: &'a mut Notes,
    ) -> Self {
        Self {
            resources: reach.resources,
            reach,
            owner: End { group, kind, key },
            kind,
            notes,
            outside: Outside::default(),
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

    /// Returns what of the outside that which was made will ask.
    ///
    /// # Errors
    /// The first fault: what was made must not be used.
    pub(in crate::resolve) fn finish(self) -> Result<Outside, String> {
        self.fault.map_or(Ok(self.outside), Err)
    }

    /// Adds a service that is asked; returns what it is called.
    pub(super) fn serve(&mut self, id: String, service: Service) -> Arc<str> {
        let id: Arc<str> = Arc::from(id);
        self.outside.services.insert(Arc::clone(&id), service);
        id
    }

    /// Adds keys that are fetched.
    pub(super) fn fetch(&mut self, place: Remote) -> Arc<Remote> {
        let place = Arc::new(place);
        self.outside.key_sets.insert(Arc::clone(&place));
        place
    }

    /// Returns the key of what is referred to.
    pub(super) fn named(&self, namespace: Option<&str>, name: &str) -> Key {
        target(namespace, name, &self.owner.key.namespace)
    }

    /// Returns whether the resource may refer to `to`.
    pub(super) fn may_refer(&mut self, to: End<'_>) -> bool {
        permitted(self.resources, self.owner, to, self.notes)
    }

    /// Returns what a field refers to, with its name; says so if it cannot be used.
    pub(super) fn secret(&mut self, reference: &SecretRef, field: &str) -> Option<(Key, &'a SecretData)> {
        let (group, kind) = (reference.group.as_deref(), reference.kind.as_deref());
        if !group.unwrap_or_default().is_empty() || !matches!(kind, None | Some("" | "Secret")) {
            self.invalid(field, "only a Secret can be referred to");
            return None;
        }
        let to = self.named(reference.namespace.as_deref(), &reference.name);
        if !self.may_refer(End::secret(&to)) {
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
