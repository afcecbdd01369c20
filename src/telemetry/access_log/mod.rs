//! The access log: one record a request, written by a thread of its own; requests never wait for it.

mod record;
mod redact;
#[cfg(test)]
mod tests;

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use prometheus::IntCounter;
pub use record::{Fields, OWN_FIELDS, Record};
pub use redact::Hidden;

/// How many records wait for the writer; beyond that they are dropped and counted. About 4 MB.
const QUEUE_MAX: usize = 8192;

/// How many bytes are gathered for one write.
const BUFFER: usize = 64 * 1024;
/// How many records are gathered before they are written.
const BATCH_MAX: u64 = 1024;

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One JSON object a line.
    Json,
    /// The combined log format of Apache and nginx.
    Clf,
}

/// Where records go.
#[derive(Debug)]
pub struct AccessLog {
    form: Form,
    hidden: Hidden,
    queue: SyncSender<Job>,
    dropped: IntCounter,
}

impl AccessLog {
    /// Opens standard output.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn stdout(form: Form, redact: &[String], dropped: IntCounter) -> io::Result<Self> {
        Self::start(form, redact, dropped, io::stdout())
    }

    /// Opens a file, to add to it.
    ///
    /// # Errors
    /// The file cannot be opened, or the thread not started.
    pub fn file(
        form: Form,
        redact: &[String],
        dropped: IntCounter,
        path: &Path,
    ) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Self::start(form, redact, dropped, file)
    }

    /// Writes to `out` from a thread of its own.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(
        form: Form,
        redact: &[String],
        dropped: IntCounter,
        out: impl Write + Send + 'static,
    ) -> io::Result<Self> {
        let (queue, records) = sync_channel(QUEUE_MAX);
        let lost = dropped.clone();
        // It ends when the queue is closed and empty; nobody waits for it, as a reader that stalls must hold nothing.
        let writer = std::thread::Builder::new().name("access-log".to_owned());
        drop(writer.spawn(move || write(&records, out, &lost))?);
        Ok(Self {
            form,
            hidden: Hidden::new(redact),
            queue,
            dropped,
        })
    }

    /// Hands a record to the writer; never waits.
    pub fn push(&self, record: &Record<'_>) {
        let line = match self.form {
            Form::Json => record.json(&self.hidden),
            Form::Clf => record.clf(&self.hidden),
        };
        if self.queue.try_send(Job::Record(line)).is_err() {
            self.dropped.inc();
        }
    }

    /// Waits until what is queued is written, for `patience` at most; whether it was.
    pub fn flush(&self, patience: Duration) -> bool {
        let (done, written) = sync_channel(1);
        // The writer says so by letting go of its end.
        self.queue.try_send(Job::Flush(done)).is_ok()
            && written.recv_timeout(patience) != Err(RecvTimeoutError::Timeout)
    }
}

/// Work for the writer.
#[derive(Debug)]
enum Job {
    /// A line to write.
    Record(Vec<u8>),
    /// Somebody waits until everything before is written.
    Flush(SyncSender<()>),
}

fn write(jobs: &Receiver<Job>, out: impl Write, lost: &IntCounter) {
    let mut out = BufWriter::with_capacity(BUFFER, out);
    while let Ok(job) = jobs.recv() {
        let mut batch = 0u64;
        let mut good = true;
        let mut waiting = Vec::new();
        let mut next = Some(job);
        while let Some(job) = next {
            match job {
                Job::Record(record) => {
                    good &= out.write_all(&record).is_ok();
                    batch += 1;
                }
                Job::Flush(done) => waiting.push(done),
            }
            next = if batch < BATCH_MAX {
                jobs.try_recv().ok()
            } else {
                None
            };
        }
        if !(good && out.flush().is_ok()) {
            lost.inc_by(batch);
        }
        // Each hears of it by the end of its channel.
        drop(waiting);
    }
}
