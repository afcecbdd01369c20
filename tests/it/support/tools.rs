//! Foreign programs: an nginx, a Python and a Node server to stand behind the gateway, a browser, strace.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::{DEADLINE, Output, Process, run};

const INSTALL_DEADLINE: Duration = Duration::from_secs(600);

/// Where a program of a Debian package is; installs the package when it is missing. A program that cannot be had
/// fails the test: a skipped test shows nothing.
pub(crate) fn debian(package: &str, binary: &str) -> PathBuf {
    if let Some(found) = find(binary) {
        return found;
    }
    // Tests run in parallel, also in other processes; the lock ends with the file.
    let path = std::env::temp_dir().join("doorward-apt.lock");
    let lock = File::create(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    lock.lock()
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if let Some(found) = find(binary) {
        return found;
    }
    let install = ["install", "-y", "--no-install-recommends", package];
    let mut log = String::new();
    // The lists may be missing or old: then the first attempt is answered by an update.
    for arguments in [&install[..], &["update"], &install[..]] {
        let mut command = Command::new("apt-get");
        command
            .args(["-o", "DPkg::Lock::Timeout=300"])
            .args(arguments);
        let output = run(
            command.env("DEBIAN_FRONTEND", "noninteractive"),
            INSTALL_DEADLINE,
        );
        log = format!("{}\n{}", output.stdout, output.stderr);
        if let Some(found) = find(binary) {
            return found;
        }
    }
    panic!(
        "this test needs `{binary}` of the Debian package `{package}`, and apt-get cannot install it:\n{log}"
    );
}

/// The Python of an environment with these packages, `name==version` each, that is made when it is missing.
pub(crate) fn python(packages: &[&str]) -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
    let (program, stamp) = (place.join("bin/python"), place.join(packages.join(" ")));
    // As above: tests run in parallel, also in other processes.
    let path = place.with_extension("lock");
    let lock = File::create(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    lock.lock()
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if stamp.is_file() {
        return program;
    }
    debian("python3-venv", "python3");
    let mut make = Command::new("python3");
    let made = run(make.args(["-m", "venv"]).arg(&place), INSTALL_DEADLINE);
    let mut install = Command::new(&program);
    let pip = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ];
    let installed = run(install.args(pip).args(packages), INSTALL_DEADLINE);
    assert_eq!(
        (made.code, installed.code),
        (0, 0),
        "this test needs {packages:?}: {}{}",
        made.stderr,
        installed.stderr
    );
    File::create(&stamp).unwrap_or_else(|error| panic!("{}: {error}", stamp.display()));
    program
}

/// The `node_modules` with these packages of npm, `name@version` each, made when it is missing.
pub(crate) fn npm(packages: &[&str]) -> PathBuf {
    let name = packages.join("+").replace('/', "-");
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("npm")
        .join(name);
    std::fs::create_dir_all(&place).unwrap_or_else(|error| panic!("{}: {error}", place.display()));
    let (modules, stamp) = (place.join("node_modules"), place.join("installed"));
    // As above: tests run in parallel, also in other processes.
    let path = place.join("lock");
    let lock = File::create(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    lock.lock()
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if stamp.is_file() {
        return modules;
    }
    let mut install = Command::new(debian("npm", "npm"));
    install.args(["install", "--no-audit", "--no-fund", "--ignore-scripts"]);
    install.args(["--loglevel=error", "--prefix"]).arg(&place);
    let installed = run(install.args(packages), INSTALL_DEADLINE);
    assert_eq!(
        installed.code, 0,
        "this test needs {packages:?}: {}{}",
        installed.stdout, installed.stderr
    );
    File::create(&stamp).unwrap_or_else(|error| panic!("{}: {error}", stamp.display()));
    modules
}

fn find(binary: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    places.extend(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from));
    places
        .iter()
        .map(|place| place.join(binary))
        .find(|file| file.is_file())
}

