//! The methods that clients may ask for, one row each: who answers, and how the backend is found.

use crate::{Capabilities, Version, subscription};

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Opens a session with every backend.
    Initialize,
    /// Is the gateway there?
    Ping,
    /// All of something that backends have.
    List(List),
    /// Which log messages are wanted, of every backend.
    SetLevel,
    /// Something of the backend that `params.name` names.
    Named(Named),
    /// Something of the backend that `params.uri` names.
    Resource(Resource),
    /// Something of the backend that `params.ref` names.
    Complete,
    /// What there is behind the gateway, without a session.
    Discover,
    /// To be told of changes, without a session.
    Listen,
}

/// What can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum List {
    /// `tools/list`
    Tools,
    /// `prompts/list`
    Prompts,
    /// `resources/list`
    Resources,
    /// `resources/templates/list`
    Templates,
}

/// What is asked for by a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// `tools/call`
    Tool,
    /// `prompts/get`
    Prompt,
}

/// What is asked of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// `resources/read`
    Read,
    /// `resources/subscribe`
    Subscribe,
    /// `resources/unsubscribe`
    Unsubscribe,
}

/// Every method of either line.
const METHODS: &[(&str, Method)] = &[
    ("initialize", Method::Initialize),
    ("ping", Method::Ping),
    ("tools/list", Method::List(List::Tools)),
    ("prompts/list", Method::List(List::Prompts)),
    ("resources/list", Method::List(List::Resources)),
    ("resources/templates/list", Method::List(List::Templates)),
    ("logging/setLevel", Method::SetLevel),
    ("tools/call", Method::Named(Named::Tool)),
    ("prompts/get", Method::Named(Named::Prompt)),
    ("resources/read", Method::Resource(Resource::Read)),
    ("resources/subscribe", Method::Resource(Resource::Subscribe)),
    ("resources/unsubscribe", Method::Resource(Resource::Unsubscribe)),
    ("completion/complete", Method::Complete),
    ("server/discover", Method::Discover),
    (subscription::LISTEN, Method::Listen),
];

/// What else the two sides say to each other, by the name of its method.
const SAID: &[&str] = &[
    INITIALIZED,
    CANCELLED,
    PROGRESS,
    MESSAGE,
    ROOTS_CHANGED,
    UPDATED,
    "notifications/tools/list_changed",
    "notifications/prompts/list_changed",
    "notifications/resources/list_changed",
    "notifications/elicitation/complete",
    "sampling/createMessage",
    "elicitation/create",
    "roots/list",
];

/// What names of notifications begin with.
pub const NOTIFICATION: &str = "notifications/";
/// The session exists: answered by the gateway, because every backend got its own.
pub const INITIALIZED: &str = "notifications/initialized";
/// A request is no longer wanted.
pub const CANCELLED: &str = "notifications/cancelled";
/// How far a request has got.
pub const PROGRESS: &str = "notifications/progress";
/// Something for a log.
pub const MESSAGE: &str = "notifications/message";
/// The client's roots changed.
pub const ROOTS_CHANGED: &str = "notifications/roots/list_changed";
/// A resource changed.
pub const UPDATED: &str = "notifications/resources/updated";

impl Method {
    /// Returns the method called `name`.
    pub fn find(name: &str) -> Option<Self> {
        METHODS
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, method)| *method)
    }

    /// Returns the name of what is called `name`, be it a request of a client or anything else that is said, if it is known.
    pub fn known(name: &str) -> Option<&'static str> {
        let said = SAID.iter().copied();
        let mut known = METHODS.iter().map(|(known, _)| *known).chain(said);
        known.find(|known| *known == name)
    }

    /// Returns whether the method is one of the line that `version` is in.
    pub fn is_of(self, version: Version) -> bool {
        match self {
            Method::Initialize
            | Method::Ping
            | Method::SetLevel
            | Method::Resource(Resource::Subscribe | Resource::Unsubscribe) => !version.is_modern(),
            Method::Discover | Method::Listen => version.is_modern(),
            Method::List(_) | Method::Named(_) | Method::Resource(Resource::Read) | Method::Complete => true,
        }
    }
}

impl List {
    /// Every list.
    pub const ALL: &[Self] = &[List::Tools, List::Prompts, List::Resources, List::Templates];

    /// Returns the method that asks for it.
    pub fn method(self) -> &'static str {
        match self {
            List::Tools => "tools/list",
            List::Prompts => "prompts/list",
            List::Resources => "resources/list",
            List::Templates => "resources/templates/list",
        }
    }

    /// Returns the member of the result that holds it.
    pub fn member(self) -> &'static str {
        match self {
            List::Tools => "tools",
            List::Prompts => "prompts",
            List::Resources => "resources",
            List::Templates => "resourceTemplates",
        }
    }

    /// Returns what a backend must be able to do to be asked for it.
    pub fn capability(self) -> Capabilities {
        match self {
            List::Tools => Capabilities::TOOLS,
            List::Prompts => Capabilities::PROMPTS,
            List::Resources | List::Templates => Capabilities::RESOURCES,
        }
    }

    /// Returns the lists that a notification says have changed.
    pub fn changed_by(notification: &str) -> &'static [Self] {
        match notification {
            "notifications/tools/list_changed" => &[List::Tools],
            "notifications/prompts/list_changed" => &[List::Prompts],
            "notifications/resources/list_changed" => &[List::Resources, List::Templates],
            _ => &[],
        }
    }
}

impl Named {
    /// Returns the list that its names are in.
    pub fn list(self) -> List {
        match self {
            Named::Tool => List::Tools,
            Named::Prompt => List::Prompts,
        }
    }
}
