//! What is to be said about the declared resources.

use std::fmt;

use crate::{Key, Origin, Severity, places::Position};

/// One entry per resource, in the order in which they were declared.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The entries.
    pub entries: Vec<Entry>,
}

/// What is to be said about one resource.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub key: Key,
    /// Where it was declared.
    pub origin: Origin,
    /// What is to be said; never empty once resolved.
    pub conditions: Vec<Condition>,
    /// Of a Gateway that is served: its listeners, as they were declared.
    pub listeners: Vec<ListenerStatus>,
    /// Of a route: its parents, as they were declared.
    pub parents: Vec<ParentStatus>,
}

/// What is to be said about one listener of a Gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerStatus {
    /// Its name.
    pub name: String,
    /// The kinds of routes that may attach.
    pub kinds: Vec<&'static str>,
    /// How many routes are attached.
    pub attached_routes: usize,
    /// Why it is not served: what that is about, in one word, and in a sentence.
    pub trouble: Option<(ConditionKind, &'static str, String)>,
}

/// What is to be said about one parent of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentStatus {
    /// The Gateway.
    pub gateway: Key,
    /// The one listener that is meant.
    pub section: Option<String>,
    /// The one port that is meant.
    pub port: Option<u32>,
    /// Whether the parent takes the route.
    pub accepted: bool,
    /// Why, in one word of the Gateway API.
    pub reason: &'static str,
    /// Why, in a sentence.
    pub message: String,
}

/// One statement about a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What it is about.
    pub kind: ConditionKind,
    /// Whether it holds.
    pub status: bool,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, in a sentence.
    pub message: String,
    /// The field that it is about, as `spec.rules[0].name`.
    pub field: Option<String>,
    /// Where that was written, or what it lies in.
    pub at: Option<Position>,
    /// How bad it is.
    pub severity: Severity,
}

/// What a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionKind {
    /// The resource is well-formed and served.
    Accepted,
    /// What the resource refers to exists, may be referred to and can be used.
    ResolvedRefs,
    /// It claims what another claims, and has no precedence.
    Conflicted,
    /// Something in the resource is understood, and not served by this version.
    NotSupportedYet,
    /// The resource is used by something.
    Attached,
}

impl Report {
    /// Returns whether any resource is not served as declared.
    pub fn has_errors(&self) -> bool {
        self.entries.iter().any(Entry::has_errors)
    }
}

impl Entry {
    /// Returns where what `condition` is about was written.
    pub fn place(&self, condition: &Condition) -> Origin {
        match condition.at {
            Some(Position { line, column }) => Origin {
                line,
                column,
                ..self.origin.clone()
            },
            None => self.origin.clone(),
        }
    }

    /// Returns whether the resource is not served as declared.
    pub fn has_errors(&self) -> bool {
        self.conditions
            .iter()
            .any(|condition| condition.severity == Severity::Error)
    }
}

impl fmt::Display for ConditionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConditionKind::Accepted => "Accepted",
            ConditionKind::ResolvedRefs => "ResolvedRefs",
            ConditionKind::Conflicted => "Conflicted",
            ConditionKind::NotSupportedYet => "NotSupportedYet",
            ConditionKind::Attached => "Attached",
        })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = if self.status { "True" } else { "False" };
        write!(f, "{}={status} {}: ", self.kind, self.reason)?;
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// `listener NAME: 2 routes of AIGatewayRoute, HTTPRoute`, or why it is not served.
impl fmt::Display for ListenerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "listener {}: ", self.name)?;
        match &self.trouble {
            Some((about, reason, message)) => write!(f, "not served, {about} {reason}: {message}"),
            None => write!(f, "{} routes of {}", self.attached_routes, self.kinds.join(", ")),
        }
    }
}

/// One line per condition: `file:line:column: severity: Kind namespace/name: condition`.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, key, .. } = self;
        for (index, condition) in self.conditions.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            let place = self.place(condition);
            write!(f, "{place}: {}: {kind} {key}: {condition}", condition.severity)?;
        }
        Ok(())
    }
}

/// The lines of all entries.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in &self.entries {
            writeln!(f, "{entry}")?;
        }
        Ok(())
    }
}