/// A port of 127.0.0.1 where nothing listens. Below the range from which the kernel takes its own, and each one
/// is given once, so that no other test gets it meanwhile.
pub(crate) fn free_port() -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let process = u16::try_from(std::process::id() % 100).unwrap();
    for _ in 0..200 {
        let port = 12_000 + process * 200 + GIVEN.fetch_add(1, Ordering::SeqCst) % 200;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}

/// Returns when something accepts connections there, or panics with the log of who should.
#[track_caller]
fn wait_accepts(addr: SocketAddr, process: &Process) {
    let (sender, accepted) = sync_channel(1);
    thread::spawn(move || {
        // Ends when it is accepted, or when nobody waits any more.
        while TcpStream::connect(addr).is_err() {
            thread::yield_now();
            if let Err(std::sync::mpsc::TrySendError::Disconnected(_)) = sender.try_send(false) {
                return;
            }
        }
        sender.send(true).ok();
    });
    loop {
        match accepted.recv_timeout(DEADLINE) {
            Ok(true) => return,
            Ok(false) if process.exit().is_none() => {}
            Ok(false) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                panic!("nothing accepts at {addr}:\n{}", process.log())
            }
        }
    }
}

/// An nginx in the foreground, with everything it writes in its own directory.
pub(crate) struct Nginx {
    process: Process,
    addr: SocketAddr,
    dir: TempDir,
}

impl Nginx {
    /// `server_body` goes inside `server { listen 127.0.0.1:PORT; … }`; `root` is `dir()` unless it says otherwise.
    #[track_caller]
    pub(crate) fn start(server_body: &str) -> Self {
        let addr = SocketAddr::from(([127, 0, 0, 1], free_port()));
        Self::start_at(addr, server_body)
    }

    /// The same at this address: for one that comes back.
    #[track_caller]
    pub(crate) fn start_at(addr: SocketAddr, server_body: &str) -> Self {
        Self::start_http_at(addr, |addr, dir| {
            let root = dir.display();
            format!("server {{ listen {addr}; root {root}; {server_body} }}")
        })
    }

    /// The same with the whole inside of `http { … }`; it has to listen at the address it is given.
    #[track_caller]
    pub(crate) fn start_http(http_body: impl FnOnce(SocketAddr, &Path) -> String) -> Self {
        let addr = SocketAddr::from(([127, 0, 0, 1], free_port()));
        Self::start_http_at(addr, http_body)
    }

    #[track_caller]
    fn start_http_at(
        addr: SocketAddr,
        http_body: impl FnOnce(SocketAddr, &Path) -> String,
    ) -> Self {
        let program = debian("nginx-light", "nginx");
        let dir = tempfile::tempdir().expect("a temporary directory");
        let place = dir.path().display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {place}/{kind};"))
            .concat();
        let body = http_body(addr, dir.path());
        let conf = format!(
            "daemon off; worker_processes 1; pid {place}/nginx.pid; error_log stderr;\n\
             events {{ worker_connections 4096; }}\n\
             http {{ access_log off; {temporary}\n{body}\n}}\n"
        );
        let file = dir.path().join("nginx.conf");
        std::fs::write(&file, conf).unwrap();
        let mut command = Command::new(program);
        let process = Process::start(
            command
                .arg("-e")
                .arg("stderr")
                .arg("-c")
                .arg(file)
                .arg("-p")
                .arg(dir.path()),
        );
        wait_accepts(addr, &process);
        Self { process, addr, dir }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }
}

/// `python3 -m http.server` over a directory.
pub(crate) struct PythonFiles {
    process: Process,
    addr: SocketAddr,
}

impl PythonFiles {
    #[track_caller]
    pub(crate) fn start(dir: &Path) -> Self {
        let mut command = Command::new(debian("python3", "python3"));
        command.args([
            "-u",
            "-m",
            "http.server",
            "0",
            "--bind",
            "127.0.0.1",
            "--directory",
        ]);
        let process = Process::start(command.arg(dir));
        let port = process.wait_line("its port", |line| {
            let rest = line.split_once("Serving HTTP on 127.0.0.1 port ")?.1;
            rest.split(' ').next()?.parse::<u16>().ok()
        });
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        Self { process, addr }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }
}

