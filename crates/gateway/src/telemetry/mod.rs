//! What the process tells about requests; all of it is read from [`Facts`](crate::facts::Facts).

pub(crate) mod attributes;
pub(crate) mod decision;
pub(crate) mod ended;
pub(crate) mod error_type;
pub(crate) mod exposition;
mod families;
pub(crate) mod histogram;
mod labels;
pub(crate) mod level;
pub(crate) mod log;
pub(crate) mod metrics;
mod names;
mod native;
pub(crate) mod otlp;
pub(crate) mod own;
pub(crate) mod process;
pub(crate) mod quotas;
mod recent;
pub(crate) mod settings;
pub(crate) mod tools;
pub(crate) mod trace;
