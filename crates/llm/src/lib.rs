//! The formats of AI providers, as data: what a client says in one and how it is said in another.
//!
//! Three words carry the crate. An [`Operation`] is what is asked for (chat …), a [`Format`] is the wire
//! schema it is said in (`openai`, `messages` …) and a [`Provider`] is who serves a format: its paths,
//! headers and habits. The gateway uses one door: [`Inbound::parse`] for what a client sent and
//! [`Inbound::call`] for what one upstream is sent in its place. The [`Reply`] that comes with a call reads
//! that upstream's answer back into the client's format.
//!
//! Where both formats are the same the call is a [`relay`]: the client's bytes, with a few top-level values
//! replaced. Otherwise it is an [`exchange`] through the neutral form in [`chat`]. There is no translator
//! between two named formats. What is no chat is a [`document`], for which the same holds on a smaller scale;
//! what is asked for with a form and a file ([`upload`]) is a relay, too, of bytes that are still arriving.
//!
//! Nothing here does IO, reads a clock or knows a host: bytes in, bytes out.

pub mod capability;
pub mod chat;
pub mod document;
pub mod error;
pub mod exception;
pub mod exchange;
pub mod format;
pub mod frame;
pub mod inbound;
pub mod json;
pub mod kept;
pub mod loss;
pub mod media;
pub mod multipart;
pub mod name;
mod opening;
pub mod operation;
pub mod prefix;
pub mod provider;
pub mod relay;
pub mod reply;
mod scan;
mod unfit;
mod unread;
mod untold;
pub mod upload;
pub mod usage;

pub use document::Document;
pub use error::{ApiError, ErrorKind};
pub use format::Format;
pub use inbound::{Estimate, Inbound};
pub use kept::Kept;
pub use loss::{Field, Loss, Losses, Severity};
pub use operation::{Endpoint, Operation};
pub use prefix::{PrefixError, Prefixes};
pub use provider::{Call, Provider, Site, Target};
pub use reply::{Answer, End, Observed, Reply, Stream};
pub use unfit::Unfit;
pub use upload::Upload;
pub use usage::{Said, Tier, Usage};
