//! What a relay overhears.
