//! How much the process says about itself, changeable while it runs.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// What a level is changed with: takes the new level, and says why it is none.
type Change = dyn Fn(&str) -> Result<(), String> + Send + Sync;

/// The level of the process's own log, and the way to change it.
#[derive(Clone)]
pub struct LogLevel {
    current: Arc<Mutex<String>>,
    change: Arc<Change>,
}

impl LogLevel {
    /// Returns the level that is `current`, and that `change` changes.
    pub fn new(
        current: impl Into<String>,
        change: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            current: Arc::new(Mutex::new(current.into())),
            change: Arc::new(change),
        }
    }

    /// Returns the level.
    pub(crate) fn current(&self) -> String {
        self.current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Changes the level.
    ///
    /// # Errors
    /// Why `level` is none.
    pub(crate) fn change(&self, level: &str) -> Result<(), String> {
        (self.change)(level)?;
        level.clone_into(&mut self.current.lock().unwrap_or_else(PoisonError::into_inner));
        tracing::info!(level, "log level changed");
        Ok(())
    }
}

impl fmt::Debug for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogLevel").field(&self.current()).finish()
    }
}
