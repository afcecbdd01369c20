//! Other processes: the real gateway binary, and anything else that runs until the test is over.

use std::collections::VecDeque;
use std::fmt::Display;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::{Client, DEADLINE};

/// What a process wrote, oldest lines first to go.
const LOG_BYTES_MAX: usize = 4 * 1024 * 1024;
const LINE_BYTES_MAX: u64 = 64 * 1024;
/// How long a process may take to stop when it is asked to, before it is killed.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// A process that runs until it is dropped, and everything it writes.
pub(crate) struct Process {
    name: String,
    pid: u32,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: VecDeque<String>,
    bytes: usize,
    panicked: bool,
    pipes_ended: u8,
    exit: Option<ExitStatus>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, edit: impl FnOnce(&mut State)) {
        edit(&mut self.state());
        self.changed.notify_all();
    }

    /// Waits for a value; nothing when the deadline passes first.
    fn wait<T>(&self, limit: Duration, mut find: impl FnMut(&State) -> Option<T>) -> Option<T> {
        let mut found = None;
        let missing = |state: &mut State| {
            found = find(state);
            found.is_none()
        };
        drop(
            self.changed
                .wait_timeout_while(self.state(), limit, missing),
        );
        found
    }

    fn keep(&self, line: String) {
        self.change(|state| {
            state.panicked |= line.contains("panicked at");
            state.bytes += line.len();
            state.lines.push_back(line);
            while state.bytes > LOG_BYTES_MAX {
                state.bytes -= state.lines.pop_front().map_or(0, |oldest| oldest.len());
            }
        });
    }
}

impl Process {
    /// Starts it with nothing to read and both outputs captured.
    pub(crate) fn start(command: &mut Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let shared = Arc::<Shared>::default();
        follow(child.stdout.take().unwrap(), Arc::clone(&shared));
        follow(child.stderr.take().unwrap(), Arc::clone(&shared));
        let pid = child.id();
        thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let status = child.wait().expect("our own child can be waited for");
                shared.change(|state| state.exit = Some(status));
            }
        });
        Self { name, pid, shared }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// What it wrote to both outputs.
    pub(crate) fn log(&self) -> String {
        self.shared
            .state()
            .lines
            .iter()
            .fold(String::new(), |log, line| log + line + "\n")
    }

    /// Waits for the first line that means something to `find`.
    #[track_caller]
    pub(crate) fn wait_line<T>(
        &self,
        what: impl Display,
        mut find: impl FnMut(&str) -> Option<T>,
    ) -> T {
        let over = |state: &State| state.exit.is_some() && state.pipes_ended == 2;
        let found = self.shared.wait(DEADLINE, |state| {
            let found = state.lines.iter().find_map(|line| find(line));
            if found.is_none() && over(state) {
                Some(None)
            } else {
                found.map(Some)
            }
        });
        found.flatten().unwrap_or_else(|| {
            panic!(
                "{} never wrote {what} (exit: {:?}):\n{}",
                self.name,
                self.exit(),
                self.log()
            )
        })
    }

    /// Waits until a line holds this text.
    #[track_caller]
    pub(crate) fn wait_log(&self, text: &str) -> String {
        self.wait_line(format_args!("\"{text}\""), |line| {
            line.contains(text).then(|| line.to_owned())
        })
    }

    /// How it ended, if it did.
    pub(crate) fn exit(&self) -> Option<ExitStatus> {
        self.shared.state().exit
    }

    /// Waits until it ends by itself.
    #[track_caller]
    pub(crate) fn wait_exit(&self) -> ExitStatus {
        let exit = self.shared.wait(DEADLINE, |state| state.exit);
        exit.unwrap_or_else(|| panic!("{} does not end:\n{}", self.name, self.log()))
    }

    /// Sends a signal by name: "TERM", "HUP", "USR2", "STOP".
    pub(crate) fn signal(&self, signal: &str) {
        if self.exit().is_none() {
            kill(self.pid, signal);
        }
    }

    /// Asks it to stop, kills it when it does not; says how it ended.
    pub(crate) fn stop(&self) -> Option<ExitStatus> {
        for signal in ["TERM", "KILL"] {
            self.signal(signal);
            if let Some(exit) = self.shared.wait(STOP_DEADLINE, |state| state.exit) {
                return Some(exit);
            }
            eprintln!("{} ({}) did not stop by {signal}", self.name, self.pid);
        }
        None
    }

    /// Resident memory now.
    pub(crate) fn rss_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    /// The most resident memory it ever had.
    pub(crate) fn rss_peak_kib(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    /// Open file descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid))
            .expect("the process runs")
            .count()
    }

    fn status_kib(&self, field: &str) -> u64 {
        let status = std::fs::read(format!("/proc/{}/status", self.pid)).expect("the process runs");
        let status = String::from_utf8_lossy(&status).into_owned();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .expect(field);
        line.trim()
            .trim_end_matches(" kB")
            .parse()
            .expect("a number of kB")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Keeps the lines of one output.
fn follow(pipe: impl Read + Send + 'static, shared: Arc<Shared>) {
    thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while matches!(
            pipe.by_ref()
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut line),
            Ok(1..)
        ) {
            shared.keep(String::from_utf8_lossy(line.trim_ascii_end()).into_owned());
            line.clear();
        }
        shared.change(|state| state.pipes_ended += 1);
    });
}

