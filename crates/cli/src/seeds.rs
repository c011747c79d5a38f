//! The seeds that the sessions of MCP clients are sealed with: read from files, and again when these change.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use config::Secret;
use gateway::{Gateway, SessionOptions};
use tracing::Level;

use crate::{
    args::{LogFormat, Run, SessionFormat},
    source::watch::Watch,
};

/// The shortest seed.
const MIN_SEED: usize = 16;

/// The seeds, and the files that they are from.
pub(crate) struct Seeds {
    seed: Option<PathBuf>,
    fallback: Option<PathBuf>,
    options: SessionOptions,
    watch: Option<Watch>,
    format: LogFormat,
}

impl Seeds {
    /// Reads the files that the command line names.
    ///
    /// # Errors
    /// If one cannot be read, or is a seed that everybody knows.
    pub(crate) fn read(arguments: &Run) -> anyhow::Result<Self> {
        let mut seeds = Self {
            seed: arguments.mcp_session_seed_file.clone(),
            fallback: arguments.mcp_session_fallback_seed_file.clone(),
            options: SessionOptions {
                iterations: arguments.mcp_session_encryption_iterations,
                fallback_iterations: (arguments.mcp_session_fallback_encryption_iterations)
                    .unwrap_or(arguments.mcp_session_encryption_iterations),
                compatible: match arguments.mcp_session_format {
                    SessionFormat::V0 => true,
                    SessionFormat::V1 => false,
                },
                ..SessionOptions::default()
            },
            watch: None,
            format: arguments.log_format,
        };
        seeds.options.seed = seeds.seed.as_deref().map(seed).transpose()?;
        seeds.options.fallback = seeds.fallback.as_deref().map(seed).transpose()?;
        Ok(seeds)
    }

    /// Returns how sessions are sealed now.
    pub(crate) fn options(&self) -> SessionOptions {
        self.options.clone()
    }

    /// Waits until a file may have changed.
    pub(crate) async fn changed(&self) {
        match &self.watch {
            Some(watch) => watch.changed().await,
            None => std::future::pending().await,
        }
    }

    /// Reads the files again, and has `gateway` seal with what is in them. What cannot be read stays as it was. The
    /// seed before a new one opens what it has sealed, if no file says otherwise.
    pub(crate) fn look(&mut self, gateway: &Gateway) {
        self.follow();
        let read = self.seed.as_deref().map(seed).transpose();
        let older = self.fallback.as_deref().map(seed).transpose();
        let (read, older) = match (read, older) {
            (Ok(read), Ok(older)) => (read, older),
            (Err(error), _) | (_, Err(error)) => {
                let words = format_args!("tollgate: {error:#}; seeds stay as they were");
                self.format.say(Level::WARN, words);
                return;
            }
        };
        let turned = read != self.options.seed;
        let fallback = match older {
            Some(older) => Some(older),
            None if turned => self.options.seed.clone(),
            None => self.options.fallback.clone(),
        };
        if !turned && fallback == self.options.fallback {
            return;
        }
        self.options.seed = read;
        self.options.fallback = fallback;
        gateway.reseed(&self.options);
        self.format
            .say(Level::INFO, "tollgate: sessions are sealed with another seed");
    }

    fn follow(&mut self) {
        let files: Vec<PathBuf> = [&self.seed, &self.fallback]
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        if files.is_empty() {
            return;
        }
        let watch = match self.watch.take() {
            Some(watch) => Ok(watch),
            None => Watch::new(),
        };
        let followed = watch.and_then(|mut watch| watch.follow(&files).map(|()| watch));
        match followed {
            Ok(watch) => self.watch = Some(watch),
            Err(error) => {
                let words = format_args!("tollgate: seeds are not watched: {error}");
                self.format.say(Level::WARN, words);
            }
        }
    }
}

fn seed(path: &Path) -> anyhow::Result<Secret> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let seed = text.trim();
    anyhow::ensure!(
        seed.len() >= MIN_SEED && seed != "default-insecure-seed",
        "{}: a seed is at least {MIN_SEED} characters that nobody else knows",
        path.display()
    );
    Ok(Secret::new(seed))
}
