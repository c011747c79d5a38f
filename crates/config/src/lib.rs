//! What was declared, what it means, and what is wrong with it.
//!
//! [`parse()`] reads YAML into [`Resources`], the kinds of the Kubernetes API as plain data. [`resolve()`] turns
//! them into a [`Snapshot`], the compiled form that requests read, and a [`Report`], which says of every
//! resource whether it is accepted and why not. Both are pure and total: a broken resource costs itself and
//! the routes that need it, nothing else.

pub mod certificate;
pub mod credential;
pub mod encryption;
pub mod host;
pub mod intake;
pub mod kind;
pub mod mcp_access;
pub mod mcp_route;
pub mod parse;
pub mod places;
pub mod plain;
pub mod report;
pub mod resolve;
pub mod resources;
pub mod router;
pub mod secret;
pub mod snapshot;
pub mod words;

pub use credential::Credential;
pub use kind::schema;
pub use parse::{Fault, Memory, Says, Severity, Surroundings, parse, parse_again};
pub use report::{Condition, ConditionKind, Report};
pub use resolve::{Resolver, holding::holding, resolve};
pub use resources::{Key, Origin, Resources};
pub use router::Router;
pub use secret::Secret;
pub use snapshot::Snapshot;