fn kill(pid: u32, signal: &str) {
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "kill -s \"$0\" \"$1\" 2>/dev/null",
        signal,
        &pid.to_string(),
    ]);
    // Its own status says nothing: the process may have ended meanwhile.
    assert!(command.status().is_ok(), "sh runs");
}

/// How a finished command ended; `code` is -1 when a signal ended it.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command to its end; panics with what it wrote when that takes too long.
#[track_caller]
pub(crate) fn run(command: &mut Command, limit: Duration) -> Output {
    let name = command.get_program().to_string_lossy().into_owned();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
    let stdout = collect(child.stdout.take().unwrap());
    let stderr = collect(child.stderr.take().unwrap());
    let pid = child.id();
    let (sender, exit) = sync_channel(1);
    thread::spawn(move || drop(sender.send(child.wait())));
    let ended = exit.recv_timeout(limit);
    if ended.is_err() {
        kill(pid, "KILL");
    }
    let text = |bytes: Receiver<Vec<u8>>| {
        let bytes = bytes.recv_timeout(STOP_DEADLINE).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let (stdout, stderr) = (text(stdout), text(stderr));
    let Ok(status) = ended else {
        panic!("{name} does not end within {limit:?}:\n{stdout}\n{stderr}");
    };
    let code = status.unwrap().code().unwrap_or(-1);
    Output {
        code,
        stdout,
        stderr,
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = sync_channel(1);
    thread::spawn(move || {
        let mut bytes = Vec::new();
        drop(pipe.read_to_end(&mut bytes));
        drop(sender.send(bytes));
    });
    receiver
}

/// Runs `doorward` with these arguments in that directory.
#[track_caller]
pub(crate) fn run_cli(args: &[&str], dir: &Path) -> Output {
    run(binary().args(args).current_dir(dir), DEADLINE)
}

fn binary() -> Command {
    Command::new(env!("CARGO_BIN_EXE_doorward"))
}

/// A gateway about to be started: its config, the files beside it, its environment.
pub(crate) struct Setup {
    dir: TempDir,
    config: String,
    command: Command,
    flags: Vec<String>,
}

impl Setup {
    pub(crate) fn new(config_yaml: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut command = binary();
        command.current_dir(dir.path());
        let config = config_yaml.to_owned();
        Self {
            dir,
            config,
            command,
            flags: Vec::new(),
        }
        .file("doorward.yaml", config_yaml)
    }

    /// A file beside the config: a certificate, a key set, a schema.
    pub(crate) fn file(self, name: &str, bytes: impl AsRef<[u8]>) -> Self {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
        self
    }

    /// Where a file beside the config is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Where the config and its files are.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// One more flag of `run`.
    pub(crate) fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// Starts it and waits until every listener with port 0 is named.
    #[track_caller]
    pub(crate) fn spawn(mut self) -> Gateway {
        let path = self.dir.path().join("doorward.yaml");
        let command = self.command.arg("run").arg("--config").arg(&path);
        let process = Process::start(command.args(&self.flags));
        let free_ports = ["127.0.0.1:0", "[::1]:0", "[::]:0", "0.0.0.0:0"];
        let expected: usize = free_ports
            .iter()
            .map(|port| self.config.matches(port).count())
            .sum();
        let mut listeners = Vec::new();
        process.wait_line(format_args!("{expected} times \"listening on\""), |line| {
            let new = Listener::read(line).filter(|listener| !listeners.contains(listener));
            listeners.extend(new);
            (listeners.len() >= expected.max(1)).then_some(())
        });
        Gateway {
            process,
            listeners,
            config: path,
            dir: self.dir,
        }
    }

    /// Runs it to its end, which must come by itself and with an error.
    #[track_caller]
    pub(crate) fn fails(mut self) -> Output {
        let path = self.dir.path().join("doorward.yaml");
        let output = run(self.command.arg("run").arg("--config").arg(&path), DEADLINE);
        assert_ne!(output.code, 0, "the config was taken:\n{}", output.stderr);
        output
    }
}

#[derive(PartialEq, Eq)]
struct Listener {
    name: String,
    scheme: String,
    addr: SocketAddr,
}

impl Listener {
    /// From `… listening on NAME http://127.0.0.1:PORT`.
    fn read(line: &str) -> Option<Self> {
        let mut words = line.split_once("listening on ")?.1.split_whitespace();
        let name = words.next()?.to_owned();
        let (scheme, addr) = words.next()?.split_once("://")?;
        Some(Self {
            name,
            scheme: scheme.to_owned(),
            addr: addr.trim_end_matches('/').parse().ok()?,
        })
    }
}

/// The real binary, serving. Dropping it stops it, and panics if it ever panicked.
pub(crate) struct Gateway {
    process: Process,
    listeners: Vec<Listener>,
    config: PathBuf,
    dir: TempDir,
}

impl Gateway {
    /// Runs `doorward run --config FILE`; listeners have `address: "127.0.0.1:0"`.
    #[track_caller]
    pub(crate) fn spawn(config_yaml: &str) -> Self {
        Setup::new(config_yaml).spawn()
    }

    /// Runs it with a config that must be refused.
    #[track_caller]
    pub(crate) fn fails(config_yaml: &str) -> Output {
        Setup::new(config_yaml).fails()
    }

    /// The listener named `public`, or else the first.
    pub(crate) fn addr(&self) -> SocketAddr {
        let public = self
            .listeners
            .iter()
            .find(|listener| listener.name == "public");
        public.unwrap_or(&self.listeners[0]).addr
    }

    #[track_caller]
    pub(crate) fn addr_of(&self, name: &str) -> SocketAddr {
        self.listener(name).addr
    }

    /// `http://127.0.0.1:PORT` of that listener, with the scheme it named.
    #[track_caller]
    pub(crate) fn url_of(&self, name: &str) -> String {
        let listener = self.listener(name);
        format!("{}://{}", listener.scheme, listener.addr)
    }

    /// A new connection to `addr()`.
    #[track_caller]
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.addr())
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// Resident memory now.
    pub(crate) fn rss_kib(&self) -> u64 {
        self.process.rss_kib()
    }

    /// Where the config and its files are.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Replaces the config file in one step; loading it is another.
    pub(crate) fn write_config(&self, config_yaml: &str) {
        let new = self.dir.path().join("doorward.yaml.new");
        std::fs::write(&new, config_yaml).unwrap();
        std::fs::rename(&new, &self.config).unwrap();
    }

    #[track_caller]
    fn listener(&self, name: &str) -> &Listener {
        let named = self.listeners.iter().find(|listener| listener.name == name);
        named.unwrap_or_else(|| panic!("no listener `{name}`:\n{}", self.log()))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.process.stop();
        let ended = |state: &State| (state.pipes_ended == 2).then_some(());
        let whole = self.process.shared.wait(STOP_DEADLINE, ended);
        let panicked = whole.is_none() || self.process.shared.state().panicked;
        if thread::panicking() {
            eprintln!("the gateway's log:\n{}", self.log());
        } else {
            assert!(!panicked, "the gateway panicked:\n{}", self.log());
        }
    }
}
