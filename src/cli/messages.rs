//! Messages of the process on standard error: for people, for programs, or for the journal.

use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;

use env_logger::fmt::Formatter;
use log::kv::{self, Key, VisitSource, VisitValue};
use serde_json::{Map, Value as Json};

use super::args::{Format, Global};
use super::{report, say};
use crate::base::clock::{Clock as _, SystemClock};
use crate::base::units::log_date;
use crate::config::Loaded;
use crate::config::source::Environment;
use crate::telemetry::{Level, LogFormat, LogSpec};

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Json,
    Journald,
}

impl Form {
    fn of(format: LogFormat) -> Self {
        match format {
            LogFormat::Text => Self::Text,
            LogFormat::Json => Self::Json,
            LogFormat::Journald => Self::Journald,
            LogFormat::Auto if leads_to_journal() => Self::Journald,
            LogFormat::Auto => Self::Text,
        }
    }
}

/// Whether standard error is what systemd gave us: it says by which device and inode one knows it.
fn leads_to_journal() -> bool {
    let named = Environment::value("JOURNAL_STREAM");
    let stderr = std::fs::metadata("/proc/self/fd/2");
    match (named, stderr) {
        (Some(named), Ok(stderr)) => named == format!("{}:{}", stderr.dev(), stderr.ino()),
        _ => false,
    }
}

/// Messages go to standard error from now on; `RUST_LOG` says more or less of them than `telemetry.log.level`.
pub(super) fn to_stderr(spec: &LogSpec) {
    let level = match spec.level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    };
    let filter = env_logger::Env::default().default_filter_or(format!(
        "{level},pingora_core=error,pingora_proxy=error,hickory_resolver=error,hickory_net=error",
    ));
    let mut builder = env_logger::Builder::from_env(filter);
    match Form::of(spec.format) {
        Form::Text => {}
        Form::Json => drop(builder.format(json)),
        Form::Journald => drop(builder.format(journald)),
    }
    let logger = builder.build();
    log::set_max_level(logger.filter());
    // Twice in one process is no mistake: the first one stays.
    drop(log::set_boxed_logger(Box::new(Discreet(logger))));
}

/// Tells a person what goes on while the gateway starts; a program gets the same as messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Teller(Form);

impl Teller {
    /// One that tells as messages are written.
    pub(super) fn of(spec: &LogSpec) -> Self {
        Self(Form::of(spec.format))
    }

    /// Says how it goes.
    pub(super) fn say(self, line: &str) {
        match self.0 {
            Form::Json => log::info!("{line}"),
            Form::Text | Form::Journald => say(line),
        }
    }

    /// Says why it does not go.
    pub(super) fn fail(self, what: &str) {
        match self.0 {
            Form::Json => log::error!("{what}"),
            Form::Text | Form::Journald => say(&format!("error: {what}")),
        }
    }

    /// Says what is wrong with the config.
    pub(super) fn report(self, loaded: &Loaded, global: &Global) {
        let text = report::plain(loaded);
        match self.0 {
            Form::Json if global.format == Format::Human && text.is_empty() => {}
            Form::Json if loaded.problems.any_error() => log::error!("{}", text.trim_end()),
            Form::Json => log::warn!("{}", text.trim_end()),
            Form::Text | Form::Journald => report::problems(loaded, global),
        }
    }
}

/// The names that every message has.
const OWN: [&str; 4] = ["timestamp", "level", "target", "message"];

/// One JSON object on one line.
fn json(out: &mut Formatter, record: &log::Record<'_>) -> io::Result<()> {
    let mut fields = Fields(Map::new());
    let mut own = |name: &str, value: String| {
        fields.0.insert(name.to_owned(), Json::String(value));
    };
    own("timestamp", log_date(SystemClock.unix_millis()));
    own("level", record.level().as_str().to_ascii_lowercase());
    own("target", record.target().to_owned());
    own("message", record.args().to_string());
    // A value that cannot be told is left out.
    drop(record.key_values().visit(&mut fields));
    writeln!(out, "{}", Json::Object(fields.0))
}

/// The priority (RFC 5424 section 6.2.1) before each line; the journal adds the time itself.
fn journald(out: &mut Formatter, record: &log::Record<'_>) -> io::Result<()> {
    let priority = match record.level() {
        log::Level::Error => 3,
        log::Level::Warn => 4,
        log::Level::Info => 6,
        log::Level::Debug | log::Level::Trace => 7,
    };
    let mut text = format!("{}: {}", record.target(), record.args());
    let mut fields = Fields(Map::new());
    drop(record.key_values().visit(&mut fields));
    for (name, value) in fields.0 {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        text.push_str(&format!(" {name}={value}"));
    }
    for line in text.lines() {
        writeln!(out, "<{priority}>{line}")?;
    }
    Ok(())
}

/// The fields of a message; one that bears the name of an own gets a line behind it.
struct Fields(Map<String, Json>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: kv::Value<'kvs>) -> Result<(), kv::Error> {
        let mut read = Read(Json::Null);
        value.visit(&mut read)?;
        let mut name = key.as_str().to_owned();
        if OWN.contains(&name.as_str()) {
            name.push('_');
        }
        self.0.insert(name, read.0);
        Ok(())
    }
}

/// One value as JSON.
struct Read(Json);

impl VisitValue<'_> for Read {
    fn visit_any(&mut self, value: kv::Value<'_>) -> Result<(), kv::Error> {
        self.0 = Json::String(value.to_string());
        Ok(())
    }
    fn visit_u64(&mut self, value: u64) -> Result<(), kv::Error> {
        self.0 = Json::from(value);
        Ok(())
    }
    fn visit_i64(&mut self, value: i64) -> Result<(), kv::Error> {
        self.0 = Json::from(value);
        Ok(())
    }
    fn visit_f64(&mut self, value: f64) -> Result<(), kv::Error> {
        self.0 = Json::from(value);
        Ok(())
    }
    fn visit_bool(&mut self, value: bool) -> Result<(), kv::Error> {
        self.0 = Json::from(value);
        Ok(())
    }
}

/// Whatever `RUST_LOG` says: below warnings Pingora prints whole requests, and its proxy prints their addresses with the
/// query at every level; with them come secrets. What fails there we say ourselves.
struct Discreet(env_logger::Logger);

impl log::Log for Discreet {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        let target = metadata.target();
        let tells_requests = target.starts_with("pingora_proxy")
            || metadata.level() > log::Level::Warn && target.starts_with("pingora");
        !tells_requests && self.0.enabled(metadata)
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.log(record);
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}
