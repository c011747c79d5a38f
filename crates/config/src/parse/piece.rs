//! What a text says, wherever it stands: what it declares and what is wrong with it, by lines of its own. Put into the
//! resources, it gets its file and its place there.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    sync::Arc,
};

use super::{Fault, Severity, document::Document};
use crate::{
    Key, Origin, Resources,
    kind::Guard,
    resources::{Declared, Map},
};

/// What a text says.
#[derive(Default)]
pub(super) struct Piece {
    declarations: Vec<Box<dyn Declaration>>,
    pub(super) faults: Vec<Fault>,
    pub(super) unreadable: Vec<(&'static str, Key, Origin)>,
    /// Whether it breaks off at malformed YAML.
    pub(super) broken: bool,
}

/// A resource of a kind, which goes to a map of its own.
trait Declaration: Send + Sync {
    /// Puts the resource into the resources.
    ///
    /// # Errors
    /// Where the same was declared first.
    fn put(&self, place: &Place<'_>, resources: &mut Resources) -> Result<(), Box<Twice>>;
}

/// Where a text stands.
struct Place<'p> {
    file: &'p Arc<str>,
    /// The lines before it.
    lines: usize,
}

/// Something was declared before.
struct Twice {
    kind: &'static str,
    key: Key,
    first: Origin,
    again: Origin,
    path: String,
}

/// A resource that is served.
struct Typed<S> {
    kind: &'static str,
    path: String,
    key: Key,
    declared: Declared<S>,
    map: fn(&mut Resources) -> &mut Map<S>,
}

/// A resource of a kind that is not.
struct Unserved {
    kind: &'static str,
    path: String,
    key: Key,
    declared: Declared<Option<Guard>>,
}

impl Piece {
    /// Adds a resource that goes to `map`.
    pub(super) fn declare<S: Send + Sync + 'static>(
        &mut self,
        document: &Document<'_>,
        key: Key,
        declared: Declared<S>,
        map: fn(&mut Resources) -> &mut Map<S>,
    ) {
        self.declarations.push(Box::new(Typed {
            kind: document.kind.name,
            path: document.path.to_owned(),
            key,
            declared,
            map,
        }));
    }

    /// Adds a resource of a kind that is not served.
    pub(super) fn unserved(&mut self, document: &Document<'_>, key: Key, declared: Declared<Option<Guard>>) {
        self.declarations.push(Box::new(Unserved {
            kind: document.kind.name,
            path: document.path.to_owned(),
            key,
            declared,
        }));
    }

    /// Returns whether the text breaks off.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Puts everything into `resources`, and what is wrong with it into `faults`: it stands in `file` after `lines`.
    pub(super) fn put(
        &self,
        file: &Arc<str>,
        lines: usize,
        resources: &mut Resources,
        faults: &mut Vec<Fault>,
    ) {
        let place = Place { file, lines };
        for fault in &self.faults {
            faults.push(Fault {
                file: file.to_string(),
                line: fault.line + lines,
                ..fault.clone()
            });
        }
        for declaration in &self.declarations {
            if let Err(twice) = declaration.put(&place, resources) {
                faults.push(twice.into_fault());
            }
        }
        for (kind, key, origin) in &self.unreadable {
            let origin = place.of(origin);
            resources.unreadable.insert((kind, key.clone()), origin);
        }
        resources.incomplete |= self.broken;
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Piece")
            .field("declarations", &self.declarations.len())
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}

impl Place<'_> {
    fn of(&self, origin: &Origin) -> Origin {
        Origin {
            file: Arc::clone(self.file),
            line: origin.line + self.lines,
            column: origin.column,
        }
    }

    /// Puts `declared` into `map`, unless its place there is taken.
    fn put<K: Ord, S>(
        &self,
        map: &mut BTreeMap<K, Declared<S>>,
        key: K,
        declared: &Declared<S>,
        order: usize,
    ) -> Result<(), (Origin, Origin)> {
        let origin = self.of(&declared.origin);
        match map.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(Declared {
                    order,
                    origin,
                    places: declared.places.after(self.lines),
                    version: Arc::clone(&declared.version),
                    metadata: Arc::clone(&declared.metadata),
                    spec: Arc::clone(&declared.spec),
                });
                Ok(())
            }
            Entry::Occupied(entry) => Err((entry.get().origin.clone(), origin)),
        }
    }
}

impl Twice {
    fn into_fault(self) -> Fault {
        let Self {
            kind,
            key,
            first,
            again,
            path,
        } = self;
        Fault {
            file: again.file.to_string(),
            line: again.line,
            column: again.column,
            path,
            message: format!("{kind} {key} is declared twice, first at {first}"),
            severity: Severity::Error,
        }
    }
}

impl<S: Send + Sync> Declaration for Typed<S> {
    fn put(&self, place: &Place<'_>, resources: &mut Resources) -> Result<(), Box<Twice>> {
        let order = resources.count;
        resources.count += 1;
        let map = (self.map)(resources);
        let put = place.put(map, self.key.clone(), &self.declared, order);
        put.map_err(|(first, again)| {
            Box::new(Twice {
                kind: self.kind,
                key: self.key.clone(),
                first,
                again,
                path: self.path.clone(),
            })
        })
    }
}

impl Declaration for Unserved {
    fn put(&self, place: &Place<'_>, resources: &mut Resources) -> Result<(), Box<Twice>> {
        let order = resources.count;
        resources.count += 1;
        let key = (self.kind, self.key.clone());
        let put = place.put(&mut resources.unserved, key, &self.declared, order);
        put.map_err(|(first, again)| {
            Box::new(Twice {
                kind: self.kind,
                key: self.key.clone(),
                first,
                again,
                path: self.path.clone(),
            })
        })
    }
}
