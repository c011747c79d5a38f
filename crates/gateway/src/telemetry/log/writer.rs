//! Lines on their way to a file: gathered in a bounded buffer that a thread of its own writes out, by size or every
//! tenth of a second. A reader that is too slow costs lines, which are counted, never requests.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// Above this many bytes the writer is woken at once.
const FLUSH_AT: usize = 64 * 1024;

/// Above this many bytes lines are dropped.
const MAX_BUFFER: usize = 8 * 1024 * 1024;

/// How often the buffer is written out.
const FLUSH_EVERY: Duration = Duration::from_millis(100);

/// Writes lines to one place.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    /// Set when the file is to be opened anew.
    reopen: Arc<AtomicBool>,
}

struct Shared {
    buffer: Mutex<Buffer>,
    /// Wakes the writer: there is much to write, or the end.
    wake: Condvar,
    /// Tells that everything was written.
    written: Condvar,
    dropped: Arc<AtomicU64>,
}

#[derive(Default)]
struct Buffer {
    lines: Vec<u8>,
    writing: bool,
    closed: bool,
}

/// A file that is appended to, and opened anew when it was moved away.
struct Appended {
    path: PathBuf,
    file: Option<File>,
    reopen: Arc<AtomicBool>,
}

impl Writer {
    /// Starts to write to `to`; what cannot be written in time is counted in `dropped`.
    pub(crate) fn start(to: impl Write + Send + 'static, dropped: &Arc<AtomicU64>) -> Self {
        Self::over(to, Arc::default(), dropped)
    }

    /// Starts to append to the file at `path`; `/dev/stderr` is the stream of the process.
    pub(crate) fn append(path: &str, dropped: &Arc<AtomicU64>) -> Self {
        if path == "/dev/stderr" {
            return Self::start(io::stderr(), dropped);
        }
        let reopen = Arc::new(AtomicBool::new(true));
        let file = Appended {
            path: PathBuf::from(path),
            file: None,
            reopen: Arc::clone(&reopen),
        };
        Self::over(file, reopen, dropped)
    }

    fn over(to: impl Write + Send + 'static, reopen: Arc<AtomicBool>, dropped: &Arc<AtomicU64>) -> Self {
        let shared = Arc::new(Shared {
            buffer: Mutex::default(),
            wake: Condvar::new(),
            written: Condvar::new(),
            dropped: Arc::clone(dropped),
        });
        let writer = Arc::clone(&shared);
        let started = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || writer.run(to));
        if let Err(error) = started {
            tracing::error!(%error, "no thread for the access log");
        }
        Self { shared, reopen }
    }

    /// Adds a line.
    pub(crate) fn push(&self, line: &[u8]) {
        let mut buffer = self.shared.lock();
        if buffer.lines.len() + line.len() > MAX_BUFFER {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        buffer.lines.extend_from_slice(line);
        buffer.lines.push(b'\n');
        let much = buffer.lines.len() >= FLUSH_AT;
        drop(buffer);
        if much {
            self.shared.wake.notify_one();
        }
    }

    /// Opens the file anew before the next line is written.
    pub(crate) fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
    }

    /// Waits until everything is written, for at most `limit`.
    pub(crate) fn flush(&self, limit: Duration) {
        let buffer = self.shared.lock();
        self.shared.wake.notify_one();
        // Whether the limit passed does not matter: there is nothing more to be done.
        let _ = self
            .shared
            .written
            .wait_timeout_while(buffer, limit, |buffer| buffer.writing || !buffer.lines.is_empty());
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut to: impl Write) {
        let mut lines = Vec::new();
        loop {
            let mut buffer = self.lock();
            if buffer.lines.len() < FLUSH_AT && !buffer.closed {
                buffer = self
                    .wake
                    .wait_timeout(buffer, FLUSH_EVERY)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
            std::mem::swap(&mut buffer.lines, &mut lines);
            let closed = buffer.closed;
            buffer.writing = !lines.is_empty();
            drop(buffer);
            if !lines.is_empty() {
                // Whoever closes standard output does not want the records.
                let _ = to.write_all(&lines).and_then(|()| to.flush());
            }
            lines.clear();
            self.lock().writing = false;
            self.written.notify_all();
            if closed {
                return;
            }
        }
    }
}

impl Write for Appended {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.reopen.swap(false, Ordering::Relaxed) {
            match OpenOptions::new().create(true).append(true).open(&self.path) {
                Ok(file) => self.file = Some(file),
                Err(error) => {
                    tracing::warn!(%error, path = %self.path.display(), "cannot open the access log");
                    // What was open stays in use; where nothing was, the next line tries again.
                    self.reopen.store(self.file.is_none(), Ordering::Relaxed);
                }
            }
        }
        match &mut self.file {
            Some(file) => file.write(bytes),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Hands on what is written.
    struct Pipe(mpsc::SyncSender<Vec<u8>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0
                .send(bytes.to_vec())
                .map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_written_without_being_waited_for() {
        let (send, receive) = mpsc::sync_channel(1);
        let writer = Writer::start(Pipe(send), &Arc::default());
        writer.push(b"one");
        writer.flush(Duration::from_secs(10));
        assert_eq!(receive.recv().as_deref(), Ok(&b"one\n"[..]));
    }

    #[test]
    fn a_slow_reader_costs_lines_and_nothing_else() {
        let (send, receive) = mpsc::sync_channel(0);
        let dropped = Arc::default();
        let writer = Writer::start(Pipe(send), &dropped);
        let long = vec![b'x'; MAX_BUFFER / 8];
        for _ in 0..20 {
            writer.push(&long);
        }
        assert!(dropped.load(Ordering::Relaxed) > 0);
        drop(receive);
    }

    #[test]
    fn a_file_that_was_moved_is_opened_anew() {
        let folder = std::env::temp_dir().join(format!("tollgate-log-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let (path, moved) = (folder.join("log"), folder.join("log.1"));
        let writer = Writer::append(path.to_str().expect("text"), &Arc::default());
        let write = |line: &[u8]| {
            writer.push(line);
            writer.flush(Duration::from_secs(10));
        };
        write(b"one");
        std::fs::rename(&path, &moved).expect("it was written");
        write(b"two");
        writer.reopen();
        write(b"three");
        let read = |path| std::fs::read_to_string(path).expect("it was written");
        assert_eq!(
            (read(&moved).as_str(), read(&path).as_str()),
            ("one\ntwo\n", "three\n")
        );
        std::fs::remove_dir_all(&folder).expect("it is ours");
    }
}
