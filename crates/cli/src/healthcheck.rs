//! Asks a gateway whether it is ready, as the health probe of a container does.

use std::time::Duration;

use anyhow::bail;
use http::Uri;

use crate::admin;

/// Succeeds if a GET of `url` is answered with 200 within a second.
///
/// # Errors
/// If it is not.
pub(crate) fn run(url: Uri) -> anyhow::Result<()> {
    match admin::ask(url, BUDGET)?.status {
        200 => Ok(()),
        status => bail!("not ready: status {status}"),
    }
}

/// How long it may take.
const BUDGET: Duration = Duration::from_secs(1);
