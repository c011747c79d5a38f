//! Where the configuration comes from: files, the environment, or the simulated provider.
//!
//! All three are text that goes through one parser; what differs is who wrote it. The choice is made once, at
//! the start, and the gateway says which one it made.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    env, fmt, fs,
    path::{Path, PathBuf},
    thread,
    time::SystemTime,
};

use anyhow::Context;
use config::{Fault, Memory, Resources, Says, Severity, Surroundings};

use crate::simulate;

mod base;
mod cloud;
mod dotenv;
pub(crate) mod environment;
pub(crate) mod file;
mod generate;
mod proxied;
mod shape;
pub(crate) mod tools;
pub(crate) mod watch;

/// Where the configuration comes from.
#[derive(Debug)]
pub(crate) enum Source {
    /// Files and folders.
    Files {
        /// As they were given.
        paths: Vec<PathBuf>,
        /// What standard input held, if it is one of them: it can be read only once.
        stdin: String,
    },
    /// The variables of providers.
    Environment(environment::Found),
    /// Nothing was given.
    Simulated {
        /// Where the simulated provider listens.
        port: u16,
    },
    /// A list of MCP servers, beside what the environment offers.
    Tools {
        /// The list.
        list: tools::List,
        /// The providers of the environment.
        beside: Option<environment::Found>,
    },
}

/// A text with resources in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Document {
    /// What it is called in messages.
    pub(crate) name: String,
    /// The text.
    pub(crate) text: String,
}

/// What the texts of a source are now.
#[derive(Debug)]
pub(crate) struct Texts {
    documents: Vec<Document>,
    problems: Vec<Problem>,
}

/// Everything that was read, to tell whether anything has changed since.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Input {
    documents: Vec<Document>,
    /// Files that the documents refer to.
    attached: BTreeMap<PathBuf, Result<String, String>>,
}

/// What was declared.
#[derive(Debug, Default)]
pub(crate) struct Declared {
    /// What it was read from.
    pub(crate) input: Input,
    /// The resources of the documents that are sound.
    pub(crate) resources: Resources,
    /// What is wrong.
    pub(crate) problems: Vec<Problem>,
}

/// Something wrong with what was read.
#[derive(Debug)]
pub(crate) enum Problem {
    /// A file or folder cannot be read.
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Something in a document.
    Fault(Fault),
}

impl Source {
    /// Returns the source that `paths` name; without any, what the environment offers, and at last the simulated
    /// provider.
    ///
    /// # Errors
    /// If standard input cannot be read, or the environment cannot be used.
    pub(crate) fn choose(paths: Vec<PathBuf>) -> anyhow::Result<Self> {
        if !paths.is_empty() {
            let stdin = if paths.iter().any(|path| file::is_stdin(path)) {
                std::io::read_to_string(std::io::stdin()).context("cannot read standard input")?
            } else {
                String::new()
            };
            return Ok(Self::Files { paths, stdin });
        }
        let found = environment::find(|name| env::var(name).ok())?;
        Ok(found.map_or(Self::Simulated { port: STAND_IN }, Self::Environment))
    }

    /// Returns the source that is a list of MCP servers, beside what the environment offers.
    ///
    /// # Errors
    /// If the environment cannot be used.
    pub(crate) fn tools(list: tools::List) -> anyhow::Result<Self> {
        let beside = environment::find(|name| env::var(name).ok())?;
        Ok(Self::Tools { list, beside })
    }

    /// Reads everything. Total: what cannot be read is a problem.
    pub(crate) fn read(&self) -> Texts {
        let mut problems = Vec::new();
        Texts {
            documents: self.documents(&mut problems),
            problems,
        }
    }

    /// Parses what was read. `memory` is what was read before.
    pub(crate) fn load(&self, read: Texts, memory: &mut Memory) -> Declared {
        let Texts { documents, problems } = read;
        let mut declared = Declared {
            problems,
            ..Declared::default()
        };
        let texts = documents.iter().map(|document| document.text.as_str());
        let unknown = memory.turn(texts);
        read_ahead(&unknown, memory);
        let attached = RefCell::new(BTreeMap::new());
        let surroundings = Surroundings {
            environment: &|name| env::var(name).ok(),
            reader: &|path| {
                let path = file::expand(path);
                let content = text_of(&path);
                attached.borrow_mut().insert(path, content.clone());
                content
            },
        };
        for Document { name, text } in &documents {
            let faults = config::parse_again(name, text, &surroundings, memory, &mut declared.resources);
            declared.problems.extend(faults.into_iter().map(Problem::Fault));
        }
        declared.input = Input {
            documents,
            attached: attached.into_inner(),
        };
        declared
    }