/// A Node program that listens on 127.0.0.1 and prints its port, alone on a line.
pub(crate) struct Node {
    process: Process,
    addr: SocketAddr,
    dir: TempDir,
}

impl Node {
    #[track_caller]
    pub(crate) fn start(script: &str) -> Self {
        Self::start_with(script, &[])
    }

    /// The same with these variables in its environment.
    #[track_caller]
    pub(crate) fn start_with(script: &str, variables: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("main.cjs");
        std::fs::write(&file, script).unwrap();
        let mut command = Command::new(debian("nodejs", "node"));
        command.arg(file).current_dir(dir.path());
        let process = Process::start(command.envs(variables.iter().copied()));
        let port = process.wait_line("its port", |line| line.trim().parse::<u16>().ok());
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        Self { process, addr, dir }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }
}

/// A headless Chromium about to be started, with a profile of its own.
fn chromium(profile: &Path) -> Command {
    let mut command = Command::new(debian("chromium", "chromium"));
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--no-first-run",
        "--no-proxy-server",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-default-apps",
        "--disable-extensions",
        "--disable-sync",
    ]);
    command.arg(format!("--user-data-dir={}", profile.display()));
    command.env("HOME", profile);
    command
}

/// What a headless Chromium makes of a page: the DOM after its scripts ran.
#[track_caller]
pub(crate) fn chromium_dump(url: &str, extra_args: &[&str]) -> String {
    let profile = tempfile::tempdir().expect("a temporary directory");
    let mut command = chromium(profile.path());
    command.args(["--dump-dom", "--virtual-time-budget=10000"]);
    let output = run(command.args(extra_args).arg(url), DEADLINE * 3);
    assert!(
        output.code == 0 && !output.stdout.is_empty(),
        "chromium and {url}: {output:?}"
    );
    output.stdout
}

/// A headless Chromium that shows a page, in real time, until it is dropped. What its scripts find out they have to send
/// to an origin of the test.
pub(crate) struct Browser {
    process: Process,
    profile: TempDir,
}

impl Browser {
    #[track_caller]
    pub(crate) fn open(url: &str) -> Self {
        let profile = tempfile::tempdir().expect("a temporary directory");
        let process = Process::start(chromium(profile.path()).arg(url));
        Self { process, profile }
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("what chromium wrote:\n{}", self.process.log());
        }
    }
}

/// Runs a command under strace: how it ended, and its network calls, one a line.
#[track_caller]
pub(crate) fn traced(command: &Command) -> (Output, String) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("trace");
    let mut strace = Command::new(debian("strace", "strace"));
    strace
        .args([
            "-f",
            "-qq",
            "-e",
            "trace=network",
            "-e",
            "signal=none",
            "-o",
        ])
        .arg(&file);
    strace
        .arg("--")
        .arg(command.get_program())
        .args(command.get_args());
    if let Some(place) = command.get_current_dir() {
        strace.current_dir(place);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => strace.env(name, value),
            None => strace.env_remove(name),
        };
    }
    let output = run(&mut strace, DEADLINE * 2);
    let trace = std::fs::read(&file).unwrap_or_default();
    assert!(
        !output.stderr.contains("strace: "),
        "strace cannot trace here: {}",
        output.stderr
    );
    (output, String::from_utf8_lossy(&trace).into_owned())
}

/// How often a system call was made: `calls(&trace, "connect")`.
pub(crate) fn calls(trace: &str, name: &str) -> usize {
    let call = format!("{name}(");
    let made = |line: &&str| {
        line.split_once(' ')
            .is_some_and(|(_, rest)| rest.trim_start().starts_with(&call))
    };
    trace.lines().filter(made).count()
}

/// The calls that name an internet address or make a socket for one (UNIX sockets and netlink are no network).
pub(crate) fn internet_calls(trace: &str) -> Vec<&str> {
    trace
        .lines()
        .filter(|line| line.contains("AF_INET"))
        .collect()
}