    /// Returns whether anything differs from what was read as `input`.
    pub(crate) fn differs(&self, read: &Texts, input: &Input) -> bool {
        let attached = &input.attached;
        read.documents != input.documents || attached.iter().any(|(path, content)| text_of(path) != *content)
    }

    /// Returns the files and folders whose changes matter.
    pub(crate) fn watched(&self, input: &Input) -> Vec<PathBuf> {
        let given = match self {
            Self::Files { paths, .. } => paths.as_slice(),
            Self::Environment(_) | Self::Simulated { .. } | Self::Tools { .. } => &[],
        };
        let given = given.iter().filter(|path| !file::is_stdin(path));
        let list = match self {
            Self::Tools { list, .. } => list.watched(),
            Self::Files { .. } | Self::Environment(_) | Self::Simulated { .. } => Vec::new(),
        };
        given.chain(input.attached.keys()).cloned().chain(list).collect()
    }

    /// Returns the texts, in order.
    pub(crate) fn documents(&self, problems: &mut Vec<Problem>) -> Vec<Document> {
        let generated = |name: &str, text| {
            vec![Document {
                name: name.to_owned(),
                text,
            }]
        };
        match self {
            Self::Files { paths, stdin } => file::read(paths, stdin, problems),
            Self::Environment(found) => generated("environment", found.to_yaml()),
            Self::Simulated { port } => generated(
                "simulated",
                environment::simulated(*port, simulate::OPENAI_MODELS, simulate::ANTHROPIC_MODELS),
            ),
            Self::Tools { list, beside } => {
                let mut documents = match beside {
                    Some(found) => generated("environment", found.to_yaml()),
                    None => generated(
                        "environment",
                        generate::frame("around a list of MCP servers", &[]),
                    ),
                };
                documents.extend(list.document(problems));
                documents
            }
        }
    }
}

/// Says, for a person, where the configuration comes from.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files { paths, .. } => {
                let paths: Vec<_> = paths.iter().map(|path| file::name(path)).collect();
                f.write_str(&paths.join(", "))
            }
            Self::Environment(found) => write!(f, "{} in the environment", found.variables().join(" and ")),
            Self::Tools { list, beside: None } => f.write_str(&list.name()),
            Self::Tools {
                list,
                beside: Some(found),
            } => {
                write!(
                    f,
                    "{} and {} in the environment",
                    list.name(),
                    found.variables().join(" and ")
                )
            }
            Self::Simulated { .. } => f.write_str(
                "a simulated provider, as there is neither a file nor a provider's key in the environment",
            ),
        }
    }
}

impl Problem {
    /// Returns how bad it is.
    pub(crate) fn severity(&self) -> Severity {
        match self {
            Self::Unreadable { .. } => Severity::Error,
            Self::Fault(fault) => fault.severity,
        }
    }
}

/// One line, as compilers have it.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, reason } => write!(f, "{}: error: {reason}", path.display()),
            Self::Fault(Fault {
                file,
                line,
                column,
                path,
                message,
                severity,
            }) => {
                write!(f, "{file}:{line}:{column}: {severity}: ")?;
                if !path.is_empty() {
                    write!(f, "{path}: ")?;
                }
                f.write_str(message)
            }
        }
    }
}

/// Returns the time, in seconds since the Unix epoch.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Reads documents by several threads, if there are so many that it is worth it.
fn read_ahead(unknown: &[&str], memory: &mut Memory) {
    if unknown.len() < WORTH_THREADS {
        return;
    }
    let threads = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(MAX_THREADS);
    let shares = unknown.chunks(unknown.len().div_ceil(threads));
    let read = |texts: &[&str]| -> Vec<Says> { texts.iter().map(|text| Says::of(text)).collect() };
    thread::scope(|scope| {
        let running = shares.map(|texts| (texts, scope.spawn(move || read(texts))));
        for (texts, running) in running.collect::<Vec<_>>() {
            // What a thread could not finish is read as it comes.
            for (text, says) in texts.iter().zip(running.join().unwrap_or_default()) {
                memory.learn(text, says);
            }
        }
    });
}

fn text_of(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| error.to_string())
}

/// From so many unknown documents on they are read by several threads: to start one takes as long as to read a few.
const WORTH_THREADS: usize = 64;

/// The most threads that read documents.
const MAX_THREADS: usize = 8;

/// Stands for the port of the simulated provider where it is not running.
const STAND_IN: u16 = 1976;
